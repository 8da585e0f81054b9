"""Deal the masked images out to training, validation and test."""

from pathlib import Path

from cocoseg.core.files import read_table, write_json, write_lines
from cocoseg.core.stage import run
from cocoseg.split.sides import SplitParams, split_images, split_metrics
from cocoseg.tables import ImageRow, MaskRow

MASK_TABLE = Path("data/masks.csv")
IMAGE_TABLE = Path("data/images.csv")
SPLITS = Path("data/splits")
METRICS = Path("metrics/split.json")


def main(params: SplitParams) -> None:
    """From the table of masks to one list of image file names a side."""
    images = read_table(IMAGE_TABLE, ImageRow)
    rows = read_table(MASK_TABLE, MaskRow)
    sides = split_images(images, rows, params)
    name_of = {row.image_id: row.file_name for row in images}
    for side, image_ids in sides.items():
        write_lines(SPLITS / f"{side}.txt", sorted(name_of[image_id] for image_id in image_ids))
    write_json(METRICS, split_metrics(sides, images, rows, params))


if __name__ == "__main__":
    run(main, SplitParams)
