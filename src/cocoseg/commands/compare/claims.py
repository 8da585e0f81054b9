"""The two claims of a comparison, with their intervals.

*These checkpoints on these images*: one model against another. Only the images are random.
*This change*: what was changed, whichever seed trains it. The seeds are random too, and one seed says nothing about
them. Bouthillier et al. 2021, arXiv 2103.03098.

`totals: (images, classes, 3)` as in `cocoseg.scores.confusion`, of the same images in the same order on both sides,
with the same truth. Every image counts for a score over all classes; for the IoU of a class, those that show it.
"""

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.scores.bootstrap import LEAST_IMAGES, Resampled, interval, resampled, standard_error
from cocoseg.scores.confusion import iou, summary_scores
from cocoseg.scores.formats import ScoreName

Verdict = Literal["better", "worse", "equivalent", "undetermined"]

LEAST_SEEDS = 3
_POWER = 0.8
_STEP = 1e-6  # of a derivative


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One score of both sides. `difference` is the new side minus the base."""

    name: str
    base: float | None
    new: float | None
    difference: float | None
    low: float | None
    high: float | None
    """95 %, jointly over the classes. `None` where fewer than ten images count for the score."""
    verdict: Verdict | None = None
    """Only of the primary score, and of classes in enough images."""


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """One claim: its primary score, the other scores and the classes."""

    primary: Difference
    others: list[Difference]
    classes: list[Difference]
    smallest_difference: float | None
    """The smallest true difference that this test side would show four times in five."""
    undetermined_because: str | None = None


def checkpoint_claim(
    base: NDArray[np.int64],
    new: NDArray[np.int64],
    class_names: Sequence[str],
    primary: ScoreName,
    min_effect: float,
    samples: int,
) -> Claim:
    """Compare two checkpoints on these images by the paired bootstrap: both are scored on the same resamples."""
    images = len(base)
    drawn_base, drawn_new = resampled([base, new], samples)
    scores_base, scores_new = (summary_scores(totals.sum(axis=0)) for totals in (base, new))
    differences = []
    for name in scores_base:
        drawn = drawn_new.scores[name] - drawn_base.scores[name]
        old, fresh = float(scores_base[name]), float(scores_new[name])
        low, high = interval(drawn, images, fresh - old if drawn_base.loses_classes() else None)
        differences.append(_difference(name, old, fresh, low, high))
    error = standard_error(drawn_new.scores[primary] - drawn_base.scores[primary], images)
    classes = _classes_by_max_t(base, new, drawn_base, drawn_new, class_names, min_effect)
    claim = _claim(differences, primary, min_effect, classes, _detectable(error, images - 1))
    return claim if images >= LEAST_IMAGES else undetermined(claim, few_images(images))


def change_claim(
    base: Sequence[NDArray[np.int64]],
    new: Sequence[NDArray[np.int64]],
    class_names: Sequence[str],
    primary: ScoreName,
    min_effect: float,
    samples: int,
) -> Claim:
    """Compare two groups of runs. Within a group, runs differ only in the seed.

    The variance of the difference of the means is that of the seeds (Welch) plus that of the images (paired bootstrap).
    The interval is Student's, with Satterthwaite's degrees of freedom. Class intervals hold jointly by Šidák 1967. With
    fewer than three seeds on a side, nothing is claimed.
    """
    groups = _Groups(base, new, samples)
    scores = [summary_scores(run.sum(axis=0)) for run in groups.runs]
    compared = {}
    for name in scores[0]:
        values, drawn = np.array([own[name] for own in scores]), np.array([one.scores[name] for one in groups.drawn])
        compared[name] = groups.difference(name, values, drawn, groups.images)
    shown_in = _images_of_classes(base[0])
    # Strict enough that in only one of twenty comparisons any class shows a difference that is not there.
    alpha = 1 - 0.95 ** (1 / max(1, int((shown_in >= LEAST_IMAGES).sum())))
    class_iou = np.array([iou(run.sum(axis=0)) for run in groups.runs])  # (runs, classes)
    classes = []
    for index in np.nonzero(shown_in)[0].tolist():
        drawn = np.array([one.iou[:, index] for one in groups.drawn])
        own, _ = groups.difference(class_names[index], class_iou[:, index], drawn, int(shown_in[index]), alpha)
        classes.append(_judged(own, min_effect) if shown_in[index] >= LEAST_IMAGES else own)
    claim = _claim([own for own, _ in compared.values()], primary, min_effect, classes, compared[primary][1])
    if min(groups.counts) >= LEAST_SEEDS:
        return claim if groups.images >= LEAST_IMAGES else undetermined(claim, few_images(groups.images))
    counts = " and ".join(map(str, groups.counts))
    seeds = "one seed per side" if groups.counts == (1, 1) else f"{counts} seeds, but {LEAST_SEEDS} per side are needed"
    return undetermined(claim, seeds)


def fold_claim(
    base: Sequence[Sequence[NDArray[np.int64]]],
    new: Sequence[Sequence[NDArray[np.int64]]],
    class_names: Sequence[str],
    primary: ScoreName,
    min_effect: float,
    samples: int,
    test_per_training: float,
) -> Claim:
    """Compare two groups of runs whose test sides are folds. `base` and `new` have for each common fold its runs.

    Every image counts once in a score, with the mean of the runs of its fold. The difference of a fold is what it adds
    to the whole difference (the infinitesimal jackknife; a class that the fold lacks adds nothing). Trainings of two
    folds share images, so their differences are not independent: the variance of the mean is the variance over folds
    times 1/n + `test_per_training`, the images of a test side for each of its training side. Nadeau and Bengio 2003.
    It is at least that of the images (paired bootstrap), as where one fold alone shows a class. The interval is
    Student's. Class intervals hold jointly by Šidák 1967. With fewer than three folds, nothing is claimed.
    """
    means = [np.concatenate([np.mean(fold, axis=0) for fold in side]) for side in (base, new)]  # (images, classes, 3)
    shown_in = _images_of_classes(means[0])
    images, common, scores = len(means[0]), len(base), list(summary_scores(means[0][0]))
    (old, old_parts), (fresh, fresh_parts) = (of_folds(side) for side in (base, new))
    errors = np.sqrt((1 / common + test_per_training) * (fresh_parts - old_parts).var(axis=0, ddof=1))
    drawn_base, drawn_new = (_columns(drawn.scores, drawn.iou) for drawn in resampled(means, samples))
    counts = [*[images] * len(scores), *shown_in.tolist()]
    of_images = [standard_error(drawn, count) for drawn, count in zip((drawn_new - drawn_base).T, counts, strict=True)]
    errors = np.fmax(errors, of_images)

    def difference(name: str, column: int, alpha: float = 0.05) -> Difference:
        middle, margin = fresh[column] - old[column], _student(alpha, common - 1) * errors[column]
        return _difference(name, old[column], fresh[column], middle - margin, middle + margin)

    alpha = 1 - 0.95 ** (1 / max(1, int((shown_in >= LEAST_IMAGES).sum())))
    classes = []
    for index in np.nonzero(shown_in)[0].tolist():
        own = difference(class_names[index], len(scores) + index, alpha)
        classes.append(_judged(own, min_effect) if shown_in[index] >= LEAST_IMAGES else own)
    detectable = _detectable(float(errors[scores.index(primary)]), common - 1)
    compared = [difference(name, column) for column, name in enumerate(scores)]
    claim = _claim(compared, primary, min_effect, classes, detectable)
    if common < LEAST_SEEDS:
        return undetermined(claim, f"{common} folds in common, but {LEAST_SEEDS} are needed")
    return claim if images >= LEAST_IMAGES else undetermined(claim, few_images(images))


def of_folds(runs: Sequence[Sequence[NDArray[np.int64]]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return every score over all images, (scores,), and what each fold adds to it, (folds, scores): on average 0."""
    of_folds = np.array([np.mean([run.sum(axis=0) for run in fold], axis=0) for fold in runs])  # (folds, classes, 3)
    whole = of_folds.sum(axis=0)
    moved = whole + _STEP * (len(of_folds) * of_folds - whole)
    own, there = (_columns(summary_scores(totals), iou(totals)) for totals in (whole, moved))
    return own, (there - own) / _STEP


def _columns(scores: Mapping[str, NDArray[np.float64]], class_iou: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the scores over all classes, then the IoU of each class, (…, scores)."""
    return np.concatenate([np.stack(list(scores.values()), axis=-1), class_iou], axis=-1)


def verdict(low: float, high: float, min_effect: float) -> Verdict:
    """Return the verdict on an interval. Inside ±`min_effect` it is equivalent, even if it excludes 0."""
    if math.isnan(low) or math.isnan(high):
        return "undetermined"
    if -min_effect <= low and high <= min_effect:
        return "equivalent"
    return "better" if low > 0 else "worse" if high < 0 else "undetermined"


def _classes_by_max_t(
    base: NDArray[np.int64],
    new: NDArray[np.int64],
    drawn_base: Resampled,
    drawn_new: Resampled,
    class_names: Sequence[str],
    min_effect: float,
) -> list[Difference]:
    """Compare every class in the truth. Intervals hold jointly, by the largest |t| of any class.

    This is max-t, Westfall & Young 1993. The tail beyond that largest |t| is looked up, for each class, in the t
    distribution of the images that show it: the fewer they are, the less certain is the spread.
    """
    iou_base, iou_new = iou(base.sum(axis=0)), iou(new.sum(axis=0))
    drawn = drawn_new.iou - drawn_base.iou  # (samples, classes)
    shown_in = _images_of_classes(base)
    present = np.nonzero(shown_in)[0].tolist()
    errors = {index: standard_error(drawn[:, index], int(shown_in[index])) for index in present}
    t = [
        np.abs(np.nan_to_num(drawn[:, index] - (iou_new - iou_base)[index])) / np.nanstd(drawn[:, index], ddof=1)
        for index in present
        if errors[index] > 0
    ]
    tail = NormalDist().cdf(-float(np.quantile(np.max(t, axis=0), 0.95))) if t else 0.025
    classes = []
    for index in present:
        old, fresh = float(iou_base[index]), float(iou_new[index])
        margin = _student(2 * tail, int(shown_in[index]) - 1) * errors[index]
        own = _difference(class_names[index], old, fresh, fresh - old - margin, fresh - old + margin)
        classes.append(_judged(own, min_effect) if shown_in[index] >= LEAST_IMAGES else own)
    return classes


def _images_of_classes(totals: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return in how many images each class has a target pixel, (classes,)."""
    return np.asarray((totals[:, :, 0] > 0).sum(axis=0))


class _Groups:
    """The runs of both sides, the base's first, and their scores in the same resamples."""

    def __init__(self, base: Sequence[NDArray[np.int64]], new: Sequence[NDArray[np.int64]], samples: int) -> None:
        self.runs = [*base, *new]
        self.counts = (len(base), len(new))
        self.images = len(base[0])
        self.drawn = resampled(self.runs, samples)

    def difference(
        self, name: str, values: NDArray[np.float64], drawn: NDArray[np.float64], images: int, alpha: float = 0.05
    ) -> tuple[Difference, float]:
        """Return the difference of the groups' means and the smallest one that would be detected.

        `values: (runs,)`; `drawn: (runs, samples)`; `images` count for this score. There is no interval with fewer than
        two runs in a group.
        """
        base, new = np.split(values, [self.counts[0]])
        error, degrees = self._standard_error(base, new, drawn, images)
        margin = _student(alpha, degrees) * error
        middle = float(new.mean() - base.mean())
        own = _difference(name, float(base.mean()), float(new.mean()), middle - margin, middle + margin)
        return own, _detectable(error, degrees)

    def _standard_error(
        self, base: NDArray[np.float64], new: NDArray[np.float64], drawn: NDArray[np.float64], images: int
    ) -> tuple[float, float]:
        """Return the standard error of the difference of the means, and its degrees of freedom."""
        if min(self.counts) < 2:
            return math.nan, 1.0
        drawn_base, drawn_new = np.split(drawn, [self.counts[0]])
        of_images = standard_error(drawn_new.mean(axis=0) - drawn_base.mean(axis=0), images) ** 2
        parts = [(float(group.var(ddof=1)) / len(group), len(group) - 1) for group in (base, new)]
        parts.append((of_images, max(1, images - 1)))
        variance = sum(part for part, _ in parts)
        shares = sum(part**2 / own for part, own in parts)
        return math.sqrt(variance), variance**2 / shares if shares > 0 else 1.0


def _student(alpha: float, degrees: float) -> float:
    from scipy.special import stdtrit  # scipy.stats takes half a second to import

    return -float(stdtrit(max(1.0, degrees), alpha / 2))


def _detectable(error: float, degrees: float) -> float:
    return (_student(0.05, degrees) + _student(2 * (1 - _POWER), degrees)) * error


def _difference(name: str, base: float, new: float, low: float, high: float) -> Difference:
    return Difference(
        name=name,
        base=_known(base),
        new=_known(new),
        difference=_known(new - base),
        low=_known(low),
        high=_known(high),
    )


def _judged(difference: Difference, min_effect: float) -> Difference:
    low, high = (math.nan if end is None else end for end in (difference.low, difference.high))
    return msgspec.structs.replace(difference, verdict=verdict(low, high, min_effect))


def _claim(
    differences: list[Difference], primary: str, min_effect: float, classes: list[Difference], detectable: float
) -> Claim:
    return Claim(
        primary=next(_judged(one, min_effect) for one in differences if one.name == primary),
        others=[one for one in differences if one.name != primary],
        classes=classes,
        smallest_difference=_known(detectable),
    )


def undetermined(claim: Claim, because: str) -> Claim:
    """Return a claim without intervals and verdicts."""
    unsure = [msgspec.structs.replace(own, low=None, high=None) for own in (claim.primary, *claim.others)]
    return Claim(
        primary=msgspec.structs.replace(unsure[0], verdict="undetermined"),
        others=unsure[1:],
        classes=[],
        smallest_difference=None,
        undetermined_because=because,
    )


def few_images(images: int) -> str:
    """Return what to say of fewer images than an interval needs."""
    return f"{'one image' if images == 1 else f'{images} images'}, but {LEAST_IMAGES} are needed"


def _known(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 6)
