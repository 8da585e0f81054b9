"""One integer confusion matrix, and every score from it by one division at the end.

`confusion: (classes, classes) int64`; rows are the target, columns the prediction; pixels with target 255 are not
counted. `totals: (…, classes, 3)`: for each class the target pixels, the predicted pixels, and the hits, where both
agree. All scores come from these, so totals of images can be summed or resampled before they are divided.
A class without a target pixel has no score: NaN in arrays, `None` in `Scores`, and it is left out of every mean. So the
set of averaged classes depends on the data alone, never on what a model predicts.
"""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.coco.categories import IGNORE, Task
from cocoseg.scores.formats import PrimaryScoreName, ScoreName

_STRIP_PIXELS = 2**22

Totals = NDArray[np.int64] | NDArray[np.float64]


class Scores(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of one confusion matrix. `None` if the target has no class or pixel of that kind."""

    miou: float | None
    """Mean IoU of the averaged classes, including background."""
    mean_dice: float | None
    foreground_miou: float | None
    """Mean IoU without class 0."""
    foreground_dice: float | None
    frequency_weighted_iou: float | None
    """IoU of each class weighted by its target pixels."""
    pixel_accuracy: float | None
    iou: dict[str, float | None]
    dice: dict[str, float | None]
    precision: dict[str, float | None]
    """The share of a class's predicted pixels that are right; `None` also if none was predicted."""
    recall: dict[str, float | None]
    support: dict[str, int]
    """Target pixels."""
    classes_averaged: int
    """How many classes have a target pixel, including background."""


def resolved_score(score: PrimaryScoreName, task: Task) -> ScoreName:
    """Return the score that `auto` stands for, the Dice of the foreground in binary tasks, else mIoU; others as is."""
    # Half of a binary mIoU is background's, which is high even where nothing is found.
    return score if score != "auto" else "foreground_dice" if task == "binary" else "miou"


def confusion_matrix(target: NDArray[np.uint8], prediction: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """Return the matrix of two label maps of the same shape; prediction in [0, classes), target in it or 255."""
    counts = np.zeros((IGNORE + 1) * classes, np.int64)
    rows, columns = target.ravel(), prediction.ravel()
    for start in range(0, len(rows), _STRIP_PIXELS):  # np.bincount takes eight bytes a pixel
        strip = slice(start, start + _STRIP_PIXELS)
        cells = rows[strip].astype(np.uint16)  # the largest cell is 255 · 256 + 255
        cells *= classes
        cells += columns[strip]
        # Row 255 is counted too and cut off after: masking its pixels before would take longer than all the rest.
        counts += np.bincount(cells, minlength=len(counts))
    return counts.reshape(-1, classes)[:classes]


def class_totals(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the totals of a matrix, (classes, 3)."""
    return np.stack([confusion.sum(axis=1), confusion.sum(axis=0), np.diagonal(confusion)], axis=-1)


def iou(totals: Totals) -> NDArray[np.float64]:
    """Return the IoU of each class, (…, classes); NaN if a class has no target pixel. Jaccard 1901."""
    target, prediction, hit = _columns(totals)
    return _divide(hit, target + prediction - hit, where=target > 0)


def dice(totals: Totals) -> NDArray[np.float64]:
    """Return the Dice of each class, (…, classes); NaN if a class has no target pixel. Sørensen 1948."""
    target, prediction, hit = _columns(totals)
    return _divide(2 * hit, target + prediction, where=target > 0)


def precision(totals: Totals) -> NDArray[np.float64]:
    """Return hits over predicted pixels, (…, classes); NaN if a class has no target pixel or none was predicted."""
    target, prediction, hit = _columns(totals)
    return _divide(hit, prediction, where=(target > 0) & (prediction > 0))


def recall(totals: Totals) -> NDArray[np.float64]:
    """Return hits over target pixels, (…, classes); NaN if a class has no target pixel."""
    target, _, hit = _columns(totals)
    return _divide(hit, target, where=target > 0)


def mean_over_present(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean along the last dimension of the values that are not NaN; NaN if all are."""
    present = ~np.isnan(values)
    total = np.where(present, values, 0).sum(axis=-1)
    return _divide(total, present.sum(axis=-1), where=np.asarray(present.any(axis=-1)))


def summary_scores(totals: Totals) -> dict[str, NDArray[np.float64]]:
    """Return the scores over all classes, by their names in `Scores`; each (…)."""
    class_iou, class_dice = iou(totals), dice(totals)
    target, _, hit = _columns(totals)
    pixels = target.sum(axis=-1)
    weighted = np.where(target > 0, target * np.nan_to_num(class_iou), 0).sum(axis=-1)
    return {
        "miou": mean_over_present(class_iou),
        "mean_dice": mean_over_present(class_dice),
        "foreground_miou": mean_over_present(class_iou[..., 1:]),
        "foreground_dice": mean_over_present(class_dice[..., 1:]),
        "frequency_weighted_iou": _divide(weighted, pixels, where=pixels > 0),
        "pixel_accuracy": _divide(hit.sum(axis=-1), pixels, where=pixels > 0),
    }


def scores(confusion: NDArray[np.int64], class_names: Sequence[str]) -> Scores:
    """Return every score of a matrix whose classes are `class_names`, background first."""
    totals = class_totals(confusion)

    def by_name(values: NDArray[Any]) -> dict[str, Any]:
        return dict(zip(class_names, values.tolist(), strict=True))

    def of_classes(values: NDArray[np.float64]) -> dict[str, float | None]:
        return {name: reported(value) for name, value in by_name(values).items()}

    return Scores(
        **{name: reported(float(value)) for name, value in summary_scores(totals).items()},
        iou=of_classes(iou(totals)),
        dice=of_classes(dice(totals)),
        precision=of_classes(precision(totals)),
        recall=of_classes(recall(totals)),
        support=by_name(totals[:, 0]),
        classes_averaged=int((totals[:, 0] > 0).sum()),
    )


def reported(value: float) -> float | None:
    """Return a score as it is written to metrics: rounded to six digits, `None` for NaN, which JSON does not have."""
    return None if math.isnan(value) else round(value, 6)


def _columns(totals: Totals) -> tuple[Totals, Totals, Totals]:
    return totals[..., 0], totals[..., 1], totals[..., 2]


def _divide(above: Totals, below: Totals, where: NDArray[np.bool_]) -> NDArray[np.float64]:
    quotient = np.full(np.shape(above), math.nan)
    np.divide(above, below, out=quotient, where=where)
    return quotient
