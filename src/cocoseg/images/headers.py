"""Read the headers of image files without decoding them: format, size, whether the end is there."""

import math
import re
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

Defect = Literal["damaged", "empty", "not_an_image", "too_large", "truncated", "unsupported_tiff", "wrong_size"]
ExifName = Literal["auto", "follow", "ignore"]
"""What to do with an EXIF orientation that the annotated sizes do not decide."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_EXIF = b"Exif\0\0"
_ORIENTATION_TAG = 0x0112
_MOST_SCANS = 100  # in a JPEG; a progressive one has about ten, and each is a pass over all pixels
# The next marker as decoders find it, past coded data, padding and junk. Restarts and 0x01 have no length.
_JPEG_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


class ImageDefect(Exception):
    """Why an image file cannot be used."""

    def __init__(self, reason: Defect) -> None:
        super().__init__(reason)
        self.reason: Defect = reason


class Header(msgspec.Struct, frozen=True):
    """What a file declares before a pixel is decoded. Sizes are in pixels, as stored.

    `converted`: what decoding turns into 8-bit RGB, of "gray", "cmyk", "16bit" and "alpha". `orientation`: EXIF's, 1
    to 8; 1 is upright, and 5 and more swap the sides.
    """

    width: int
    height: int
    complete: bool  # whether the end of the file is there
    converted: tuple[str, ...] = ()
    orientation: int = 1


def read_header(data: bytes) -> Header:
    """Return the header of a still JPEG, PNG, WebP, BMP or TIFF. Raises `ImageDefect`."""
    if not data:
        raise ImageDefect("empty")
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_header(data)
    if data.startswith(_PNG_SIGNATURE):
        return _png_header(data)
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _webp_header(data)
    if data.startswith(b"BM"):
        return _bmp_header(data)
    if is_tiff(data):
        from cocoseg.images.tiff import read_tiff_header  # here: it needs `Header`, and Pillow

        return read_tiff_header(data)
    raise ImageDefect("not_an_image")


def is_tiff(data: bytes) -> bool:
    """Return whether a file begins as a TIFF does."""
    return data.startswith((b"II*\0", b"MM\0*"))


def _jpeg_header(data: bytes) -> Header:
    frame, orientation = b"", 1
    complete = data.rstrip(b"\0").endswith(b"\xff\xd9")
    position, scans = 2, 0
    while found := _JPEG_MARKER.search(data, position):
        position = found.end()
        marker = data[position - 1]
        if marker == 0xD9:
            complete = True
            break
        if marker == 0xE1 and data.startswith(_EXIF, position + 2):
            orientation = _orientation(data[position + 2 : position + int.from_bytes(data[position : position + 2])])
        if marker in _JPEG_FRAMES and not frame:
            frame = data[position + 3 : position + 8]
        scans += marker == 0xDA
        if scans > _MOST_SCANS:
            raise ImageDefect("not_an_image")
        position += int.from_bytes(data[position : position + 2])
    if len(frame) < 5:
        raise ImageDefect("not_an_image" if complete else "truncated")
    height, width, components = struct.unpack(">HHB", frame)
    return Header(width, height, complete, {1: ("gray",), 4: ("cmyk",)}.get(components, ()), orientation)


def _png_header(data: bytes) -> Header:
    if len(data) < 33:
        raise ImageDefect("truncated")
    if data[12:16] != b"IHDR":
        raise ImageDefect("not_an_image")
    width, height, depth, kind = struct.unpack_from(">IIBB", data, 16)
    converted = (*("gray",) * (kind in (0, 4)), *("alpha",) * (kind in (4, 6)), *("16bit",) * (depth == 16))
    position, name, orientation = len(_PNG_SIGNATURE), b"", 1
    while name != b"IEND":
        length, name = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            return Header(width, height, complete=False, converted=converted)
        checksum = zlib.crc32(memoryview(data)[position + 4 : end - 4])
        if name == b"acTL":  # an animation
            raise ImageDefect("not_an_image")
        if checksum != int.from_bytes(data[end - 4 : end]):
            raise ImageDefect("damaged")
        if name == b"eXIf":
            orientation = _orientation(data[position + 8 : end - 4])
        position = end
    return Header(width, height, complete=True, converted=converted, orientation=orientation)


def _webp_header(data: bytes) -> Header:
    complete = len(data) >= 8 + int.from_bytes(data[4:8], "little")
    if len(data) < 30:
        raise ImageDefect("not_an_image" if complete else "truncated")
    match data[12:16]:
        case b"VP8 ":
            width, height = (side & 0x3FFF for side in struct.unpack_from("<HH", data, 26))
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X" if not data[20] & 0x02:  # else an animation
            width, height = int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        case _:
            raise ImageDefect("not_an_image")
    position = 12
    while position < len(data) and data[position : position + 4] != b"EXIF":
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + size + size % 2
    return Header(width, height, complete, orientation=_orientation(data[position + 8 :]))


def _orientation(exif: bytes) -> int:
    """Return the orientation that EXIF names, 1 if it names none. https://www.cipa.jp/std/documents/e/DC-008-2012_E.pdf"""
    tiff = exif.removeprefix(_EXIF)
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    with suppress(struct.error):
        if order:
            (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
            (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
            for entry in range(directory + 2, directory + 2 + 12 * entries, 12):
                tag, value = struct.unpack_from(f"{order}H6xH", tiff, entry)
                if tag == _ORIENTATION_TAG:
                    return value if 1 <= value <= 8 else 1
    return 1


def _bmp_header(data: bytes) -> Header:
    if len(data) < 34:
        raise ImageDefect("truncated")
    offset, width, height, bits, compression = struct.unpack_from("<I4xIi2xHI", data, 10)
    if data[14:18] == b"\x0c\0\0\0":  # the short header of OS/2
        (width, height, bits), compression = struct.unpack_from("<HH2xH", data, 18), 0
    needed = offset + (width * bits + 31) // 32 * 4 * abs(height) if compression == 0 else 0
    return Header(width, abs(height), len(data) >= needed)  # negative height: rows are stored from the top


def png_pixels(path: Path) -> int:
    """Return how many pixels the header of a PNG declares; 0 if it cannot be read, which reading the file then says."""
    return math.prod(png_size(path))


def png_size(path: Path) -> tuple[int, int]:
    """Return the width and height that the header of a PNG declares; (0, 0) if it cannot be read."""
    if not path.is_file():  # a pipe would make us wait
        return 0, 0
    try:
        with path.open("rb") as file:
            start = file.read(24)
    except OSError:
        return 0, 0
    return int.from_bytes(start[16:20]), int.from_bytes(start[20:24])
