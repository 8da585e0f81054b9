"""The weight of each class in the loss, from how rare the class is in the training data."""

from collections.abc import Sequence
from typing import Literal

from cocoseg.train.params import ClassWeightsName

# One of the values of Cui et al. With it the rarest class weighs at most 1,000 times as much as the most common.
BETA = 0.999
# So `inverse` has the same limit: a class of a few pixels would else be all that counts in its batches.
LARGEST_RATIO = 1000


def class_weights(images: Sequence[int], pixels: Sequence[int], rule: ClassWeightsName) -> list[float] | None:
    """Return the weight of each class, background first; `None` for the rule `none`.

    `images` and `pixels` count, for each class, the training images that show it and its pixels in them. A class with
    no pixel has weight 0; the mean over the others is 1, and the largest is at most `LARGEST_RATIO` times the smallest.
    `inverse` is 1 / pixels; `effective` is (1 - β) / (1 - β ** images), one over the effective number of images. Cui et
    al. 2019, arXiv 1901.05555.
    """
    if rule == "none":
        return None
    weights = [_weight(n, area, rule) if area else 0.0 for n, area in zip(images, pixels, strict=True)]
    least = max(weights) / LARGEST_RATIO
    weights = [max(weight, least) if weight else 0.0 for weight in weights]
    mean = sum(weights) / max(1, sum(area > 0 for area in pixels))
    return [weight / mean if weight else 0.0 for weight in weights]


def weights_line(weights: Sequence[float], classes: Sequence[str]) -> str:
    """Return a line that says which of the `classes` in the training data have the smallest and the largest weight."""
    found = sorted((weight, name) for weight, name in zip(weights, classes, strict=True) if weight)
    if not found:
        return "class weights: the training masks have no pixel of any class"
    (least, commonest), (most, rarest) = found[0], found[-1]
    limit = f", the limit of {LARGEST_RATIO:,} times" if most / least > 0.999 * LARGEST_RATIO else ""
    return f"class weights from {least:.3g} ({commonest}) to {most:.3g} ({rarest}){limit}"


def _weight(images: int, pixels: int, rule: Literal["inverse", "effective"]) -> float:
    match rule:
        case "inverse":
            return 1 / pixels
        case "effective":
            return (1 - BETA) / (1 - BETA**images)
