"""Scores worked out by hand."""

import math
import subprocess
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cocoseg.scores import confusion as c

TOTALS = c.class_totals(np.array([[3, 1], [0, 4]]))  # targets 4 and 4, predicted 3 and 5, hits 3 and 4


def test_iou_is_hits_over_target_plus_prediction_minus_hits() -> None:
    assert c.iou(TOTALS).tolist() == [3 / 4, 4 / 5]


def test_dice_is_twice_the_hits_over_target_plus_prediction() -> None:
    assert c.dice(TOTALS).tolist() == [6 / 7, 8 / 9]


def test_a_class_without_a_target_pixel_has_no_score_even_if_it_was_predicted() -> None:
    matrix = np.array([[3, 1, 0], [0, 4, 2], [0, 0, 0]])
    iou = c.iou(c.class_totals(matrix))
    assert iou[:2].tolist() == [3 / 4, 4 / 7]
    assert math.isnan(iou[2])
    assert math.isnan(c.dice(c.class_totals(matrix))[2])
    assert c.mean_over_present(iou) == pytest.approx((3 / 4 + 4 / 7) / 2)


def test_a_class_that_is_never_predicted_scores_zero() -> None:
    matrix = np.array([[5, 0], [3, 0]])
    assert c.iou(c.class_totals(matrix)).tolist() == [5 / 8, 0]
    assert c.dice(c.class_totals(matrix)).tolist() == [10 / 13, 0]


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


def test_precision_recall_support_and_frequency_weighted_iou_by_hand() -> None:
    matrix = np.array([[3, 1, 0, 0], [0, 4, 2, 0], [0, 0, 0, 0], [2, 0, 0, 0]])
    scores = c.scores(matrix, ["background", "cat", "dog", "cow"])
    # the dog was predicted and is nowhere; the cow is there and was not predicted
    assert scores.precision == {"background": 3 / 5, "cat": 4 / 5, "dog": None, "cow": None}
    assert scores.recall == {"background": 3 / 4, "cat": pytest.approx(4 / 6, abs=1e-6), "dog": None, "cow": 0}
    assert scores.support == {"background": 4, "cat": 6, "dog": 0, "cow": 2}
    # 4, 6 and 2 of 12 target pixels, IoU 3/6, 4/7 and 0
    assert scores.frequency_weighted_iou == pytest.approx((4 * 3 / 6 + 6 * 4 / 7) / 12, abs=1e-6)


@pytest.fixture(scope="module")
def label_maps() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Targets of five classes and 255, and predictions that are right two times in three."""
    chance = np.random.default_rng(0)
    target = chance.choice(np.array([0, 1, 2, 3, 4, 255], np.uint8), (4, 40, 50))
    prediction = np.where(chance.random(target.shape) < 2 / 3, target, chance.integers(0, 5, target.shape))
    return target, np.where(prediction == 255, 0, prediction).astype(np.uint8)


def test_scores_are_those_of_scikit_learn(label_maps: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    from sklearn import metrics as peer

    target, prediction = label_maps
    ours = c.scores(c.confusion_matrix(target, prediction, 5), ["a", "b", "c", "d", "e"])
    counted = target != 255
    truth, found = target[counted], prediction[counted]
    assert list(ours.iou.values()) == pytest.approx(peer.jaccard_score(truth, found, average=None), abs=1e-6)
    assert list(ours.dice.values()) == pytest.approx(peer.f1_score(truth, found, average=None), abs=1e-6)
    assert list(ours.precision.values()) == pytest.approx(peer.precision_score(truth, found, average=None), abs=1e-6)
    assert list(ours.recall.values()) == pytest.approx(peer.recall_score(truth, found, average=None), abs=1e-6)
    assert ours.frequency_weighted_iou == pytest.approx(peer.jaccard_score(truth, found, average="weighted"), abs=1e-6)
    assert ours.pixel_accuracy == pytest.approx(peer.accuracy_score(truth, found), abs=1e-6)
    matrix = peer.confusion_matrix(truth, found, labels=range(5))
    assert c.confusion_matrix(target, prediction, 5).tolist() == matrix.tolist()


@pytest.fixture
def torchmetrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder of its own: where it is installed, Fabric imports it, and half of SciPy, whenever training starts."""
    install = ["uv", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path), "torchmetrics>=1.6,<2"]
    subprocess.run(install, check=True)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.usefixtures("torchmetrics")
def test_the_matrix_is_that_of_torchmetrics(label_maps: tuple[NDArray[np.uint8], NDArray[np.uint8]]) -> None:
    import torch
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    target, prediction = label_maps
    peer = multiclass_confusion_matrix(
        torch.from_numpy(prediction), torch.from_numpy(target).long(), num_classes=5, ignore_index=255
    )
    assert c.confusion_matrix(target, prediction, 5).tolist() == peer.tolist()


def test_without_any_pixel_every_score_is_none() -> None:
    scores = c.scores(np.zeros((2, 2), np.int64), ["background", "cat"])
    assert (scores.miou, scores.foreground_dice, scores.pixel_accuracy) == (None, None, None)
    assert scores.classes_averaged == 0


def test_a_large_pair_is_counted_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    target, prediction = (rng.integers(0, 3, (50, 40), dtype=np.uint8) for _ in range(2))
    target[::7] = 255
    whole = c.confusion_matrix(target, prediction, 3)
    monkeypatch.setattr("cocoseg.scores.confusion._STRIP_PIXELS", 333)

    np.testing.assert_array_equal(c.confusion_matrix(target, prediction, 3), whole)
