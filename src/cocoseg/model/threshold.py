"""The threshold of a binary model: a pixel is foreground if its probability is above it."""

import math
from typing import NamedTuple

from cocoseg.core.errors import CocosegError
from cocoseg.model.params import Threshold
from cocoseg.model.weights import ModelInfo

EVEN = 0.5
"""Where foreground is as probable as background, and the logit is 0."""


class ChosenThreshold(NamedTuple):
    """A threshold, and what to tell the user of it, if anything. In multiclass tasks it has no effect."""

    value: float
    remark: str | None = None

    @property
    def logit(self) -> float:
        """The logit whose sigmoid the threshold is."""
        return threshold_logit(self.value)


def threshold_logit(threshold: float) -> float:
    """Return the logit above which the probability is above `threshold`; 0.5 gives exactly 0."""
    return math.log(threshold / (1 - threshold))


def chosen_threshold(threshold: Threshold, info: ModelInfo) -> ChosenThreshold:
    """Return the threshold for a model; `auto` takes validation's best, which `train` stored with the model.

    Raises `CocosegError` for a number other than 0.5 where the largest of several logits decides.
    """
    if info.task != "binary":
        if threshold == "auto":
            return ChosenThreshold(
                EVEN, "threshold auto has no effect: this model is multiclass, the largest logit wins"
            )
        if threshold != EVEN:
            raise CocosegError(
                f"threshold is {threshold:g}, but this model is multiclass, where the largest logit wins; expected "
                "0.5, or a model of task: binary"
            )
        return ChosenThreshold(EVEN)
    if threshold != "auto":
        return ChosenThreshold(threshold)
    if info.best_threshold is None:
        return ChosenThreshold(
            EVEN,
            "threshold auto is 0.5 here: the model stores no best threshold, since its validation side shows no "
            "foreground, or it was trained before thresholds were stored; train it again with: dvc repro -f train",
        )
    return ChosenThreshold(info.best_threshold.threshold)
