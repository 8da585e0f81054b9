"""How good an epoch is: what chooses the one whose weights are kept."""

from collections.abc import Iterator

import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.core.errors import CocosegError
from cocoseg.model.weights import BestThreshold
from cocoseg.scores.confusion import scores
from cocoseg.scores.formats import SCORE_NAMES, ScoreName
from cocoseg.train.thresholds import best_threshold


class EpochScore(msgspec.Struct, frozen=True, kw_only=True):
    """The score of an epoch in validation that decides whether its weights are kept."""

    name: ScoreName
    value: float
    miou: float
    best_threshold: BestThreshold | None
    finds_foreground: bool
    """Whether any pixel was predicted to be foreground, rightly or not."""

    def __str__(self) -> str:
        return f"val {SCORE_NAMES[self.name]} {self.value:.3f}"

    @property
    def rank(self) -> tuple[float, float]:
        """What the best epoch has the highest of. Where nothing is found yet, what a lower threshold would find."""
        return self.value, self.best_threshold.val_score if self.best_threshold is not None else 0.0


def epoch_score(
    confusion: NDArray[np.int64], histogram: NDArray[np.int64] | None, score: ScoreName, classes: tuple[str, ...]
) -> EpochScore:
    """Return the score of an epoch with this matrix, and of a binary model this histogram of probabilities.

    The score is mIoU, the IoU of background, where the validation side has no foreground for the one that was chosen.
    Raises `CocosegError` if every pixel of the validation side is ignored.
    """
    found = scores(confusion, classes)
    if found.miou is None:
        raise CocosegError(
            "data/splits/val.txt: every pixel in the masks of these images is ignored (255); choose more images or a "
            "larger val_share"
        )
    value: float | None = getattr(found, score)
    if value is None:
        score, value = "miou", found.miou
    best = None if histogram is None else best_threshold(histogram, score)
    return EpochScore(
        name=score,
        value=value,
        miou=found.miou,
        best_threshold=None if best is None else BestThreshold(threshold=best[0], val_score=best[1]),
        finds_foreground=bool(confusion[:, 1:].any()),
    )


def warnings(score: ScoreName, best: EpochScore | None) -> Iterator[str]:
    """Yield what to know of a model before it is used: how it was chosen, and whether it finds anything."""
    if best is None:
        return
    if best.name != score:
        yield (
            f"the validation side shows no foreground, so it has no {SCORE_NAMES[score]}: {SCORE_NAMES[best.name]} "
            "chose the epoch, and no threshold was chosen; expected a larger val_share"
        )
    if not best.finds_foreground:
        yield (
            "the best epoch predicts nothing but background on the validation side; try a tenth of the lr, more "
            "epochs, loss: ce_dice or class_weights: inverse"
        )
