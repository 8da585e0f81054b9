import pytest

from cocoseg.schedule import lr_factor


def test_the_warm_up_rises_in_equal_steps_to_the_full_rate() -> None:
    assert [lr_factor(step, 10, 4, "constant") for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_poly_starts_full_after_the_warm_up_and_falls_as_the_power_of_what_is_left() -> None:
    assert lr_factor(4, 10, 4, "poly") == 1
    assert lr_factor(7, 10, 4, "poly") == pytest.approx(0.5**0.9)
    assert lr_factor(9, 10, 4, "poly") == pytest.approx((1 / 6) ** 0.9)


def test_a_run_that_is_all_warm_up_works() -> None:
    assert [lr_factor(step, 2, 2, "poly") for step in range(2)] == [0.5, 1.0]
