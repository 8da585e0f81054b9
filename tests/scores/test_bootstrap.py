"""Intervals over images."""

import math

import numpy as np
import pytest

from cocoseg.scores.bootstrap import interval, resampled, standard_error


def totals_of(hits: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """Images of ten target pixels of one class, so many of them hit and nothing else predicted; (images, 1, 3)."""
    return np.array([[[10, hit, hit]] for hit in hits])


def test_images_that_are_all_alike_leave_nothing_to_chance() -> None:
    (drawn,) = resampled([totals_of([4] * 12)], 100)
    assert drawn.scores["miou"].tolist() == [0.4] * 100
    assert interval(drawn.scores["miou"], 12) == (0.4, 0.4)


def test_the_spread_of_resamples_is_the_standard_error_of_a_mean() -> None:
    # IoU of the sum is the mean of the hits over 10, so its standard error is known: sd (n in the divisor) / sqrt(n).
    hits = [0, 10, 2, 8, 5, 5, 1, 9, 3, 7]
    (drawn,) = resampled([totals_of(hits)], 20_000)
    assert drawn.scores["miou"].mean() == pytest.approx(0.5, abs=0.003)
    assert drawn.scores["miou"].std() == pytest.approx(np.std(hits) / 10 / math.sqrt(10), rel=0.02)


def test_both_models_see_the_same_resamples() -> None:
    first = totals_of([1, 5, 9, 3])
    better = first + np.array([0, 1, 1])  # one more pixel right in each image
    drawn = resampled([first, better], 200)
    assert drawn[1].scores["miou"] - drawn[0].scores["miou"] == pytest.approx(0.1)


def test_a_resample_without_a_class_leaves_it_out_of_the_mean() -> None:
    totals = np.zeros((3, 2, 3), np.int64)
    totals[:, 0] = 10, 10, 10
    totals[0, 1] = 10, 5, 5  # the one image that shows class 1, with IoU 1/2
    (drawn,) = resampled([totals], 500)
    absent = np.isnan(drawn.iou[:, 1])
    assert absent.mean() == pytest.approx((2 / 3) ** 3, abs=0.07)
    assert set(drawn.scores["miou"][absent]) == {1.0}
    assert set(drawn.scores["miou"][~absent]) == {0.75}


def test_the_same_images_give_the_same_interval_every_time() -> None:
    totals = totals_of([1, 5, 9, 3, 7, 2, 4, 6, 8, 5])
    first, second = (interval(resampled([totals], 300)[0].scores["miou"], 10) for _ in range(2))
    assert first == second


def test_many_resamples_in_blocks_are_those_of_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    totals = totals_of([1, 5, 9, 3, 7])
    whole = resampled([totals], 300)[0].scores["miou"]
    monkeypatch.setattr("cocoseg.scores.bootstrap._BLOCK_WEIGHTS", 35)
    assert resampled([totals], 300)[0].scores["miou"].tolist() == whole.tolist()


def test_few_images_widen_the_interval_as_a_t_distribution_does() -> None:
    # The 2.5th percentile of t with 9 degrees of freedom is -2.2622; times sqrt(10 / 9) it is -2.3845, beyond which the
    # normal distribution has 0.008551.
    values = np.arange(1_000_001) / 1_000_000
    low, high = interval(values, 10)
    assert [low, high] == pytest.approx([0.008551, 1 - 0.008551], abs=2e-6)
    low, high = interval(values, 100_000)
    assert [low, high] == pytest.approx([0.025, 0.975], abs=1e-5)


def background_alone(images: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """A class of its own in each image, of which a model that calls everything background finds nothing."""
    totals = np.zeros((images, images + 1, 3), np.int64)
    totals[:, 0] = 90, 100, 90
    totals[range(images), range(1, images + 1), 0] = 10
    return totals


def test_a_score_stays_within_its_interval_where_resamples_lose_most_of_its_classes() -> None:
    # IoU of background is 9/10 and that of each class 0. A resample has about 6 of the 10 classes, so its mean is
    # higher, and no percentile is as low as the mean over all.
    (drawn,) = resampled([background_alone(10)], 1000)
    own = 0.9 / 11
    assert drawn.loses_classes()
    assert interval(drawn.scores["miou"], 10)[0] > own
    low, high = interval(drawn.scores["miou"], 10, own)
    assert (low + high) / 2 == pytest.approx(own)
    # The 97.5th percentile of t with 9 degrees of freedom is 2.2622.
    assert high - own == pytest.approx(2.2622 * standard_error(drawn.scores["miou"], 10), rel=1e-4)


def test_a_class_of_no_image_or_of_all_is_never_lost() -> None:
    totals = np.zeros((12, 3, 3), np.int64)
    totals[:, :2] = 10, 10, 10
    assert not resampled([totals], 200)[0].loses_classes()


def test_fewer_than_ten_images_or_a_class_in_hardly_any_resample_have_no_interval() -> None:
    assert all(map(math.isnan, interval(np.full(100, 0.5), 9)))
    assert all(map(math.isnan, interval(np.array([0.5, math.nan, math.nan]), 10)))


def test_a_standard_error_makes_up_for_the_image_that_resamples_lack() -> None:
    hits = [0, 10, 2, 8, 5, 5, 1, 9, 3, 7]
    (drawn,) = resampled([totals_of(hits)], 20_000)
    expected = float(np.std(hits, ddof=1)) / 10 / math.sqrt(10)
    assert standard_error(drawn.scores["miou"], 10) == pytest.approx(expected, rel=0.02)
    assert math.isnan(standard_error(drawn.scores["miou"], 9))
