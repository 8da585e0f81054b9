"""The two claims and their verdicts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from cocoseg.commands.compare.claims import Verdict, change_claim, checkpoint_claim, fold_claim, verdict

NAMES = ("background", "cat")
Counts = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


def model(hits: Sequence[int], target: int = 100) -> Counts:
    """Return images that each show 100 pixels of a cat, of which so many are found; (images, 2, 3)."""
    return np.array([[[target, 2 * target - hit, target], [target, hit, hit]] for hit in hits])


def claim(base: Counts, new: Counts, **changes: Any) -> Any:
    settings: dict[str, Any] = {"primary": "foreground_miou", "min_effect": 0.01, "samples": 500} | changes
    return checkpoint_claim(base, new, NAMES, **settings)


def group(means: Sequence[float], images: int = 40) -> list[Counts]:
    """Return a model per mean. Each finds that share of the pixels, with the same hard and easy images."""
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
        (-0.01, 0.01, "equivalent"),
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
    assert claim(model([50] * 12), model([50] * 12), min_effect=0.0).primary.verdict == "equivalent"


def test_a_difference_in_the_background_alone_is_within_its_interval_where_classes_are_rare() -> None:
    # A class of its own in each of 24 images, which both models miss; the new one also misses a part of the background.
    base = np.zeros((24, 25, 3), np.int64)
    base[:, 0] = 90, 100, 90
    base[range(24), range(1, 25), 0] = 10
    new = base.copy()
    new[:, 0, 1:] -= 40
    new[range(24), range(1, 25), 1] = 40
    found = checkpoint_claim(base, new, ["background", *"abcdefghijklmnopqrstuvwx"], "miou", 0.01, 500)
    for own in (found.primary, *found.others):
        assert None not in (own.low, own.difference, own.high)
        assert (own.low or 0) <= (own.difference or 0) <= (own.high or 0)


def test_a_class_in_fewer_than_ten_images_gets_no_verdict() -> None:
    base = model([50] * 12)
    base[9:, 1] = 0  # nine images left with a cat
    base[9:, 0] = 200, 200, 200
    checkpoint = claim(base, base)
    change = change_claim([base] * 3, [base] * 3, NAMES, "foreground_miou", 0.01, 200)
    for found in (checkpoint, change):
        assert {own.name: own.verdict for own in found.classes} == {"background": "equivalent", "cat": None}
        assert next(own for own in found.classes if own.name == "cat").low is None


def test_fewer_than_ten_images_determine_nothing() -> None:
    base, new = model([50] * 9), model([60] * 9)
    change = change_claim([base] * 3, [new] * 3, NAMES, "foreground_miou", 0.01, 200)
    for found in (claim(base, new), change):
        assert found.undetermined_because == "9 images, but 10 are needed"
        assert (found.primary.verdict, found.primary.low, found.smallest_difference) == ("undetermined", None, None)
        assert found.primary.difference == pytest.approx(0.1)
        assert found.classes == []
    assert claim(base[:1], new[:1]).undetermined_because == "one image, but 10 are needed"


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
    assert found.undetermined_because == "one seed per side"
    assert found.primary.verdict == "undetermined"
    assert found.primary.low is None
    assert found.primary.difference == pytest.approx(0.2, abs=0.005)
    assert found.classes == []


def test_two_seeds_on_a_side_are_still_too_few() -> None:
    found = change_claim(group([0.5, 0.51, 0.49]), group([0.7, 0.71]), NAMES, "foreground_miou", 0.01, 200)
    assert found.undetermined_because == "3 and 2 seeds, but 3 per side are needed"


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


# 40 images in which the new side finds 0 to 20 pixels more: on average 10, with a standard deviation of 6.07.
GAINS = [0, 2, 4, 6, 8, 12, 14, 16, 18, 20] * 4
GAIN_ERROR = float(np.std(GAINS, ddof=1)) / 40**0.5 / 100  # of the mean, as a share of the 100 pixels: 0.010249


def gained(factor: float = 1.0) -> Counts:
    return model([round(50 + factor * gain) for gain in GAINS])


def test_a_checkpoints_interval_and_smallest_difference_by_hand() -> None:
    found = claim(model([50] * 40), gained(), samples=8000)
    # Student's t with 39 degrees of freedom: 2.0227 at 97.5 %, 0.8512 at 80 %
    assert found.primary.low == pytest.approx(0.1 - 2.0227 * GAIN_ERROR, abs=0.0006)
    assert found.primary.high == pytest.approx(0.1 + 2.0227 * GAIN_ERROR, abs=0.0006)
    assert found.smallest_difference == pytest.approx((2.0227 + 0.8512) * GAIN_ERROR, rel=0.02)


def test_the_interval_of_a_single_class_is_students() -> None:
    hits = GAINS[:10]  # ten images: 9 degrees of freedom, t = 2.2622 where the normal distribution has 1.96
    base, new = model([50] * 10)[:, 1:], model([50 + hit for hit in hits])[:, 1:]
    (cat,) = checkpoint_claim(base, new, ["cat"], "miou", 0.0, 8000).classes
    error = float(np.std(hits, ddof=1)) / 10**0.5 / 100
    assert cat.high is not None
    assert cat.high - 0.1 == pytest.approx(2.2622 * error, rel=0.05)


def test_with_seeds_all_alike_a_change_is_as_uncertain_as_its_images() -> None:
    found = change_claim([model([50] * 40)] * 3, [gained()] * 3, NAMES, "foreground_miou", 0.01, 8000)
    assert found.primary.high == pytest.approx(0.1 + 2.0227 * GAIN_ERROR, abs=0.0006)
    assert found.smallest_difference == pytest.approx((2.0227 + 0.8512) * GAIN_ERROR, rel=0.02)


def test_what_seeds_gain_and_lose_image_by_image_is_no_variance_of_the_images() -> None:
    base, new = [gained(1), gained(-1), gained(0)], [gained(0), gained(1), gained(-1)]
    primary = change_claim(base, new, NAMES, "foreground_miou", 0.01, 200).primary
    # The seeds' own variance, 0.01 a side, is all: the means of both sides are the same in every image.
    assert primary.high == pytest.approx(2.7764 * (2 * 0.01 / 3) ** 0.5, abs=1e-4)


def test_a_side_whose_seeds_scatter_alone_has_its_own_degrees_of_freedom() -> None:
    base, new = ([model([round(100 * mean)] * 12) for mean in means] for means in ((0.5, 0.5, 0.5), (0.5, 0.6, 0.7)))
    primary = change_claim(base, new, NAMES, "foreground_miou", 0.01, 100).primary
    # standard error sqrt(0.01 / 3) = 0.057735 with 2 degrees of freedom and not 4: t = 4.3027
    assert primary.high == pytest.approx(0.1 + 4.3027 * 0.057735, abs=1e-4)


def test_two_judged_classes_share_the_five_percent_of_a_change() -> None:
    base, new = ([model([round(100 * mean)] * 12) for mean in means] for means in ((0.4, 0.5, 0.6), (0.5, 0.6, 0.7)))
    _, cat = change_claim(base, new, NAMES, "foreground_miou", 0.01, 100).classes
    # Šidák: 1 - sqrt(0.95) = 0.025321 each; t with 4 degrees of freedom at 1 - 0.025321 / 2 is 3.4817
    assert cat.high == pytest.approx(0.1 + 3.4817 * 0.081650, abs=2e-4)


def over_folds(base: Sequence[Sequence[Counts]], new: Sequence[Sequence[Counts]], folds: int = 5) -> Any:
    return fold_claim(base, new, NAMES, "foreground_miou", 0.01, 500, 1 / (folds - 1))


def test_the_interval_over_folds_by_hand() -> None:
    base = [[model([50] * 4)] for _ in range(5)]
    # The second fold has two runs, whose mean gains 12.
    new = [[model([50 + gain] * 4) for gain in gains] for gains in ([10], [11, 13], [8], [11], [9])]
    found = over_folds(base, new)
    assert (found.primary.base, found.primary.new) == (0.5, 0.6)
    # Gains of 0.10, 0.12, 0.08, 0.11, 0.09 have a variance of 0.00025, which counts 1/5 + 1/4. Student's t is 2.7764.
    margin = 2.7764 * (0.45 * 0.00025) ** 0.5
    assert (found.primary.low, found.primary.high) == (
        pytest.approx(0.1 - margin, abs=2e-5),
        pytest.approx(0.1 + margin, abs=2e-5),
    )
    assert found.primary.verdict == "better"
    assert [own.verdict for own in found.classes] == ["better", "better"]
    assert found.smallest_difference == pytest.approx((2.7764 + 0.9410) * (0.45 * 0.00025) ** 0.5, abs=2e-5)
    # Of three of five folds that were run, the test side is still a quarter of the images it was not trained on.
    margin = 4.3027 * ((1 / 3 + 1 / 4) * 0.0004) ** 0.5
    assert over_folds(base[:3], new[:3]).primary.low == pytest.approx(0.1 - margin, abs=2e-5)


def test_two_folds_determine_nothing_about_the_change() -> None:
    found = over_folds([[model([50] * 9)]] * 2, [[model([60] * 9)]] * 2)
    assert found.undetermined_because == "2 folds in common, but 3 are needed"
    assert found.primary.verdict == "undetermined"
    few = over_folds([[model([50] * 3)]] * 3, [[model([60] * 3)]] * 3)
    assert few.undetermined_because == "9 images, but 10 are needed"


def test_a_class_that_one_fold_alone_shows_counts_over_all_images() -> None:
    without = np.array([[[200, 200, 200], [0, 0, 0]]] * 12)
    gains = [0, 20] * 6
    base, new = (
        [[model(hits)], [without], [without], [without]] for hits in ([50] * 12, [50 + gain for gain in gains])
    )
    found = over_folds(base, new, folds=4)
    assert found.primary.difference == pytest.approx(0.1)
    # Folds that lack it tell nothing of its spread. Its images do: a standard error of 0.0302, and t of 3 degrees.
    assert found.primary.difference - found.primary.low == pytest.approx(3.1824 * 0.0302, rel=0.1)
