"""Train a model on the train side of the split; keep the best by validation mIoU."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cocoseg.coco.categories import IGNORE, CategoryMapping
from cocoseg.core.files import read_json, read_lines, read_table
from cocoseg.core.stage import run
from cocoseg.images.pairs import pairs
from cocoseg.model.weights import data_fingerprint
from cocoseg.tables import MaskRow, class_totals
from cocoseg.train.class_weights import class_weights
from cocoseg.train.loop import TrainParams, train

IMAGES = Path("data/images")
IMAGE_TABLE = Path("data/images.csv")
MASKS = Path("data/masks")
MASK_TABLE = Path("data/masks.csv")
MAPPING = Path("data/category_mapping.json")
MASK_MAP = Path("data/image_mask_map.json")
SPLITS = Path("data/splits")
MODEL = Path("data/model")
LIVE = Path("metrics/train")


def main(params: TrainParams) -> Mapping[str, Any]:
    """Read the two sides, train."""
    mask_map = read_json(MASK_MAP, dict[str, str])
    mapping = read_json(MAPPING, CategoryMapping)
    train_list, val_list = SPLITS / "train.txt", SPLITS / "val.txt"
    train_images = read_lines(train_list)
    totals = training_totals(read_table(MASK_TABLE, MaskRow), train_images, mapping.classes)
    cost = train(
        params,
        mapping,
        train_pairs=pairs(train_images, mask_map, IMAGES, MASKS),
        val_pairs=pairs(read_lines(val_list), mask_map, IMAGES, MASKS),
        class_weights=class_weights(*totals, params.class_weights),
        fingerprint=data_fingerprint([IMAGE_TABLE, MASK_TABLE, train_list, val_list]),
        model_folder=MODEL,
        live_folder=LIVE,
    )
    if cost is None:  # one of several processes, and not the one that writes
        sys.exit()
    return cost


def training_totals(
    rows: Iterable[MaskRow], images: Sequence[str], classes: Sequence[str]
) -> tuple[list[int], list[int]]:
    """How many of the images show each class, and its pixels in them, in the order of class indices."""
    chosen = set(images)
    totals = class_totals((row for row in rows if row.file_name in chosen and row.class_index != IGNORE), classes)
    return [totals[name]["images"] for name in classes], [totals[name]["pixels"] for name in classes]


if __name__ == "__main__":
    run(main, TrainParams)
