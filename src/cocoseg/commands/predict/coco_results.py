"""Predictions in COCO's results format, one entry per image and class. https://cocodataset.org/#format-results"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from torch import Tensor

from cocoseg.coco.categories import BACKGROUND
from cocoseg.coco.file_names import own_numbers
from cocoseg.model.preprocessing import Placement, predicted_labels
from cocoseg.model.weights import ModelInfo
from cocoseg.pictures.overlay import palette


def image_ids(names: Sequence[str]) -> list[int]:
    """Return the number that each name ends in if every image has one of its own; else 1, 2, …"""
    ids = [number for number in own_numbers(names) if number is not None]
    return ids if len(ids) == len(names) else list(range(1, len(names) + 1))


def category_ids(info: ModelInfo) -> list[int]:
    """Return COCO's id of each class, by class index; the index itself for a class without one known category."""
    ids = list(range(len(info.classes)))
    for category in info.categories if info.task == "multiclass" or len(info.categories) == 1 else ():
        ids[category.class_index] = category.category_id
    return ids


def described_images(images: Sequence[Mapping[str, Any]], info: ModelInfo) -> dict[str, Any]:
    """Return what pycocotools' `COCO` needs to load results: the images, and the categories with their colors."""
    categories = [
        {"id": category_id, "name": name, "color": color.tolist()}
        for category_id, name, color in zip(category_ids(info), info.classes, palette(), strict=False)
    ]
    return {"info": {}, "images": images, "annotations": [], "categories": categories[BACKGROUND + 1 :]}


def coco_results(
    labels: NDArray[np.uint8], confidences: Sequence[float], ids: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Yield an entry for each class in `labels` (H, W): its pixels as compressed RLE, its score from `confidences`.

    The id of the image is added later.
    """
    columns = np.ascontiguousarray(labels.T)  # COCO counts down the columns
    # Not np.bincount, which takes eight bytes a pixel.
    for class_index in np.flatnonzero(cv2.calcHist([labels], [0], None, [256], [0, 256])).tolist():
        if class_index == BACKGROUND:
            continue
        encoded = coco_mask.encode((columns == class_index).T)
        segmentation = {"size": encoded["size"], "counts": encoded["counts"].decode()}
        score = round(confidences[class_index], 4)
        yield {"category_id": ids[class_index], "segmentation": segmentation, "score": score}


class ConfidenceTally(NamedTuple):
    """Of each class of a part of an image, (C,): the pixels that it owns, the sum and the highest of probabilities."""

    pixels: Tensor
    sums: Tensor
    highest: Tensor


def confidence_tally(logits: Tensor, place: Placement, threshold_logit: float = 0.0) -> ConfidenceTally:
    """Return the tally of a part of an image, for logits (C, input_height, input_width) at the network's size.

    The one channel of a `binary` model counts as two classes, of which foreground lies above `threshold_logit`.
    """
    content = logits[:, place.top : place.top + place.content_height, place.left : place.left + place.content_width]
    if len(content) == 1:
        foreground = content.sigmoid()
        probabilities = torch.cat([1 - foreground, foreground])
    else:
        probabilities = content.softmax(dim=0)
    labels = predicted_labels(content, threshold_logit).flatten().long()
    own = probabilities.flatten(1).gather(0, labels[None])[0]
    pixels = torch.bincount(labels, minlength=len(probabilities))
    sums = torch.zeros_like(probabilities[:, 0, 0]).index_add_(0, labels, own)
    return ConfidenceTally(pixels, sums, probabilities.amax(dim=(1, 2)))


def class_confidences(tallies: Sequence[ConfidenceTally]) -> list[float]:
    """Return each class's mean probability over its pixels at the network's size, or its highest if it has none."""
    pixels, sums, highest = (torch.stack(values) for values in zip(*tallies, strict=True))
    total = pixels.sum(dim=0)
    # A class may have pixels at the image's size only.
    means: list[float] = torch.where(total > 0, sums.sum(dim=0) / total.clamp(min=1), highest.amax(dim=0)).tolist()
    return means
