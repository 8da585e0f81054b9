"""Image files from strangers: each that is none, or that asks for more than it may, has its status and no file."""

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from sandbox import Sandbox

from cocoseg.core.files import read_table, write_json
from cocoseg.images.decode import MOST_PIXELS, most_bytes
from cocoseg.images.headers import read_header
from cocoseg.tables import ImageRow

WIDTH, HEIGHT = 24, 16
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def encoded(extension: str) -> bytes:
    return cv2.imencode(extension, PIXELS, [cv2.IMWRITE_WEBP_QUALITY, 80])[1].tobytes()


JPEG, PNG, BMP, WEBP = (encoded(extension) for extension in (".jpg", ".png", ".bmp", ".webp"))


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, rows: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def resized_jpeg(width: int, height: int) -> bytes:
    """The JPEG, whose header says another size."""
    frame = JPEG.index(b"\xff\xc0")
    return JPEG[: frame + 5] + struct.pack(">HH", height, width) + JPEG[frame + 9 :]


def jpeg_of_many_scans() -> bytes:
    scan = JPEG.index(b"\xff\xda")
    return JPEG[:-2] + JPEG[scan:-2] * 5000 + b"\xff\xd9"


def resized_webp(side: int) -> bytes:
    """A canvas of the annotated size, and in it a picture that says another."""
    lossy = WEBP[12:]
    at = lossy.index(b"\x9d\x01\x2a") + 3
    inside = lossy[:at] + struct.pack("<HH", side, side) + lossy[at + 4 :]
    canvas = (
        b"VP8X"
        + struct.pack("<I", 10)
        + bytes(4)
        + (WIDTH - 1).to_bytes(3, "little")
        + (HEIGHT - 1).to_bytes(3, "little")
    )
    return b"RIFF" + struct.pack("<I", 4 + len(canvas) + len(inside)) + b"WEBP" + canvas + inside


def with_text(size: int) -> bytes:
    """The PNG with a compressed text of so many bytes."""
    return PNG[:33] + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(size), 1)) + PNG[33:]


def hidden_jpeg(side: int) -> bytes:
    """A JPEG that says another size, in front of its end the frame of one of 24×16; all but that lies in what looks
    like a segment, and which decoders take for nothing.
    """
    inside = resized_jpeg(side, side)[2:-2]
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 17, 8, HEIGHT, WIDTH, 3) + b"\x01\x22\x00\x02\x11\x01\x03\x11\x01"
    return b"\xff\xd8\xff\x00" + struct.pack(">H", 2 + len(inside)) + inside + frame + b"\xff\xd9"


SIZE = f'width="{WIDTH}" height="{HEIGHT}"'.encode()
# Annotated as 24×16.
FILES: dict[str, tuple[bytes, str]] = {
    "a PNG bomb of 10 gigapixels": (png(100_000, 100_000, bytes(1_000_000)), "wrong_size"),
    "a PNG of 2^31 pixels a side": (png(2**31 - 1, 2**31 - 1, b""), "wrong_size"),
    "a PNG that says 24×16 and holds 100 MB": (png(WIDTH, HEIGHT, bytes(100_000_000)), "ok or damaged"),
    "a PNG with a text of 100 MB, compressed": (with_text(100_000_000), "ok or damaged"),
    "a PNG without pixels": (png(WIDTH, HEIGHT, b""), "damaged"),
    "a PNG of no width": (png(0, HEIGHT, b""), "wrong_size"),
    "a PNG whose chunk is longer than the file": (PNG[:33] + b"\x7f\xff\xff\xffIDAT" + PNG[41:], "truncated"),
    "a JPEG that says 65,535×65,535": (resized_jpeg(65_535, 65_535), "wrong_size"),
    "a JPEG whose 81 megapixels hide behind 24×16": (hidden_jpeg(9000), "wrong_size"),
    "a JPEG of 5,001 scans": (jpeg_of_many_scans(), "not_an_image"),
    "a JPEG cut in the middle": (JPEG[: len(JPEG) // 2], "truncated"),
    "a JPEG of nothing but its ends": (b"\xff\xd8\xff\xd9" + bytes(50), "not_an_image"),
    "a BMP that says 65,000×65,000": (BMP[:18] + struct.pack("<ii", 65_000, 65_000) + BMP[26:], "truncated"),
    "a BMP whose pixels begin beyond its end": (BMP[:10] + struct.pack("<I", 2**31) + BMP[14:], "truncated"),
    "a BMP of a kind of packing that nobody has": (BMP[:30] + struct.pack("<I", 77) + BMP[34:], "not_an_image"),
    "a WebP whose picture is larger than its canvas": (resized_webp(16_383), "truncated or not_an_image"),
    "a GIF of 65,535×65,535": (b"GIF89a\xff\xff\xff\xff\0\0\0;", "not_an_image"),
    "a TIFF": (b"II*\0\x08\0\0\0" + bytes(500), "not_an_image"),
    "an SVG that reads a file": (b"<svg " + SIZE + b'><image href="file:///etc/passwd"/></svg>', "not_an_image"),
    "a PostScript program": (b"%!PS-Adobe-3.0\n(/etc/passwd) (r) file", "not_an_image"),
    "a program": (b"\x7fELF" + bytes(500), "not_an_image"),
    "a page": (b"<html><script>alert(1)</script></html>", "not_an_image"),
    "a pickle": (b"\x80\x04\x95cposix\nsystem\n.", "not_an_image"),
    "nothing": (b"", "empty"),
    "a page behind a whole JPEG": (JPEG + b"<script>alert(1)</script>", "ok"),
    "20 MB behind a whole JPEG": (JPEG + bytes(20_000_000), "too_large"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def good_image(sandbox: Sandbox) -> None:
    (sandbox.strange / "good.jpg").write_bytes(JPEG)


def statuses(sandbox: Sandbox, sizes: dict[str, tuple[int, int]], *, process: bool = False) -> dict[str, str]:
    """Of images with these annotated sizes, what `download_images` finds; the good one is among them."""
    images = [
        {"id": number, "file_name": name, "width": width, "height": height}
        for number, (name, (width, height)) in enumerate({"good.jpg": (WIDTH, HEIGHT), **sizes}.items())
    ]
    write_json(sandbox.work / "data/filtered/instances.json", {"images": images, "annotations": [], "categories": []})
    params = {"dataset": "custom", "exif": "auto", "images": str(sandbox.strange)}
    status, line = sandbox.stage("download_images", params, process=process)
    assert status == 0, line
    rows = read_table(sandbox.work / "data/images.csv", ImageRow)
    placed = {path.relative_to(sandbox.work / "data/images").as_posix() for path in sandbox.work.rglob("images/**/*.*")}
    assert placed == {row.file_name for row in rows if row.status == "ok"}
    found = {row.file_name: row.status for row in rows}
    assert found.pop("good.jpg") == "ok"
    return found


def test_a_frame_that_hides_where_decoders_look_is_found_before_they_do() -> None:
    header = read_header(hidden_jpeg(9000))
    assert (header.width, header.height) == (9000, 9000)


@pytest.mark.parametrize(
    ("what", "content", "allowed"), [(what, *rest) for what, rest in FILES.items()], ids=list(FILES)
)
def test_a_file_that_is_no_image_of_its_size_has_its_status(
    sandbox: Sandbox, what: str, content: bytes, allowed: str
) -> None:
    (sandbox.strange / "strange.jpg").write_bytes(content)

    (status,) = statuses(sandbox, {"strange.jpg": (WIDTH, HEIGHT)}, process=what == "a JPEG of 5,001 scans").values()

    assert status in allowed.split(" or ")
    sandbox.tell("image", what, f"status in data/images.csv: {status}")


def test_an_annotated_size_beyond_all_memory_is_not_believed(sandbox: Sandbox) -> None:
    side = 20_000
    assert side * side > MOST_PIXELS
    (sandbox.strange / "strange.png").write_bytes(png(side, side, bytes(1000)))

    assert statuses(sandbox, {"strange.png": (side, side)}) == {"strange.png": "too_large"}
    sandbox.tell("image", "a PNG bomb that is annotated as one", "status in data/images.csv: too_large")


def test_a_file_may_have_eight_bytes_a_pixel_and_16_mib_beside_them() -> None:
    assert most_bytes(10, 5) == 10 * 5 * 8 + 16 * 1024 * 1024
    assert most_bytes(10**6, 10**6) == 64_000_000 * 8 + 16 * 1024 * 1024


def pipe(sandbox: Sandbox, place: Path) -> None:
    os.mkfifo(place)


def device(sandbox: Sandbox, place: Path) -> None:
    place.symlink_to("/dev/zero")


def loop(sandbox: Sandbox, place: Path) -> None:
    place.symlink_to(place)


def nowhere(sandbox: Sandbox, place: Path) -> None:
    place.symlink_to(sandbox.folder / "nowhere")


def secret(sandbox: Sandbox, place: Path) -> None:
    place.symlink_to(sandbox.folder / "canary/photo.jpg")


def photo(sandbox: Sandbox, place: Path) -> None:
    (sandbox.folder / "elsewhere.jpg").write_bytes(JPEG)
    place.symlink_to(sandbox.folder / "elsewhere.jpg")


def huge(sandbox: Sandbox, place: Path) -> None:
    with place.open("wb") as file:
        file.truncate(5 * 10**9)


def folder(sandbox: Sandbox, place: Path) -> None:
    place.mkdir()


LOCAL: dict[str, tuple[Callable[[Sandbox, Path], None], str]] = {
    "a pipe": (pipe, "not_an_image"),
    "a link to a device without an end": (device, "not_an_image"),
    "a link to itself": (loop, "missing"),
    "a link to nothing": (nowhere, "missing"),
    "a link to a file outside that is no image": (secret, "not_an_image"),
    "a link to a photo outside": (photo, "ok"),
    "a file of 5 GB": (huge, "too_large"),
    "a folder": (folder, "missing"),
}


@pytest.mark.parametrize(("what", "make", "expected"), [(what, *rest) for what, rest in LOCAL.items()], ids=list(LOCAL))
def test_what_else_may_lie_in_a_folder_of_images(
    sandbox: Sandbox, what: str, make: Callable[[Sandbox, Path], None], expected: str
) -> None:
    make(sandbox, sandbox.strange / "strange.jpg")

    assert statuses(sandbox, {"strange.jpg": (WIDTH, HEIGHT)}) == {"strange.jpg": expected}
    if expected == "ok":  # links are followed, but what arrives is a copy
        assert not (sandbox.work / "data/images/strange.jpg").is_symlink()
    sandbox.tell("image folder", what, f"status in data/images.csv: {expected}")
