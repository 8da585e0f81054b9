"""Paint one label map an image."""

from pathlib import Path
from typing import Any

from cocoseg.coco.categories import map_categories
from cocoseg.coco.format import Instances
from cocoseg.core.files import read_json, read_table, write_bytes, write_json, write_table
from cocoseg.core.stage import run
from cocoseg.images.png import encode_png
from cocoseg.mask.funnel import funnel
from cocoseg.mask.masks import MaskParams, write_masks
from cocoseg.mask.previews import ClassShare, class_shares, most_defective, preview
from cocoseg.pictures.showcase import chosen_images
from cocoseg.tables import ImageRow, InstanceRow, MaskRow

FILTERED = Path("data/filtered/instances.json")
FILTER_METRICS = Path("metrics/filter.json")
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
    whole_way = [("filter", read_json(FILTER_METRICS, dict[str, Any])), ("mask", masks.metrics)]
    for noun in ("annotations", "images"):
        staircase = funnel(noun, [(stage, metrics[noun]) for stage, metrics in whole_way])
        write_bytes(PLOTS / f"funnel_{noun}.png", encode_png(staircase))
    if params.gallery_images:
        sample = {name: name for name in chosen_images(masks.mask_of_image, params.gallery_images)}
        worst = most_defective(masks.defects, params.gallery_images)
        for name, captions, title in (
            ("preview", sample, "a sample of the images"),
            ("defects", worst, "the images with most defects"),
        ):
            shown = preview(captions, masks.mask_of_image, IMAGES, MASKS, mapping.classes, title)
            write_bytes(PLOTS / f"{name}.png", encode_png(shown))


if __name__ == "__main__":
    run(main, MaskParams)
