"""From an image's own size to the network's and back.

Images are (3, H, W) uint8, masks (H, W) uint8, logits (C, H, W) float.
"""

import math
from typing import Annotated, Literal

import msgspec
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor

from cocoseg.coco.categories import IGNORE

ResizeName = Literal["squash", "letterbox", "short_side"]
_Positive = Annotated[float, Meta(gt=0)]
ImageSize = Annotated[int, Meta(ge=16, le=4096, extra_json_schema={"examples": [128]})]

# ImageNet's, which every pretrained encoder here was trained with; per channel, of values in [0, 1].
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
# A border of the mean color is 0 to the network, as its own padding is.
BORDER_RGB = (124, 116, 104)


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


def normalized(images: Tensor, preprocessing: Preprocessing) -> Tensor:
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


def stored_size_px(height: int, width: int, image_size_px: int, zoom: float) -> int:
    """The size to keep an image at for crops enlarged up to `zoom`: no more pixels than it has or than they need."""
    return max(image_size_px, min(math.ceil(image_size_px * zoom), min(height, width)))
