"""Baselines that see no shapes: the scores that a model should beat.

`classes` includes the background; masks hold class indices below it, or 255 for ignored pixels.
"""

import math
from collections.abc import Iterable
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cocoseg.coco.categories import IGNORE
from cocoseg.scores.confusion import class_totals, confusion_matrix, reported, summary_scores
from cocoseg.scores.formats import SCORE_NAMES

DecodedPair: TypeAlias = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
"""An RGB image (H, W, 3) and its mask (H, W)."""

FIT_IMAGES = 1000
"""How many train images are counted, starting with the first."""
FIT_PIXELS = 2500
"""About how many pixels are counted in each."""

# One fixed choice. Averaged over splits, it scores within 0.02 mIoU of a search over 35 choices on the validation side.
_BITS = 4  # of each color channel
_STRIP_PIXELS = 2**20  # of cells at a time, which take some fifty bytes a pixel
_GRID = 4  # places on each side of the image


def baseline_scores(
    train: Iterable[DecodedPair], test: Iterable[DecodedPair], classes: int
) -> dict[str, dict[str, float | None]]:
    """Return the test scores of always predicting the most common class, and of predicting by color and position.

    Each side is read once, one pair at a time. A score is `None` where the test side has no target pixel for it.
    """
    table = fit_table(train, classes)
    lookup = predictions(table)
    by_color = np.zeros((classes, classes), np.int64)
    for image, mask in test:
        predicted = np.empty_like(mask)
        rows = max(1, _STRIP_PIXELS // mask.shape[1])
        for top in range(0, len(mask), rows):
            predicted[top : top + rows] = lookup[cells(image, rows=slice(top, top + rows))]
        by_color += confusion_matrix(mask, predicted, classes)
    always = np.zeros_like(by_color)
    always[:, np.argmax(table.sum(axis=0))] = by_color.sum(axis=1)
    return {"commonest_class": _scores(always), "color_and_position": _scores(by_color)}


def fit_table(train: Iterable[DecodedPair], classes: int) -> npt.NDArray[np.int64]:
    """Return how many train pixels of each class fall into each cell, (cells, classes) int64; see `cells`."""
    table = np.zeros((8**_BITS * _GRID**2, classes), np.int64)
    for image, mask in islice(train, FIT_IMAGES):
        step = max(1, math.isqrt(mask.size // FIT_PIXELS))
        target = mask[::step, ::step]
        counted = target != IGNORE
        np.add.at(table, (cells(image, step)[counted], target[counted]), 1)
    return table


def predictions(table: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Return the class index to predict in each cell, (cells,) uint8.

    A cell without a train pixel gets the class with the largest weighted share of all. Pixels are weighted by the
    inverse fourth root of their class's share, or rare classes would hardly ever be predicted.
    """
    totals = table.sum(axis=0)
    share = totals / max(1, totals.sum())
    # Two square roots round the same on every CPU; a power does not.
    weight = np.divide(1.0, np.sqrt(np.sqrt(share)), out=np.zeros(len(totals)), where=totals > 0)
    best: npt.NDArray[np.uint8] = np.argmax((table + share) * weight, axis=1).astype(np.uint8)
    return best


def cells(image: npt.NDArray[np.uint8], step: int = 1, rows: slice = slice(None)) -> npt.NDArray[np.int64]:
    """Return the cell of every `step`-th pixel of every `step`-th row, (rows, columns).

    A cell is a place on a coarse grid over the image and a coarse color. `rows`: those of them to return.
    """
    height, width = image.shape[:2]
    down, across = np.arange(0, height, step)[rows] * _GRID // height, np.arange(0, width, step) * _GRID // width
    place = down[:, None] * _GRID + across
    some = image[::step, ::step][rows]
    red, green, blue = (some[..., channel].astype(np.int64) >> 8 - _BITS for channel in range(3))
    cell: npt.NDArray[np.int64] = (place << 3 * _BITS) + (red << 2 * _BITS) + (green << _BITS) + blue
    return cell


def _scores(confusion: npt.NDArray[np.int64]) -> dict[str, float | None]:
    """Return each score that `primary_score` may name."""
    found = summary_scores(class_totals(confusion))
    return {name: reported(float(found[name])) for name in SCORE_NAMES}
