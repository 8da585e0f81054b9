"""Train a model on the train side of the split; keep the best by validation mIoU."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cocoseg.categories import CategoryMapping
from cocoseg.files import read_json, read_lines
from cocoseg.pairs import pairs
from cocoseg.stage import run
from cocoseg.training import TrainParams, train
from cocoseg.weights import data_fingerprint

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
    train_list, val_list = SPLITS / "train.txt", SPLITS / "val.txt"
    return train(
        params,
        read_json(MAPPING, CategoryMapping),
        train_pairs=pairs(read_lines(train_list), mask_map, IMAGES, MASKS),
        val_pairs=pairs(read_lines(val_list), mask_map, IMAGES, MASKS),
        fingerprint=data_fingerprint([IMAGE_TABLE, MASK_TABLE, train_list, val_list]),
        model_folder=MODEL,
        live_folder=LIVE,
    )


if __name__ == "__main__":
    run(main, TrainParams)
