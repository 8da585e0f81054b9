"""TIFF files of one page and 8 bits a channel, read by Pillow, which refuses strips that it cannot unpack."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import BITSPERSAMPLE, STRIPBYTECOUNTS, STRIPOFFSETS, TILEBYTECOUNTS, TILEOFFSETS, TiffImageFile

from cocoseg.images.headers import Header, ImageDefect

_WARNINGS = Lock()  # which filters are on is one state of all threads
_CONVERTED = {"L": ("gray",), "LA": ("gray", "alpha"), "RGBA": ("alpha",), "CMYK": ("cmyk",), "P": (), "RGB": (),
              "RGBX": (), "YCbCr": ()}  # fmt: skip


def read_tiff_header(data: bytes) -> Header:
    """Return what a TIFF declares; its sides are upright, since every reader follows a TIFF's own orientation.

    Raises `ImageDefect`: `unsupported_tiff` for several pages, and for other depths than 8 bits.
    """
    with _opened(data) as image:
        tags, mode = image.tag_v2, image.mode
        if mode not in _CONVERTED or any(bits != 8 for bits in tags.get(BITSPERSAMPLE, (1,))):
            raise ImageDefect("unsupported_tiff")
        offsets = tags.get(STRIPOFFSETS) or tags.get(TILEOFFSETS) or ()
        sizes = tags.get(STRIPBYTECOUNTS) or tags.get(TILEBYTECOUNTS) or ()
        complete = bool(sizes) and all(offset + size <= len(data) for offset, size in zip(offsets, sizes, strict=False))
        header = Header(*image.size, complete, _CONVERTED[mode])
        try:
            with _without_warnings():
                image.seek(1)
        except EOFError:
            return header
        except Exception:  # what lies where the next page should be
            raise ImageDefect("damaged") from None
        raise ImageDefect("unsupported_tiff")


def decode_tiff(data: bytes) -> NDArray[np.uint8]:
    """Return the pixels of a TIFF, upright, RGB (H, W, 3). Raises `ImageDefect` if not all can be unpacked."""
    with _opened(data) as image:
        try:
            with _without_warnings():
                image.getexif()  # else `load` reads it, and warns; under the lock, other threads could not decode
            image.load()
        except Exception:
            raise ImageDefect("damaged") from None
        return np.array(image.convert("RGB"), np.uint8)  # a copy: PyTorch warns of Pillow's own, which is read-only


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Read a directory without Pillow's warnings of odd tags."""
    with _WARNINGS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _opened(data: bytes) -> TiffImageFile:
    """Open a TIFF, without Pillow's own limit of pixels. Raises `ImageDefect` for whatever makes no sense to it."""
    with _without_warnings():
        try:
            return TiffImageFile(BytesIO(data))
        except Exception:  # Pillow raises what its parsing happens to meet: KeyError, struct.error, SyntaxError, …
            directory = int.from_bytes(data[4:8], "little" if data.startswith(b"II") else "big")
            raise ImageDefect("truncated" if directory + 2 > len(data) else "not_an_image") from None
