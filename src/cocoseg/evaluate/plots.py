"""The pictures and tables of `plots/evaluate/`."""

from pathlib import Path

from cocoseg.core.files import write_bytes, write_table
from cocoseg.evaluate.confusion_picture import confusion_picture
from cocoseg.evaluate.evaluation import iou_rows
from cocoseg.evaluate.galleries import galleries
from cocoseg.evaluate.iou_bars import iou_bars
from cocoseg.evaluate.scored_side import ScoredSide
from cocoseg.images.png import encode_png
from cocoseg.tables import ClassIoU


def write_plots(folder: Path, scored: ScoredSide, predictions: Path, gallery_images: int) -> None:
    """Write the IoU of each class, the confusion matrix, and galleries of `gallery_images` images each.

    `predictions`: the folder of predicted masks.
    """
    classes = tuple(scored.metrics["iou"])
    bars = iou_rows(scored.metrics)
    write_table(folder / "iou.csv", bars, ClassIoU)
    pictures = {"iou": iou_bars(bars), "confusion": confusion_picture(scored.evaluation.confusion, classes)}
    if gallery_images:
        pictures |= galleries(scored.side.pairs, predictions, scored.evaluation.per_image, classes, gallery_images)
    for name, picture in pictures.items():
        write_bytes(folder / f"{name}.png", encode_png(picture))
