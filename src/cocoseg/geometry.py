"""From an image's own size to the network's and back.

Images are (3, H, W) uint8, masks (H, W) uint8, logits (C, H, W) float.
"""

import math
from collections.abc import Iterator
from typing import Annotated, Literal

import cv2
import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor

from cocoseg.categories import IGNORE

ResizeName = Literal["squash", "letterbox", "short_side"]
_Positive = Annotated[float, Meta(gt=0)]
ImageSize = Annotated[int, Meta(ge=16, le=4096, extra_json_schema={"examples": [128]})]

# ImageNet's, which every pretrained encoder here was trained with; per channel, of values in [0, 1].
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# A border of the mean color is 0 to the network, as its own padding is.
BORDER_RGB = (124, 116, 104)
# Of enlarged logits at a time, 256 MB: a photograph of 48 megapixels times 81 classes would be 16 GB.
_MOST_VALUES = 2**26


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True):
    """What a network expects of its input; travels with its weights."""

    image_size_px: ImageSize
    resize: ResizeName
    mean: tuple[float, float, float] = MEAN
    std: tuple[_Positive, _Positive, _Positive] = STD


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where an image of `height` × `width` lies in the network's input; all in pixels."""

    height: int
    width: int
    input_height: int
    input_width: int
    top: int
    left: int
    content_height: int
    content_width: int


def placement(height: int, width: int, image_size_px: int, resize: ResizeName) -> Placement:
    """`squash`: both sides become the size. `letterbox`: the longer does, in the middle of a square. `short_side`:
    the shorter does, and the input is no square.
    """
    if resize == "squash":
        content_height = content_width = image_size_px
    else:
        side = max(height, width) if resize == "letterbox" else min(height, width)
        content_height = max(1, round(height * image_size_px / side))
        content_width = max(1, round(width * image_size_px / side))
    square = resize == "letterbox"
    input_height = image_size_px if square else content_height
    input_width = image_size_px if square else content_width
    return Placement(
        height=height,
        width=width,
        input_height=input_height,
        input_width=input_width,
        top=(input_height - content_height) // 2,
        left=(input_width - content_width) // 2,
        content_height=content_height,
        content_width=content_width,
    )


def placed_image(image: Tensor, place: Placement) -> Tensor:
    """The network's input, (3, input_height, input_width) uint8; a border in the mean color."""
    size = (place.content_height, place.content_width)
    if image.shape[1:] != size:
        # antialias: without it a photograph that is shrunk a lot loses thin things by chance
        image = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    if size == (place.input_height, place.input_width):
        return image
    canvas = torch.tensor(BORDER_RGB, dtype=torch.uint8)[:, None, None]
    canvas = canvas.repeat(1, place.input_height, place.input_width)
    canvas[:, place.top : place.top + size[0], place.left : place.left + size[1]] = image
    return canvas


def placed_mask(mask: Tensor, place: Placement) -> Tensor:
    """The mask of `placed_image`, (input_height, input_width) uint8; its border is 255."""
    size = (place.content_height, place.content_width)
    if mask.shape != size:
        # nearest: between two class indices lies no class
        mask = F.interpolate(mask[None, None], size, mode="nearest-exact")[0, 0]
    if size == (place.input_height, place.input_width):
        return mask
    canvas = torch.full((place.input_height, place.input_width), IGNORE, dtype=torch.uint8)
    canvas[place.top : place.top + size[0], place.left : place.left + size[1]] = mask
    return canvas


def original_logits(logits: Tensor, place: Placement) -> Tensor:
    """Logits (C, input_height, input_width) brought back to the image's own size, (C, height, width)."""
    bottom, right = place.top + place.content_height, place.left + place.content_width
    content = logits[:, place.top : bottom, place.left : right]
    if content.shape[1:] == (place.height, place.width):
        return content
    # Logits and not labels are enlarged, so that edges come out smooth.
    return F.interpolate(content[None], (place.height, place.width), mode="bilinear", align_corners=False)[0]


def normalised(images: Tensor, preprocessing: Preprocessing) -> Tensor:
    """uint8 images (N, 3, H, W) as the float32 that the network expects, on their device, channels last."""
    mean = torch.tensor(preprocessing.mean, device=images.device)[None, :, None, None] * 255
    std = torch.tensor(preprocessing.std, device=images.device)[None, :, None, None] * 255
    return images.float().sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


def predicted_labels(logits: Tensor) -> Tensor:
    """Class indices (…, H, W) uint8 of logits (…, C, H, W); one channel is `binary`, foreground above 0."""
    if logits.shape[-3] == 1:
        return (logits[..., 0, :, :] > 0).to(torch.uint8)  # sigmoid(0) is one half
    # Not argmax, which takes twelve times as long over a dimension that is not the last; of equals both name the first.
    return logits.max(dim=-3).indices.to(torch.uint8)


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
    for index, plane in enumerate(planes, start=1):
        # Of equal logits the first stays, as argmax has it; of the labels so far none is as high as this one.
        np.maximum(labels, (plane > best) * np.uint8(index), out=labels)
        np.maximum(best, plane, out=best)
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


def stored_size_px(height: int, width: int, image_size_px: int, zoom: float) -> int:
    """The size to keep an image at for crops enlarged up to `zoom`: no more pixels than it has or than they need."""
    return max(image_size_px, min(math.ceil(image_size_px * zoom), min(height, width)))
