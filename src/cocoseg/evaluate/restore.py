"""Turn logits into labels at an image's own size."""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cocoseg.model.preprocessing import Placement, predicted_labels

# How many logits are enlarged at a time, 256 MB: 48 megapixels times 81 classes would be 16 GB.
_MOST_VALUES = 2**26
_STRIP_PIXELS = 2**22


def original_logits(logits: Tensor, place: Placement) -> Tensor:
    """Return logits (C, input_height, input_width) at the image's own size, (C, height, width)."""
    bottom, right = place.top + place.content_height, place.left + place.content_width
    content = logits[:, place.top : bottom, place.left : right]
    if content.shape[1:] == (place.height, place.width):
        return content
    # Logits are enlarged, not labels, so that edges are smooth.
    return F.interpolate(content[None], (place.height, place.width), mode="bilinear", align_corners=False)[0]


def original_labels(logits: Tensor, place: Placement, threshold_logit: float = 0.0) -> NDArray[np.uint8]:
    """Return class indices (height, width) at the image's own size, for logits as in `original_logits`.

    `threshold_logit`: as in `predicted_labels`.
    """
    if logits.device.type == "cpu":
        return _labels_by_plane(logits.numpy(), place, threshold_logit)
    labels: NDArray[np.uint8] = _labels_in_parts(logits, place, threshold_logit).cpu().numpy()
    return labels


def _labels_by_plane(logits: NDArray[np.float32], place: Placement, threshold_logit: float) -> NDArray[np.uint8]:
    """Return the labels, class by class: one class fits into a CPU's cache, which takes a quarter of the time."""
    bottom, right = place.top + place.content_height, place.left + place.content_width
    size = (place.width, place.height)
    planes: Iterator[NDArray[np.float32]] = (
        cv2.resize(plane[place.top : bottom, place.left : right], size) for plane in logits
    )
    best = next(planes)
    if len(logits) == 1:
        return (best > threshold_logit).astype(np.uint8)
    labels = np.zeros(best.shape, np.uint8)
    rows = max(1, _STRIP_PIXELS // place.width)
    for index, plane in enumerate(planes, start=1):
        for top in range(0, len(best), rows):
            strip = slice(top, top + rows)
            # The first of equal logits wins, as in argmax. maximum sets the label, since no label so far is as high.
            np.maximum(labels[strip], (plane[strip] > best[strip]) * np.uint8(index), out=labels[strip])
            np.maximum(best[strip], plane[strip], out=best[strip])
    return labels


def _labels_in_parts(logits: Tensor, place: Placement, threshold_logit: float = 0.0) -> Tensor:
    """Return the labels, for as many classes at a time as `_MOST_VALUES` allows."""
    channels = max(1, _MOST_VALUES // (place.height * place.width))
    if len(logits) <= channels:
        return predicted_labels(original_logits(logits, place), threshold_logit)
    best, labels = original_logits(logits[:channels], place).max(dim=0)
    labels = labels.to(torch.uint8)
    for start in range(channels, len(logits), channels):
        value, index = original_logits(logits[start : start + channels], place).max(dim=0)
        higher = value > best  # the first of equal logits wins, as in argmax
        best = torch.where(higher, value, best)
        labels = torch.where(higher, (index + start).to(torch.uint8), labels)
    return labels
