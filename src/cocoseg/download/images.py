"""Fetch or draw the images of the filtered annotations, check them, and write them under their own names."""

import errno
import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from cocoseg.coco.file_names import is_safe
from cocoseg.coco.format import Image
from cocoseg.core.errors import CocosegError, counted
from cocoseg.core.files import read_regular, write_bytes
from cocoseg.core.redaction import without_secrets
from cocoseg.download.images_params import DownloadImagesParams
from cocoseg.download.perceptual_hash import perceptual_hash
from cocoseg.download.remote.cache import gigabytes, image_path, read_entry, require_room, write_entry
from cocoseg.download.remote.catalog import MEAN_IMAGE_BYTES, NAMED, coco_url, image_url_path, origin
from cocoseg.download.remote.source import AbsentError, Source, TooLargeError, TransferError, local_path
from cocoseg.download.sample.scenes import draw_image
from cocoseg.download.unusable import why_unusable
from cocoseg.images.decode import LOW_RANGE_WORDS, MOST_PIXELS, check_image, is_low_range, most_bytes, turning
from cocoseg.images.headers import Defect, ExifName, Header, ImageDefect, read_header
from cocoseg.tables import ImageRow, first_of_status
from cocoseg.user_cache import cache_folder
from cocoseg.workers import PixelBudget, process_pool, worker_count

_BUDGET = PixelBudget()
_CONCURRENT_REQUESTS = 24  # enough to hide a server's latency, few enough not to be told to slow down
Status = Literal["ok", "missing"] | Defect
# The status of a user's file that cannot be read, for errors of the file and not of the disk.
_STATUS_OF_ERRNO: dict[int | None, Status] = {
    errno.ENOENT: "missing",
    errno.EISDIR: "missing",
    errno.ENOTDIR: "missing",
    errno.ELOOP: "missing",
    errno.EINVAL: "not_an_image",
    errno.EFBIG: "too_large",
}

_BYTES_PER_PIXEL = 0.6  # of COCO's JPEGs, for datasets whose sizes are not known before
_USUAL_PIXELS = 640 * 480  # of an image whose size the annotations do not say


class Destination(NamedTuple):
    """The folder of the images, and whether an EXIF orientation counts that their sizes do not decide."""

    folder: Path
    exif: ExifName


def download_images(images: Sequence[Image], params: DownloadImagesParams, folder: Path) -> list[ImageRow]:
    """Write every usable image to `folder`, and return one row per image in the order of their ids.

    Raises `CocosegError` if a disk has no room, no image can be used, or a server keeps failing: a row records only
    what would be the same in a later run.
    """
    for image in images:
        if not is_safe(image.file_name):
            raise CocosegError(
                f"image {image.id}: file_name {image.file_name!r} is not a valid name below a folder; "
                "run: dvc repro -f filter"
            )
    folder.mkdir(parents=True, exist_ok=True)
    destination, path = Destination(folder, params.exif), local_path(params.images)
    match params.dataset:
        case "sample":
            place, rows = "the drawn sample", draw_images(images, destination)
        case "custom":
            place, names = params.images, [image.file_name for image in images]
            rows = (
                copy_images(images, path, destination)
                if path is not None
                else fetch_images(images, place, names, destination, changing=True)
            )
        case name:
            place = without_secrets(coco_url())
            rows = fetch_images(
                images, coco_url(), [image_url_path(NAMED[name], image) for image in images], destination
            )
    rows = sorted(rows, key=lambda row: row.image_id)
    if not any(row.status == "ok" for row in rows):
        (image,) = (image for image in images if image.id == rows[0].image_id)
        why = (
            why_unusable(rows[0], image, path)
            if params.dataset == "custom"
            else f"{rows[0].file_name} is {rows[0].status}; check the parameter dataset"
        )
        raise CocosegError(f"{place}: none of the {len(rows)} images can be used; {why}")
    return rows


def remarks(rows: Sequence[ImageRow], images: Sequence[Image]) -> list[str]:
    """Return what there is to say of the images: how many cannot be used, and what was done to those that can."""
    lines = {
        "undecided": "have an EXIF orientation that their annotated sizes do not decide; they lie as stored, as COCO "
        "takes them; turn them with: dvc exp run -S exif=follow; or keep them so without this line: exif=ignore",
        "as_stored": "have an EXIF orientation that their annotated sizes contradict; they lie as stored; Label Studio "
        "exports the polygons of turned photos with such sizes, and their masks are wrong: look at "
        "plots/mask/preview.png; if it is right, exif=ignore removes this line",
        "low_range": LOW_RANGE_WORDS,
    }
    found = {word: [row.file_name for row in rows if row.is_converted(word)] for word in lines}
    statuses = Counter(row.status for row in rows)
    return [
        *(
            f"{statuses[status]:,} of {len(rows):,} images {status}, first: {example}"
            for status, example in first_of_status(rows, {one.id: (one.width, one.height) for one in images}).items()
        ),
        *(f"{counted(len(names), 'image')}, first {names[0]}, {lines[word]}" for word, names in found.items() if names),
    ]


def draw_images(images: Sequence[Image], destination: Destination) -> list[ImageRow]:
    """Draw the images of the sample, in as many processes as there are workers."""
    _announce(f"{counted(len(images), 'image')} to draw")
    with process_pool(len(images)) as pool:
        return _run(pool, [partial(_draw, image, destination) for image in images])


def copy_images(images: Sequence[Image], source: Path, destination: Destination) -> list[ImageRow]:
    """Copy the images of a local folder. The user's own files are never linked to or changed."""
    if not source.is_dir():
        found = "is a file" if source.exists() else "not found"
        raise CocosegError(
            f"{source}: {found}; expected the folder of the images; name another with: "
            "dvc exp run -S dataset=custom -S images=/path/images"
        )
    paths = [source / image.file_name for image in images]
    needed = sum(path.stat().st_size for path in paths if path.is_file())
    _announce(f"{counted(len(images), 'image')}, {gigabytes(needed)}, from {source}")
    require_room({destination.folder: needed})
    with ThreadPoolExecutor(worker_count()) as pool:
        return _run(pool, [partial(_copy, image, path, destination) for image, path in zip(images, paths, strict=True)])


def fetch_images(
    images: Sequence[Image], prefix: str, paths: Sequence[str], destination: Destination, *, changing: bool = False
) -> list[ImageRow]:
    """Fetch images below a URL, many at a time, through the cache: what is in it is not requested again.

    `paths` gives the place of each image below `prefix`. A URL is expected to show the same image forever, as COCO's
    do, unless `changing`: then the server is first asked for the version that it has.
    """
    cache = cache_folder()
    source = Source(prefix)
    cached = [image_path(cache, source.url(path)) for path in paths]
    missing = [image for image, path in zip(images, cached, strict=True) if changing or not path.exists()]
    is_coco = prefix == coco_url()
    total, rest = (len(some) * MEAN_IMAGE_BYTES if is_coco else _estimated_bytes(some) for some in (images, missing))
    known = (
        f"unchanged ones come from {cache}"
        if changing
        else f"{len(images) - len(missing):,} are already in {cache}, about {gigabytes(rest)} to fetch"
    )
    _announce(f"{counted(len(images), 'image')}, about {gigabytes(total)}, from {source.shown()}; {known}")
    require_room({destination.folder: total, cache: rest})
    corrupt: list[Path] = []
    tasks = [
        partial(_fetch, image, source, path, cache, changing, destination, corrupt)
        for image, path in zip(images, paths, strict=True)
    ]
    with ThreadPoolExecutor(_CONCURRENT_REQUESTS) as pool, source:
        rows = _run(pool, tasks)
    if corrupt:
        _announce(f"corrupt, or of an older version, and fetched again: {counted(len(corrupt), 'image')} in {cache}")
    return rows


def place_image(image: Image, data: bytes, destination: Destination) -> ImageRow:
    """Check the bytes of one image and, if they are good, write them unchanged to their folder."""
    row = _checked(image, data, destination.exif)
    if row.status == "ok":
        write_bytes(destination.folder / image.file_name, data)
    return row


def _fetch(
    image: Image,
    source: Source,
    path: str,
    cache: Path,
    changing: bool,
    destination: Destination,
    corrupt: list[Path],
) -> ImageRow:
    url, version = source.url(path), source.version(path) if changing else ""
    # Without a version from the server nothing is cached: nobody could tell when it is out of date.
    cached = None if version is None else image_path(cache, f"{url} {version}" if version else url)
    if cached is not None and (data := read_entry(cached, corrupt)) is not None:
        row = place_image(image, data, destination)
        if row.status == "ok":
            return row  # else the annotations have changed: fetch it again
    row = _fetch_anew(image, source, path, cached, destination)
    if row.status in ("ok", "missing", "too_large"):
        return row
    # Damaged on the way or at the source? Only in the second case will it be damaged again.
    return _fetch_anew(image, source, path, cached, destination)


def _fetch_anew(image: Image, source: Source, path: str, cached: Path | None, destination: Destination) -> ImageRow:
    try:
        data = source.fetch(path, most_bytes=most_bytes(image.width, image.height))
    except AbsentError:
        return _row(image, "missing")
    except TooLargeError:
        return _row(image, "too_large")
    row = place_image(image, data, destination)
    if row.status == "ok" and cached is not None:
        write_entry(cached, data)
    return row


def _copy(image: Image, path: Path, destination: Destination) -> ImageRow:
    try:
        data = read_regular(path, most_bytes(image.width, image.height))
    except OSError as error:
        if error.errno not in _STATUS_OF_ERRNO:
            raise
        return _row(image, _STATUS_OF_ERRNO[error.errno])
    return place_image(image, data, destination)


def _draw(image: Image, destination: Destination) -> ImageRow:
    return place_image(image, draw_image(image.id), destination)


def _run(pool: Executor, tasks: Sequence[Callable[[], ImageRow]]) -> list[ImageRow]:
    """Return the rows of all tasks.

    Raises `CocosegError` if a transfer failed: at the end, or at once if as many in a row fail as run at a time.
    """
    futures = [pool.submit(task) for task in tasks]
    rows: list[ImageRow] = []
    failures: list[TransferError] = []
    in_a_row = 0
    try:
        for future in tqdm(
            as_completed(futures), total=len(futures), desc="download_images", unit="image", disable=None
        ):
            try:
                rows.append(future.result())
                in_a_row = 0
            except TransferError as error:
                failures.append(error)
                in_a_row += 1
                if in_a_row == _CONCURRENT_REQUESTS:
                    break
    finally:
        # Processes that are done are waited for: CPython 3.11's own end may meet a pool that is just closing.
        pool.shutdown(wait=all(future.done() for future in futures), cancel_futures=True)
    if failures:
        raise CocosegError(f"{failures[0]} ({len(failures)} of {len(tasks)} images failed, {len(rows)} are complete)")
    return rows


def _checked(image: Image, data: bytes, exif: ExifName) -> ImageRow:
    header = _header(data)
    with _BUDGET.holding(header.width * header.height if header else 0):
        try:
            pixels = check_image(data, image.width, image.height, exif)
        except ImageDefect as defect:
            return _row(image, defect.reason, data)
        return _row(image, "ok", data, pixels, exif)


def _row(
    image: Image,
    status: Status,
    data: bytes | None = None,
    pixels: NDArray[np.uint8] | None = None,
    exif: ExifName = "auto",
) -> ImageRow:
    header = _header(data)
    width, height = (header.width, header.height) if header else (None, None)
    converted = list(header.converted) if header else []
    if header and pixels is not None:
        height, width = pixels.shape[:2]
        turned, undecided = turning(header, image.width, image.height, exif)
        converted += ["turned"] * turned + ["undecided"] * undecided
        # COCO's own images lie as stored, and its annotations know it.
        sizes_decide = header.orientation != 1 and not turned and not undecided and exif != "ignore"
        converted += ["as_stored"] * (sizes_decide and origin(image) is None)
        converted += ["low_range"] * is_low_range(data or b"", header)
    return ImageRow(
        image_id=image.id,
        file_name=image.file_name,
        status=status,
        width=width,
        height=height,
        bytes=None if data is None else len(data),
        sha256=None if data is None else hashlib.sha256(data).hexdigest(),
        phash=None if pixels is None else perceptual_hash(pixels),
        origin=origin(image),
        converted=" ".join(converted) or None,
    )


def _header(data: bytes | None) -> Header | None:
    """Return what a file declares, or `None` if it has no valid header."""
    try:
        return read_header(data or b"")
    except ImageDefect:
        return None


def _estimated_bytes(images: Sequence[Image]) -> int:
    # What more pixels than that declare is not fetched to its end.
    pixels = (image.width * image.height if image.width and image.height else _USUAL_PIXELS for image in images)
    return round(sum(min(own, MOST_PIXELS) for own in pixels) * _BYTES_PER_PIXEL)


def _announce(text: str) -> None:
    tqdm.write(f"download_images: {text}", file=sys.stderr)
