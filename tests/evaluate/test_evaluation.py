from collections import Counter
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
from small_data import BINARY, MULTICLASS, write_pairs
from torch import Tensor, nn

from cocoseg.core.errors import CocosegError
from cocoseg.evaluate.evaluation import (
    Evaluation,
    check_task_and_classes,
    evaluate,
    evaluation_metrics,
    iou_rows,
)
from cocoseg.evaluate.params import EvaluateParams
from cocoseg.images.pairs import read_pair
from cocoseg.model.params import ResizeName
from cocoseg.model.preprocessing import Preprocessing
from cocoseg.model.weights import ModelInfo, TrainingData
from cocoseg.scores.confusion import confusion_matrix
from cocoseg.scores.per_image import class_pixels
from cocoseg.tables import ClassIoU

INFO = ModelInfo(
    arch="bright",
    encoder="none",
    task="multiclass",
    classes=MULTICLASS.classes,
    preprocessing=Preprocessing(image_size_px=64, resize="squash"),
    epoch=1,
    val_miou=0.0,
    params={},
    data=TrainingData(train_images=0, val_images=0, fingerprint=""),
    versions={},
)
PARAMS = EvaluateParams(bootstrap_samples=100, gallery_images=0, min_effect=0.01, primary_score="auto", threshold=0.5)


class Bright(nn.Module):
    """Calls every bright pixel a car."""

    def forward(self, images: Tensor) -> Tensor:
        bright = images.mean(dim=1)
        return torch.stack([torch.zeros_like(bright), torch.full_like(bright, -9), bright], dim=1)


@pytest.mark.parametrize("resize", ["squash", "letterbox", "short_side", "crop"])
def test_predictions_are_as_large_as_their_images_and_counted_at_that_size(tmp_path: Path, resize: ResizeName) -> None:
    pairs = write_pairs(tmp_path, 3) + write_pairs(tmp_path / "larger", 2, size=48)
    pairs = [msgspec.structs.replace(pair, file_name=f"{number}/a.jpg") for number, pair in enumerate(pairs)]
    info = msgspec.structs.replace(INFO, preprocessing=Preprocessing(image_size_px=64, resize=resize))
    result = evaluate(Bright(), info, pairs, tmp_path / "predictions")
    total = np.zeros((3, 3), np.int64)
    for number, pair in enumerate(pairs):
        image, truth = read_pair(pair, 3)
        written = (tmp_path / "predictions" / str(number) / "a.png").read_bytes()
        decoded = cv2.imdecode(np.frombuffer(written, np.uint8), cv2.IMREAD_UNCHANGED)
        assert decoded is not None
        prediction = decoded.astype(np.uint8)
        assert prediction.shape == truth.shape
        # Enlarging and shrinking again may move an edge, but no more.
        bright = (image.mean(axis=2) > 105) * 2
        assert (prediction != bright).mean() < 0.08
        total += confusion_matrix(truth, prediction, 3)
    assert np.array_equal(result.confusion, total)
    assert [row.file_name for row in result.per_image if row.class_name == "background"] == [
        pair.file_name for pair in pairs
    ]


def test_the_confusion_based_iou_can_be_rebuilt_from_the_table(tmp_path: Path) -> None:
    result = evaluate(Bright(), INFO, write_pairs(tmp_path, 4), tmp_path / "predictions")
    target, prediction, hit = Counter[str](), Counter[str](), Counter[str]()
    for row in result.per_image:
        target[row.class_name] += row.target
        prediction[row.class_name] += row.prediction
        hit[row.class_name] += row.hit
    metrics = evaluation_metrics(result, PARAMS, INFO, "test", {})
    for name, iou in metrics["iou"].items():
        assert hit[name] / (target[name] + prediction[name] - hit[name]) == pytest.approx(iou)
    assert {row.file_name for row in result.per_image} == {f"00{number}.png" for number in range(4)}


def test_the_metrics_by_hand() -> None:
    confusion = np.array([[6, 0, 2], [0, 0, 0], [0, 0, 2]])
    rows = class_pixels("a.jpg", confusion, MULTICLASS.classes)
    result = Evaluation(confusion=confusion, per_image=rows, seconds=1.0)
    metrics = evaluation_metrics(result, PARAMS, INFO, "val", {"commonest_class": {"miou": 0.4}})
    assert metrics["split"] == "val"
    assert metrics["miou"] == pytest.approx((6 / 8 + 2 / 4) / 2)
    assert metrics["foreground_dice"] == pytest.approx(4 / 6)
    assert metrics["iou"]["person"] is None
    assert metrics["classes_averaged"] == 2
    assert metrics["baselines"] == {"commonest_class": {"miou": 0.4}}


def test_every_score_of_a_model_that_learned_nothing_is_within_its_interval_and_the_interval_within_0_and_1() -> None:
    names = ("background", *(f"class {number}" for number in range(12)))
    rows, confusion = [], np.zeros((13, 13), np.int64)
    for number in range(12):  # an image of each class, and all of it is called background
        own = np.zeros((13, 13), np.int64)
        own[0, 0], own[number + 1, 0] = 90 + number, 10
        rows += class_pixels(f"{number}.jpg", own, names)
        confusion += own
    result = Evaluation(confusion=confusion, per_image=rows, seconds=1.0)
    metrics = evaluation_metrics(result, PARAMS, msgspec.structs.replace(INFO, classes=names), "test", {})
    ends = metrics["intervals"]
    assert {"miou", "mean_dice", "pixel_accuracy"} < ends.keys()
    for name, own_ends in ends.items():
        if name != "iou":
            assert 0 <= own_ends["low"] <= metrics[name] <= own_ends["high"] <= 1


def test_images_without_an_object_are_counted_that_get_foreground_all_the_same() -> None:
    matrices = {
        "nothing.jpg": [[200, 0], [0, 0]],
        "one pixel.jpg": [[199, 1], [0, 0]],
        "two percent.jpg": [[196, 4], [0, 0]],
        "an object.jpg": [[150, 40], [9, 1]],
        "ignored.jpg": [[0, 0], [0, 0]],  # no pixel counts
    }
    info = msgspec.structs.replace(INFO, task="binary", classes=BINARY.classes)
    rows = [row for name, own in matrices.items() for row in class_pixels(name, np.array(own), info.classes)]
    confusion = np.sum(list(matrices.values()), axis=0)
    result = Evaluation(confusion=confusion, per_image=rows, seconds=1.0, threshold=0.25)
    metrics = evaluation_metrics(result, PARAMS, info, "test", {})
    assert metrics["images_without_object"] == {"images": 3, "any_foreground": 0.666667, "above_1_percent": 0.333333}
    assert (metrics["primary_score"], metrics["threshold"]) == ("foreground_dice", 0.25)
    with_objects = Evaluation(confusion=confusion, per_image=rows[-3:], seconds=1.0)
    assert "images_without_object" not in evaluation_metrics(with_objects, PARAMS, info, "test", {})


def test_a_lower_threshold_finds_more_and_its_pixels_are_those_above_it(tmp_path: Path) -> None:
    class Doubtful(nn.Module):
        """Foreground with a probability of 0.4 on what is bright."""

        def forward(self, images: Tensor) -> Tensor:
            return torch.where(images.mean(dim=1, keepdim=True) > 0, np.log(0.4 / 0.6), -5.0)

    info = msgspec.structs.replace(INFO, task="binary", classes=BINARY.classes)
    pairs = write_pairs(tmp_path, 2, BINARY, size=64)
    found = {at: evaluate(Doubtful(), info, pairs, tmp_path / str(at), at).confusion for at in (0.35, 0.5)}
    assert found[0.5][:, 1].tolist() == [0, 0]
    assert found[0.35][1, 0] == 0 < found[0.35][1, 1]


def test_logits_that_are_not_finite_are_refused_with_the_name_of_the_image(tmp_path: Path) -> None:
    class Overflowing(Bright):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images) * 1e38 * 10

    pairs = write_pairs(tmp_path, 1)
    with pytest.raises(CocosegError, match=f"{pairs[0].file_name}: the model's logits are not finite"):
        evaluate(Overflowing(), INFO, pairs, tmp_path / "predictions")
    assert not (tmp_path / "predictions").exists()


def test_the_bars_leave_out_absent_classes_and_intervals() -> None:
    iou = {"background": 0.75, "person": None, "car": 0.5}
    intervals = {"iou": {"background": {"low": 0.5, "high": 1.0}}}
    assert iou_rows({"iou": iou, "intervals": intervals}) == [
        ClassIoU(class_name="background", iou=0.75, low=0.5, high=1.0),
        ClassIoU(class_name="car", iou=0.5),
    ]


def test_a_model_of_other_classes_or_another_task_is_refused_by_its_own_name() -> None:
    check_task_and_classes(INFO, MULTICLASS, "data/model")
    dog = msgspec.structs.replace(INFO, classes=("background", "person", "dog"))
    turned = msgspec.structs.replace(INFO, classes=("background", "car", "person"))
    differ = "classes differ from those of the masks"
    for info, mapping, found in (
        (dog, MULTICLASS, f"{differ}: 1 only in the model (dog) and 1 only in the masks (car)"),
        (turned, MULTICLASS, f"{differ}: in their order"),
        (INFO, BINARY, "task is multiclass, but the masks are binary"),
    ):
        with pytest.raises(CocosegError) as caught:
            check_task_and_classes(info, mapping, "../other/data/model")
        way_out = "expected a model trained on these masks, as by dvc repro train"
        assert str(caught.value) == f"../other/data/model: the model's {found}; {way_out}"
