import struct
import zlib

import cv2
import numpy as np
import pytest

from cocoseg.images.png import encode_png


def decode(png: bytes) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3), (480, 640)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gray_pixels_come_back_as_they_were(shape: tuple[int, int], dtype: type) -> None:
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)
    read = decode(encode_png(pixels))
    assert read.dtype == dtype
    assert (read == pixels).all()


@pytest.mark.parametrize("shape", [(1, 1, 3), (2, 5, 3), (97, 131, 3)])
def test_rgb_pixels_come_back_as_they_were(shape: tuple[int, int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, shape, np.uint8, endpoint=True)
    assert (decode(encode_png(pixels))[..., ::-1] == pixels).all()


def test_a_slice_is_written_like_a_copy_of_it() -> None:
    pixels = np.arange(600, dtype=np.uint16).reshape(20, 30)
    assert encode_png(pixels[::2, ::3]) == encode_png(pixels[::2, ::3].copy())
    colors = pixels.astype(np.uint8).reshape(20, 10, 3)
    assert encode_png(colors[::2, ::-1]) == encode_png(colors[::2, ::-1].copy())


def test_a_one_pixel_file_is_what_the_standard_says_byte_for_byte() -> None:
    # Width 1, height 1, 8 bits, gray, deflate, no filter method, not interlaced; then filter 0 and the pixel 7.
    header = b"IHDR" + bytes([0, 0, 0, 1, 0, 0, 0, 1, 8, 0, 0, 0, 0])
    png = encode_png(np.array([[7]], np.uint8))
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    assert png[8:33] == struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    length = struct.unpack(">I", png[33:37])[0]
    assert png[37:41] == b"IDAT"
    assert zlib.decompress(png[41 : 41 + length]) == bytes([0, 7])
    assert png[45 + length :] == bytes.fromhex("00000000 49454e44 ae426082")


@pytest.mark.parametrize("shape", [(480, 640), (97, 131, 3)])
@pytest.mark.parametrize("longest", [1, 3, 300, 3000])
def test_the_bytes_are_those_of_any_zlib(shape: tuple[int, ...], longest: int) -> None:
    generator = np.random.default_rng(longest)
    values = generator.integers(0, 255, np.prod(shape), np.uint8, endpoint=True)
    pixels = values.repeat(generator.integers(1, longest, len(values), endpoint=True))[: len(values)].reshape(shape)
    png = encode_png(pixels)
    content = png[41:-16]
    deflate = zlib.compressobj(1, memLevel=4 if len(shape) == 2 else 8, strategy=zlib.Z_RLE)
    assert content == deflate.compress(zlib.decompress(content)) + deflate.flush()


def test_a_label_map_is_small() -> None:
    labels = np.zeros((480, 640), np.uint8)
    labels[100:300, 200:400] = 3
    assert len(encode_png(labels)) < 2500  # of 307,200 pixels


@pytest.mark.parametrize("pixels", [np.zeros((2, 2), np.int32), np.zeros((2, 2, 4), np.uint8), np.zeros(4, np.uint8)])
def test_what_a_png_here_cannot_hold_is_refused(pixels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        encode_png(pixels)
