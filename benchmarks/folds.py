"""Measure how often the intervals of `cocoseg compare` over folds contain the true difference.

    uv run benchmarks/folds.py

Nothing is trained: hits in each image are drawn. An image is hard or easy for both models, and by chance more so for
one of them; a training is good or bad by its seed, and by its images. The latter is correlated between folds, which
share images: by 1/folds, as Nadeau and Bengio assume, or more. Where groups are asked for, images of a group share
their chance, and a fold has whole groups. The true difference is that of infinitely many trainings, tested on
infinitely many images.

Rates have Wilson's 95 % interval for the number of trials. "Uncorrected" is the same interval with the variance of
independent folds; "checkpoints" is the claim about the checkpoints of these folds, mistaken for one about the change.
"""

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

sys.path[:0] = [str(Path(__file__).parents[1] / "src")]

from cocoseg.commands.compare.claims import Difference, checkpoint_claim, fold_claim
from cocoseg.commands.compare.ranking import pairs_over_folds
from cocoseg.scores.confusion import summary_scores

Counts = NDArray[np.int64]

NAMES = ("background", "common", "rare")
EFFECT = 0.02
BY_SEED, BY_DATA, BY_IMAGE, BY_MODEL_AND_IMAGE = 0.03, 0.03, 0.15, 0.10  # standard deviations of the share of hits


class Case(NamedTuple):
    """What is simulated."""

    folds: int = 5
    run: int = 5
    """Folds that were run."""
    images: int = 200
    seeds: int = 1
    group: int = 1
    """Images in each group."""
    correlation: float | None = None
    """Of what two training sets do, if not 1/folds."""


CASES = [
    Case(), Case(seeds=3), Case(folds=10, run=10), Case(images=1000), Case(images=50), Case(run=3), Case(group=10),
    Case(correlation=0.0), Case(correlation=0.75), Case(correlation=0.75, seeds=3),
]  # fmt: skip


def totals(targets: NDArray[np.float64], shares: NDArray[np.float64]) -> Counts:
    """Return totals of images, (images, classes, 3), with `targets: (images, 3)` and shares of hits, (images,)."""
    hits = np.round(targets[:, 1:] * np.clip(shares, 0, 1)[:, None])
    counts = np.zeros((len(targets), 3, 3), np.int64)
    counts[:, :, 0] = targets
    counts[:, 1:, 1] = counts[:, 1:, 2] = hits
    counts[:, 0, 1] = targets.sum(axis=1) - hits.sum(axis=1)
    counts[:, 0, 2] = targets[:, 0]
    return counts


def images(chance: np.random.Generator, count: int, group: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the targets of images, (images, 3), and their shares of hits for both models, (2, images)."""
    objects = chance.uniform(50, 500, (count, 2)) * (chance.random((count, 2)) < (0.9, 0.25))
    targets = np.round(np.column_stack([1000 - objects.sum(axis=1), objects]))
    groups = -(-count // group)
    both = 0.6 + BY_IMAGE * np.repeat(chance.standard_normal(groups), group)[:count]
    each = BY_MODEL_AND_IMAGE * np.repeat(chance.standard_normal((2, groups)), group, axis=1)[:, :count]
    return targets, both + each + np.array([[0.0], [EFFECT]])


def miou(counts: Counts) -> float:
    """Return the mIoU of all images."""
    return float(summary_scores(counts.sum(axis=0))["miou"])


def truth(chance: np.random.Generator) -> float:
    """Return the true difference."""
    targets, shares = images(chance, 100_000, 1)
    trained = np.hypot(BY_SEED, BY_DATA) * np.linspace(-2.5, 2.5, 21)
    weights = np.exp(-((np.linspace(-2.5, 2.5, 21)) ** 2) / 2)
    scores = [[miou(totals(targets, own + moved)) for moved in trained] for own in shares]
    base, new = (np.array(scores) * weights).sum(axis=1) / weights.sum()
    return float(new - base)


def runs(chance: np.random.Generator, case: Case) -> list[list[list[Counts]]]:
    """Return for both models the runs of each fold."""
    targets, shares = images(chance, case.images, case.group)
    # The hash of a group deals it to a fold.
    fold_of = np.repeat(chance.integers(0, case.folds, -(-case.images // case.group)), case.group)[: case.images]
    correlation = 1 / case.folds if case.correlation is None else case.correlation
    sides = []
    for own in shares:
        shared = np.sqrt(correlation) * chance.standard_normal()
        by_data = BY_DATA * (shared + np.sqrt(1 - correlation) * chance.standard_normal(case.folds))
        by_seed = BY_SEED * chance.standard_normal((case.folds, case.seeds))
        sides.append([
            [totals(targets[fold_of == fold], own[fold_of == fold] + by_data[fold] + one) for one in by_seed[fold]]
            for fold in range(case.run)
            if (fold_of == fold).any()
        ])  # fmt: skip
    return sides


def middle_and_half(difference: Difference) -> tuple[float, float]:
    """Return the middle of an interval, and half its width."""
    assert difference.low is not None
    assert difference.high is not None
    return (difference.high + difference.low) / 2, (difference.high - difference.low) / 2


def any_apart(chance: np.random.Generator, case: Case, models: int) -> bool:
    """Return whether the ranking of several models tells any two apart, though none is better."""
    targets, shares = images(chance, case.images, case.group)
    fold_of = chance.permutation(case.images) % case.folds
    groups = []
    for _ in range(models):
        own = shares[0] + BY_MODEL_AND_IMAGE * chance.standard_normal(case.images)
        by_fold = np.hypot(BY_DATA, BY_SEED) * chance.standard_normal(case.folds)
        groups.append([[totals(targets[fold_of == one], own[fold_of == one] + by_fold[one])]
                       for one in range(case.folds)])  # fmt: skip
    _, pairs = pairs_over_folds(groups, "miou", 0.0, 300, 1 / (case.folds - 1))
    return any(pair.verdict in ("better", "worse") for pair in pairs)


def rate(hits: list[bool]) -> str:
    """Return the share of hits, with its interval."""
    found = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    return f"{np.mean(hits):6.1%} ({found.low:.1%} to {found.high:.1%})"


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    true = truth(np.random.default_rng(0))
    print(f"true difference {true:+.4f} mIoU; {trials} trials of each case")
    print(f"{'':68}{'coverage':26}{'uncorrected':26}{'checkpoints':26}width")
    for case in CASES:
        chance = np.random.default_rng(1)
        covered: list[tuple[bool, bool, bool]] = []
        widths = []
        for _ in range(trials):
            base, new = runs(chance, case)
            own = fold_claim(base, new, NAMES, "miou", 0.0, 300, 1 / (case.folds - 1)).primary
            first = [np.concatenate([fold[0] for fold in side]) for side in (base, new)]
            mistaken = checkpoint_claim(first[0], first[1], NAMES, "miou", 0.0, 300).primary
            middle, half = middle_and_half(own)
            narrow = half * np.sqrt(1 / len(base) / (1 / len(base) + 1 / (case.folds - 1)))
            off = abs(middle - true)
            center, reach = middle_and_half(mistaken)
            covered.append((off <= half, bool(off <= narrow), abs(center - true) <= reach))
            widths.append(2 * half)
        shown = ", ".join(f"{name} {value}" for name, value in case._asdict().items() if value is not None)
        print(f"{shown:68}" + "".join(f"{rate(list(column)):26}" for column in zip(*covered, strict=True)), end="")
        print(f"{np.mean(widths):.3f}", flush=True)
    for case in CASES[0], Case(folds=3), Case(folds=10):
        chance = np.random.default_rng(1)
        apart = [any_apart(chance, case, 12) for _ in range(trials // 5)]
        print(f"12 models that do not differ, {case.folds} folds: the ranking tells any two apart in {rate(apart)}")


if __name__ == "__main__":
    main()
