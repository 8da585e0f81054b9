"""The two claims and their verdicts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from cocoseg.claims import Verdict, change_claim, checkpoint_claim, verdict

NAMES = ("background", "cat")
Counts = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def model(hits: Sequence[int], target: int = 100) -> Counts:
    """Images of which each shows 100 pixels of a cat, so many of them found; (images, 2, 3)."""
    return np.array([[[target, 2 * target - hit, target], [target, hit, hit]] for hit in hits])


def claim(base: Counts, new: Counts, **changes: Any) -> Any:
    settings: dict[str, Any] = {"primary": "foreground_miou", "min_effect": 0.01, "samples": 500} | changes
    return checkpoint_claim(base, new, NAMES, **settings)


def group(means: Sequence[float], images: int = 40) -> list[Counts]:
    """A model a mean, each right to that share with the same hard and easy images."""
    ease = np.linspace(-20, 20, images)
    return [model(np.round(100 * mean + ease).astype(int).tolist()) for mean in means]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.02, 0.05, "better"),
        (-0.05, -0.02, "worse"),
        (-0.02, 0.05, "undetermined"),
        (-0.009, 0.008, "equivalent"),
        (0.002, 0.008, "equivalent"),
        (0.002, 0.02, "better"),
        (float("nan"), float("nan"), "undetermined"),
    ],
)
def test_a_verdict_follows_from_the_interval(low: float, high: float, expected: Verdict) -> None:
    assert verdict(low, high, min_effect=0.01) == expected


def test_a_checkpoint_that_finds_ten_more_pixels_in_every_image_is_better_by_exactly_that() -> None:
    hits = [40, 60, 50, 30, 70, 55, 45, 65, 35, 50, 60, 40]
    found = claim(model(hits), model([hit + 10 for hit in hits]))
    assert found.primary.name == "foreground_miou"
    assert (found.primary.base, found.primary.new) == (0.5, 0.6)
    assert found.primary.difference == pytest.approx(0.1)
    assert (found.primary.low, found.primary.high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert found.primary.verdict == "better"
    assert {own.verdict for own in found.others} == {None}
    assert claim(model([hit + 10 for hit in hits]), model(hits)).primary.verdict == "worse"


def test_what_one_image_alone_gains_is_undetermined() -> None:
    hits = [50] * 12
    found = claim(model(hits), model([100, *hits[1:]]))
    assert found.primary.difference == pytest.approx(50 / 1200, abs=1e-6)
    assert found.primary.verdict == "undetermined"


def test_the_same_checkpoint_is_equivalent_to_itself() -> None:
    found = claim(model([50] * 12), model([50] * 12))
    assert found.primary.verdict == "equivalent"
    assert found.smallest_difference == 0


def test_a_class_in_fewer_than_ten_images_gets_no_verdict() -> None:
    base = model([50] * 12)
    base[9:, 1] = 0  # nine images left with a cat
    found = claim(base, base)
    assert {own.name: own.verdict for own in found.classes} == {"background": "equivalent", "cat": None}


def test_intervals_of_many_classes_are_wider_than_that_of_one() -> None:
    chance = np.random.default_rng(0)
    base, new = (chance.integers(40, 60, (60, 20)) for _ in range(2))
    # of 20 classes, in all 60 images
    first, second = (np.stack([np.full(hits.shape, 100), hits, hits], axis=-1) for hits in (base, new))
    names = [f"class {index}" for index in range(20)]
    together = checkpoint_claim(first, second, names, "miou", 0.0, 1000).classes[0]
    alone = checkpoint_claim(first[:, :1], second[:, :1], names[:1], "miou", 0.0, 1000).classes[0]
    widths = [own.high - own.low for own in (together, alone) if own.high is not None and own.low is not None]
    # max-t of 20 independent classes: 3.02 standard errors instead of 1.96, give or take what 60 images add
    assert widths[0] / widths[1] == pytest.approx(3.02 / 1.96, rel=0.08)


def test_one_seed_a_side_determines_nothing_about_the_change() -> None:
    found = change_claim(group([0.5]), group([0.7]), NAMES, "foreground_miou", 0.01, 200)
    assert found.undetermined_because == "one seed a side"
    assert found.primary.verdict == "undetermined"
    assert found.primary.low is None
    assert found.primary.difference == pytest.approx(0.2, abs=0.005)
    assert found.classes == []


def test_two_seeds_on_a_side_are_still_too_few() -> None:
    found = change_claim(group([0.5, 0.51, 0.49]), group([0.7, 0.71]), NAMES, "foreground_miou", 0.01, 200)
    assert found.undetermined_because == "3 seeds and 2 seeds, where 3 a side are needed"


def test_three_seeds_a_side_that_lie_apart_are_called_with_the_right_sign() -> None:
    worse, better = group([0.50, 0.51, 0.49]), group([0.60, 0.61, 0.59])
    assert change_claim(worse, better, NAMES, "foreground_miou", 0.01, 200).primary.verdict == "better"
    assert change_claim(better, worse, NAMES, "foreground_miou", 0.01, 200).primary.verdict == "worse"


def test_seeds_that_scatter_as_far_as_the_change_leave_it_undetermined() -> None:
    base, new = group([0.45, 0.55, 0.50]), group([0.50, 0.60, 0.55])
    found = change_claim(base, new, NAMES, "foreground_miou", 0.01, 200)
    assert found.primary.verdict == "undetermined"
    # yet the images say the same of each pair of checkpoints
    assert claim(base[0], new[0]).primary.verdict == "better"


def test_the_interval_of_a_change_by_hand() -> None:
    # All images alike, so the seeds alone count: 0.5 ± 0.1 and 0.6 ± 0.1 over three seeds each.
    base, new = ([model([round(100 * mean)] * 12) for mean in means] for means in ((0.4, 0.5, 0.6), (0.5, 0.6, 0.7)))
    primary = change_claim(base, new, NAMES, "foreground_miou", 0.01, 100).primary
    # standard error sqrt(0.01 / 3 + 0.01 / 3) = 0.08165 with 4 degrees of freedom: t = 2.7764
    assert primary.low == pytest.approx(0.1 - 2.7764 * 0.081650, abs=1e-4)
    assert primary.high == pytest.approx(0.1 + 2.7764 * 0.081650, abs=1e-4)
