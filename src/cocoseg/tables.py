"""The tables that stages hand on as CSV."""

from collections.abc import Iterable
from typing import Annotated

import msgspec
from msgspec import Meta

Pixels = Annotated[int, Meta(ge=0, le=2**40)]  # more than any image has; sums of millions of them are still an int64


class ImageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One filtered image in `data/images.csv`: what is there, or in `status` why it is not «ok».

    `phash` is a 64-bit perceptual hash in 16 hex digits; `origin` the folder of COCO's own that the image came from,
    such as `val2017`; `converted` what decoding turned into upright RGB of 8 bits, such as `gray` or `cmyk`: `turned`
    if an EXIF orientation was followed, `undecided` if it was not, though the annotated size would allow it,
    `low_range` if 16 bits hold no value of 4,096 or more.
    """

    image_id: int
    file_name: str
    status: str
    width: int | None = None
    height: int | None = None
    bytes: int | None = None
    sha256: str | None = None
    phash: str | None = None
    origin: str | None = None
    converted: str | None = None

    def is_converted(self, word: str) -> bool:
        """Return whether `converted` has this word."""
        return word in (self.converted or "").split()


def turned_images(rows: Iterable[ImageRow]) -> frozenset[str]:
    """Return the file names of images whose EXIF orientation is followed."""
    return frozenset(row.file_name for row in rows if row.is_converted("turned"))


class MaskRow(msgspec.Struct, frozen=True, kw_only=True):
    """One class of one image in `data/masks.csv`; background and ignored pixels have rows of their own."""

    image_id: int
    file_name: str
    class_index: int
    class_name: str
    instances: int
    pixels: Pixels


class InstanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One number of one instance map in `data/instance_masks/instances.csv`, and the annotation that it stands for."""

    image_id: int
    file_name: str
    number: int
    annotation_id: int
    category_id: int


class ClassPixels(msgspec.Struct, frozen=True, kw_only=True):
    """One class of one image in `per_image.csv`, in pixels; classes without a target or predicted pixel have no row.

    IoU is hit / (target + prediction - hit), of sums over images for the whole side.
    """

    file_name: str
    class_index: int
    class_name: str
    target: Pixels
    prediction: Pixels
    hit: Pixels


class ClassIoU(msgspec.Struct, frozen=True, kw_only=True):
    """One bar of `plots/evaluate/iou.csv`: the IoU of a class in the scored side, from 0 to 1."""

    class_name: str
    iou: float
    low: float | None = None
    high: float | None = None
    """The 95 % interval over images; none where fewer than ten show the class."""


def class_totals(rows: Iterable[MaskRow], names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Of each named class the images with a pixel of it, its instances and pixels; all 0 where there is none."""
    totals = {name: {"images": 0, "instances": 0, "pixels": 0} for name in names}
    for row in rows:
        own = totals[row.class_name]
        own["images"] += row.pixels > 0
        own["instances"] += row.instances
        own["pixels"] += row.pixels
    return totals
