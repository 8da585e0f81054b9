"""Train a model on the train side of the split; keep the best by validation mIoU."""

import sys
from collections.abc import Mapping
from typing import Any

from cocoseg import paths
from cocoseg.core.stage import run
from cocoseg.images.pairs import Sides
from cocoseg.train.loop import train
from cocoseg.train.params import TrainParams
from cocoseg.train.run_data import read_run_data


def main(params: TrainParams) -> Mapping[str, Any]:
    """Read the two sides, train."""
    sides = Sides(
        splits=paths.SPLITS,
        mask_map=paths.IMAGE_MASK_MAP,
        images=paths.IMAGES,
        image_table=paths.IMAGE_TABLE,
        masks=paths.MASKS,
    )
    data = read_run_data(sides, paths.CATEGORY_MAPPING, paths.IMAGE_TABLE, paths.MASK_TABLE, params.class_weights)
    cost = train(params, data, paths.MODEL, paths.TRAIN_METRICS)
    if cost is None:  # one of several processes, and not the one that writes
        sys.exit()
    return cost


if __name__ == "__main__":
    run(main, TrainParams)
