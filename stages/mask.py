"""Paint one label map an image."""

from pathlib import Path

from cocoseg.categories import map_categories
from cocoseg.coco import Instances
from cocoseg.files import read_json, read_table, write_bytes, write_json, write_table
from cocoseg.mask import MaskParams, write_masks
from cocoseg.png import encode_png
from cocoseg.previews import ClassShare, class_shares, preview
from cocoseg.stage import run
from cocoseg.tables import ImageRow, InstanceRow, MaskRow

FILTERED = Path("data/filtered/instances.json")
IMAGE_TABLE = Path("data/images.csv")
IMAGES = Path("data/images")
MASKS = Path("data/masks")
INSTANCE_MASKS = Path("data/instance_masks")
MASK_TABLE = Path("data/masks.csv")
CATEGORY_MAPPING = Path("data/category_mapping.json")
IMAGE_MASK_MAP = Path("data/image_mask_map.json")
METRICS = Path("metrics/mask.json")
PLOTS = Path("plots/mask")


def main(params: MaskParams) -> None:
    """From filtered annotations to masks, their tables and an account of every annotation."""
    instances = read_json(FILTERED, Instances)
    mapping = map_categories(instances.categories, params.task)
    masks = write_masks(instances, read_table(IMAGE_TABLE, ImageRow), mapping, params, MASKS, INSTANCE_MASKS)
    if params.instance_masks:
        write_table(INSTANCE_MASKS / "instances.csv", masks.instance_rows, InstanceRow)
    write_table(MASK_TABLE, masks.rows, MaskRow)
    write_json(CATEGORY_MAPPING, mapping)
    write_json(IMAGE_MASK_MAP, masks.mask_of_image)
    write_json(METRICS, masks.metrics)
    write_table(PLOTS / "classes.csv", class_shares(masks.rows), ClassShare)
    if params.gallery_images:
        shown = preview(masks.mask_of_image, IMAGES, MASKS, mapping.classes, params.gallery_images)
        write_bytes(PLOTS / "preview.png", encode_png(shown))


if __name__ == "__main__":
    run(main, MaskParams)
