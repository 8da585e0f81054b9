"""Random changes of a training image and its mask, by torchvision's v2 transforms. All of them draw from torch's
global generator; who calls them seeds it.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as v2f

from cocoseg.coco.categories import IGNORE
from cocoseg.model.preprocessing import BORDER_RGB

AugmentName = Literal["none", "light", "strong"]

# The smallest and largest factor of a random scale: a crop at 1.25 shows four fifths of the image's side.
SCALES: dict[AugmentName, tuple[float, float]] = {"none": (1.0, 1.0), "light": (0.8, 1.25), "strong": (0.5, 2.0)}


class RandomScale(v2.Transform):
    """Resizes so that the shorter side becomes `image_size_px` times a random factor."""

    def __init__(self, image_size_px: int, scales: tuple[float, float]) -> None:
        super().__init__()
        self.image_size_px = image_size_px
        self.scales = scales

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """The size to resize to."""
        height, width = v2f.get_size(flat_inputs[0])
        low, high = self.scales
        factor = (low + (high - low) * torch.rand(()).item()) * self.image_size_px / min(height, width)
        return {"size": [max(1, round(height * factor)), max(1, round(width * factor))]}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Images bilinear with antialiasing, masks by the nearest center."""
        if not isinstance(inpt, tv_tensors.Mask):
            return v2f.resize(inpt, params["size"], antialias=True)
        # v2's own rule for masks rounds down, which moves them half a pixel against their image.
        exact = v2.InterpolationMode.NEAREST_EXACT
        return tv_tensors.wrap(v2f.resize_image(inpt[None], params["size"], interpolation=exact)[0], like=inpt)


def augmentation(augment: AugmentName, image_size_px: int) -> v2.Compose:
    """The transforms of that name; each ends with a square of `image_size_px`, whatever size comes in."""
    fill = {tv_tensors.Image: list(BORDER_RGB), tv_tensors.Mask: IGNORE}
    steps: list[v2.Transform] = [
        RandomScale(image_size_px, SCALES[augment]),
        v2.RandomCrop(image_size_px, pad_if_needed=True, fill=fill),
    ]
    if augment != "none":
        steps.append(v2.RandomHorizontalFlip())
    if augment == "strong":
        steps.append(v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05))
        steps.append(v2.RandomGrayscale(0.1))
        steps.append(v2.RandomApply([v2.GaussianBlur(5, sigma=(0.1, 1.5))], p=0.2))
    return v2.Compose(steps)


def augmented(transforms: v2.Compose, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """`transforms` of an image (3, H, W) and its mask (H, W), the same for both."""
    out_image, out_mask = transforms(tv_tensors.Image(image), tv_tensors.Mask(mask))
    return out_image.as_subclass(Tensor), out_mask.as_subclass(Tensor)
