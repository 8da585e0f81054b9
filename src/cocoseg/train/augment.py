"""Random augmentation of a training image and its mask with torchvision's v2 transforms.

They draw from torch's global generator, which the caller seeds.
"""

from math import ceil
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as v2f

from cocoseg.coco.categories import BACKGROUND, IGNORE
from cocoseg.model.params import ResizeName
from cocoseg.model.preprocessing import BORDER_RGB, bordered
from cocoseg.train.params import AugmentName, FlipsName

# The smallest and largest factor of a random scale. At 1.25 a crop shows four fifths of the image's shorter side.
SCALES: dict[AugmentName, tuple[float, float]] = {"none": (1.0, 1.0), "light": (0.8, 1.25), "strong": (0.5, 2.0)}
# The largest angle of a random rotation. At it, a square's corners lie 8 % of its side outside.
DEGREES = 10.0
_OUTSIDE = 0.08


class RandomScale(v2.Transform):
    """A transform that resizes the shorter side to `image_size_px` times a random factor."""

    def __init__(self, image_size_px: int, scales: tuple[float, float]) -> None:
        super().__init__()
        self.image_size_px = image_size_px
        self.scales = scales

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the size to resize to."""
        height, width = v2f.get_size(flat_inputs[0])
        low, high = self.scales
        factor = (low + (high - low) * torch.rand(()).item()) * self.image_size_px / min(height, width)
        return {"size": [max(1, round(height * factor)), max(1, round(width * factor))]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Resize images bilinearly with antialiasing, masks to the nearest pixel center."""
        if not isinstance(inpt, tv_tensors.Mask):
            return v2f.resize(inpt, params["size"], antialias=True)
        # v2 resizes masks with its mode "nearest", which rounds down and so shifts them by half a pixel.
        exact = v2.InterpolationMode.NEAREST_EXACT
        return tv_tensors.wrap(v2f.resize_image(inpt[None], params["size"], interpolation=exact)[0], like=inpt)


class BalancedCrop(v2.Transform):
    """A transform that cuts a square out of an image at a random scale, and resizes it to `image_size_px`.

    Every second square, by chance, shows a random pixel of a random class of the image, background apart, so that small
    objects are seen; the others lie anywhere. What lies outside the image is border.
    """

    def __init__(self, image_size_px: int, scales: tuple[float, float], margin_px: int = 0) -> None:
        """Cut with a margin of `margin_px` around the square, in pixels of the result."""
        super().__init__()
        self.image_size_px = image_size_px
        self.scales = scales
        self.margin_px = margin_px

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the square: its side and its top left corner, in pixels of the image."""
        mask = next(part for part in flat_inputs if isinstance(part, tv_tensors.Mask)).as_subclass(Tensor)
        low, high = self.scales
        side = max(1, round(self.image_size_px / (low + (high - low) * torch.rand(()).item())))
        pixel = _balanced_pixel(mask) if torch.rand(()) < 0.5 else None
        corner = []
        for axis, length in enumerate(mask.shape):
            first, last = min(0, length - side), max(0, length - side)
            if pixel is not None:
                first, last = max(first, pixel[axis] - side + 1), min(last, pixel[axis])
            corner.append(int(torch.randint(first, last + 1, ())))
        margin = round(side * self.margin_px / self.image_size_px)
        return {"side": side + 2 * margin, "top": corner[0] - margin, "left": corner[1] - margin}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Cut and resize images bilinearly with antialiasing, masks to the nearest pixel center."""
        side, top, left = params["side"], params["top"], params["left"]
        cut = inpt.as_subclass(Tensor)[..., max(0, top) : top + side, max(0, left) : left + side]
        size = [self.image_size_px + 2 * self.margin_px] * 2
        if isinstance(inpt, tv_tensors.Mask):
            canvas = torch.full((side, side), IGNORE, dtype=torch.uint8)
            canvas[max(0, -top) :, max(0, -left) :][: cut.shape[0], : cut.shape[1]] = cut
            return tv_tensors.wrap(F.interpolate(canvas[None, None], size, mode="nearest-exact")[0, 0], like=inpt)
        square = bordered(cut, side, side, max(0, -top), max(0, -left))
        if side != size[0]:
            square = F.interpolate(square[None], size, mode="bilinear", antialias=True)[0]
        return tv_tensors.wrap(square.contiguous(), like=inpt)


def _balanced_pixel(mask: Tensor) -> tuple[int, int] | None:
    """Draw a class that the mask (H, W) shows, and one of its pixels: row and column; `None` if it shows none.

    Background is not drawn: where objects are rare, a square that lies anywhere shows it.
    """
    shown = torch.bincount(mask.flatten(), minlength=IGNORE)[BACKGROUND + 1 : IGNORE].nonzero()[:, 0]
    if not len(shown):
        return None
    drawn = BACKGROUND + 1 + int(shown[torch.randint(len(shown), ())])
    own = np.flatnonzero(mask.numpy() == drawn)  # in a tenth of the time of torch's nonzero
    row, column = divmod(int(own[torch.randint(len(own), ())]), mask.shape[1])
    return row, column


class Turn(v2.Transform):
    """A transform that turns half of the images about their center, by a random angle of up to `DEGREES`.

    The corners that come in are border. OpenCV is several times as fast as v2.RandomRotation.
    """

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the angle; `None` for an image that stays as sharp as it is."""
        angle = DEGREES * (2 * torch.rand(()).item() - 1)
        return {"angle": angle if torch.rand(()) < 0.5 else None}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Turn images bilinearly, masks to the nearest pixel center."""
        if params["angle"] is None:
            return inpt
        height, width = inpt.shape[-2:]
        matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), params["angle"], 1)
        if isinstance(inpt, tv_tensors.Mask):
            turned = cv2.warpAffine(inpt.numpy(), matrix, (width, height), flags=cv2.INTER_NEAREST, borderValue=IGNORE)
            return tv_tensors.wrap(torch.from_numpy(turned), like=inpt)
        pixels = inpt.permute(1, 2, 0).numpy()
        turned = cv2.warpAffine(pixels, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=BORDER_RGB)
        return tv_tensors.wrap(torch.from_numpy(turned).permute(2, 0, 1).contiguous(), like=inpt)


class QuarterTurn(v2.Transform):
    """A transform that turns a square by 0, 90, 180 or 270 degrees, which moves pixels and changes none."""

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw the number of quarter turns."""
        return {"turns": int(torch.randint(4, ()))}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Turn images and masks alike."""
        return tv_tensors.wrap(torch.rot90(inpt, params["turns"], (-2, -1)).contiguous(), like=inpt)


def augmentation(
    augment: AugmentName, image_size_px: int, resize: ResizeName = "squash", flips: FlipsName = "horizontal"
) -> v2.Compose:
    """Return the transforms of that name. They turn images of any size into squares of `image_size_px`."""
    fill = {tv_tensors.Image: list(BORDER_RGB), tv_tensors.Mask: IGNORE}
    steps: list[v2.Transform]
    if resize == "crop":
        # What turns into the square is cut out with it: only what lies outside the image is border.
        margin_px = ceil(_OUTSIDE * image_size_px) if augment == "strong" else 0
        steps = [BalancedCrop(image_size_px, SCALES[augment], margin_px)]
        if augment == "strong":
            steps += [Turn(), v2.CenterCrop(image_size_px)]
    else:
        steps = [RandomScale(image_size_px, SCALES[augment])]
        if augment == "strong":
            steps.append(Turn())
        steps.append(v2.RandomCrop(image_size_px, pad_if_needed=True, fill=fill))
    if augment != "none":
        steps += _flips(flips)
    if augment == "strong":
        steps.append(v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05))
        steps.append(v2.RandomGrayscale(0.1))
        steps.append(v2.RandomApply([v2.GaussianBlur(5, sigma=(0.1, 1.5))], p=0.2))
    return v2.Compose(steps)


def _flips(flips: FlipsName) -> list[v2.Transform]:
    match flips:
        case "none":
            return []
        case "horizontal":
            return [v2.RandomHorizontalFlip()]
        case "both":
            return [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
        case "all":
            return [v2.RandomHorizontalFlip(), QuarterTurn()]


def augmented(transforms: v2.Compose, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Apply the same random `transforms` to an image (3, H, W) and its mask (H, W)."""
    out_image, out_mask = transforms(tv_tensors.Image(image), tv_tensors.Mask(mask))
    return out_image.as_subclass(Tensor), out_mask.as_subclass(Tensor)
