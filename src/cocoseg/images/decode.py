"""Decode image files to RGB (H, W, 3) uint8 of the annotated size, and reject what cannot be used."""

from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from cocoseg.images.headers import Defect, ExifName, Header, ImageDefect, is_tiff, read_header
from cocoseg.images.tiff import decode_tiff

MOST_PIXELS = 200_000_000  # a phone's 16,320×12,240; 600 MB decoded: a file that declares more is a bomb or a mistake

# The largest pixels are four channels of 16 bits. The rest is for previews, profiles and text.
_BYTES_PER_PIXEL = 8
_MOST_STORED_PIXELS = 64_000_000  # at so many bytes: 512 MB, which no packed image needs
_BESIDE_PIXELS_BYTES = 16 * 2**20

# Color without alpha, 8 bits per channel: grayscale gets three channels, and 16 bits lose the lower eight.
_AS_STORED = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
_AS_ORIENTED = cv2.IMREAD_COLOR_RGB

_LOW_RANGE = 4096  # of 65,536: what 12-bit cameras fill
LOW_RANGE_WORDS = (
    f"have 16 bits and no value of {_LOW_RANGE:,} or more; of 16 bits the upper 8 are read, so they are nearly black; "
    "multiply their values, by 16 if the camera has 12 bits"
)
_SIDES_SWAP = 5  # an EXIF orientation of this and more lays the image on its side

# Beside the exception or the missing result, it would print lines about a broken file that no user understands.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG"
# What libjpeg says of pixels it had to make up. It also warns of odd headers, as some phones write: they lose none.
_JPEG_DAMAGE = ("Corrupt JPEG data", "Premature end of JPEG file")
# The flags named GRAYSCALE hold only the bits of the divisor; those named COLOR also ask for BGR.
_REDUCED = {8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2}


def most_bytes(width: int | None, height: int | None) -> int:
    """Return how many bytes a file of so many pixels may have; of an unknown size as many as any may have."""
    return min((width or MOST_PIXELS) * (height or 1), _MOST_STORED_PIXELS) * _BYTES_PER_PIXEL + _BESIDE_PIXELS_BYTES


class Turning(NamedTuple):
    """Whether an EXIF orientation is followed, and whether that is not decided: pixels then lie as stored."""

    turned: bool
    undecided: bool


def turning(header: Header, width: int | None, height: int | None, exif: ExifName) -> Turning:
    """Return what becomes of the orientation of a file whose annotations say this size.

    The sizes decide where they can. An image upside down, mirrored, square or without an annotated size is turned under
    `follow` alone.
    """
    if header.orientation == 1:
        return Turning(turned=False, undecided=False)
    stored = (header.width, header.height)
    upright = stored[::-1] if header.orientation >= _SIDES_SWAP else stored
    if (width, height) in (stored, upright) and stored != upright:
        return Turning(turned=(width, height) == upright, undecided=False)
    return Turning(turned=exif == "follow", undecided=exif == "auto")


def read_image(file: Path | bytes, width: int, height: int, *, turned: bool = False) -> NDArray[np.uint8]:
    """Return the pixels of an image file or of its bytes, RGB (height, width, 3).

    Follows an EXIF orientation if `turned`, or if nothing else explains the annotated `width` and `height`. Otherwise
    the pixels stay as stored, which is what COCO's annotations refer to. Decodes without further checks: `check_image`
    must have accepted the file before. Raises `ImageDefect`.
    """
    data = file.read_bytes() if isinstance(file, Path) else file
    pixels = decode(data, turned=turned)
    if pixels.shape[:2] == (width, height) != (height, width):
        pixels = decode(data, turned=True)
    if pixels.shape[:2] != (height, width):
        raise ImageDefect("wrong_size")
    return pixels


def read_reduced_image(
    file: Path | bytes, width: int, height: int, least_width: int, least_height: int, *, turned: bool = False
) -> tuple[NDArray[np.uint8], int]:
    """Return the pixels of a JPEG, its sides divided by 8, 4 or 2 if the result has at least the least size.

    Returns the pixels, (⌈height / divisor⌉, ⌈width / divisor⌉, 3), and the divisor. For every other file the pixels
    are those of `read_image`, and the divisor is 1. Raises `ImageDefect`.
    """
    data = file.read_bytes() if isinstance(file, Path) else file
    divisor = next((by for by in _REDUCED if width >= by * least_width and height >= by * least_height), 1)
    if divisor > 1 and data.startswith(_JPEG) and not turned:
        header = read_header(data)
        # Compare the declared size: several sizes share a reduced one. The few files that EXIF rotates are not reduced.
        if (header.width, header.height) == (width, height):
            return _decode(data, _AS_STORED | _REDUCED[divisor]), divisor
    return read_image(data, width, height, turned=turned), 1


def check_image(data: bytes, width: int | None, height: int | None, exif: ExifName = "auto") -> NDArray[np.uint8]:
    """Return the pixels of an image file from outside, as `read_image` gives them, turned as `turning` says.

    A still JPEG, PNG, WebP, BMP or TIFF whose end is there, whose declared size is the annotated one, if the
    annotations say one (also turned on its side, where EXIF explains it), and not beyond `MOST_PIXELS`: all of that
    before the decoder sees it, which fills what is missing with gray in some formats, talks on standard error, and
    would take any memory that a file asks for. Damage in the middle shows in PNG by its checksums, in JPEG where the
    codes fall out of step, in TIFF where a packed strip cannot be unpacked.
    Raises `ImageDefect`.
    """
    header = read_header(data)
    if not header.complete:
        raise ImageDefect("truncated")
    stored = (header.width, header.height)
    turned = turning(header, width, height, exif).turned
    if width is None or height is None:
        width, height = stored[::-1] if turned and header.orientation >= _SIDES_SWAP else stored
    if stored not in ((width, height), (height, width)):
        raise ImageDefect("wrong_size")
    if header.width * header.height > MOST_PIXELS:
        raise ImageDefect("too_large")
    refuse_damaged(data, header)
    return read_image(data, width, height, turned=turned)


def refuse_damaged(data: bytes, header: Header) -> None:
    """Raise `ImageDefect` for a JPEG whose decoder would fill in what is missing, which OpenCV does not tell."""
    if not data.startswith(_JPEG):
        return
    try:
        # An eighth of the size: all codes are read, and few pixels made of them.
        space = "CMYK" if "cmyk" in header.converted else "GRAY"
        simplejpeg.decode_jpeg(data, space, fastdct=True, fastupsample=True, min_height=1, min_width=1)
    except ValueError as error:
        if str(error).startswith(_JPEG_DAMAGE):
            raise ImageDefect("damaged") from None


def is_low_range(data: bytes, header: Header) -> bool:
    """Return whether a 16-bit image holds no value of 4,096 or more, so that its upper 8 bits are nearly black."""
    if "16bit" not in header.converted:
        return False
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)  # without alpha
    return pixels is not None and int(pixels.max()) < _LOW_RANGE


def decode(data: bytes, *, turned: bool) -> NDArray[np.uint8]:
    """Return the pixels of an image, RGB (H, W, 3), as stored or as its EXIF turns it. Raises `ImageDefect`."""
    return _decode(data, _AS_ORIENTED if turned else _AS_STORED)


def _decode(data: bytes, flags: int) -> NDArray[np.uint8]:
    if is_tiff(data):
        return decode_tiff(data)
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if data else None
    except cv2.error:
        pixels = None
    if pixels is None:
        broken: Defect = "damaged" if data.startswith(_PNG) else "not_an_image"
        raise ImageDefect(broken if read_header(data).complete else "truncated")
    return pixels.astype(np.uint8, copy=False)
