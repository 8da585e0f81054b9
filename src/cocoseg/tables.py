"""The rows of the CSV tables that stages write and read."""

from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

# More than any image has, but sums over millions of images still fit into an int64.
PixelCount = Annotated[int, Meta(ge=0, le=2**40)]

Size = tuple[int | None, int | None]
"""Width and height in pixels."""


class ImageRow(msgspec.Struct, frozen=True, kw_only=True):
    """One filtered image in `data/images.csv`. `status` is "ok", or why the image is missing.

    `phash` is a 64-bit perceptual hash in 16 hex digits; `origin` is the COCO folder that the image came from, such as
    `val2017`; `converted` is what decoding turned into upright 8-bit RGB, such as `gray` or `cmyk`: `turned` if an EXIF
    orientation was followed, `undecided` if it was not, though the annotated size would allow it, `as_stored` if the
    annotated size forbids it, `low_range` if 16 bits hold no value of 4,096 or more.
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

    def example(self, annotated: Size) -> str:
        """Return the image in words, as an example of its status; `annotated`: its size in the annotations."""
        if self.status != "wrong_size":
            return self.file_name
        swapped = (self.height, self.width) == annotated
        return (
            f"{self.file_name}, of {self.width}×{self.height} pixels, annotated as {annotated[0]}×{annotated[1]}"
            f"{', swapped: correct width and height' if swapped else ''}"
        )


def first_of_status(rows: Iterable[ImageRow], annotated: Mapping[int, Size]) -> dict[str, str]:
    """Return the first image of each status but "ok", in words, with the statuses sorted; sizes are by image id."""
    first: dict[str, str] = {}
    for row in rows:
        if row.status != "ok" and row.status not in first:
            first[row.status] = row.example(annotated[row.image_id])
    return dict(sorted(first.items()))


def turned_images(rows: Iterable[ImageRow]) -> frozenset[str]:
    """Return the file names of images whose EXIF orientation is followed."""
    return frozenset(row.file_name for row in rows if row.is_converted("turned"))


class MaskRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One class of one image in `data/masks.csv`; background and ignored pixels have rows of their own.

    `sha256` is that of the pixels of the mask, as `pixels_sha256` defines it; the first row of each image has it.
    """

    image_id: int
    file_name: str
    class_index: int
    class_name: str
    instances: int
    pixels: PixelCount
    sha256: str | None = None


class InstanceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One number in one instance mask and its annotation, in `data/instance_masks/instances.csv`."""

    image_id: int
    file_name: str
    number: int
    annotation_id: int
    category_id: int


class ClassPixels(msgspec.Struct, frozen=True, kw_only=True):
    """The pixels of one class in one image, in `per_image.csv`. A class that is not in target or prediction has no row.

    IoU is hit / (target + prediction - hit), for a whole side with each summed over images.
    """

    file_name: str
    class_index: int
    class_name: str
    target: PixelCount
    prediction: PixelCount
    hit: PixelCount


class ClassIoU(msgspec.Struct, frozen=True, kw_only=True):
    """The IoU of one class on the scored side, from 0 to 1, in `plots/evaluate/iou.csv`."""

    class_name: str
    iou: float
    low: float | None = None
    high: float | None = None
    """The 95 % interval over images; `None` if fewer than ten show the class."""


def class_counts(rows: Iterable[MaskRow], names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return for each named class its images, instances and pixels. An image counts if it has a pixel of the class."""
    counts = {name: {"images": 0, "instances": 0, "pixels": 0} for name in names}
    for row in rows:
        own = counts[row.class_name]
        own["images"] += row.pixels > 0
        own["instances"] += row.instances
        own["pixels"] += row.pixels
    return counts
