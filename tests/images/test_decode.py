"""Image files from outside: what is accepted, and under which name the rest goes."""

import json
import os
import struct
import warnings
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cocoseg.images.decode import check_image, decode, is_low_range, read_image, read_reduced_image, turning
from cocoseg.images.headers import ExifName, ImageDefect, png_pixels, read_header

RULES: tuple[ExifName, ...] = ("auto", "follow", "ignore")
COCO_REAL = Path(__file__).parents[1].parent.parent / "shared" / "data" / "coco-real"

Pixels = NDArray[np.uint8]


def noise(height: int = 20, width: int = 30, channels: int = 3) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


def encoded(extension: str, pixels: NDArray[np.uint8 | np.uint16]) -> bytes:
    bgr = pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]] if pixels.ndim == 3 else pixels
    return cv2.imencode(extension, bgr)[1].tobytes()


def defect(data: bytes, width: int = 30, height: int = 20) -> str:
    with pytest.raises(ImageDefect) as caught:
        check_image(data, width, height)
    return caught.value.reason


@pytest.mark.parametrize("extension", [".png", ".bmp", ".webp"])
def test_a_file_that_loses_nothing_gives_its_very_pixels(extension: str) -> None:
    lossless = [cv2.IMWRITE_WEBP_QUALITY, 101] if extension == ".webp" else []
    data = cv2.imencode(extension, noise()[..., ::-1], lossless)[1].tobytes()

    np.testing.assert_array_equal(check_image(data, 30, 20), noise())


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp"])
def test_the_header_tells_the_size_without_decoding(extension: str) -> None:
    header = read_header(encoded(extension, noise()))

    assert (header.width, header.height, header.complete) == (30, 20, True)


@pytest.mark.parametrize(
    ("extension", "channels", "depth", "converted"),
    [
        (".jpg", 1, np.uint8, ("gray",)),
        (".jpg", 3, np.uint8, ()),
        (".png", 1, np.uint8, ("gray",)),
        (".png", 4, np.uint8, ("alpha",)),
        (".png", 1, np.uint16, ("gray", "16bit")),
        (".png", 3, np.uint16, ("16bit",)),
    ],
)
def test_the_header_tells_what_decoding_converts(
    extension: str, channels: int, depth: type, converted: tuple[str, ...]
) -> None:
    pixels: NDArray[np.integer[Any]] = np.zeros((20, 30) if channels == 1 else (20, 30, channels), depth)
    assert read_header(cv2.imencode(extension, pixels)[1].tobytes()).converted == converted


def test_a_bmp_of_os2_has_its_short_header_read() -> None:
    rows = encoded(".bmp", noise())[54:]
    header = struct.pack("<IHHHH", 12, 30, 20, 1, 24)
    data = b"BM" + struct.pack("<IHHI", 26 + len(rows), 0, 0, 26) + header + rows

    np.testing.assert_array_equal(check_image(data, 30, 20), noise())
    assert defect(data[:-1]) == "truncated"


def test_a_path_is_read_like_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(".png", noise()))

    np.testing.assert_array_equal(read_image(tmp_path / "a.png", 30, 20), noise())


def test_a_grayscale_image_has_three_equal_channels() -> None:
    gray = noise()[..., 0]

    np.testing.assert_array_equal(check_image(encoded(".png", gray), 30, 20), np.dstack([gray] * 3))


def test_sixteen_bits_keep_their_upper_eight() -> None:
    deep = np.full((20, 30, 3), (0x1234, 0x80FF, 0xFF00), np.uint16)

    pixels = check_image(encoded(".png", deep), 30, 20)

    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels[0, 0], (0x12, 0x80, 0xFF))


def test_alpha_is_dropped() -> None:
    with_alpha = noise(channels=4)

    np.testing.assert_array_equal(check_image(encoded(".png", with_alpha), 30, 20), with_alpha[..., :3])


def test_a_cmyk_jpeg_shows_its_colors() -> None:
    image = pytest.importorskip("PIL.Image")
    file = BytesIO()
    # No ink but 60 % of magenta: red and blue at full, green at 40 %.
    image.new("CMYK", (30, 20), (0, 153, 0, 0)).save(file, "JPEG", quality=95)

    pixels = check_image(file.getvalue(), 30, 20)

    assert np.abs(pixels.astype(int) - (255, 102, 255)).max() <= 3


def oriented_jpeg(orientation: int) -> bytes:
    """30×20 stored pixels, the left half black, the right white, and an EXIF orientation."""
    pixels = np.zeros((20, 30, 3), np.uint8)
    pixels[:, 15:] = 255
    tiff = b"MM\0\x2a\0\0\0\x08" + b"\0\x01" + b"\x01\x12\0\x03\0\0\0\x01" + bytes([0, orientation, 0, 0]) + bytes(4)
    exif = b"Exif\0\0" + tiff
    jpeg = encoded(".jpg", pixels)
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2) + exif + jpeg[2:]


def test_an_exif_orientation_is_followed_when_the_annotated_size_is_the_turned_one() -> None:
    turned = check_image(oriented_jpeg(6), 20, 30)  # 6: turn by 90° to the right, so left becomes top

    assert turned.shape == (30, 20, 3)
    assert turned[:12].max() < 20
    assert turned[18:].min() > 235


def test_an_exif_orientation_is_ignored_when_the_annotated_size_is_the_stored_one() -> None:
    for orientation in (3, 6):
        stored = check_image(oriented_jpeg(orientation), 30, 20)
        assert stored[:, :12].max() < 20
        assert stored[:, 18:].min() > 235


def test_a_turned_size_without_an_orientation_is_a_wrong_size() -> None:
    assert defect(encoded(".jpg", noise()), 20, 30) == "wrong_size"
    assert defect(oriented_jpeg(3), 20, 30) == "wrong_size"  # upside down explains no other size


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_header_tells_the_orientation_that_the_decoder_follows(kind: str, orientation: int) -> None:
    image = pytest.importorskip("PIL.Image")
    file, exif = BytesIO(), image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if kind == "WEBP" else {}
    image.fromarray(photograph(20, 30)).save(file, kind, exif=exif, **lossless)
    flags = (cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION, cv2.IMREAD_COLOR)
    stored, upright = (np.asarray(cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), flag)) for flag in flags)

    header = read_header(file.getvalue())

    assert (header.width, header.height, header.orientation) == (30, 20, orientation)
    assert np.array_equal(stored, upright) == (orientation == 1)
    assert (upright.shape == (30, 20, 3)) == (orientation >= 5)


@pytest.mark.parametrize(
    "exif", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff\x01\x12", b"Exif\0\0" * 9]
)
def test_an_exif_that_makes_no_sense_is_no_orientation(exif: bytes) -> None:
    jpeg = encoded(".jpg", noise())
    segment = b"\xff\xe1" + (len(exif) + 8).to_bytes(2) + b"Exif\0\0" + exif

    assert read_header(jpeg[:2] + segment + jpeg[2:]).orientation == 1


@pytest.mark.parametrize(
    ("orientation", "size", "auto", "follow"),
    [
        (1, (30, 20), "", ""),
        (3, (30, 20), "undecided", "turned"),  # upside down: both ways are 30×20
        (2, (30, 20), "undecided", "turned"),  # mirrored
        (6, (None, None), "undecided", "turned"),
        (6, (30, 20), "", ""),  # the sizes decide
        (6, (20, 30), "turned", "turned"),
        (3, (20, 30), "undecided", "turned"),  # explains no such size, which is wrong
    ],
)
def test_sizes_decide_of_an_orientation_where_they_can_and_else_the_parameter_does(
    orientation: int, size: tuple[int | None, int | None], auto: str, follow: str
) -> None:
    header = read_header(oriented_jpeg(orientation))
    found = {
        rule: "".join(name for name, holds in turning(header, *size, rule)._asdict().items() if holds) for rule in RULES
    }

    ignore = "" if auto == "undecided" else auto
    assert found == {"auto": auto, "follow": follow, "ignore": ignore}


def test_an_image_upside_down_is_turned_under_follow_alone() -> None:
    data = oriented_jpeg(3)
    stored = check_image(data, 30, 20, "auto")

    assert stored[:, :12].max() < 20  # the left is black
    np.testing.assert_array_equal(check_image(data, 30, 20, "ignore"), stored)
    np.testing.assert_array_equal(check_image(data, 30, 20, "follow"), stored[::-1, ::-1])
    assert check_image(oriented_jpeg(6), None, None, "follow").shape == (30, 20, 3)
    assert check_image(oriented_jpeg(6), None, None, "auto").shape == (20, 30, 3)


@pytest.mark.parametrize(
    ("least", "divisor", "shape"),
    [
        ((5, 3), 8, (4, 6, 3)),  # 41 / 8 = 5.1 and 30 / 8 = 3.75, rounded up
        ((6, 3), 4, (8, 11, 3)),
        ((10, 7), 4, (8, 11, 3)),
        ((11, 7), 2, (15, 21, 3)),
        ((20, 15), 2, (15, 21, 3)),
        ((20, 16), 1, (30, 41, 3)),
        ((60, 50), 1, (30, 41, 3)),
    ],
)
def test_a_jpeg_is_reduced_as_far_as_leaves_what_is_asked_for(
    least: tuple[int, int], divisor: int, shape: tuple[int, int, int]
) -> None:
    pixels, divided_by = read_reduced_image(encoded(".jpg", noise(30, 41)), 41, 30, *least)

    assert (divided_by, pixels.shape) == (divisor, shape)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_reduced_jpeg_has_its_colors_in_order(tmp_path: Path, channels: int) -> None:
    color = (200, 200, 200) if channels == 1 else (200, 100, 50)
    stored = np.full((32, 32, channels), color[:channels], np.uint8)
    (tmp_path / "a.jpg").write_bytes(encoded(".jpg", stored[..., 0] if channels == 1 else stored))

    pixels, divisor = read_reduced_image(tmp_path / "a.jpg", 32, 32, 8, 8)

    assert (divisor, pixels.shape) == (4, (8, 8, 3))
    assert np.abs(pixels.astype(int) - color).max() <= 2


@pytest.mark.parametrize("extension", [".png", ".bmp", ".webp"])
def test_only_a_jpeg_is_reduced(extension: str) -> None:
    data = encoded(extension, noise())
    pixels, divisor = read_reduced_image(data, 30, 20, 1, 1)

    assert divisor == 1
    np.testing.assert_array_equal(pixels, read_image(data, 30, 20))


def test_a_reduced_jpeg_stays_as_stored_and_a_turned_one_is_not_reduced() -> None:
    stored, divisor = read_reduced_image(oriented_jpeg(6), 30, 20, 15, 10)
    assert (divisor, stored.shape) == (2, (10, 15, 3))
    assert stored[:, :6].max() < 20
    assert stored[:, 9:].min() > 235

    turned, divisor = read_reduced_image(oriented_jpeg(6), 20, 30, 10, 15)
    assert divisor == 1
    np.testing.assert_array_equal(turned, read_image(oriented_jpeg(6), 20, 30))


def test_a_size_that_is_off_by_one_shows_even_where_the_reduced_sizes_agree() -> None:
    for width, height in ((41, 30), (42, 29), (30, 42)):  # 41 / 2 and 42 / 2 are both 21 columns
        with pytest.raises(ImageDefect, match="wrong_size"):
            read_reduced_image(encoded(".jpg", noise(30, 42)), width, height, 5, 5)


def test_a_broken_jpeg_is_no_reduced_image() -> None:
    for data in (b"\xff\xd8\xff\xd9" + bytes(50), b"\xff\xd8\xff" + b"x" * 100, b""):
        with pytest.raises(ImageDefect):
            read_reduced_image(data, 30, 20, 5, 5)


def test_an_empty_file_is_empty() -> None:
    assert defect(b"") == "empty"
    with pytest.raises(ImageDefect, match="empty"):
        read_image(b"", 30, 20)


@pytest.mark.parametrize(
    "data",
    [
        b"<html>not found</html>" * 10,
        b"\xff\xd8\xff\xd9" + bytes(50),
        b"\xff\xd8\xff" + b"x" * 100 + b"\xff\xd9",
        b"\x89PNG\r\n\x1a\n" + bytes(60),
        b"RIFF\x16\0\0\0WEBPVP8Q" + bytes(40),
        cv2.imencode(".gif", noise())[1].tobytes(),
    ],
    ids=["html", "jpeg without a frame", "jpeg of noise", "png without a header", "webp of no kind", "gif"],
)
def test_what_is_no_still_image_is_not_an_image(data: bytes) -> None:
    assert defect(data) == "not_an_image"


def test_an_animation_is_not_an_image() -> None:
    frames = cv2.Animation()
    frames.frames = [noise(), noise()[::-1].copy()]
    frames.durations = [100, 100]
    for extension in (".webp", ".png"):
        assert defect(cv2.imencodeanimation(extension, frames)[1].tobytes()) == "not_an_image"


@pytest.mark.parametrize("extension", [".jpg", ".png", ".bmp", ".webp"])
def test_a_file_cut_anywhere_is_never_taken_for_whole(extension: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = encoded(extension, noise(64, 64))

    for size in range(1, len(data), 37):
        assert defect(data[:size], 64, 64) in ("truncated", "not_an_image")
    for size in (len(data) // 2, len(data) - 2, len(data) - 1):
        assert defect(data[:size], 64, 64) == "truncated"
    assert capfd.readouterr().err == ""  # the decoders, which would complain, never saw them


def test_a_progressive_jpeg_is_whole_only_with_its_last_scan() -> None:
    data = cv2.imencode(".jpg", noise(64, 64), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1, cv2.IMWRITE_JPEG_RST_INTERVAL, 2])[1]
    jpeg = data.tobytes()

    assert check_image(jpeg, 64, 64).shape == (64, 64, 3)
    for size in range(len(jpeg) // 4, len(jpeg) - 1, 101):
        assert defect(jpeg[:size], 64, 64) == "truncated"


def test_a_preview_inside_a_jpeg_does_not_count_as_its_end() -> None:
    jpeg, preview = encoded(".jpg", noise(64, 64)), encoded(".jpg", noise(8, 8))
    segment = b"\xff\xe2" + (len(preview) + 2).to_bytes(2) + preview
    with_preview = jpeg[:2] + segment + jpeg[2:]

    assert check_image(with_preview + b"more behind its end", 64, 64).shape == (64, 64, 3)
    assert defect(with_preview[:-500], 64, 64) == "truncated"


@pytest.mark.parametrize("behind", [b"\n", b"\r\n", b"\xff", b"\0", b"more"])
def test_a_jpeg_is_whole_whatever_lies_behind_its_end(behind: bytes) -> None:
    jpeg = encoded(".jpg", noise(64, 64))

    np.testing.assert_array_equal(check_image(jpeg + behind, 64, 64), check_image(jpeg, 64, 64))
    assert defect(jpeg[:-2] + behind, 64, 64) == "truncated"


def test_a_zero_filled_tail_is_truncated() -> None:
    jpeg = encoded(".jpg", noise(64, 64))

    assert defect(jpeg[: len(jpeg) // 2] + bytes(len(jpeg) // 2), 64, 64) == "truncated"


def damages(data: bytes) -> dict[str, bytes]:
    """The file with a fifth cut out of its middle, with 30 % of it zeroed, and with its last half gone."""
    size = len(data)
    return {
        "cut": data[: size * 2 // 5] + data[size * 3 // 5 :],
        "zeroed": data[: size * 35 // 100] + bytes(size * 30 // 100) + data[size * 65 // 100 :],
        "half gone": data[: size // 2],
        "half gone, but for its end": data[: size // 2] + data[-2:],
    }


def photograph(height: int = 240, width: int = 320) -> Pixels:
    """Noise that is blurred, so that a JPEG of it has long and short codes, as a photograph's."""
    return cv2.GaussianBlur(noise(height, width), (9, 9), 0).astype(np.uint8, copy=False)


def cmyk_jpeg(pixels: Pixels) -> bytes:
    file = BytesIO()
    pytest.importorskip("PIL.Image").fromarray(pixels).convert("CMYK").save(file, "JPEG")
    return file.getvalue()


JPEGS = {
    "baseline": [],
    "progressive": [cv2.IMWRITE_JPEG_PROGRESSIVE, 1],
    "restart markers": [cv2.IMWRITE_JPEG_RST_INTERVAL, 4],
    "optimized": [cv2.IMWRITE_JPEG_OPTIMIZE, 1],
    "4:4:4": [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444],
    "gray": [],
    "cmyk": [],
}


@pytest.mark.parametrize("kind", list(JPEGS))
def test_a_jpeg_whose_pixels_would_be_filled_in_is_damaged(kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    pixels = photograph()
    stored = pixels[..., 0] if kind == "gray" else pixels
    data = cmyk_jpeg(pixels) if kind == "cmyk" else cv2.imencode(".jpg", stored, JPEGS[kind])[1].tobytes()

    assert check_image(data, 320, 240).shape == (240, 320, 3)
    found = {name: defect(broken, 320, 240) for name, broken in damages(data).items()}
    assert found.pop("half gone") == "truncated"
    assert set(found.values()) == {"damaged"}
    assert capfd.readouterr().err == ""


def test_a_sound_jpeg_stays_so_with_what_cameras_put_before_and_behind_it() -> None:
    jpeg = encoded(".jpg", photograph())
    other = encoded(".jpg", photograph(60, 80))
    second = b"\xff\xe2" + (len(b"MPF\0") + 2).to_bytes(2) + b"MPF\0"  # of an MPO, whose second image lies behind
    motion = bytes(8) + b"ftypmp42" + bytes(range(256)) * 40  # a film behind a photo
    scan = jpeg.index(b"\xff\xda") + 2
    spectral = scan + int.from_bytes(jpeg[scan : scan + 2]) - 3  # start, end and bits, which some phones leave at zero
    odd = jpeg[:spectral] + bytes(3) + jpeg[spectral + 3 :]

    for sound in (jpeg[:2] + second + jpeg[2:] + other, jpeg + motion, jpeg + bytes(500), odd):
        np.testing.assert_array_equal(check_image(sound, 320, 240), check_image(jpeg, 320, 240))


@pytest.mark.parametrize("content", ["no pixels", "half of them", "another checksum"])
def test_a_png_with_too_few_pixels_is_damaged(content: str) -> None:
    header = b"IHDR" + (30).to_bytes(4) + (20).to_bytes(4) + b"\x08\x02\0\0\0"
    packed = zlib.compress((b"\0" + bytes(90)) * (10 if content == "half of them" else 20))
    rows = {"no pixels": zlib.compress(b""), "another checksum": packed[:-4] + b"none"}.get(content, packed)
    chunks = (header, b"IDAT" + rows, b"IEND")
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4) for chunk in chunks
    )

    assert defect(data) == "damaged"


@pytest.mark.parametrize("extension", [".png", ".bmp", ".webp"])
def test_another_format_that_is_cut_is_never_whole(extension: str) -> None:
    data = encoded(extension, noise(64, 64))
    broken = damages(data)

    assert all(defect(broken[name], 64, 64) in ("truncated", "damaged") for name in ("cut", "half gone"))
    if extension == ".png":  # the others have no checksum: zeros in them are pixels
        assert defect(broken["zeroed"], 64, 64) == "damaged"


def tiff(pixels: NDArray[np.integer[Any]], **options: Any) -> bytes:
    file = BytesIO()
    PIL.Image.fromarray(pixels).save(file, "TIFF", **options)
    return file.getvalue()


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_tiff_is_read_whatever_packs_it(compression: str | None, channels: int) -> None:
    pixels = noise(channels=channels)
    data = tiff(pixels[..., 0] if channels == 1 else pixels, compression=compression)

    header = read_header(data)

    assert header.converted == {1: ("gray",), 3: (), 4: ("alpha",)}[channels]
    assert (header.width, header.height, header.complete) == (30, 20, True)
    expected = np.dstack([pixels] * 3) if channels == 1 else pixels[..., :3]
    found = check_image(data, 30, 20)
    np.testing.assert_array_equal(found, expected)
    assert found.flags.writeable  # else `predict` prints a warning of PyTorch's
    np.testing.assert_array_equal(read_image(data, 30, 20), expected)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_a_damaged_tiff_is_not_filled_in(compression: str | None) -> None:
    broken = damages(tiff(photograph(), compression=compression))

    assert all(defect(broken[name], 320, 240) in ("truncated", "damaged") for name in ("cut", "half gone"))
    if compression:  # else zeros are pixels
        assert defect(broken["zeroed"], 320, 240) == "damaged"


def test_a_tiff_on_its_side_is_upright_for_every_reader() -> None:
    data = tiff(noise(), tiffinfo={0x0112: 6})

    assert (read_header(data).width, read_header(data).height) == (20, 30)
    np.testing.assert_array_equal(check_image(data, 20, 30), np.rot90(noise(), -1))


def test_a_tiff_of_several_pages_or_another_depth_has_its_name() -> None:
    page = PIL.Image.fromarray(noise())
    file = BytesIO()
    page.save(file, "TIFF", save_all=True, append_images=[page])

    assert defect(file.getvalue()) == "unsupported_tiff"
    for kind in (np.uint16, np.float32, np.bool_):
        assert defect(tiff(noise()[..., 0].astype(kind))) == "unsupported_tiff"


def test_of_a_damaged_directory_of_a_tiff_no_warning_is_printed() -> None:
    data = bytearray(tiff(noise()))
    first = int.from_bytes(data[4:8], "little")
    said = []
    for place in range(first, first + 126):
        for flipped in (1, 4):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                with suppress(ImageDefect):
                    decode(bytes(data[:place] + bytes([data[place] ^ flipped]) + data[place + 1 :]), turned=True)
            said += caught
    assert not said


def test_a_tiff_bomb_is_refused_by_what_it_declares() -> None:
    data = bytearray(tiff(noise(), compression="tiff_lzw"))
    for tag, value in ((0x0100, 60_000), (0x0101, 50_000)):  # width and height
        place = data.index(struct.pack("<H", tag), int.from_bytes(data[4:8], "little"))
        data[place + 2 : place + 12] = struct.pack("<HII", 4, 1, value)

    assert defect(bytes(data), 60_000, 50_000) == "too_large"


@pytest.mark.parametrize(("highest", "low"), [(4095, True), (4096, False), (65_535, False)])
def test_sixteen_bits_that_fill_only_twelve_are_a_low_range(highest: int, low: bool) -> None:
    deep = np.zeros((20, 30, 3), np.uint16)
    deep[3, 4, 1] = highest
    data = encoded(".png", deep)

    assert is_low_range(data, read_header(data)) == low
    assert not is_low_range(encoded(".png", noise()), read_header(encoded(".png", noise())))


def test_a_damaged_png_is_so_called(capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(encoded(".png", noise()))
    data[len(data) // 2] ^= 0xFF

    assert defect(bytes(data)) == "damaged"
    assert capfd.readouterr().err == ""


def test_a_bomb_is_refused_by_what_it_declares() -> None:
    header = b"IHDR" + (60_000).to_bytes(4) * 2 + b"\x08\x02\0\0\0"
    end = b"IEND"
    bomb = b"\x89PNG\r\n\x1a\n" + b"".join(
        (len(chunk) - 4).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4) for chunk in (header, end)
    )

    assert defect(bomb, 30, 20) == "wrong_size"
    assert defect(bomb, 60_000, 60_000) == "too_large"  # even where the annotations agree


@given(
    extension=st.sampled_from([".jpg", ".png", ".bmp", ".webp", ".tiff"]),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8),
)
@settings(max_examples=200, deadline=None)
def test_no_bytes_do_more_than_raise_a_defect(extension: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(encoded(extension, noise()))
    for position, value in changes:
        data[position % len(data)] = value
    with suppress(ImageDefect):
        assert check_image(bytes(data), 30, 20).shape == (20, 30, 3)


@pytest.mark.skipif(not COCO_REAL.is_dir(), reason="real images are not at hand")
def test_real_photographs_are_whole_and_of_their_annotated_size() -> None:
    images = json.loads((COCO_REAL / "instances.json").read_bytes())["images"]
    for image in images:
        data = (COCO_REAL / "images" / image["file_name"]).read_bytes()
        pixels = check_image(data, image["width"], image["height"])
        assert pixels.shape == (image["height"], image["width"], 3)
        found = {defect(broken, image["width"], image["height"]) for broken in damages(data).values()}
        assert found == {"truncated", "damaged"}


def test_the_pixels_of_a_png_stand_in_its_header_and_what_cannot_be_read_has_none(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(cv2.imencode(".png", np.zeros((3, 7), np.uint8))[1].tobytes()[:30])
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    assert [png_pixels(tmp_path / f"{name}.png") for name in ("a", "pipe", "empty", "none")] == [21, 0, 0, 0]
