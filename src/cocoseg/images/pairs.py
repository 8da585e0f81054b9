"""Read images and their masks as the data stages wrote them."""

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
from cocoseg.images.headers import ImageDefect, png_pixels, png_size
from cocoseg.tables import ImageRow, turned_images


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """One image of a split: its file name, and the paths of the image and its mask."""

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
    """Return the pairs of `file_names`, which are relative to `images`; `mask_map` gives names relative to `masks`.

    `turned`: the images whose EXIF orientation is followed.

    Raises `CocosegError` for an image without its mask.
    """
    found = []
    for file_name in file_names:
        if file_name not in mask_map:
            raise CocosegError(
                f"{images / file_name}: has no mask in the map; make the masks again with: dvc repro -f mask"
            )
        found.append(
            Pair(
                file_name=file_name,
                image=images / file_name,
                mask=masks / mask_map[file_name],
                turned=file_name in turned,
            )
        )
    return found


class SplitFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The paths of a split: its lists of file names, and the images and masks that they name."""

    splits: Path
    mask_map: Path
    images: Path
    image_table: Path
    masks: Path

    def pairs(self, side: str) -> list[Pair]:
        """Return the pairs of a side: train, val or test. Raises `CocosegError` for a missing file."""
        return self.pairs_of(read_lines(self.splits / f"{side}.txt"))

    def pairs_of(self, file_names: Sequence[str]) -> list[Pair]:
        """Return the pairs of the images named by `file_names`."""
        turned = turned_images(read_table(self.image_table, ImageRow))
        return pairs(file_names, read_json(self.mask_map, dict[str, str]), self.images, self.masks, turned)


def read_pair(pair: Pair, classes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the image, RGB (H, W, 3) uint8, and its mask, (H, W) uint8 of class indices below `classes`, or 255.

    Raises `CocosegError`, which names the file, if one is missing or broken, or for a mask value outside the classes.
    """
    mask = read_mask(pair, classes)
    height, width = mask.shape
    image, _ = read_reduced(pair, height, width, height, width)
    return image, mask


def mask_pixels(pair: Pair) -> int:
    """Return how many pixels a pair has, as the header of its mask says; 0 if that cannot be read."""
    return png_pixels(pair.mask)


def mask_size(pair: Pair) -> tuple[int, int]:
    """Return the width and height of a pair's mask, as its header says; (0, 0) if that cannot be read."""
    return png_size(pair.mask)


def read_mask(pair: Pair, classes: int, stage: str = "mask") -> NDArray[np.uint8]:
    """Return the mask of a pair, or a prediction in its place; errors name `stage`, which makes it again."""
    try:
        data = pair.mask.read_bytes()
    except FileNotFoundError:
        raise CocosegError(f"{pair.mask}: not found; make it again with: dvc repro -f {stage}") from None
    return decoded_mask(data, classes, str(pair.mask), stage)


def decoded_mask(data: bytes, classes: int, place: str, stage: str = "mask") -> NDArray[np.uint8]:
    """Return the label map in the bytes of a PNG, (H, W) uint8 of class indices below `classes`, or 255.

    Raises `CocosegError` for other content; the message calls the file `place` and says to run `stage` again.
    """
    mask = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) if data else None
    if mask is None or mask.ndim != 2 or mask.dtype != np.uint8:
        raise CocosegError(f"{place}: not a single-channel 8-bit PNG; make it again with: dvc repro -f {stage}")
    outside = (mask >= classes) & (mask != IGNORE)
    if outside.any():
        raise CocosegError(
            f"{place}: contains the value {int(mask[outside][0])}; expected 0 to {classes - 1} or {IGNORE}; "
            f"make it again with: dvc repro -f {stage}"
        )
    return mask.astype(np.uint8, copy=False)


def read_reduced(
    pair: Pair, height: int, width: int, least_height: int, least_width: int
) -> tuple[NDArray[np.uint8], int]:
    """Return the image of a pair whose mask is `height` × `width`, reduced as far as the least size allows.

    Returns RGB (⌈height / divisor⌉, ⌈width / divisor⌉, 3) uint8 and the divisor: 1, 2, 4 or 8. Raises `CocosegError`.
    """
    path = pair.image
    again = "get the images again with: dvc repro -f download_images"
    try:
        return read_reduced_image(path, width, height, least_width, least_height, turned=pair.turned)
    except FileNotFoundError:
        raise CocosegError(f"{path}: not found; {again}") from None
    except ImageDefect as defect:
        raise CocosegError(f"{path}: {defect.reason}; expected an image of {width}×{height} pixels; {again}") from None
