"""Evaluation: one integer confusion matrix over a side of the split, at the images' own size, and what is looked at."""

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from cocoseg.categories import BACKGROUND, CategoryMapping
from cocoseg.confusion import confusion_matrix, per_class_iou, scores
from cocoseg.errors import CocosegError
from cocoseg.files import write_bytes, write_table
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
from cocoseg.pictures import Row
from cocoseg.png import encode_png
from cocoseg.showcase import GalleryImages
from cocoseg.weights import ModelCard
from cocoseg.workers import worker_count

BATCH_SIZE = 16  # at most: what was trained in smaller batches is predicted in them


class EvaluateParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `evaluate`. How images are prepared comes with the model."""

    gallery_images: GalleryImages


class ClassPixels(msgspec.Struct, frozen=True, kw_only=True):
    """One class of one image in `per_image.csv`, in pixels; classes without a target or predicted pixel have no row.

    IoU is hit / (target + prediction - hit), of sums over images for the whole side.
    """

    file_name: str
    class_index: int
    class_name: str
    target: int
    prediction: int
    hit: int


class ClassIoU(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of `iou.csv`."""

    class_name: str
    iou: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """What predicting a side gave. `confusion` as in `cocoseg.confusion`."""

    confusion: NDArray[np.int64]
    per_image: list[ClassPixels]
    gallery: list[Row]
    seconds: float
    """From the first image read to the last prediction written."""


def evaluate(
    model: nn.Module,
    card: ModelCard,
    pairs: Sequence[Pair],
    predictions: Path,
    shown: Iterable[str],
) -> Evaluation:
    """Predict every pair at its own size, write each prediction below `predictions`, count.

    `shown` are file names to keep for the gallery. Raises `CocosegError` for a broken image or mask.
    """
    classes = len(card.classes)
    started = time.perf_counter()
    keep = set(shown)
    confusion = np.zeros((classes, classes), np.int64)
    per_image: list[ClassPixels] = []
    rows: list[Row] = []
    for pair, image, truth, prediction in _predicted(model, card, pairs):
        matrix = confusion_matrix(truth, prediction, classes)
        confusion += matrix
        per_image += _class_pixels(pair.file_name, matrix, card.classes)
        write_prediction(predictions, pair.file_name, prediction)
        if pair.file_name in keep:
            caption = _caption(pair.file_name, matrix, card.classes)
            rows.append(Row(image=image, truth=truth, prediction=prediction, caption=caption))
    return Evaluation(confusion=confusion, per_image=per_image, gallery=rows, seconds=time.perf_counter() - started)


def evaluation_metrics(
    confusion: NDArray[np.int64], classes: Sequence[str], split: str, images: int, baselines: dict[str, Any]
) -> dict[str, Any]:
    """`metrics/evaluate.json`: the scores, which side they speak of, and what they have to beat."""
    scored: dict[str, Any] = msgspec.to_builtins(scores(confusion, classes))
    return {"split": split, "images": images} | scored | {"baselines": baselines}


def seen_in_pretraining(card: ModelCard, origins: Iterable[str | None]) -> dict[str, int] | None:
    """How many of the scored images, by their folder of COCO's own, a `pretrained: coco` model has met before.

    Its weights come from train2017, which holds all of train2014 and 35,504 of val2014's 40,504 images; `None` for
    other models.
    """
    if card.params.get("pretrained") != "coco":
        return None
    counts = Counter(origins)
    return {"images": counts["train2017"] + counts["train2014"], "images_perhaps": counts["val2014"]}


def checked_card(card: ModelCard, mapping: CategoryMapping) -> ModelCard:
    """The card, if its classes are those of the masks; else `CocosegError`."""
    if (card.task, card.classes) != (mapping.task, mapping.classes):
        raise CocosegError(
            f"data/model: knows the classes {_listed(card.classes)}, but the masks hold {_listed(mapping.classes)}; "
            "train again with: dvc repro train"
        )
    return card


def write_iou_table(path: Path, confusion: NDArray[np.int64], classes: Sequence[str]) -> None:
    """IoU by class for a bar plot; classes without a target pixel have no bar."""
    iou = scores(confusion, classes).iou
    rows = [ClassIoU(class_name=name, iou=value) for name, value in iou.items() if value is not None]
    write_table(path, rows, ClassIoU)


def write_prediction(folder: Path, file_name: str, prediction: NDArray[np.uint8]) -> None:
    """Write a predicted label map as a PNG, named like a mask."""
    write_bytes((folder / file_name).with_suffix(".png"), encode_png(prediction))


Decoded = tuple[Pair, NDArray[np.uint8], NDArray[np.uint8]]


def _predicted(
    model: nn.Module, card: ModelCard, pairs: Sequence[Pair]
) -> Iterator[tuple[Pair, NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]]:
    """Each pair with its image, truth and prediction, in the order of `pairs`."""
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
        for ((pair, image, truth), _), prediction in zip(batch, labels, strict=True):
            yield pair, image, truth, prediction


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


def _class_pixels(file_name: str, confusion: NDArray[np.int64], classes: Sequence[str]) -> list[ClassPixels]:
    target, prediction, hit = confusion.sum(axis=1), confusion.sum(axis=0), np.diagonal(confusion)
    return [
        ClassPixels(
            file_name=file_name,
            class_index=index,
            class_name=classes[index],
            target=int(target[index]),
            prediction=int(prediction[index]),
            hit=int(hit[index]),
        )
        for index in range(len(classes))
        # Background always, so that every image is in the table.
        if index == BACKGROUND or target[index] or prediction[index]
    ]


def _caption(file_name: str, confusion: NDArray[np.int64], classes: Sequence[str]) -> str:
    """The file's name and the IoU of its objects' classes in this image."""
    iou = per_class_iou(confusion)
    present = [f"{classes[index]} {iou[index]:.2f}" for index in range(1, len(classes)) if not np.isnan(iou[index])]
    return "   ".join([file_name, *(["IoU: " + "  ".join(present)] if present else ["no object"])])


def _listed(classes: Sequence[str]) -> str:
    return ", ".join(classes[:6]) + (", …" if len(classes) > 6 else "")
