"""Paint one label map an image."""

from typing import Any

from cocoseg import paths
from cocoseg.accounts import closing_line
from cocoseg.coco.categories import map_categories
from cocoseg.coco.format import Instances
from cocoseg.core.files import read_json, read_table, write_json, write_table
from cocoseg.core.stage import run, say
from cocoseg.mask.masks import write_masks
from cocoseg.mask.params import MaskParams
from cocoseg.mask.plots import write_plots, write_previews
from cocoseg.tables import ImageRow, InstanceRow, MaskRow, turned_images


def main(params: MaskParams) -> None:
    """From filtered annotations to masks, their tables and an account of every annotation."""
    instances = read_json(paths.FILTERED, Instances)
    mapping = map_categories(instances.categories, params.task)
    images = read_table(paths.IMAGE_TABLE, ImageRow)
    masks = write_masks(instances, images, mapping, params, paths.MASKS, paths.INSTANCE_MASKS)
    write_table(paths.INSTANCE_MASKS / "instances.csv", masks.instance_rows, InstanceRow)
    write_table(paths.MASK_TABLE, masks.rows, MaskRow)
    write_json(paths.CATEGORY_MAPPING, mapping)
    write_json(paths.IMAGE_MASK_MAP, masks.mask_of_image)
    write_json(paths.MASK_METRICS, masks.metrics)
    write_plots(paths.MASK_PLOTS, masks, read_json(paths.FILTER_METRICS, dict[str, Any]))
    turned = turned_images(images)
    write_previews(paths.MASK_PLOTS, masks, mapping, paths.IMAGES, paths.MASKS, turned, params.gallery_images)
    for line in [*masks.remarks, closing_line(masks.metrics)]:
        say(line)


if __name__ == "__main__":
    run(main, MaskParams)
