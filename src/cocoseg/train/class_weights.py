"""The weight of each class in the loss, from how rare the class is in the training data."""

from collections.abc import Sequence
from typing import Literal

from cocoseg.train.params import ClassWeightsName

# One of the values of Cui et al. With it the rarest class weighs at most 1,000 times as much as the most common.
BETA = 0.999


def class_weights(images: Sequence[int], pixels: Sequence[int], rule: ClassWeightsName) -> list[float] | None:
    """Return the weight of each class, background first; `None` for the rule `none`.

    `images` and `pixels` count, for each class, the training images that show it and its pixels in them. A class with
    no pixel has weight 0; the mean over the others is 1. `inverse` is 1 / pixels; `effective` is
    (1 - β) / (1 - β ** images), one over the effective number of images. Cui et al. 2019, arXiv 1901.05555.
    """
    if rule == "none":
        return None
    weights = [_weight(n, area, rule) if area else 0.0 for n, area in zip(images, pixels, strict=True)]
    mean = sum(weights) / max(1, sum(area > 0 for area in pixels))
    return [weight / mean if weight else 0.0 for weight in weights]


def _weight(images: int, pixels: int, rule: Literal["inverse", "effective"]) -> float:
    match rule:
        case "inverse":
            return 1 / pixels
        case "effective":
            return (1 - BETA) / (1 - BETA**images)
