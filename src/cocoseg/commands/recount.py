"""The scores in metrics files, against those that `per_image.csv` gives: a metric is text that anyone may edit."""

import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocoseg import paths
from cocoseg.scores.confusion import dice, iou, precision, recall, reported, summary_scores

_TOLERANCE = 2e-6  # metrics have six digits


def contradiction(
    totals: Iterable[NDArray[np.int64]], class_names: Sequence[str], told: Mapping[str, Any]
) -> str | None:
    """Return, in words, the first score in `told` that the totals of the images do not give; `None` if all are right.

    `totals: (classes, 3)` of each image, as in `cocoseg.scores.confusion`. `told`: the content of
    `metrics/evaluate.json` or `metrics/scores.json`. Intervals and baselines are not checked.
    """
    summed = np.sum(list(totals), axis=0)
    kinds = {"iou": iou, "dice": dice, "precision": precision, "recall": recall}
    counted = {name: float(value) for name, value in summary_scores(summed).items()}
    known = {*counted, *kinds}
    for kind, score in kinds.items():
        counted |= {f"{kind}.{name}": value for name, value in zip(class_names, score(summed).tolist(), strict=True)}
    for kind, content in told.items():
        if kind not in known:
            continue
        for name, value in (content if isinstance(content, dict) else {"": content}).items():
            key = f"{kind}.{name}" if name else kind
            right = counted.get(key, math.nan)
            same = isinstance(value, int | float) and abs(value - right) <= _TOLERANCE
            if not same and not (value is None and math.isnan(right)):
                return f"{key} is {reprlib.repr(value)}, but {paths.PER_IMAGE.as_posix()} gives {reported(right)}"
    return None
