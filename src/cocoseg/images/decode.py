"""Decode image files to RGB (H, W, 3) uint8 of the annotated size, and reject what cannot be used."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cocoseg.images.headers import ImageDefect, read_header

__all__ = ["MOST_PIXELS", "ImageDefect", "check_image", "most_bytes", "read_image", "read_reduced_image"]

MOST_PIXELS = 64_000_000  # 192 MB decoded; a file that declares more is a decompression bomb or a mistake

# The largest pixels are four channels of 16 bits. The rest is for previews, profiles and text.
_BYTES_PER_PIXEL = 8
_BESIDE_PIXELS_BYTES = 16 * 2**20

# Color without alpha, 8 bits per channel: grayscale gets three channels, and 16 bits lose the lower eight.
_AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_AS_ORIENTED = cv2.IMREAD_COLOR_RGB

_JPEG = b"\xff\xd8\xff"
# The flags named GRAYSCALE hold only the bits of the divisor; those named COLOR also ask for BGR.
_REDUCED = {8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2}


def most_bytes(width: int | None, height: int | None) -> int:
    """Return how many bytes a file of so many pixels may have; of an unknown size as many as any may have."""
    return min((width or MOST_PIXELS) * (height or 1), MOST_PIXELS) * _BYTES_PER_PIXEL + _BESIDE_PIXELS_BYTES


def read_image(file: Path | bytes, width: int, height: int) -> NDArray[np.uint8]:
    """Return the pixels of an image file or of its bytes, RGB (height, width, 3).

    Follows an EXIF orientation only if nothing else explains the annotated `width` and `height`. Otherwise the pixels
    stay as stored, which is what COCO's annotations refer to. Decodes without further checks: `check_image` must have
    accepted the file before. Raises `ImageDefect`.
    """
    data = file.read_bytes() if isinstance(file, Path) else file
    pixels = _decode(data, _AS_STORED)
    if pixels.shape[:2] == (width, height) != (height, width):
        pixels = _decode(data, _AS_ORIENTED)
    if pixels.shape[:2] != (height, width):
        raise ImageDefect("wrong_size")
    return pixels


def read_reduced_image(
    file: Path | bytes, width: int, height: int, least_width: int, least_height: int
) -> tuple[NDArray[np.uint8], int]:
    """Return the pixels of a JPEG, its sides divided by 8, 4 or 2 if the result has at least the least size.

    Returns the pixels, (⌈height / divisor⌉, ⌈width / divisor⌉, 3), and the divisor. For every other file the pixels
    are those of `read_image`, and the divisor is 1. Raises `ImageDefect`.
    """
    data = file.read_bytes() if isinstance(file, Path) else file
    divisor = next((by for by in _REDUCED if width >= by * least_width and height >= by * least_height), 1)
    if divisor > 1 and data.startswith(_JPEG):
        header = read_header(data)
        # Compare the declared size: several sizes share a reduced one. The few files that EXIF rotates are not reduced.
        if (header.width, header.height) == (width, height):
            return _decode(data, _AS_STORED | _REDUCED[divisor]), divisor
    return read_image(data, width, height), 1


def check_image(data: bytes, width: int | None, height: int | None) -> NDArray[np.uint8]:
    """Return the pixels of an image file from outside, as `read_image` gives them.

    A still JPEG, PNG, WebP or BMP whose end is there, whose declared size is the annotated one, if the annotations say
    one (also turned on its side, where EXIF explains it), and not beyond `MOST_PIXELS`: all of that before the decoder
    sees it, which fills what is missing with gray in some formats, talks on standard error, and would take any memory
    that a file asks for.
    Raises `ImageDefect`.
    """
    header = read_header(data)
    if not header.complete:
        raise ImageDefect("truncated")
    stored = (header.width, header.height)
    if width is None or height is None:
        width, height = stored
    if stored not in ((width, height), (height, width)):
        raise ImageDefect("wrong_size")
    if header.width * header.height > MOST_PIXELS:
        raise ImageDefect("too_large")
    return read_image(data, width, height)


def _decode(data: bytes, flags: int) -> NDArray[np.uint8]:
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        pixels = None
    if pixels is None:
        raise ImageDefect("not_an_image" if read_header(data).complete else "truncated")
    return pixels.astype(np.uint8, copy=False)
