"""What image files say of themselves, read without decoding them: format, size, whether the end is there."""

import re
import zlib
from typing import Literal

import msgspec

Defect = Literal["empty", "not_an_image", "too_large", "truncated", "wrong_size"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# In a JPEG's coded data 0xFF is followed by 0x00 or a restart number; anything else is the next segment.
_MOST_SCANS = 100  # of a JPEG; a progressive one has about ten, and each is a pass over all of its pixels
_JPEG_NEXT_SEGMENT = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")


class ImageDefect(Exception):
    """Why an image file cannot be used."""

    def __init__(self, reason: Defect) -> None:
        super().__init__(reason)
        self.reason: Defect = reason


class Header(msgspec.Struct, frozen=True):
    """What a file says of itself before a pixel is decoded. Sizes in pixels, as stored.

    `converted`: what of it decoding turns into RGB of 8 bits: «gray», «cmyk», «16bit», «alpha».
    """

    width: int
    height: int
    complete: bool  # its end is there
    converted: tuple[str, ...] = ()


def read_header(data: bytes) -> Header:
    """The declared size of a still JPEG, PNG, WebP or BMP, and whether its end is there. Raises `ImageDefect`."""
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
    raise ImageDefect("not_an_image")


def _jpeg_header(data: bytes) -> Header:
    size: tuple[int, int] | None = None
    converted: tuple[str, ...] = ()
    complete = data.rstrip(b"\0").endswith(b"\xff\xd9")
    position, scans = 2, 0
    while position + 4 <= len(data):
        marker = data[position + 1]
        if data[position] != 0xFF or marker in (0x00, 0xFF):  # padding, or what decoders skip
            position += 1
            continue
        if marker == 0xD9:
            complete = True
            break
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:  # no length follows
            position += 2
            continue
        if size is None and 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            frame = data[position + 5 : position + 10]
            if len(frame) == 5:
                size = int.from_bytes(frame[2:4]), int.from_bytes(frame[:2])
                converted = {1: ("gray",), 4: ("cmyk",)}.get(frame[4], ())  # by the number of components
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
        if marker == 0xDA:  # start of scan: coded data
            scans += 1
            if scans > _MOST_SCANS:
                raise ImageDefect("not_an_image")
            following = _JPEG_NEXT_SEGMENT.search(data, position)
            if following is None:
                break
            position = following.start()
    if size is None:
        raise ImageDefect("not_an_image" if complete else "truncated")
    return Header(*size, complete, converted)


def _png_header(data: bytes) -> Header:
    if len(data) < 33:
        raise ImageDefect("truncated")
    if data[12:16] != b"IHDR":
        raise ImageDefect("not_an_image")
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    gray, alpha = ("gray",) * (data[25] in (0, 4)), ("alpha",) * (data[25] in (4, 6))
    converted = (*gray, *alpha, *(("16bit",) * (data[24] == 16)))
    position, name = len(_PNG_SIGNATURE), b""
    while name != b"IEND":
        length, name = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        end = position + 12 + length
        if end > len(data):
            return Header(width, height, complete=False, converted=converted)
        checksum = zlib.crc32(memoryview(data)[position + 4 : end - 4])
        if name == b"acTL" or checksum != int.from_bytes(data[end - 4 : end]):  # an animation, or damaged
            raise ImageDefect("not_an_image")
        position = end
    return Header(width, height, complete=True, converted=converted)


def _webp_header(data: bytes) -> Header:
    complete = len(data) >= 8 + int.from_bytes(data[4:8], "little")
    if len(data) < 30:
        raise ImageDefect("not_an_image" if complete else "truncated")
    match data[12:16]:
        case b"VP8 ":
            width = int.from_bytes(data[26:28], "little") & 0x3FFF
            height = int.from_bytes(data[28:30], "little") & 0x3FFF
        case b"VP8L":
            bits = int.from_bytes(data[21:25], "little")
            width, height = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8X" if not data[20] & 0x02:  # else an animation
            width, height = int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
        case _:
            raise ImageDefect("not_an_image")
    return Header(width, height, complete)


def _bmp_header(data: bytes) -> Header:
    if len(data) < 34:
        raise ImageDefect("truncated")
    offset, width = int.from_bytes(data[10:14], "little"), int.from_bytes(data[18:22], "little")
    height = abs(int.from_bytes(data[22:26], "little", signed=True))  # negative: stored from the top
    bits, compression = int.from_bytes(data[28:30], "little"), int.from_bytes(data[30:34], "little")
    needed = offset + (width * bits + 31) // 32 * 4 * height if compression == 0 else 0
    return Header(width, height, len(data) >= needed)
