"""Every pair of several groups of runs, with intervals that hold jointly, and letters for what cannot be told apart.

`groups`: runs that differ in the seed, each `totals: (images, classes, 3)` of the same images in the same order.
"""

import math
import string
from collections.abc import Collection, Sequence
from itertools import combinations

import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.commands.compare.claims import Verdict, of_folds, verdict
from cocoseg.scores.bootstrap import SEED, resampled, standard_error
from cocoseg.scores.confusion import summary_scores
from cocoseg.scores.formats import ScoreName

_LETTERS = string.ascii_letters


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """Two groups by their places in the ranking, of which the first has the higher score."""

    first: int
    second: int
    difference: float
    """Second minus first. `low` and `high` are 95 %, jointly over all pairs; `None` for fewer than ten images."""
    low: float | None
    high: float | None
    verdict: Verdict
    """Of the second against the first."""


def all_pairs(
    groups: Sequence[Sequence[NDArray[np.int64]]], primary: ScoreName, min_effect: float, samples: int
) -> tuple[list[int], list[Pair]]:
    """Return the groups by falling score, as their places in `groups`, and every pair of them.

    As in a comparison of two, the variance of a difference is that of the seeds plus that of the images (paired
    bootstrap). Three seeds hardly tell how far seeds scatter, so the groups tell it together: each has the mean
    variance of all groups, or its own where that is larger. With Welch's variances, twelve groups without a
    difference had a winner in one of five sweeps.

    The intervals hold jointly by the largest |t| of any pair (max-t, Westfall & Young 1993), in which images are
    resampled and the seeds drawn from normal distributions. Groups of one run each are judged by the images alone.
    """
    if len(groups) < 2:
        return list(range(len(groups))), []
    means, drawn, images = _group_scores(groups, primary, samples)
    order = np.argsort(-means, kind="stable").tolist()
    first, second = np.array(list(combinations(order, 2))).T
    of_seeds, seed_degrees = _seed_variances(groups, primary)
    in_images = drawn[second] - drawn[first]  # (pairs, samples)
    of_images = np.array([standard_error(one, images) for one in in_images]) ** 2
    between = of_seeds[first] + of_seeds[second]
    errors = np.sqrt(of_images + between)
    squares = (between**2 / max(1, seed_degrees)) + of_images**2 / max(1, images - 1)
    degrees = np.divide(errors**4, squares, out=np.ones_like(errors), where=squares > 0)
    of_chance = np.random.default_rng(SEED).standard_normal((len(groups), drawn.shape[1])) * np.sqrt(of_seeds)[:, None]
    deviations = in_images - (means[second] - means[first])[:, None] + of_chance[second] - of_chance[first]
    margins = _joint_margins(deviations, errors, degrees)
    places = {group: place for place, group in enumerate(order)}
    pairs = [
        _pair(places[one], places[other], float(means[other] - means[one]), float(margin), min_effect)
        for one, other, margin in zip(first.tolist(), second.tolist(), margins, strict=True)
    ]
    return order, pairs


def pairs_over_folds(
    groups: Sequence[Sequence[Sequence[NDArray[np.int64]]]],
    primary: ScoreName,
    min_effect: float,
    samples: int,
    test_per_training: float,
) -> tuple[list[int], list[Pair]]:
    """Return the same of groups that have for each fold its runs, on the same images in all groups.

    The variance of a difference is that over folds, with Nadeau and Bengio's correction as in a comparison of two, and
    at least that of the images. A few folds hardly tell it, so all pairs tell it together: it is what the means of
    groups and of folds leave, or that of the pair itself where that is larger. The intervals hold jointly by the
    studentized range (Tukey 1949).
    """
    from scipy.stats import studentized_range  # here, because it takes a while

    found, column = [of_folds(group) for group in groups], list(summary_scores(groups[0][0][0][0])).index(primary)
    means = np.array([own[column] for own, _ in found])
    order = np.argsort(-means, kind="stable").tolist()
    if len(groups) < 2:
        return order, []
    values = np.array([own[column] + parts[:, column] for own, parts in found])  # (groups, folds)
    left = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    folds, degrees = values.shape[1], left.size - sum(left.shape) + 1
    first, second = np.array(list(combinations(order, 2))).T
    of_pairs = np.maximum(2 * (left**2).sum() / degrees, (values[second] - values[first]).var(axis=1, ddof=1))
    whole = [np.concatenate([np.mean(fold, axis=0) for fold in group]) for group in groups]
    drawn = np.array([one.scores[primary] for one in resampled(whole, samples)])
    of_images = np.array([standard_error(one, len(whole[0])) for one in drawn[second] - drawn[first]])
    errors = np.maximum(np.sqrt((1 / folds + test_per_training) * of_pairs), of_images)
    margins = studentized_range.ppf(0.95, len(groups), degrees) / math.sqrt(2) * errors
    places = {group: place for place, group in enumerate(order)}
    return order, [
        _pair(places[one], places[other], float(means[other] - means[one]), float(margin), min_effect)
        for one, other, margin in zip(first.tolist(), second.tolist(), margins, strict=True)
    ]


def letters(groups: int, apart: Collection[tuple[int, int]]) -> list[str]:
    """Return letters for each group, of which two share one unless they are `apart`; the best has the first.

    A letter stands for a largest set of groups of which no two are apart, as in the compact letter display of
    Piepho 2004.
    """
    import networkx  # here, because it takes a while

    alike = networkx.complete_graph(groups)
    alike.remove_edges_from(apart)
    columns = sorted(map(sorted, networkx.find_cliques(alike)))
    names = [*_LETTERS, *(f"({number})" for number in range(len(_LETTERS), len(columns)))]
    return ["".join(name for name, own in zip(names, columns, strict=False) if group in own) for group in range(groups)]


def _group_scores(
    groups: Sequence[Sequence[NDArray[np.int64]]], primary: ScoreName, samples: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Return the mean score of each group, the same in each resample of the images, and how many images there are."""
    means = np.array([_scores(group, primary).mean() for group in groups])
    found = iter(resampled([run for group in groups for run in group], samples))
    drawn = np.array([np.mean([next(found).scores[primary] for _ in group], axis=0) for group in groups])
    return means, drawn, len(groups[0][0])


def _seed_variances(
    groups: Sequence[Sequence[NDArray[np.int64]]], primary: ScoreName
) -> tuple[NDArray[np.float64], int]:
    """Return the variance of each group's mean that is due to seeds, and the degrees of freedom of all together."""
    counts = np.array([len(group) for group in groups])
    degrees = int((counts - 1).sum())
    if degrees == 0:
        return np.zeros(len(groups)), 0
    squares = np.array([((own := _scores(group, primary)) - own.mean()).dot(own - own.mean()) for group in groups])
    own = squares / np.maximum(1, counts - 1)
    return np.maximum(own, squares.sum() / degrees) / counts, degrees


def _scores(group: Sequence[NDArray[np.int64]], primary: ScoreName) -> NDArray[np.float64]:
    return np.array([float(summary_scores(run.sum(axis=0))[primary]) for run in group])


def _joint_margins(
    deviations: NDArray[np.float64], errors: NDArray[np.float64], degrees: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return how far each interval reaches; `deviations: (pairs, samples)` from the differences themselves.

    The tail beyond the largest |t| of any pair is looked up, for each pair, in the t distribution of its degrees.
    """
    from scipy.special import ndtr, stdtrit  # here, because it takes a while

    moving = errors > 0  # not two groups that are the same in every image, nor NaN of too few images
    if not moving.any():
        return np.where(np.isnan(errors), math.nan, 0.0)
    largest = np.nan_to_num(np.abs(deviations[moving]) / errors[moving, None]).max(axis=0)
    tail = min(0.025, float(ndtr(-np.quantile(largest, 0.95))))
    return np.asarray(-stdtrit(np.maximum(1.0, degrees), tail) * errors)


def _pair(first: int, second: int, difference: float, margin: float, min_effect: float) -> Pair:
    low, high = difference - margin, difference + margin
    unknown = math.isnan(margin)
    return Pair(
        first=first,
        second=second,
        difference=round(difference, 6),
        low=None if unknown else round(low, 6),
        high=None if unknown else round(high, 6),
        verdict=verdict(low, high, min_effect),
    )
