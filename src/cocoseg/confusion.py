"""What a model got right and wrong, counted in one integer matrix; every score is divided from it once, at the end.

`confusion: (classes, classes) int64`; rows are the target, columns the prediction; pixels of target 255 are in no cell.
A class without a target pixel has no score: NaN in arrays, `None` in `Scores`, and it is left out of every mean.
So the set of averaged classes depends on the data alone, never on what a model predicts.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.categories import IGNORE


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of one confusion matrix. `None` where no class or pixel of that kind is in the target."""

    miou: float | None
    """Mean IoU of the averaged classes, background among them."""
    mean_dice: float | None
    foreground_miou: float | None
    """Mean IoU without class 0."""
    foreground_dice: float | None
    pixel_accuracy: float | None
    iou: dict[str, float | None]
    dice: dict[str, float | None]
    classes_averaged: int
    """How many classes have a target pixel, background among them."""


def confusion_matrix(target: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """The matrix of one pair of label maps of the same shape; prediction in [0, classes), target there or 255."""
    counted = target != IGNORE
    cells = target[counted].astype(np.int64) * classes + prediction[counted]
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes).astype(np.int64, copy=False)


def per_class_iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """IoU of each class, (classes,) float64; NaN where a class has no target pixel. Jaccard 1901."""
    hit, target, prediction = _marginals(confusion)
    return _divide(hit, target + prediction - hit, where=target > 0)


def per_class_dice(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Dice of each class, (classes,) float64; NaN where a class has no target pixel. Sørensen 1948."""
    hit, target, prediction = _marginals(confusion)
    return _divide(2 * hit, target + prediction, where=target > 0)


def pixel_accuracy(confusion: NDArray[np.int64]) -> float:
    """The share of counted pixels that are right; NaN if there are none."""
    total = int(confusion.sum())
    return int(np.trace(confusion)) / total if total else math.nan


def mean_over_present(values: NDArray[np.float64]) -> float:
    """The mean of the values that are not NaN; NaN if all are."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else math.nan


def scores(confusion: NDArray[np.int64], class_names: Sequence[str]) -> Scores:
    """Every score of a matrix whose classes are `class_names`, background first."""
    iou, dice = per_class_iou(confusion), per_class_dice(confusion)
    return Scores(
        miou=reported(mean_over_present(iou)),
        mean_dice=reported(mean_over_present(dice)),
        foreground_miou=reported(mean_over_present(iou[1:])),
        foreground_dice=reported(mean_over_present(dice[1:])),
        pixel_accuracy=reported(pixel_accuracy(confusion)),
        iou={name: reported(value) for name, value in zip(class_names, iou.tolist(), strict=True)},
        dice={name: reported(value) for name, value in zip(class_names, dice.tolist(), strict=True)},
        classes_averaged=int((~np.isnan(iou)).sum()),
    )


def _marginals(confusion: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    return np.diagonal(confusion), confusion.sum(axis=1), confusion.sum(axis=0)


def _divide(above: NDArray[np.int64], below: NDArray[np.int64], where: NDArray[np.bool_]) -> NDArray[np.float64]:
    quotient = np.full(len(above), math.nan)
    np.divide(above, below, out=quotient, where=where)
    return quotient


def reported(value: float) -> float | None:
    """A score as it stands in metrics: six digits, `None` for NaN, which is no JSON."""
    return None if math.isnan(value) else round(value, 6)
