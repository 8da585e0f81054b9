"""The threshold on a binary model's probability of foreground that scores best, from a histogram of one pass."""

import numpy as np
from numpy.typing import NDArray

from cocoseg.scores.confusion import summary_scores
from cocoseg.scores.formats import ScoreName

BINS = 1000
THRESHOLDS = tuple(edge / BINS for edge in range(1, BINS))
"""The edges between the bins; foreground is what lies above one."""


def totals_at_thresholds(histogram: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the totals at each of `THRESHOLDS`, (thresholds, 2, 3), as in `cocoseg.scores.confusion`.

    `histogram: (2, BINS)`: the pixels of background and foreground by their probability of foreground.
    """
    above = histogram.sum(axis=1, keepdims=True) - histogram.cumsum(axis=1)[:, :-1]  # (2, thresholds)
    target = np.broadcast_to(histogram.sum(axis=1)[:, None], above.shape)
    predicted = above.sum(axis=0)
    prediction = np.stack([histogram.sum() - predicted, predicted])
    hit = np.stack([target[0] - above[0], above[1]])
    return np.stack([target, prediction, hit]).transpose(2, 1, 0)


def best_threshold(histogram: NDArray[np.int64], score: ScoreName) -> tuple[float, float] | None:
    """Return the threshold with the highest score, of several that nearest to 0.5, and its score.

    Returns `None` if no pixel is foreground in truth: the best threshold would be the highest.
    """
    if not histogram[1].any():
        return None
    values = summary_scores(totals_at_thresholds(histogram))[score].round(6)
    best = min(np.flatnonzero(values == values.max()).tolist(), key=lambda index: abs(THRESHOLDS[index] - 0.5))
    return THRESHOLDS[best], float(values[best])
