"""From an image to the network's input, and from logits to labels.

Images are (3, H, W) uint8, masks (H, W) uint8, logits (C, H, W) float.
"""

import math
from typing import Annotated

import msgspec
import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor

from cocoseg.coco.categories import IGNORE
from cocoseg.model.params import ImageSize, ResizeName

_Positive = Annotated[float, Meta(gt=0)]

Rgb = tuple[float, float, float]
# ImageNet's, of each channel, for values in [0, 1].
MEAN: Rgb = (0.485, 0.456, 0.406)
STD: Rgb = (0.229, 0.224, 0.225)
# ImageNet's mean color, which its normalization turns into 0, the value that networks pad with.
BORDER_RGB = (124, 116, 104)


class Preprocessing(msgspec.Struct, frozen=True, kw_only=True):
    """How a network's input is prepared. It is stored with the weights."""

    image_size_px: ImageSize
    resize: ResizeName
    mean: Rgb = MEAN
    std: tuple[_Positive, _Positive, _Positive] = STD

    @property
    def square_px(self) -> int | None:
        """The width and height of the network's input; `None` if they differ from image to image."""
        return None if self.resize == "short_side" else self.image_size_px


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where an image of `height` × `width` lies in the network's input, all in pixels.

    `content_height` × `content_width` is its size there; what remains of the input is border.
    """

    height: int
    width: int
    input_height: int
    input_width: int
    top: int
    left: int
    content_height: int
    content_width: int


def placement(height: int, width: int, image_size_px: int, resize: ResizeName) -> Placement:
    """Return where an image of this size lies in the network's input.

    `squash`: both sides become `image_size_px`. `letterbox`: the longer side does, centered in a square. `short_side`:
    the shorter side does, and the input is not a square. `crop`: nothing is resized.
    """
    if resize == "crop":
        return unresized(height, width)
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


def unresized(height: int, width: int) -> Placement:
    """Return the place of an image that the network takes at its own size."""
    return Placement(
        height=height,
        width=width,
        input_height=height,
        input_width=width,
        top=0,
        left=0,
        content_height=height,
        content_width=width,
    )


def placed_image(image: Tensor, place: Placement) -> Tensor:
    """Return the network's input, (3, input_height, input_width) uint8, with a border in the mean color."""
    size = (place.content_height, place.content_width)
    if image.shape[1:] != size:
        # antialias: without it thin objects can vanish from a photograph that shrinks a lot
        image = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
    if size == (place.input_height, place.input_width):
        return image
    return bordered(image, place.input_height, place.input_width, place.top, place.left)


def bordered(image: Tensor, height: int, width: int, top: int = 0, left: int = 0) -> Tensor:
    """Return the image (3, h, w) uint8 in one of `height` × `width` pixels, with a border in the mean color."""
    if image.shape[1:] == (height, width):
        return image
    canvas = torch.tensor(BORDER_RGB, dtype=torch.uint8, device=image.device)[:, None, None].repeat(1, height, width)
    canvas[:, top : top + image.shape[1], left : left + image.shape[2]] = image
    return canvas


def placed_mask(mask: Tensor, place: Placement) -> Tensor:
    """Return the mask of `placed_image`, (input_height, input_width) uint8, with a border of 255."""
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
    """Return uint8 images (N, 3, H, W) as normalized float32 on the same device, channels last."""
    mean = torch.tensor(preprocessing.mean, device=images.device)[None, :, None, None] * 255
    std = torch.tensor(preprocessing.std, device=images.device)[None, :, None, None] * 255
    return images.float().sub_(mean).div_(std).contiguous(memory_format=torch.channels_last)


def predicted_labels(logits: Tensor, threshold_logit: float = 0.0) -> Tensor:
    """Return class indices (…, H, W) uint8 for logits (…, C, H, W).

    One channel is `binary`: foreground where it is above `threshold_logit`, by default a probability above one half.
    """
    if logits.shape[-3] == 1:
        return (logits[..., 0, :, :] > threshold_logit).to(torch.uint8)
    # Not argmax, which takes twelve times as long over a dimension that is not the last. Both return the first of ties.
    return logits.max(dim=-3).indices.to(torch.uint8)


def stored_size_px(height: int, width: int, image_size_px: int, zoom: float) -> int:
    """Return the size to keep an image at: enough for crops enlarged up to `zoom`, and no larger than the image.

    It is never below `image_size_px`.
    """
    return max(image_size_px, min(math.ceil(image_size_px * zoom), min(height, width)))
