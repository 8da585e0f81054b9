"""What can be had without looking at shapes: the scores that a model has to beat.

`classes` counts the background; masks hold class indices below it, or 255 for pixels that count nowhere.
"""

import math
from collections.abc import Iterable
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from cocoseg.coco.categories import IGNORE
from cocoseg.scores.confusion import class_totals, confusion_matrix, reported, summary_scores

Pair: TypeAlias = tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]
"""An RGB image (H, W, 3) and its mask (H, W)."""

FIT_IMAGES = 1000
"""So many images of the train and of the validation side are looked at, the first ones."""
FIT_PIXELS = 2500
"""And about so many pixels of each."""

_GRAINS = ((3, 1), (4, 1), (2, 4), (3, 4), (4, 4), (2, 8), (0, 16))
"""Bits of each colour channel, cells of the position grid on each side."""
_BALANCES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""From every pixel counts alike (0) to every class counts alike (1)."""


def baseline_scores(
    train: Iterable[Pair], val: Iterable[Pair], test: Iterable[Pair], classes: int
) -> dict[str, dict[str, float | None]]:
    """mIoU on the test side of the commonest class and of the best classifier by colour and position.

    Each side is read once, one pair at a time. Grain and balance of the classifier are chosen on the validation side,
    or are the first where that is empty. The mIoU is `None` where the test side has no target pixel.
    """
    tables = fit_tables(train, classes)
    grain, balance = best_choice(tables, val, classes)
    lookup = predictions(tables[grain], balance)
    commonest = commonest_class(tables[0].sum(axis=0))
    by_colour = np.zeros((classes, classes), np.int64)
    for image, mask in test:
        by_colour += confusion_matrix(mask, lookup[cells(image, *_GRAINS[grain])], classes)
    always = np.zeros_like(by_colour)
    always[:, commonest] = by_colour.sum(axis=1)
    return {"commonest_class": {"miou": _miou(always)}, "colour_and_position": {"miou": _miou(by_colour)}}


def commonest_class(train_pixels_per_class: npt.NDArray[np.int64]) -> int:
    """The class index of the most pixels, (classes,) int64; the lower of equals."""
    return int(np.argmax(train_pixels_per_class))


def fit_tables(train: Iterable[Pair], classes: int) -> list[npt.NDArray[np.int64]]:
    """For each grain, how many train pixels of each class fall into each cell, (cells, classes) int64."""
    tables = [np.zeros((8**bits * grid**2, classes), np.int64) for bits, grid in _GRAINS]
    for image, mask in islice(train, FIT_IMAGES):
        step = _step(mask)
        target = mask[::step, ::step]
        counted = target != IGNORE
        for table, (bits, grid) in zip(tables, _GRAINS, strict=True):
            where = cells(image, bits, grid, step)[counted] * classes + target[counted]
            np.add.at(table.reshape(-1), where, 1)
    return tables


def best_choice(tables: list[npt.NDArray[np.int64]], val: Iterable[Pair], classes: int) -> tuple[int, float]:
    """The grain's place in the list and the balance whose mIoU on the validation side is highest."""
    choices = [(grain, balance) for grain in range(len(_GRAINS)) for balance in _BALANCES]
    lookups = [predictions(tables[grain], balance) for grain, balance in choices]
    confusions = [np.zeros((classes, classes), np.int64) for _ in choices]
    for image, mask in islice(val, FIT_IMAGES):
        step = _step(mask)
        target = mask[::step, ::step]
        where = [cells(image, bits, grid, step) for bits, grid in _GRAINS]
        for (grain, _), lookup, confusion in zip(choices, lookups, confusions, strict=True):
            confusion += confusion_matrix(target, lookup[where[grain]], classes)
    ranked = [_miou(confusion) or 0.0 for confusion in confusions]
    return choices[ranked.index(max(ranked))]


def predictions(table: npt.NDArray[np.int64], balance: float) -> npt.NDArray[np.uint8]:
    """The class index to predict in each cell, (cells,) uint8; a cell without a train pixel follows the others."""
    totals = table.sum(axis=0)
    share = totals / max(1, totals.sum())
    weight = np.divide(1.0, share**balance, out=np.zeros(len(totals)), where=totals > 0)
    best: npt.NDArray[np.uint8] = np.argmax((table + share) * weight, axis=1).astype(np.uint8)
    return best


def cells(image: npt.NDArray[np.uint8], bits: int, grid: int, step: int = 1) -> npt.NDArray[np.int64]:
    """The cell of every `step`-th pixel of every `step`-th row, (rows, columns).

    There are 8**bits of them, one a colour, in each of the `grid` × `grid` places.
    """
    height, width = image.shape[:2]
    rows, columns = np.arange(0, height, step) * grid // height, np.arange(0, width, step) * grid // width
    place = rows[:, None] * grid + columns
    red, green, blue = (image[::step, ::step, channel].astype(np.int64) >> 8 - bits for channel in range(3))
    colour = (red << 2 * bits) + (green << bits) + blue
    cell: npt.NDArray[np.int64] = (place << 3 * bits) + colour
    return cell


def _step(mask: npt.NDArray[np.uint8]) -> int:
    return max(1, math.isqrt(mask.size // FIT_PIXELS))


def _miou(confusion: npt.NDArray[np.int64]) -> float | None:
    return reported(float(summary_scores(class_totals(confusion))["miou"]))
