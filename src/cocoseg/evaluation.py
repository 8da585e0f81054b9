"""Evaluation: one integer confusion matrix over a side of the split, at the images' own size, and what is looked at."""

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import torch
from msgspec import Meta
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from cocoseg.bootstrap import interval, resampled
from cocoseg.categories import CategoryMapping, class_difference
from cocoseg.confusion import ScoreName, confusion_matrix, scores
from cocoseg.errors import CocosegError
from cocoseg.file_names import mask_name
from cocoseg.files import write_bytes
from cocoseg.geometry import (
    Placement,
    Preprocessing,
    normalised,
    original_logits,
    placed_image,
    placement,
    predicted_labels,
)
from cocoseg.pairs import Pair, read_pair
from cocoseg.per_image import class_pixels, image_totals
from cocoseg.png import encode_png
from cocoseg.pretraining import Seen
from cocoseg.showcase import GalleryImages
from cocoseg.tables import ClassIoU, ClassPixels
from cocoseg.weights import ModelCard
from cocoseg.workers import worker_count

BATCH_SIZE = 16  # at most: what was trained in smaller batches is predicted in them


class EvaluateParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `evaluate`. How images are prepared comes with the model."""

    bootstrap_samples: Annotated[int, Meta(ge=100, le=1_000_000, extra_json_schema={"examples": [10_000]})]
    gallery_images: GalleryImages
    min_effect: Annotated[float, Meta(ge=0, le=1, extra_json_schema={"examples": [0.01]})]
    primary_score: ScoreName


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What predicting a side gave. `confusion` as in `cocoseg.confusion`."""

    confusion: NDArray[np.int64]
    per_image: list[ClassPixels]
    seconds: float
    """From the first image read to the last prediction written."""


def evaluate(model: nn.Module, card: ModelCard, pairs: Sequence[Pair], predictions: Path) -> Evaluation:
    """Predict every pair at its own size, write each prediction below `predictions`, count.

    Raises `CocosegError` for a broken image or mask.
    """
    classes = len(card.classes)
    started = time.perf_counter()
    confusion = np.zeros((classes, classes), np.int64)
    per_image: list[ClassPixels] = []
    for pair, truth, prediction in _predicted(model, card, pairs):
        matrix = confusion_matrix(truth, prediction, classes)
        confusion += matrix
        per_image += class_pixels(pair.file_name, matrix, card.classes)
        write_prediction(predictions, pair.file_name, prediction)
    return Evaluation(confusion=confusion, per_image=per_image, seconds=time.perf_counter() - started)


def evaluation_metrics(
    result: Evaluation,
    params: EvaluateParams,
    classes: Sequence[str],
    split: str,
    baselines: dict[str, Any],
    seen: Seen | None = None,
) -> dict[str, Any]:
    """`metrics/evaluate.json`: which side it speaks of, the scores, their intervals, what they have to beat.

    The primary score and the least effect that matters stand with it: `cocoseg compare` judges by those that were
    declared when the result was made.
    """
    totals = np.stack(list(image_totals(result.per_image, classes, "per_image.csv").values()))
    declared = {"primary_score": params.primary_score, "min_effect": params.min_effect}
    scored: dict[str, Any] = msgspec.to_builtins(scores(result.confusion, classes))
    intervals = {"intervals": score_intervals(totals, params.bootstrap_samples, classes)}
    met = {} if seen is None else {"seen_in_pretraining": msgspec.to_builtins(seen)}
    return {"split": split, "images": len(totals)} | declared | scored | intervals | {"baselines": baselines} | met


def score_intervals(totals: NDArray[np.int64], samples: int, classes: Sequence[str]) -> dict[str, Any]:
    """95 % intervals over images of the scores of all classes together, and of `iou` by class.

    A score that fewer than ten images speak of, or hardly any resample has, gets none.

    `totals: (images, classes, 3)` as in `cocoseg.confusion`.
    """
    (drawn,) = resampled([totals], samples)
    found = {name: interval(values, len(totals)) for name, values in drawn.scores.items()}
    shown_in = (totals[:, :, 0] > 0).sum(axis=0).tolist()
    of_classes = {
        name: interval(values, images) for name, values, images in zip(classes, drawn.iou.T, shown_in, strict=True)
    }
    return _ends(found) | {"iou": _ends(of_classes)}


def _ends(intervals: Mapping[str, tuple[float, float]]) -> dict[str, Any]:
    return {
        name: {"low": round(low, 6), "high": round(high, 6)}
        for name, (low, high) in intervals.items()
        if not np.isnan(low)
    }


def checked_card(card: ModelCard, mapping: CategoryMapping, place: str) -> ModelCard:
    """The card, if its task and classes are those of the masks; else `CocosegError`, which calls the model `place`."""
    way_out = "expected a model of these masks, as dvc repro train makes it"
    if card.task != mapping.task:
        raise CocosegError(f"{place}: a model of task {card.task}, but the masks are {mapping.task}; {way_out}")
    if card.classes != mapping.classes:
        how = class_difference(card.classes, mapping.classes, "only in the model", "only in the masks")
        raise CocosegError(f"{place}: its classes are not those of the masks: {how}; {way_out}")
    return card


def iou_rows(metrics: Mapping[str, Any]) -> list[ClassIoU]:
    """The bars of `metrics/evaluate.json`; classes without a target pixel have none."""
    ends = metrics["intervals"]["iou"]
    return [
        ClassIoU(class_name=name, iou=value, **ends.get(name, {}))
        for name, value in metrics["iou"].items()
        if value is not None
    ]


def write_prediction(folder: Path, file_name: str, prediction: NDArray[np.uint8]) -> None:
    """Write a predicted label map as a PNG, named like a mask."""
    write_bytes(folder / mask_name(file_name), encode_png(prediction))


Decoded = tuple[Pair, NDArray[np.uint8], NDArray[np.uint8]]


def _predicted(
    model: nn.Module, card: ModelCard, pairs: Sequence[Pair]
) -> Iterator[tuple[Pair, NDArray[np.uint8], NDArray[np.uint8]]]:
    """Each pair with its truth and prediction, in the order of `pairs`."""
    device = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else torch.device("cpu")
    model = model.to(device).to(memory_format=torch.channels_last).eval()
    most = min(BATCH_SIZE, card.params.get("batch_size", BATCH_SIZE))
    for batch in _batches(pairs, len(card.classes), card.preprocessing, most):
        places = [place for _, place in batch]
        images = torch.stack([placed_image(_channels_first(image), place) for (_, image, _), place in batch])
        with torch.inference_mode():
            logits = model(normalised(images.to(device), card.preprocessing)).float()
            labels = [
                predicted_labels(original_logits(own, place)).cpu().numpy()
                for own, place in zip(logits, places, strict=True)
            ]
        for ((pair, _, truth), _), prediction in zip(batch, labels, strict=True):
            yield pair, truth, prediction


def _batches(
    pairs: Sequence[Pair], classes: int, preprocessing: Preprocessing, most: int
) -> Iterator[list[tuple[Decoded, Placement]]]:
    """Decoded pairs, at most `most` of one input size; the next are decoded while a batch is predicted."""
    batch: list[tuple[Decoded, Placement]] = []
    for decoded in _decoded(pairs, classes):
        height, width = decoded[2].shape
        place = placement(height, width, preprocessing.image_size_px, preprocessing.resize)
        size = (place.input_height, place.input_width)
        if batch and (len(batch) == most or size != (batch[0][1].input_height, batch[0][1].input_width)):
            yield batch
            batch = []
        batch.append((decoded, place))
    if batch:
        yield batch


def _decoded(pairs: Sequence[Pair], classes: int) -> Iterator[Decoded]:
    """Each pair with its image and mask, in order, a few ahead of their use."""

    def decode(pair: Pair) -> Decoded:
        return (pair, *read_pair(pair, classes))

    ahead: deque[Future[Decoded]] = deque()
    with ThreadPoolExecutor(worker_count()) as pool:
        for pair in tqdm(pairs, desc="evaluate", unit="image", disable=None):
            ahead.append(pool.submit(decode, pair))
            if len(ahead) > 2 * BATCH_SIZE:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _channels_first(image: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)
