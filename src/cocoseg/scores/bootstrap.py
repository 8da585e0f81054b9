"""How far a score could lie elsewhere had other images been drawn: the bootstrap over images. Efron 1979.

`totals: (images, classes, 3)` as in `cocoseg.scores.confusion`. A resample draws as many images, each as often as
chance has it, adds up their totals, and divides once, as the score itself does. Sums are exact in float64, so that
the same seed gives the same interval on every machine.
"""

import math
from collections.abc import Iterator, Sequence
from functools import cache
from statistics import NormalDist

import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.scores.confusion import iou, summary_scores

LEAST_IMAGES = 10
"""Of fewer images the bootstrap says nothing: three alike would make it certain."""
SEED = 20_170_901  # any; fixed, so that an interval belongs to the data and not to the day
_BLOCK_WEIGHTS = 4_000_000  # how often each image is drawn, of so many resamples at a time: 32 MB


class Resampled(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of every resample: by name, (samples,), and IoU by class, (samples, classes). NaN where undefined."""

    scores: dict[str, NDArray[np.float64]]
    iou: NDArray[np.float64]


def resampled(runs: Sequence[NDArray[np.int64]], samples: int) -> list[Resampled]:
    """The scores of several models on the same images in the same resamples: their differences are paired."""
    images = len(runs[0])
    flat = [run.reshape(images, -1).astype(np.float64) for run in runs]
    scores: list[list[dict[str, NDArray[np.float64]]]] = [[] for _ in runs]
    class_iou: list[list[NDArray[np.float64]]] = [[] for _ in runs]
    for drawn in _draws(images, samples):
        for place, (run, own) in enumerate(zip(runs, flat, strict=True)):
            totals = (drawn @ own).reshape(len(drawn), *run.shape[1:])
            scores[place].append(summary_scores(totals))
            class_iou[place].append(iou(totals))
    return [
        Resampled(
            scores={name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]},
            iou=np.concatenate(of_run),
        )
        for blocks, of_run in zip(scores, class_iou, strict=True)
    ]


def interval(values: NDArray[np.float64], images: int) -> tuple[float, float]:
    """The 95 % interval that resampled values of a score give, which so many images speak of.

    (NaN, NaN) for fewer than `LEAST_IMAGES`, or where most resamples have no value. Percentiles moved outward as a t
    distribution asks for: those of a plain bootstrap are too narrow for few images. Hesterberg 2015, «What Teachers
    Should Know About the Bootstrap», the expanded percentile interval.

    The mean over many classes of which some are rare is biased, which no bootstrap repairs: there the interval of one
    model holds less often than it says, that of a difference nearly as often. `benchmarks/calibration.py` measures it.
    """
    found = values[~np.isnan(values)]
    if images < LEAST_IMAGES or 2 * len(found) < len(values):
        return math.nan, math.nan
    tail = _tail(images)
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)


def standard_error(values: NDArray[np.float64], images: int) -> float:
    """Of a score that so many images speak of: the spread of its resamples, which is too small by one image's share.

    NaN for fewer than `LEAST_IMAGES`.
    """
    found = values[~np.isnan(values)]
    if images < LEAST_IMAGES or len(found) < 2:
        return math.nan
    return float(found.std(ddof=1)) * math.sqrt(images / (images - 1))


@cache
def _tail(images: int) -> float:
    """The share of resamples beyond each end."""
    from scipy.stats import t

    outward = math.sqrt(images / (images - 1)) * float(t.ppf(0.025, images - 1))
    return NormalDist().cdf(outward)


def _draws(images: int, samples: int) -> Iterator[NDArray[np.float64]]:
    """How often each resample holds each image, (some of `samples`, images), until all are drawn."""
    generator = np.random.Generator(np.random.PCG64(SEED))
    at_once = max(1, _BLOCK_WEIGHTS // images)
    for start in range(0, samples, at_once):
        rows = min(at_once, samples - start)
        chosen = generator.integers(0, images, (rows, images))
        chosen += np.arange(rows)[:, None] * images
        yield np.bincount(chosen.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)
