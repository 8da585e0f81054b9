"""Images and their masks, as the data stages left them."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.coco.categories import IGNORE
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_json, read_lines, read_table
from cocoseg.images.decode import read_reduced_image
from cocoseg.images.headers import ImageDefect
from cocoseg.tables import ImageRow, turned_images


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One image of a split and where it and its mask lie."""

    file_name: str
    image: Path
    mask: Path
    turned: bool = False
    """The image's EXIF orientation is followed, though its size does not tell."""


def pairs(
    file_names: Sequence[str],
    mask_map: Mapping[str, str],
    images: Path,
    masks: Path,
    turned: Collection[str] = (),
) -> list[Pair]:
    """Return the pairs of `file_names`, which are relative to `images`; `mask_map` leads to names relative to `masks`.

    `turned`: the images whose EXIF orientation is followed.

    Raises `CocosegError` for an image without its mask.
    """
    found = []
    for file_name in file_names:
        if file_name not in mask_map:
            raise CocosegError(f"{images / file_name}: has no mask in the map; make the masks with: dvc repro -f mask")
        found.append(
            Pair(
                file_name=file_name,
                image=images / file_name,
                mask=masks / mask_map[file_name],
                turned=file_name in turned,
            )
        )
    return found


class Sides(msgspec.Struct, frozen=True, kw_only=True):
    """Where the lists of a split lie, and the images and masks that they name."""

    splits: Path
    mask_map: Path
    images: Path
    image_table: Path
    masks: Path

    def pairs(self, side: str) -> list[Pair]:
        """Return the pairs of `side`: train, val or test. Raises `CocosegError` for a file that is missing."""
        return self.listed(read_lines(self.splits / f"{side}.txt"))

    def listed(self, file_names: Sequence[str]) -> list[Pair]:
        """Return the pairs of the images that `file_names` names."""
        turned = turned_images(read_table(self.image_table, ImageRow))
        return pairs(file_names, read_json(self.mask_map, dict[str, str]), self.images, self.masks, turned)


def read_pair(pair: Pair, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The image, RGB (H, W, 3) uint8, and its mask, (H, W) uint8 of class indices below `classes`, or 255.

    Raises `CocosegError`, naming the file, for one that is missing or broken or a mask value outside the classes.
    """
    mask = read_mask(pair, classes)
    height, width = mask.shape
    image, _ = read_reduced(pair, height, width, height, width)
    return image, mask


def mask_pixels(pair: Pair) -> int:
    """Return how many pixels a pair has, as the header of its mask says; 0 if that cannot be read."""
    try:
        with pair.mask.open("rb") as file:
            start = file.read(24)
    except OSError:  # reading the mask says so
        return 0
    return int.from_bytes(start[16:20]) * int.from_bytes(start[20:24])


def read_mask(pair: Pair, classes: int, stage: str = "mask") -> NDArray[np.uint8]:
    """The mask of `read_pair`, or a prediction in its place; `stage` is the one that made it."""
    try:
        data = pair.mask.read_bytes()
    except FileNotFoundError:
        raise CocosegError(f"{pair.mask}: not there; make it again with: dvc repro -f {stage}") from None
    return decoded_mask(data, classes, str(pair.mask), stage)


def decoded_mask(data: bytes, classes: int, place: str, stage: str = "mask") -> NDArray[np.uint8]:
    """The label map in a PNG's bytes, (H, W) uint8 of class indices below `classes`, or 255.

    Raises `CocosegError`, which calls the file `place` and names `stage` as its maker, for other content.
    """
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
        raise CocosegError(f"{place}: not a single-channel 8-bit PNG; make it again with: dvc repro -f {stage}")
    outside = (mask >= classes) & (mask != IGNORE)
    if outside.any():
        raise CocosegError(
            f"{place}: holds the value {int(mask[outside][0])}; expected 0 to {classes - 1} or {IGNORE}; "
            f"make it again with: dvc repro -f {stage}"
        )
    return mask.astype(np.uint8, copy=False)


def read_reduced(
    pair: Pair, height: int, width: int, least_height: int, least_width: int
) -> tuple[NDArray[np.uint8], int]:
    """The image of a mask of `height` × `width`, its sides divided while at least the size asked for remains.

    Returns it, RGB (⌈height / divisor⌉, ⌈width / divisor⌉, 3) uint8, and the divisor: 1, 2, 4 or 8.
    """
    path = pair.image
    again = "get the images again with: dvc repro -f download_images"
    try:
        return read_reduced_image(path, width, height, least_width, least_height, turned=pair.turned)
    except FileNotFoundError:
        raise CocosegError(f"{path}: not there; {again}") from None
    except ImageDefect as defect:
        raise CocosegError(f"{path}: {defect.reason}; expected an image of {width}×{height} pixels; {again}") from None
