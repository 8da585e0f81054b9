"""A user's own image files: found by path, folder or glob, named by their paths, and read."""

import glob
import itertools
import os
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.coco.file_names import clashes, mask_name
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_regular
from cocoseg.images.decode import MOST_PIXELS, decode, most_bytes, refuse_damaged
from cocoseg.images.headers import Header, ImageDefect, is_tiff, read_header

SMALLEST_SIDE_PX = 2
_LONGEST_SIDE_PX = 65_500  # of a JPEG, as the overlay is one
READABLE = "a still JPEG, PNG, WebP, BMP or TIFF"
_EXPECTED = "expected a file, a folder or a glob such as 'photos/*.jpg'"
# What a folder is searched for. Formats that are refused are among them, so that no image is skipped silently.
_SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif",
    ".avif", ".jp2", ".jxl",
}  # fmt: skip


class Photo(msgspec.Struct, frozen=True):
    """One image file. `name` is its path below the folder that all photos share, with `/` between the parts."""

    path: Path
    name: str


class Found(msgspec.Struct, frozen=True):
    """The photos of a command line, and a line for each thing that is not one."""

    photos: list[Photo]
    problems: list[str]


def find_photos(arguments: Sequence[str], leave_out: Sequence[Path]) -> Found:
    """Find every image in files, folders, their subfolders and globs, once.

    What lies below `leave_out`, where this run writes, is skipped, and in folders what earlier runs wrote. A name is
    relative to the folder that all arguments share, so that `a/1.jpg b/1.jpg` are two. Of two photos whose masks would
    have one name, the second is a problem.
    """
    placed: dict[Path, Path] = {}  # a file, and the folder that it was found in
    problems: list[str] = []
    left_out = {Path(os.path.realpath(place)) for place in leave_out}
    for argument in arguments:
        try:
            named = ((_absolute(path), _absolute(folder)) for path, folder in _named(argument, problems))
            found = {path: folder for path, folder in named if left_out.isdisjoint(_above(path))}
        except (OSError, ValueError) as error:  # too long a name, no permission, ** beside letters
            problems.append(f"{argument or repr(argument)}: {getattr(error, 'strerror', None) or error}; {_EXPECTED}")
            continue
        if not found:
            problems.append(_nothing_there(argument))
        placed |= {path: folder for path, folder in found.items() if path not in placed}
    for path in [path for path in placed if path.suffix.lower() not in _SUFFIXES or not path.exists()]:
        try:  # now: a stray path must not change what the others are named
            open_photo(_shown(path))
        except CocosegError as error:
            problems.append(str(error))
            del placed[path]
    base = os.path.commonpath(placed.values()) if placed else ""
    photos = [Photo(_shown(path), path.relative_to(base).as_posix()) for path in placed]
    return Found(_side_by_side(photos, problems), problems)


def _side_by_side(photos: Sequence[Photo], problems: list[str]) -> list[Photo]:
    """Return the photos whose masks and overlays can be written beside those of the others."""
    standing: dict[str, Photo] = {}
    for photo in photos:
        if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in photo.name):  # a newline, invalid Unicode
            problems.append(f"{str(photo.path)!a}: its name cannot be written into results; rename it")
        else:
            standing[photo.name] = photo
    paths = {name: photo.path for name, photo in standing.items()}
    for name, other, file in clashes(paths, lambda name: (mask_name(name), overlay_name(name))):
        found = (
            f"its mask would have the same name as that of {paths[other]}"
            if file is None
            else f"{file} would be a file where {paths[other]} needs a folder"
        )
        problems.append(f"{paths[name]}: {found}; rename one of them")
        del standing[name]
    return list(standing.values())


def overlay_name(name: str) -> str:
    """Return the path of an image's overlay in the folder of overlays."""
    return f"{mask_name(name).removesuffix('.png')}.jpg"


class Opened(msgspec.Struct, frozen=True):
    """An image file whose header is in order: its path, its bytes and what they say of themselves."""

    path: Path
    data: bytes
    header: Header


def open_photo(path: Path) -> Opened:
    """Return an image file, not decoded yet.

    Raises `CocosegError`, which names the file, unless it is a still image of a size that can be predicted.
    """
    try:
        data = read_regular(path, most_bytes(MOST_PIXELS, 1))
    except FileNotFoundError:
        raise CocosegError(f"{path}: not found; {_EXPECTED}") from None
    except OSError as error:
        raise CocosegError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        header = read_header(data)
    except ImageDefect as defect:
        raise CocosegError(f"{path}: {_what_it_is(data, defect)}; expected {READABLE}") from None
    if not header.complete:
        raise CocosegError(f"{path}: truncated; copy it again")
    if min(header.width, header.height) < SMALLEST_SIDE_PX:
        raise CocosegError(
            f"{path}: {header.width}×{header.height} pixels; expected at least {SMALLEST_SIDE_PX} per side"
        )
    if max(header.width, header.height) > _LONGEST_SIDE_PX:
        raise CocosegError(
            f"{path}: {header.width}×{header.height} pixels; expected at most {_LONGEST_SIDE_PX:,} per side"
        )
    if header.width * header.height > MOST_PIXELS:
        raise CocosegError(
            f"{path}: {header.width}×{header.height} pixels; expected at most {MOST_PIXELS // 10**6} megapixels"
        )
    return Opened(path, data, header)


def decode_photo(opened: Opened, *, upright: bool) -> NDArray[np.uint8]:
    """Return the pixels of an image file, RGB (H, W, 3), turned as its EXIF orientation says if `upright`.

    Raises `CocosegError`, which names the file, for one that is damaged or not opaque.
    """
    path, data, header = opened.path, opened.data, opened.header
    if (clear := _clear_share(data, header)) > 0:
        raise CocosegError(
            f"{path}: {clear:.0%} of its pixels are transparent; expected an opaque image, such as a copy saved as JPEG"
        )
    damaged = CocosegError(f"{path}: damaged, so that a part of its pixels is lost; copy it again")
    try:
        refuse_damaged(data, header)
    except ImageDefect:
        raise damaged from None
    try:
        pixels = decode(data, turned=upright)
    except ImageDefect:
        raise damaged from None
    if sorted(pixels.shape[:2]) != sorted((header.height, header.width)):
        raise damaged
    return pixels


def _named(argument: str, problems: list[str]) -> Iterator[tuple[Path, Path]]:
    """Yield the files that an argument names, each with the folder that its name is relative to.

    Raises `OSError` or `ValueError` for an argument that is not valid.
    """
    if not argument:
        raise ValueError("is empty")  # a variable that is not set; the current folder is `.`
    path = Path(argument)
    if path.is_dir():
        yield from ((file, path) for file in _images_below(path, problems))
    elif path.exists() or not glob.has_magic(argument):
        yield path, path.parent  # also a missing one: reading it says so
    else:
        plain = list(itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        folder = Path(*plain)
        for match in sorted(folder.glob("/".join(path.parts[len(plain) :]))):
            if path.name == "**" and not match.is_dir():  # Python 3.13 lists files too; their folders have them
                continue
            files = _images_below(match, problems) if match.is_dir() else [match]
            yield from ((file, folder) for file in files if not file.name.startswith("."))


def _images_below(folder: Path, problems: list[str]) -> list[Path]:
    """Return the files below a folder that are named like images, sorted, without hidden ones.

    Links to folders are followed. A folder that cannot be read is a problem.
    """
    found: dict[str, list[Path]] = {}  # by real path: a link may lead to a folder that was searched already

    def closed(error: OSError) -> None:
        problems.append(f"{error.filename}: cannot be read ({error.strerror})")

    for parent, folders, names in os.walk(folder, onerror=closed, followlinks=True):
        if {"results.json", "images.json", "legend.png"} <= {*names}:  # written by an earlier run
            folders[:] = [name for name in folders if name not in ("masks", "overlays")]
            names.remove("legend.png")
        real = os.path.realpath(parent)
        inside = [] if real in found else [name for name in folders if name[0] != "."]
        # Links last, so that files below here keep their own names.
        folders[:] = sorted(inside, key=lambda name: (os.path.realpath(f"{real}/{name}") != f"{real}/{name}", name))
        images = [Path(parent, name) for name in names if name[0] != "." and Path(name).suffix.lower() in _SUFFIXES]
        found.setdefault(real, images)
    return sorted(itertools.chain.from_iterable(found.values()))


def _nothing_there(argument: str) -> str:
    if Path(argument).is_dir():
        return f"{argument}: contains no image; expected files such as .jpg or .png in it or its subfolders"
    return f"{argument}: matches nothing; {_EXPECTED}"


def _above(path: Path) -> Iterator[Path]:
    """Yield a file and the folders above it, by their real paths. The file may be a link, as DVC checks files out."""
    real = Path(os.path.realpath(path.parent), path.name)
    yield from (real, *real.parents)


def _absolute(path: Path) -> Path:
    # Not resolved: a file that DVC checked out may be a link to one of another name.
    return Path(os.path.normpath(path.absolute()))


def _shown(path: Path) -> Path:
    """Return a path relative to the current folder, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _what_it_is(data: bytes, defect: ImageDefect) -> str:
    if defect.reason == "empty":
        return "is empty"
    if data.startswith(b"GIF8"):
        return "a GIF, which may be animated"
    if data.startswith(b"\x89PNG") and b"acTL" in data[: data.find(b"IDAT")]:
        return "an animated PNG"
    if data[8:12] == b"WEBP" and data[12:16] == b"VP8X" and data[20] & 0x02:
        return "an animated WebP"
    if data[4:8] == b"ftyp":
        return f"a {data[8:12].decode('ascii', 'replace').strip().upper()} file, as phones save them"
    if is_tiff(data) and defect.reason == "unsupported_tiff":
        return "a TIFF of several pages, or of another depth than 8 bits a channel"
    return {"truncated": "truncated", "damaged": "damaged"}.get(defect.reason, "not an image")


def _clear_share(data: bytes, header: Header) -> float:
    """Return the share of pixels that are not opaque."""
    # A palette color, or one color of an image without alpha, can be transparent too.
    if "alpha" in header.converted or b"tRNS" in data[: data.find(b"IDAT")] or data[12:16] in (b"VP8X", b"VP8L"):
        pixels = _decoded(data, cv2.IMREAD_UNCHANGED)
        if pixels is not None and pixels.ndim == 3 and pixels.shape[2] == 4:
            return float((pixels[..., 3] < np.iinfo(pixels.dtype).max).mean())
    return 0.0


def _decoded(data: bytes, flags: int) -> NDArray[Any] | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
