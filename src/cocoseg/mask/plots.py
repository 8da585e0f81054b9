"""The pictures and tables of `plots/mask/`."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from cocoseg.coco.categories import CategoryMapping
from cocoseg.core.files import write_bytes, write_table
from cocoseg.images.png import encode_png
from cocoseg.mask.funnel import funnel
from cocoseg.mask.gather import Masks
from cocoseg.mask.previews import ClassShare, class_shares, most_defective, preview
from cocoseg.pictures.gallery import chosen_images


def write_plots(plots: Path, result: Masks, filter_metrics: Mapping[str, Any]) -> None:
    """Write the share of each class and what became of every entry of the annotations file."""
    write_table(plots / "classes.csv", class_shares(result.rows), ClassShare)
    whole_way = [("filter", filter_metrics), ("mask", result.metrics)]
    for noun, hidden in (("annotations", _hidden(result.metrics)), ("images", None)):
        staircase = funnel(noun, [(stage, metrics[noun]) for stage, metrics in whole_way], hidden)
        write_bytes(plots / f"funnel_{noun}.png", encode_png(staircase))


def _hidden(metrics: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Return the objects of each class that others hide, each counted once: wholly hidden, or more than nine tenths."""
    wholly, mostly = metrics["hidden"], metrics["mostly_hidden"]
    partly = {name: count - wholly.get(name, 0) for name, count in mostly.items() if count > wholly.get(name, 0)}
    return {"kept, but hidden": wholly, "kept, but mostly hidden": partly}


def write_previews(
    plots: Path,
    result: Masks,
    mapping: CategoryMapping,
    images: Path,
    masks: Path,
    turned: Collection[str],
    count: int,
) -> None:
    """Draw `count` images of a sample, and the `count` with most defects; those of `turned` as EXIF says."""
    if not count:
        return
    sample = {name: name for name in chosen_images(result.mask_of_image, count)}
    worst = most_defective(result.defects, count)
    for name, captions, title in (
        ("preview", sample, "a sample of the images"),
        ("defects", worst, "the images with most defects, and the boxes that their annotations say"),
    ):
        boxes = result.boxes if name == "defects" else {}
        shown = preview(captions, result.mask_of_image, images, masks, mapping.classes, title, turned, boxes)
        write_bytes(plots / f"{name}.png", encode_png(shown))
