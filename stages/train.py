"""Train a model on the train side of the split and keep the epoch with the best score in validation."""

import sys
from collections.abc import Mapping
from typing import Any

from cocoseg import paths
from cocoseg.core.files import read_json
from cocoseg.core.stage import run, say
from cocoseg.core.work_tree import is_first_process
from cocoseg.images.pairs import SplitFiles
from cocoseg.model.weights import INFO, ModelInfo
from cocoseg.scores.formats import SCORE_NAMES, number
from cocoseg.train.class_weights import weights_line
from cocoseg.train.loop import train
from cocoseg.train.params import TrainParams
from cocoseg.train.run_data import read_run_data
from cocoseg.train.sampling import sampling_line


def main(params: TrainParams) -> Mapping[str, Any]:
    """Read the two sides and train on them."""
    sides = SplitFiles(
        splits=paths.SPLITS,
        mask_map=paths.IMAGE_MASK_MAP,
        images=paths.IMAGES,
        image_table=paths.IMAGE_TABLE,
        masks=paths.MASKS,
    )
    tables = paths.CATEGORY_MAPPING, paths.IMAGE_TABLE, paths.MASK_TABLE
    data = read_run_data(sides, *tables, params.class_weights, params.sampling)
    if data.class_weights is not None and is_first_process():
        say(weights_line(data.class_weights, data.mapping.classes))
    if data.repeat_factors is not None and is_first_process():
        say(sampling_line(data.repeat_factors))
    cost = train(params, data, paths.MODEL, paths.TRAIN_METRICS)
    if cost is None:  # one of several processes, but not the first, which writes
        sys.exit()
    best = read_json(paths.MODEL / INFO, ModelInfo)
    score = f"{SCORE_NAMES[best.primary_score]} of {number(best.val_score, '.3f')}"
    say(f"the best epoch is {best.epoch} of {params.epochs}, with a validation {score}")
    return cost


if __name__ == "__main__":
    run(main, TrainParams)
