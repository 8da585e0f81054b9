"""The rows of `per_image.csv` from confusion matrices, and totals of images from its rows."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.coco.categories import BACKGROUND
from cocoseg.core.errors import CocosegError
from cocoseg.scores.confusion import class_totals, iou
from cocoseg.tables import ClassPixels


def class_pixels(file_name: str, confusion: NDArray[np.int64], class_names: Sequence[str]) -> list[ClassPixels]:
    """Return the rows of one image with this confusion matrix."""
    totals = class_totals(confusion)
    return [
        ClassPixels(
            file_name=file_name, class_index=index, class_name=name, target=target, prediction=prediction, hit=hit
        )
        for index, (name, (target, prediction, hit)) in enumerate(zip(class_names, totals.tolist(), strict=True))
        # Background always, so that every image is in the table.
        if index == BACKGROUND or target or prediction
    ]


def image_totals(rows: Sequence[ClassPixels], class_names: Sequence[str], place: str) -> dict[str, NDArray[np.int64]]:
    """Return the totals of each image, (classes, 3), by file name, sorted.

    Raises `CocosegError` for rows that no evaluation could have written; `place` is the table's path in errors.
    """
    again = "make it again with: dvc repro -f evaluate"
    totals: dict[str, NDArray[np.int64]] = {}
    seen: set[tuple[str, int]] = set()
    for row in rows:
        own = totals.setdefault(row.file_name, np.zeros((len(class_names), 3), np.int64))
        known = 0 <= row.class_index < len(class_names) and class_names[row.class_index] == row.class_name
        counted = 0 <= row.hit <= min(row.target, row.prediction)
        if not known or not counted or (row.file_name, row.class_index) in seen:
            raise CocosegError(
                f"{place}: the row of {row.file_name}, class {row.class_index} {row.class_name}, is not from an "
                f"evaluation of these classes; {again}"
            )
        seen.add((row.file_name, row.class_index))
        own[row.class_index] = row.target, row.prediction, row.hit
    if not totals:
        raise CocosegError(f"{place}: no images; {again}")
    for file_name, own in totals.items():
        # Each counted pixel has one target class and one predicted class.
        target, prediction, _ = own.sum(axis=0).tolist()
        if target != prediction:
            raise CocosegError(
                f"{place}: the rows of {file_name} have {target} target and {prediction} predicted pixels; expected "
                f"the same number of both; {again}"
            )
    return dict(sorted(totals.items()))


class FalseForeground(msgspec.Struct, frozen=True, kw_only=True):
    """How many images without a foreground pixel in truth there are, and how many get foreground all the same.

    The means over classes hardly show it: their false pixels are few beside those of images with objects.
    """

    images: int
    any_foreground: float
    """The share of these images with a pixel of any class."""
    above_1_percent: float
    """The share of them where it is more than a hundredth of the counted pixels."""

    def __str__(self) -> str:
        return (
            f"{100 * self.any_foreground:.0f} % of the {self.images} images without an object get foreground, "
            f"{100 * self.above_1_percent:.0f} % on more than 1 % of their pixels"
        )


def false_foreground(totals: NDArray[np.int64]) -> FalseForeground | None:
    """Return the account of images without an object, or `None` if there are none; `totals: (images, classes, 3)`.

    Ignored pixels do not count, so an image whose only object is ignored has none.
    """
    target, prediction = totals[:, :, 0], totals[:, 1:, 1].sum(axis=1)
    pixels = target.sum(axis=1)
    without = (pixels > 0) & ~target[:, 1:].any(axis=1)
    if not without.any():
        return None
    found, pixels = prediction[without], pixels[without]
    return FalseForeground(
        images=len(found),
        any_foreground=round(float((found > 0).mean()), 6),
        above_1_percent=round(float((found * 100 > pixels).mean()), 6),
    )


def image_iou(totals: NDArray[np.int64]) -> float:
    """Return the mean IoU of the classes in an image, true or predicted, without background; NaN if there are none.

    Only for ranking images: unlike a score of the whole side, it counts a class that was only predicted, as 0.
    """
    objects = totals[1:]
    found = (objects[:, 0] > 0) | (objects[:, 1] > 0)
    if not found.any():
        return float("nan")
    values = np.nan_to_num(iou(objects))
    return float(values[found].mean())
