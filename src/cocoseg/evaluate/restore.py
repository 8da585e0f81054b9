"""Bring logits back to an image's own size."""

from collections.abc import Iterator

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from cocoseg.model.preprocessing import Placement, predicted_labels

# Of enlarged logits at a time, 256 MB: a photograph of 48 megapixels times 81 classes would be 16 GB.
_MOST_VALUES = 2**26
_STRIP_PIXELS = 2**22


def original_logits(logits: Tensor, place: Placement) -> Tensor:
    """Logits (C, input_height, input_width) brought back to the image's own size, (C, height, width)."""
    bottom, right = place.top + place.content_height, place.left + place.content_width
    content = logits[:, place.top : bottom, place.left : right]
    if content.shape[1:] == (place.height, place.width):
        return content
    # Logits and not labels are enlarged, so that edges come out smooth.
    return F.interpolate(content[None], (place.height, place.width), mode="bilinear", align_corners=False)[0]


def original_labels(logits: Tensor, place: Placement) -> NDArray[np.uint8]:
    """Class indices (height, width) at the image's own size, of the logits that `original_logits` takes."""
    if logits.device.type == "cpu":
        return _labels_by_plane(logits.numpy(), place)
    labels: NDArray[np.uint8] = _labels_in_parts(logits, place).cpu().numpy()
    return labels


def _labels_by_plane(logits: NDArray[np.float32], place: Placement) -> NDArray[np.uint8]:
    """One class after the other, which a CPU's cache holds: in a quarter of the time of all of them together."""
    bottom, right = place.top + place.content_height, place.left + place.content_width
    size = (place.width, place.height)
    planes: Iterator[NDArray[np.float32]] = (
        cv2.resize(plane[place.top : bottom, place.left : right], size) for plane in logits
    )
    best = next(planes)
    if len(logits) == 1:
        return (best > 0).astype(np.uint8)
    labels = np.zeros(best.shape, np.uint8)
    rows = max(1, _STRIP_PIXELS // place.width)
    for index, plane in enumerate(planes, start=1):
        for top in range(0, len(best), rows):
            strip = slice(top, top + rows)
            # Of equal logits the first stays, as argmax has it; of the labels so far none is as high as this one.
            np.maximum(labels[strip], (plane[strip] > best[strip]) * np.uint8(index), out=labels[strip])
            np.maximum(best[strip], plane[strip], out=best[strip])
    return labels


def _labels_in_parts(logits: Tensor, place: Placement) -> Tensor:
    """As many classes together as memory holds."""
    channels = max(1, _MOST_VALUES // (place.height * place.width))
    if len(logits) <= channels:
        return predicted_labels(original_logits(logits, place))
    best, labels = original_logits(logits[:channels], place).max(dim=0)
    labels = labels.to(torch.uint8)
    for start in range(channels, len(logits), channels):
        value, index = original_logits(logits[start : start + channels], place).max(dim=0)
        higher = value > best  # of equal ones the first stays, as argmax has it
        best = torch.where(higher, value, best)
        labels = torch.where(higher, (index + start).to(torch.uint8), labels)
    return labels
