import math

import pytest

from cocoseg.train.class_weights import class_weights, weights_line
from cocoseg.train.params import ClassWeightsName

RULES: tuple[ClassWeightsName, ...] = ("inverse", "effective")


def test_none_has_no_weights() -> None:
    assert class_weights([2, 1], [10, 5], "none") is None


def test_inverse_weighs_by_one_over_the_pixels() -> None:
    # 1/100, 1/25 and 1/20, of mean 1/30.
    assert class_weights([3, 2, 1], [100, 25, 20], "inverse") == pytest.approx([0.3, 1.2, 1.5])


def test_effective_weighs_by_one_over_the_effective_number_of_images() -> None:
    # Effective numbers 1 and 1 + 0.999 = 1.999, whatever the pixels: weights 1.999 to 1, of mean 2.999 / 2.
    expected = [2 * 1 / 2.999, 2 * 1.999 / 2.999]
    assert class_weights([2, 1], [7, 70_000], "effective") == pytest.approx(expected)


@pytest.mark.parametrize("rule", RULES)
def test_a_class_without_a_training_pixel_weighs_nothing_and_is_left_out_of_the_mean(rule: ClassWeightsName) -> None:
    assert class_weights([4, 0, 4], [50, 0, 50], rule) == pytest.approx([1, 0, 1])


@pytest.mark.parametrize("rule", RULES)
def test_a_training_side_without_a_pixel_has_weights_of_zero(rule: ClassWeightsName) -> None:
    assert class_weights([0, 0], [0, 0], rule) == [0, 0]


@pytest.mark.parametrize("rule", RULES)
def test_a_billion_images_beside_one_pixel_stay_finite_and_above_zero(rule: ClassWeightsName) -> None:
    weights = class_weights([10**9, 1, 0], [10**15, 1, 0], rule)
    assert weights is not None
    assert sum(weights) == pytest.approx(2)
    assert all(math.isfinite(weight) for weight in weights)
    # Above the smallest normal float32, 1.2e-38, in which the loss takes them.
    assert weights[0] > 1e-30
    assert weights[2] == 0


@pytest.mark.parametrize("rule", RULES)
def test_the_rarest_class_weighs_at_most_a_thousand_times_the_commonest_and_the_limit_is_said(
    rule: ClassWeightsName,
) -> None:
    weights = class_weights([10**9, 1, 10**9], [10**9, 1, 10**9], rule)
    assert weights is not None
    assert weights[1] / weights[0] == pytest.approx(1000)
    line = "class weights from 0.00299 (background) to 2.99 (cat), the limit of 1,000 times"
    assert weights_line(weights, ["background", "cat", "sky"]) == line


def test_the_weights_are_said_without_classes_that_do_not_appear() -> None:
    assert weights_line([0.5, 0, 1.5], ["background", "cat", "dog"]) == (
        "class weights from 0.5 (background) to 1.5 (dog)"
    )
    assert "no pixel of any class" in weights_line([0, 0], ["background", "cat"])
