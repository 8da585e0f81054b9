"""A folder of label maps as COCO annotations: one a class and image, and what is 255 as ignored regions.

A label map is a PNG of one channel that bears the name of its image; `classes.json` or `classes.txt` beside it names
its values. 0 is the background, 255 is ignored.
"""

import os
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from tqdm import tqdm

from cocoseg.coco.categories import IGNORE
from cocoseg.coco.file_names import mask_name, own_numbers, same_name
from cocoseg.coco.format import REGIONS_KEY
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_regular
from cocoseg.download.class_names import CLASSES, read_classes
from cocoseg.images.decode import MOST_PIXELS, most_bytes
from cocoseg.images.headers import ImageDefect, png_pixels, read_header
from cocoseg.images.png import as_gray
from cocoseg.workers import ahead, process_pool, worker_count

_IMAGE_SUFFIXES = {".avif", ".bmp", ".gif", ".heic", ".jfif", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_LISTED = 5  # values, in one line
_BLURRED = 40  # values without a name: more than a class or two that somebody forgot
_CHUNK_MAPS = 64
_COUNTED_PIXELS = 4_000_000
_START_BYTES = 2**16  # of an image: most tell their size there
# Of PNG's color types. https://www.w3.org/TR/png-3/#11IHDR
_PALETTE = 3
_OF_SEVERAL_CHANNELS = {2: "RGB", 4: "gray with alpha", 6: "RGB with alpha"}


class LabelMap(msgspec.Struct, frozen=True, kw_only=True):
    """What one file holds. `size`, `image_size`: width and height; `defect`: why it cannot be used, and the way out.

    `regions`: of each value but 0 its pixels, its box (left, top, width, height) and its compressed RLE.
    """

    size: tuple[int, int] = (0, 0)
    image_size: tuple[int, int] | None = None
    regions: dict[int, tuple[int, list[int], str]] = {}
    palette: bytes = b""
    defect: tuple[str, str] | None = None

    def is_of_size(self) -> bool:
        """Return whether the image has this size, maybe once EXIF has turned it; also if the image does not say."""
        return self.image_size is None or self.image_size in (self.size, self.size[::-1])


def instances_of_maps(folder: Path, images: Path) -> bytes:
    """Return COCO annotations that paint the label maps in `folder`, for the images of their names in `images`.

    A map without its image, and one of another size, stay: `download_images` finds no such image, which `mask` counts.
    Raises `CocosegError` if a value has no name, a file is no label map, or no image fits.
    """
    files = list(_files(folder))
    maps = [name for name in files if _is_png(name)]
    if not maps:
        others = [name for name in files if name.lower().endswith(".json") and name not in CLASSES]
        joined = f"; if its {len(others)} JSON files are COCO's, join them, as docs/your-own-data.md does for Roboflow"
        meant = "" if not others else joined if len(others) > 1 else f"; did you mean {folder / others[0]}?"
        raise CocosegError(
            f"{folder}: {_held(files)}, without label maps; expected PNG files of one channel, named as their images, "
            f"or the name of a COCO instances JSON{meant}; docs/your-own-data.md says how to convert other formats"
        )
    classes, names = read_classes(folder, _held(files))
    image_of, without = _images_of(maps, folder, images)
    work = [(folder / name, images / image_of[name] if name in image_of else None) for name in maps]
    found = dict(zip(maps, _read_all(work), strict=True))
    _refuse_defects(folder, found)
    _refuse_palettes_that_differ(folder, found)
    _refuse_unnamed(folder, found, classes, names)
    if without:
        _say(f"images without a label map, which are left out: {len(without):,}, first: {without[0]}")
    for line in _remarks(folder, images, found, image_of):
        _say(line)
    return _instances(found, names, image_of)


def _say(line: str) -> None:
    tqdm.write(f"download: {line}", file=sys.stderr)


def _files(folder: Path) -> Iterator[str]:
    """Yield the files below a folder, relative to it, in the order of their names; none whose name begins with a dot.

    Raises `CocosegError` for a folder that cannot be read, or a name that is not text.
    """

    def fail(error: OSError) -> None:
        raise CocosegError(f"{error.filename}: {error.strerror}; fix that")

    found = [
        (Path(place) / name).relative_to(folder).as_posix()
        for place, _, names in os.walk(folder, onerror=fail)
        for name in names
        if not any(part.startswith(".") for part in (Path(place) / name).relative_to(folder).parts)
    ]
    for name in sorted(found):
        try:
            name.encode()
        except UnicodeEncodeError:
            raise CocosegError(f"{folder}: the name of its file {name!r} is not UTF-8; rename it") from None
        yield name


def _held(files: Sequence[str]) -> str:
    """Return what a folder holds, in words, for who named the wrong one."""
    suffixes = Counter(Path(name).suffix.lower() or "without suffix" for name in files)
    listed = ", ".join(f"{count:,} {suffix}" for suffix, count in suffixes.most_common(3))
    return f"a folder of {listed}" if listed else "an empty folder"


def _is_png(name: str) -> bool:
    return name.lower().endswith(".png")


def _images_of(maps: Sequence[str], folder: Path, images: Path) -> tuple[dict[str, str], list[str]]:
    """Return the image of each label map that has one, relative to `images`, and the images without a label map."""
    if not images.is_dir():
        found = "a file" if images.exists() else "not there"
        raise CocosegError(f"{images}: {found}; expected images to name the folder of the images of the label maps")
    map_of = {same_name(mask_name(name)): name for name in maps}
    image_of: dict[str, str] = {}
    without: list[str] = []
    for name in _files(images):
        # Label maps may lie beside their images, or below them.
        if Path(name).suffix.lower() not in _IMAGE_SUFFIXES or (_is_png(name) and _is_below(images / name, folder)):
            continue
        label_map = map_of.get(same_name(mask_name(name)))
        if label_map is None:
            without.append(name)
        elif image_of.setdefault(label_map, name) != name:
            raise CocosegError(
                f"{folder / label_map}: may be of {image_of[label_map]} or of {name}; expected names of images that "
                "differ in more than their extension; rename one, and its label map"
            )
    if not image_of:
        raise CocosegError(
            f"{images}: no image has the name of one of the {len(maps)} label maps, such as {maps[0]}"
            + (f"; its first image is {without[0]}" if without else "")
            + "; name label maps as their images, but .png"
        )
    return image_of, without


def _is_below(path: Path, folder: Path) -> bool:
    return path.absolute().is_relative_to(folder.absolute())


Work = tuple[Path, Path | None]


def _read_all(work: Sequence[Work]) -> Iterator[LabelMap]:
    chunks = [work[start : start + _CHUNK_MAPS] for start in range(0, len(work), _CHUNK_MAPS)]
    with tqdm(total=len(work), desc="download", unit="label map", disable=None) as progress:
        if min(worker_count(), len(chunks)) <= 1:
            yield from _counted(map(_read_chunk, chunks), progress)
            return
        with process_pool(len(chunks)) as pool:
            yield from _counted(ahead(pool, _read_chunk, chunks, 2 * worker_count(), _largest), progress)


def _counted(chunks: Iterator[list[LabelMap]], progress: "tqdm[Any]") -> Iterator[LabelMap]:
    for chunk in chunks:
        progress.update(len(chunk))
        yield from chunk


def _largest(chunk: Sequence[Work]) -> int:
    return max(png_pixels(path) for path, _ in chunk)


def _read_chunk(chunk: Sequence[Work]) -> list[LabelMap]:
    return [read_map(*files) for files in chunk]


class _Unusable(Exception):
    """What a file is, and the way out."""


def read_map(path: Path, image: Path | None) -> LabelMap:
    """Return what a label map holds, and the stored size of its image if there is one that says it."""
    try:
        labels, palette = _decoded(read_regular(path, most_bytes(None, None)))
    except _Unusable as error:
        what, way_out = error.args
        return LabelMap(defect=(what, way_out))
    except OSError as error:
        return LabelMap(defect=(f"cannot be read ({error.strerror})", "fix that"))
    return LabelMap(
        size=(labels.shape[1], labels.shape[0]),
        image_size=_stored_size(image) if image else None,
        regions=regions_of(labels),
        palette=palette,
    )


def regions_of(labels: NDArray[np.uint8]) -> dict[int, tuple[int, list[int], str]]:
    """Return of each value in `labels` (H, W) but 0 its pixels, its box and its compressed RLE, as pycocotools has it.

    The box is left, top, width and height.
    """
    columns = cv2.transpose(labels)  # COCO runs down them
    # In blocks of rows: counting takes eight bytes a pixel.
    rows = max(1, _COUNTED_PIXELS // labels.shape[1])
    blocks = (labels[start : start + rows] for start in range(0, labels.shape[0], rows))
    pixels = np.sum([np.bincount(block.ravel(), minlength=IGNORE + 1) for block in blocks], axis=0)
    found = {}
    for value in pixels[1:].nonzero()[0] + 1:
        encoded = coco_mask.encode((columns == value).view(np.uint8).T)
        box = [int(side) for side in coco_mask.toBbox(encoded)]
        found[int(value)] = (int(pixels[value]), box, encoded["counts"].decode())
    return found


def _decoded(data: bytes) -> tuple[NDArray[np.uint8], bytes]:
    """Return the stored samples of a PNG of one channel, (H, W), and its palette. Raises `_Unusable`."""
    try:
        header = read_header(data)
    except ImageDefect as defect:
        raise _Unusable(f"cannot be decoded ({defect.reason})", "copy or export it again") from None
    if not data.startswith(b"\x89PNG"):
        raise _Unusable("is not a PNG, whatever its name says", "export it as PNG, which loses nothing")
    depth, kind = data[24], data[25]
    if kind in _OF_SEVERAL_CHANNELS:
        raise _Unusable(
            f"is {_OF_SEVERAL_CHANNELS[kind]}",
            "expected one channel of class indices; turn its colors into indices, see docs/your-own-data.md",
        )
    if depth > 8:
        raise _Unusable(f"has {depth} bits a pixel", "expected 8: class indices, 0 to 255; is it a map of instances?")
    if header.width * header.height > MOST_PIXELS:
        raise _Unusable(f"has more than {MOST_PIXELS:,} pixels", "cut it, and its image, into tiles")
    gray, palette = as_gray(data) if header.complete else (b"", b"")
    pixels = cv2.imdecode(np.frombuffer(gray, np.uint8), cv2.IMREAD_UNCHANGED) if gray else None
    if pixels is None or pixels.ndim != 2 or pixels.dtype != np.uint8:
        raise _Unusable("cannot be decoded (truncated or damaged)", "copy or export it again")
    # OpenCV spreads samples of 1, 2 and 4 bits over 0 to 255.
    return pixels.astype(np.uint8, copy=False) // np.uint8(255 // (2**depth - 1)), palette if kind == _PALETTE else b""


def _stored_size(path: Path) -> tuple[int, int] | None:
    """Return the width and height that an image file declares; `None` for what `download_images` will judge."""
    if not path.is_file():  # a pipe would make us wait
        return None
    try:
        with path.open("rb") as file:
            start = file.read(_START_BYTES)
            try:
                header = read_header(start)
            except ImageDefect:
                header = read_header(start + file.read(most_bytes(None, None)))
    except (ImageDefect, OSError):
        return None
    return header.width, header.height


def _refuse_defects(folder: Path, found: Mapping[str, LabelMap]) -> None:
    defects = [(one.defect, name) for name, one in found.items() if one.defect]
    if defects:
        (what, way_out), count = Counter(defect for defect, _ in defects).most_common(1)[0]
        first = next(name for defect, name in defects if defect[0] == what)
        raise CocosegError(f"{folder / first}: {what} ({count} of {len(found)} label maps); {way_out}")


def _refuse_palettes_that_differ(folder: Path, found: Mapping[str, LabelMap]) -> None:
    """Raise `CocosegError` if an index does not have the same color in all palettes: then it is no class index."""
    longest = max(found, key=lambda name: len(found[name].palette))
    for name, one in found.items():
        if not found[longest].palette.startswith(one.palette):
            raise CocosegError(
                f"{folder / name}: its palette is not that of {longest}, so an index does not mean the same in both; "
                "turn the colors into indices, see docs/your-own-data.md"
            )


def _refuse_unnamed(folder: Path, found: Mapping[str, LabelMap], classes: str, names: Collection[int]) -> None:
    values = {value for one in found.values() for value in one.regions} - {IGNORE}
    unnamed = sorted(values - set(names))
    if unnamed:
        having = [name for name, one in found.items() if one.regions.keys() & set(unnamed)]
        first = min(found[having[0]].regions.keys() & set(unnamed))
        listed = ", ".join([f"{value}" for value in unnamed[:_LISTED]]) + (", …" if len(unnamed) > _LISTED else "")
        way_out = (
            "scale label maps with nearest neighbour alone, and keep them out of JPEG"
            if len(unnamed) > _BLURRED
            else f"name it in {classes}, or make it 0 (background) or 255 (ignored)"
        )
        raise CocosegError(
            f"{folder / having[0]}: holds the value {first}, which {classes} does not name; {len(having)} of "
            f"{len(found)} label maps hold such values ({listed}); {way_out}"
        )
    if not values:
        raise CocosegError(
            f"{folder}: its {len(found)} label maps hold nothing but 0, the background, and 255, which is ignored; "
            "write the pixels of a class as its index, such as 1"
        )


def _remarks(folder: Path, images: Path, found: Mapping[str, LabelMap], image_of: Mapping[str, str]) -> Iterator[str]:
    """Yield what a reader must know, a line each. Raises `CocosegError` if no image has the size of its label map."""
    without = [name for name in found if name not in image_of]
    if without:
        yield f"{len(without)} of {len(found)} label maps have no image in {images}, first: {without[0]}"
    other = [name for name, one in found.items() if not one.is_of_size()]
    if other:
        one = found[other[0]]
        assert one.image_size is not None
        line = (
            f"{len(other)} of {len(found)} label maps have another size than their image, first: {other[0]}, "
            f"{one.size[0]}×{one.size[1]} pixels, and {image_of[other[0]]}, {one.image_size[0]}×{one.image_size[1]}"
        )
        if len(other) == len(image_of):
            raise CocosegError(f"{folder}: {line}; scale the maps with nearest neighbour, or name the right images")
        yield line
    palettes = sum(bool(one.palette) for one in found.values())
    if palettes:
        yield f"{palettes} of {len(found)} label maps have a palette: their indices are taken, not their colors"
    empty = [name for name, one in found.items() if not one.regions.keys() - {IGNORE}]
    if empty:
        yield f"{len(empty)} of {len(found)} label maps hold no class, first: {empty[0]}; see negatives in params.yaml"


def _instances(found: Mapping[str, LabelMap], names: Mapping[int, str], image_of: Mapping[str, str]) -> bytes:
    """Return the annotations file. The id of an image is the number that ends its name, else the name.

    In a sub-folder it is always the name: files of other folders have the same numbers, and an id that changed when
    they come would move the image to another side of the split.
    """
    top = [name for name in found if "/" not in name]
    ids: dict[str, int | str] = {name: name for name in found}
    ids |= {name: number for name, number in zip(top, own_numbers(top), strict=True) if number is not None}
    suffix = Counter(Path(image).suffix for image in image_of.values()).most_common(1)[0][0]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    regions: list[dict[str, Any]] = []
    for name, one in found.items():
        width, height = one.size
        file_name = image_of.get(name, f"{name[:-4]}{suffix}")
        images.append({"id": ids[name], "file_name": file_name, "width": width, "height": height})
        for value, (area, bbox, counts) in one.regions.items():
            segmentation = {"size": [height, width], "counts": counts}
            if value == IGNORE:
                regions.append({"image_id": ids[name], "segmentation": segmentation})
                continue
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": ids[name],
                    "category_id": value,
                    "iscrowd": 0,
                    "area": area,
                    "bbox": bbox,
                    "segmentation": segmentation,
                }
            )
    categories = [{"id": index, "name": name} for index, name in sorted(names.items())]
    return msgspec.json.encode(
        {"images": images, "annotations": annotations, "categories": categories, REGIONS_KEY: regions}
    )
