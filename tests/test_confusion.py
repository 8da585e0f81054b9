"""Scores worked out by hand."""

import math

import numpy as np
import pytest

from cocoseg import confusion as c


def test_iou_is_hits_over_target_plus_prediction_minus_hits() -> None:
    assert c.per_class_iou(np.array([[3, 1], [0, 4]])).tolist() == [3 / 4, 4 / 5]


def test_dice_is_twice_the_hits_over_target_plus_prediction() -> None:
    assert c.per_class_dice(np.array([[3, 1], [0, 4]])).tolist() == [6 / 7, 8 / 9]


def test_a_class_without_a_target_pixel_has_no_score_even_if_it_was_predicted() -> None:
    matrix = np.array([[3, 1, 0], [0, 4, 2], [0, 0, 0]])
    iou = c.per_class_iou(matrix)
    assert iou[:2].tolist() == [3 / 4, 4 / 7]
    assert math.isnan(iou[2])
    assert math.isnan(c.per_class_dice(matrix)[2])
    assert c.mean_over_present(iou) == pytest.approx((3 / 4 + 4 / 7) / 2)


def test_a_class_that_is_never_predicted_scores_zero() -> None:
    matrix = np.array([[5, 0], [3, 0]])
    assert c.per_class_iou(matrix).tolist() == [5 / 8, 0]
    assert c.per_class_dice(matrix).tolist() == [10 / 13, 0]


def test_the_set_of_averaged_classes_does_not_depend_on_the_prediction() -> None:
    target = np.array([[0, 0, 1, 1]], np.uint8)
    for prediction in ([[0, 0, 1, 1]], [[2, 2, 2, 2]], [[1, 1, 0, 0]]):
        matrix = c.confusion_matrix(target, np.array(prediction, np.uint8), 3)
        assert c.scores(matrix, ["background", "a", "b"]).classes_averaged == 2


def test_rows_are_the_target_and_255_is_in_no_cell() -> None:
    target = np.array([[0, 1, 1, 255]], np.uint8)
    prediction = np.array([[0, 0, 1, 1]], np.uint8)
    assert c.confusion_matrix(target, prediction, 2).tolist() == [[1, 0], [1, 1]]


def test_eighty_one_classes_do_not_overflow_the_cell_number() -> None:
    matrix = c.confusion_matrix(np.array([80], np.uint8), np.array([80], np.uint8), 81)
    assert matrix[80, 80] == 1
    assert matrix.sum() == 1


def test_scores_of_a_matrix_by_hand() -> None:
    scores = c.scores(np.array([[3, 1, 0], [0, 4, 0], [0, 0, 0]]), ["background", "cat", "dog"])
    assert scores.miou == pytest.approx((3 / 4 + 4 / 5) / 2)
    assert scores.foreground_miou == pytest.approx(4 / 5)
    assert scores.foreground_dice == pytest.approx(8 / 9)
    assert scores.pixel_accuracy == 7 / 8
    assert scores.iou == {"background": 3 / 4, "cat": 4 / 5, "dog": None}
    assert scores.classes_averaged == 2


def test_without_any_pixel_every_score_is_none() -> None:
    scores = c.scores(np.zeros((2, 2), np.int64), ["background", "cat"])
    assert (scores.miou, scores.foreground_dice, scores.pixel_accuracy) == (None, None, None)
    assert scores.classes_averaged == 0
