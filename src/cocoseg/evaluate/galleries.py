"""Galleries of a scored side: a sample of its images, and those with the best, the median and the worst IoU."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.coco.file_names import mask_name
from cocoseg.images.pairs import Pair, read_mask, read_pair
from cocoseg.pictures.gallery import GalleryRow, chosen_images, gallery, row
from cocoseg.pictures.layout import Pixels
from cocoseg.scores.confusion import iou
from cocoseg.scores.per_image import image_iou, image_totals
from cocoseg.tables import ClassPixels

_TYPICAL = 3  # rows of the picture in the README


def galleries(
    pairs: Sequence[Pair], predictions: Path, per_image: Sequence[ClassPixels], classes: Sequence[str], count: int
) -> Iterator[tuple[str, Pixels]]:
    """Yield the name and picture of each gallery of at most `count` images, and of a large one for the README.

    `predictions`: the folder of predicted masks. An image with no object, true or predicted, has no IoU, so it can only
    be in the sample. Raises `CocosegError` for an image, mask or prediction that cannot be read.
    """
    totals = image_totals(per_image, classes, "per_image.csv")
    pair_of = {pair.file_name: pair for pair in pairs}
    image_score = image_scores(totals)
    ranked = ranked_images(image_score, count)

    def drawn(file_name: str, words: str) -> GalleryRow:
        return _row(pair_of[file_name], predictions, words, classes)

    for name, title, shown in (
        ("gallery", "a sample of the images", chosen_images(totals, count)),
        ("gallery_best", "the images with the highest IoU", ranked.best),
        ("gallery_median", "the images around the median IoU", ranked.median),
        ("gallery_worst", "the images with the lowest IoU", ranked.worst),
    ):
        rows = [drawn(file_name, caption(file_name, totals[file_name], classes)) for file_name in shown]
        yield name, gallery(rows, classes, title)
    typical = ranked_images(image_score, min(count, _TYPICAL)).median
    rows = [drawn(file_name, f"IoU: {_class_scores(totals[file_name], classes)}") for file_name in typical]
    yield "typical", gallery(rows, classes, large=True)


def image_scores(totals: Mapping[str, NDArray[np.int64]]) -> dict[str, float]:
    """Return the mean IoU of each image's objects by file name, without images that have no object.

    `totals: (classes, 3)` of each image as in `cocoseg.scores.confusion`.
    """
    # Rounded, so that the last bit of a sum does not decide the rank.
    scores = {file_name: round(image_iou(own), 6) for file_name, own in totals.items()}
    return {file_name: score for file_name, score in scores.items() if not math.isnan(score)}


def caption(file_name: str, totals: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Return an image's IoU, its file name, the IoU of each of its classes, and what was predicted but is not there."""
    score = image_iou(totals)
    if math.isnan(score):
        return f"no object   {file_name}"
    # A class that was only predicted has no IoU in `cocoseg.scores`; in that of an image it counts as 0.
    invented = [classes[index] for index in range(1, len(classes)) if totals[index, 1] and not totals[index, 0]]
    parts = [
        f"IoU {score:.2f}",
        file_name,  # before what may be too long for a line
        _class_scores(totals, classes),
        f"not there, counts as 0: {', '.join(invented)}" if invented else "",
    ]
    return "   ".join(filter(None, parts))


def _class_scores(totals: NDArray[np.int64], classes: Sequence[str]) -> str:
    """Return the IoU of each class that an image shows."""
    values = iou(totals)
    return "  ".join(f"{classes[index]} {values[index]:.2f}" for index in range(1, len(classes)) if totals[index, 0])


def _row(pair: Pair, predictions: Path, caption: str, classes: Sequence[str]) -> GalleryRow:
    image, truth = read_pair(pair, len(classes))
    predicted = msgspec.structs.replace(pair, mask=predictions / mask_name(pair.file_name))
    prediction = read_mask(predicted, len(classes), stage="evaluate")
    return row(image, truth, prediction, caption)


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """File names, best score first; in `worst` the lowest score first."""

    best: list[str]
    median: list[str]
    worst: list[str]


def ranked_images(scores: Mapping[str, float], count: int) -> Ranked:
    """Return `count` file names of each kind, or all if there are fewer. Ties are in the order of names."""
    falling = sorted(scores, key=lambda name: (-scores[name], name))
    rising = sorted(scores, key=lambda name: (scores[name], name))
    first = max(0, (len(scores) - count) // 2)
    return Ranked(best=falling[:count], median=falling[first : first + count], worst=rising[:count])
