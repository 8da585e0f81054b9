import numpy as np
import pytest

from cocoseg.evaluate.baselines import baseline_scores, cells, commonest_class, predictions

Pair = tuple[np.ndarray, np.ndarray]


def flat(colour: tuple[int, int, int], label: int, size: int = 8) -> Pair:
    return np.full((size, size, 3), colour, np.uint8), np.full((size, size), label, np.uint8)


def test_the_commonest_class_is_the_one_with_most_pixels() -> None:
    assert commonest_class(np.array([5, 9, 9, 2])) == 1


def test_always_the_commonest_class_scores_its_share_over_the_number_of_classes() -> None:
    image, mask = flat((90, 90, 90), 0)
    mask[:2] = 1  # 16 of 64 pixels: IoU of class 0 is 48/64, of class 1 0
    scores = baseline_scores([(image, mask)], [(image, mask)], [(image, mask)], 2)
    assert scores["commonest_class"]["miou"] == pytest.approx((48 / 64 + 0) / 2)


def test_classes_that_differ_in_colour_are_told_apart_by_it() -> None:
    sides = [flat((200, 30, 30), 0), flat((30, 200, 30), 1), flat((30, 30, 200), 2)]
    scores = baseline_scores(sides, sides, sides, 3)
    assert scores == {"commonest_class": {"miou": pytest.approx(1 / 9)}, "colour_and_position": {"miou": 1.0}}


def test_classes_that_differ_in_position_are_told_apart_by_it() -> None:
    image, mask = flat((90, 90, 90), 0, size=16)
    mask[:, 8:] = 1
    assert baseline_scores([(image, mask)], [(image, mask)], [(image, mask)], 2)["colour_and_position"]["miou"] == 1.0


def test_a_class_without_test_pixels_is_left_out_of_the_mean() -> None:
    train = [flat((200, 30, 30), 0), flat((30, 200, 30), 1)]
    assert baseline_scores(train, train, train[:1], 2)["colour_and_position"]["miou"] == 1.0


def test_ignored_pixels_count_neither_in_training_nor_in_the_score() -> None:
    image, mask = flat((90, 90, 90), 1)
    mask[:6] = 255
    scores = baseline_scores([(image, mask)], [(image, mask)], [(image, mask)], 2)
    assert scores["commonest_class"]["miou"] == 1.0


def test_sides_may_be_read_once_and_the_validation_side_may_be_empty() -> None:
    pair = flat((90, 90, 90), 0)
    scores = baseline_scores(iter([pair]), iter([]), iter([pair]), 2)
    assert scores["colour_and_position"]["miou"] == 1.0


def test_a_test_side_without_target_pixels_has_no_score() -> None:
    pair = flat((90, 90, 90), 0)
    ignored = flat((90, 90, 90), 255)
    assert baseline_scores([pair], [pair], [ignored], 2)["commonest_class"]["miou"] is None


def test_a_cell_is_its_place_then_its_colour() -> None:
    image = np.zeros((2, 4, 3), np.uint8)
    image[1, 3] = (255, 128, 0)
    # Two bits: red 3, green 2, blue 0 is 0b11_10_00 = 56; the place is the last of 2 × 2, 3 · 64 = 192.
    assert cells(image, bits=2, grid=2).tolist() == [[0, 0, 64, 64], [128, 128, 192, 192 + 56]]
    assert cells(image, bits=2, grid=2, step=2).tolist() == [[0, 64]]


def test_balance_moves_a_cell_from_the_commoner_class_to_the_one_it_is_typical_of() -> None:
    table = np.array([[60, 40], [840, 60]])  # class 0 has 900 pixels, class 1 has 100
    assert predictions(table, 0.0).tolist() == [0, 0]
    assert predictions(table, 1.0).tolist() == [1, 0]  # 60/900 < 40/100 and 840/900 > 60/100


def test_a_cell_without_train_pixels_follows_the_commonest_class() -> None:
    assert predictions(np.array([[0, 0, 0], [1, 5, 2]]), 0.0).tolist() == [1, 1]
