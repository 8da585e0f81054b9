"""Evaluate a model on a side of the split: one integer confusion matrix over all images at their own size."""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from cocoseg.coco.categories import CategoryMapping, class_difference
from cocoseg.coco.file_names import mask_name
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import write_bytes
from cocoseg.evaluate.params import EvaluateParams
from cocoseg.evaluate.prediction import BATCH_SIZE, Predicted, finite, joined_labels, predict_each
from cocoseg.evaluate.pretraining import Seen, start_warnings
from cocoseg.evaluate.restore import original_labels
from cocoseg.images.pairs import Pair, mask_pixels, read_pair
from cocoseg.images.png import encode_png
from cocoseg.model.threshold import EVEN, threshold_logit
from cocoseg.model.weights import ModelInfo
from cocoseg.scores.bootstrap import interval, resampled
from cocoseg.scores.confusion import confusion_matrix, resolved_score, scores, summary_scores
from cocoseg.scores.per_image import class_pixels, false_foreground, image_totals
from cocoseg.tables import ClassIoU, ClassPixels
from cocoseg.workers import ahead, worker_count


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """The counts of a predicted side. `confusion` as in `cocoseg.scores.confusion`."""

    confusion: NDArray[np.int64]
    per_image: list[ClassPixels]
    seconds: float
    """From the first image read to the last prediction written."""
    threshold: float = EVEN
    """Of a binary model."""


def evaluate(
    model: nn.Module, info: ModelInfo, pairs: Sequence[Pair], predictions: Path, threshold: float = EVEN
) -> Evaluation:
    """Predict every image at its own size, write each prediction below `predictions`, and count pixels.

    `threshold`: above this probability lies the foreground of a binary model.
    Raises `CocosegError` for a corrupt image or mask, and for logits that are not finite.
    """
    classes, cut = len(info.classes), threshold_logit(threshold)
    started = time.perf_counter()
    confusion = np.zeros((classes, classes), np.int64)
    per_image: list[ClassPixels] = []

    def counted(predicted: Predicted[tuple[Pair, NDArray[np.uint8]]]) -> tuple[str, NDArray[np.int64]]:
        (pair, truth), _, parts, _ = predicted
        del _, predicted  # the image, which may be gigantic, has been of use
        labels = (original_labels(finite(logits, pair.file_name), place, cut) for logits, place in parts)
        prediction = joined_labels(labels, truth.shape[1])
        write_prediction(predictions, pair.file_name, prediction)
        return pair.file_name, confusion_matrix(truth, prediction, classes)

    for file_name, matrix in predict_each(model, info, _decoded(pairs, classes), counted):
        confusion += matrix
        per_image += class_pixels(file_name, matrix, info.classes)
    seconds = time.perf_counter() - started
    return Evaluation(confusion=confusion, per_image=per_image, seconds=seconds, threshold=threshold)


def evaluation_metrics(
    result: Evaluation,
    params: EvaluateParams,
    info: ModelInfo,
    split: str,
    baselines: dict[str, Any],
    seen: Seen | None = None,
) -> dict[str, Any]:
    """Return the content of `metrics/evaluate.json`: the side's name, its scores, their intervals, and the baselines.

    `primary_score` and `min_effect` are part of it: `cocoseg compare` judges by the values that were set when the
    result was made, and `auto` is resolved. Binary results have their `threshold`.
    """
    classes = info.classes
    totals = np.stack(list(image_totals(result.per_image, classes, "per_image.csv").values()))
    declared: dict[str, Any] = {
        "primary_score": resolved_score(params.primary_score, info.task),
        "min_effect": params.min_effect,
    }
    if info.task == "binary":
        declared["threshold"] = result.threshold
    scored: dict[str, Any] = msgspec.to_builtins(scores(result.confusion, classes))
    intervals = {"intervals": score_intervals(totals, params.bootstrap_samples, classes)}
    met: dict[str, Any] = {} if seen is None else {"seen_in_pretraining": msgspec.to_builtins(seen)}
    met |= {"initial_weights_may_have_seen": True} if start_warnings(info) else {}
    free = false_foreground(totals)
    met |= {} if free is None else {"images_without_object": msgspec.to_builtins(free)}
    return {"split": split, "images": len(totals)} | declared | scored | intervals | {"baselines": baselines} | met


def score_intervals(totals: NDArray[np.int64], samples: int, classes: Sequence[str]) -> dict[str, Any]:
    """Return the 95 % intervals over images of the summary scores, and of the IoU of each class.

    A score gets none if fewer than ten images have a part in it, or if it is undefined in most resamples.

    `totals: (images, classes, 3)` as in `cocoseg.scores.confusion`.
    """
    (drawn,) = resampled([totals], samples)
    own = summary_scores(totals.sum(axis=0)) if drawn.loses_classes() else {}
    found = {
        name: interval(values, len(totals), float(own[name]) if own else None) for name, values in drawn.scores.items()
    }
    shown_in = (totals[:, :, 0] > 0).sum(axis=0).tolist()
    of_classes = {
        name: interval(values, images) for name, values, images in zip(classes, drawn.iou.T, shown_in, strict=True)
    }
    return _ends(found) | {"iou": _ends(of_classes)}


def _ends(intervals: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    return {
        name: {"low": round(max(0.0, low), 6), "high": round(min(1.0, high), 6)}
        for name, (low, high) in intervals.items()
        if not np.isnan(low)
    }


def check_task_and_classes(info: ModelInfo, mapping: CategoryMapping, place: str) -> None:
    """Raise `CocosegError` unless the model has the task and classes of the masks; `place` is its path in errors."""
    way_out = "expected a model trained on these masks, as by dvc repro train"
    if info.task != mapping.task:
        raise CocosegError(f"{place}: the model's task is {info.task}, but the masks are {mapping.task}; {way_out}")
    if info.classes != mapping.classes:
        how = class_difference(info.classes, mapping.classes, "only in the model", "only in the masks")
        raise CocosegError(f"{place}: the model's classes differ from those of the masks: {how}; {way_out}")


def iou_rows(metrics: Mapping[str, Any]) -> list[ClassIoU]:
    """Return the IoU of each class in `metrics/evaluate.json`, without the classes that have no target pixel."""
    ends = metrics["intervals"]["iou"]
    return [
        ClassIoU(class_name=name, iou=value, **ends.get(name, {}))
        for name, value in metrics["iou"].items()
        if value is not None
    ]


def write_prediction(folder: Path, file_name: str, prediction: NDArray[np.uint8]) -> None:
    """Write a predicted label map as a PNG, named like a mask."""
    write_bytes(folder / mask_name(file_name), encode_png(prediction))


def _decoded(pairs: Sequence[Pair], classes: int) -> Iterator[tuple[tuple[Pair, NDArray[np.uint8]], NDArray[np.uint8]]]:
    """Yield each pair with its mask, and its image, in order, decoded a few ahead."""

    def decode(pair: Pair) -> tuple[tuple[Pair, NDArray[np.uint8]], NDArray[np.uint8]]:
        image, truth = read_pair(pair, classes)
        return (pair, truth), image

    with ThreadPoolExecutor(worker_count()) as pool:
        yield from ahead(
            pool, decode, tqdm(pairs, desc="evaluate", unit="image", disable=None), 2 * BATCH_SIZE, mask_pixels
        )
