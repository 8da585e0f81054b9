"""How much a score would vary with other images: the bootstrap over images. Efron 1979.

`totals: (images, classes, 3)` as in `cocoseg.scores.confusion`. A resample draws as many images with replacement, sums
their totals, and divides once, as the score itself does. Sums are exact in float64, so the same seed gives the same
interval on every machine.
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
"""With fewer images the bootstrap means nothing: of three similar ones it would claim certainty."""
SEED = 20_170_901  # arbitrary, but fixed, so that the same data always has the same interval
_BLOCK_WEIGHTS = 4_000_000  # the numbers in a block of resamples, one for each image in each: 32 MB


class Resampled(msgspec.Struct, frozen=True, kw_only=True):
    """The scores of every resample: by name, (samples,), and IoU by class, (samples, classes). NaN if undefined."""

    scores: dict[str, NDArray[np.float64]]
    iou: NDArray[np.float64]

    def loses_classes(self) -> bool:
        """Return whether a class of the images is missing from a resample, whose means are then over fewer classes."""
        missing = np.isnan(self.iou)
        return bool((missing.any(axis=0) & ~missing.all(axis=0)).any())


def resampled(runs: Sequence[NDArray[np.int64]], samples: int) -> list[Resampled]:
    """Return the scores of several models in the same resamples of the same images, so their differences are paired."""
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


def interval(values: NDArray[np.float64], images: int, own: float | None = None) -> tuple[float, float]:
    """Return the 95 % interval of a score from its resampled `values`; `images` is how many images have a part in it.

    (NaN, NaN) for fewer than `LEAST_IMAGES`, or if most resamples have no value. It is the expanded percentile interval
    of Hesterberg 2015, "What Teachers Should Know About the Bootstrap": percentiles are moved outward by a t
    distribution, since those of a plain bootstrap are too narrow for few images.

    Where resamples lose classes, pass the score itself as `own`: means over fewer classes are not spread around it, and
    percentiles may miss it. The interval is then `own` plus and minus Student's t times the standard error. In
    simulations with 60 classes, of which half were in fewer than 1 or 5 of 24 or 120 images, that covered the score of
    a model that learnt nothing in 100 % of trials, percentiles in 19 %; a difference in the background alone in 100 %,
    percentiles in 66 to 77 %; and the difference of two models that learnt in 91 to 93 %, percentiles in 96 %.

    A mean over many classes, some of them rare, is biased, and no bootstrap corrects that: the interval of one model
    then holds the true score in fewer than 95 % of cases, the interval of a difference in nearly 95 %.
    `benchmarks/calibration.py` measures both.
    """
    found = values[~np.isnan(values)]
    if images < LEAST_IMAGES or 2 * len(found) < len(values):
        return math.nan, math.nan
    if own is not None:
        from scipy.special import stdtrit  # scipy.stats takes half a second to import

        margin = float(stdtrit(images - 1, 0.975)) * standard_error(values, images)
        return own - margin, own + margin
    tail = _tail(images)
    low, high = np.quantile(found, [tail, 1 - tail])
    return float(low), float(high)


def standard_error(values: NDArray[np.float64], images: int) -> float:
    """Return the standard error of a score from its resampled `values`; NaN for fewer than `LEAST_IMAGES`.

    The spread of resamples is too small by the factor sqrt((images - 1) / images), which is corrected.
    """
    found = values[~np.isnan(values)]
    if images < LEAST_IMAGES or len(found) < 2:
        return math.nan
    return float(found.std(ddof=1)) * math.sqrt(images / (images - 1))


@cache
def _tail(images: int) -> float:
    """Return the share of resamples beyond each end of the interval."""
    from scipy.special import stdtrit  # scipy.stats takes half a second to import

    outward = math.sqrt(images / (images - 1)) * float(stdtrit(images - 1, 0.025))
    return NormalDist().cdf(outward)


def _draws(images: int, samples: int) -> Iterator[NDArray[np.float64]]:
    """Yield how often each resample holds each image, (resamples, images), in blocks until all `samples` are drawn."""
    generator = np.random.Generator(np.random.PCG64(SEED))
    at_once = max(1, _BLOCK_WEIGHTS // images)
    for start in range(0, samples, at_once):
        rows = min(at_once, samples - start)
        chosen = generator.integers(0, images, (rows, images))
        chosen += np.arange(rows)[:, None] * images
        yield np.bincount(chosen.ravel(), minlength=rows * images).reshape(rows, images).astype(np.float64)
