"""`cocoseg predict`: masks, overlays and COCO results of a user's own images."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import cv2
import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from cocoseg.coco.file_names import mask_name
from cocoseg.commands.output_folder import unwritable
from cocoseg.commands.predict.coco_results import (
    category_ids,
    class_confidences,
    coco_results,
    confidence_tally,
    described_images,
    image_ids,
)
from cocoseg.commands.predict.photos import Opened, Photo, decode_photo, find_photos, open_photo, overlay_name
from cocoseg.core.errors import CocosegError, counted, first_line
from cocoseg.core.files import write_bytes, write_json
from cocoseg.evaluate.prediction import Predicted, finite, joined_labels, predict_logits, sharing_cores
from cocoseg.evaluate.restore import original_labels
from cocoseg.evaluate.scales import ONE_SCALE, scaled_px
from cocoseg.hardware import out_of_memory
from cocoseg.images.decode import LOW_RANGE_WORDS, MOST_PIXELS, is_low_range
from cocoseg.images.png import encode_png
from cocoseg.model.own_code import own_errors_explained
from cocoseg.model.preprocessing import Preprocessing, placement
from cocoseg.model.threshold import EVEN, ChosenThreshold
from cocoseg.model.weights import ModelInfo
from cocoseg.model.windows import BorderName
from cocoseg.pictures.gallery import legend
from cocoseg.pictures.overlay import overlay
from cocoseg.workers import ahead, worker_count

Item = TypeVar("Item", Opened, NDArray[np.uint8])

_JPEG_QUALITY = 90
_LETTERS = 1.3  # of 18 pixels in an overlay of 500 to 840, to be read where it is shown smaller
_SMALLEST_LETTERS = 0.65  # of 9 pixels
_LETTERS_SIDE = 500  # the longer side of an overlay; in a smaller one the letters are smaller too
_MOST_INPUT_PIXELS = 64_000_000  # of the network
_SMALLEST_INPUT = 16  # in pixels, as in training
_MOST_WORKERS = 8  # each may hold several photographs of 48 megapixels
_PICTURES = ("masks", "overlays", "legend.png")
_LISTS = ("results.json", "images.json")


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """How many images were predicted and how many failed."""

    predicted: int
    failed: int
    found_nothing: bool = False  # all pixels are background
    replaced: bool = False  # predictions of an earlier run
    threshold_remark: str | None = None


class _Written(NamedTuple):
    """The entries of one image in `images.json` and `results.json`, without its id."""

    image: dict[str, Any]
    results: list[dict[str, Any]]


def predict(
    load: Callable[[], tuple[nn.Module, ModelInfo]],
    arguments: Sequence[str],
    out: Path,
    batch_size: int | None,
    flips: bool,
    threshold: Callable[[ModelInfo], ChosenThreshold] = lambda _: ChosenThreshold(EVEN),
    *,
    scales: Sequence[float] = ONE_SCALE,
    border: BorderName = "none",
) -> Summary:
    """Predict every image that `arguments` name, at its own size, with the model that `load` returns.

    `load` is called when the first image has been read, then `threshold`. Writes `masks/`, `overlays/`, `legend.png`,
    `results.json` and `images.json`, which `results.json` is loaded with, below `out`. An image that cannot be
    predicted is a line on standard error, and the others go on. Raises `CocosegError` if `out` cannot be written or
    holds predictions of other images, memory runs out, logits are not finite, or the model does not work as asked for.
    """
    found = find_photos(arguments, leave_out=[out / name for name in _PICTURES])
    written: list[_Written] = []
    workers = min(worker_count(), _MOST_WORKERS)
    with (
        tqdm(total=len(found.photos), desc="predict", unit="image", disable=None) as progress,
        ThreadPoolExecutor(workers) as readers,
        sharing_cores(workers) as writers,
    ):
        problems = _Problems(found.problems, progress)
        replaced = _replaces(out, found.photos)
        opened = problems.without(ahead(readers, _opened, found.photos, 2 * workers))
        first = next(opened, None)
        if first is None:
            _clear(out, found.photos)
            return Summary(predicted=0, failed=problems.count)
        model, info = load()
        chosen = threshold(info)
        _check(model, info, scales, border, flips)
        _clear(out, found.photos)
        # As in training, but for what its annotated sizes did not decide.
        dark: list[Path] = []
        decode = partial(_decoded, upright=info.params.get("exif") != "ignore", dark=dark)
        decoded = problems.without(ahead(readers, decode, chain([first], opened), 2 * workers, _opened_pixels))
        images = problems.without(_fitting(decoded, info.preprocessing, max(scales)))
        predicted = predict_logits(
            model, info, images, batch_size=batch_size, flips=flips, scales=scales, border=border
        )
        write = partial(
            _write_image, out=out, ids=category_ids(info), class_names=info.classes, threshold_logit=chosen.logit
        )
        with _writing(out):
            for one in ahead(writers, write, predicted, 2 * workers, _predicted_pixels):
                written.append(one)
                progress.update()
            _write_lists(out, written, info)
        if dark:
            problems.remark(f"{counted(len(dark), 'image')}, first {min(dark)}, {LOW_RANGE_WORDS}")
    return Summary(
        predicted=len(written),
        failed=problems.count,
        found_nothing=not any(one.results for one in written),
        replaced=replaced,
        threshold_remark=chosen.remark,
    )


def _check(model: nn.Module, info: ModelInfo, scales: Sequence[float], border: BorderName, flips: bool) -> None:
    """Raise `CocosegError` if the model cannot be given images at these scales, mirrored, or with this border."""
    preprocessing = info.preprocessing
    if flips and info.params.get("flips") == "none":
        raise CocosegError(
            "--tta averages with the mirror image, but this model was trained with flips: none, as for classes that "
            "tell left from right; leave it out"
        )
    if preprocessing.resize == "crop":
        return
    if border != "none":
        raise CocosegError(
            f"--border {border} is for models with resize: crop, which predict in windows; this one has resize: "
            f"{preprocessing.resize}; leave it out"
        )
    for scale in scales if scales != ONE_SCALE else ():
        pixels = scaled_px(preprocessing.image_size_px, scale)
        wide = f"--scales {scale:g} makes the network's input {pixels} pixels wide"
        if not _SMALLEST_INPUT <= pixels <= math.isqrt(_MOST_INPUT_PIXELS):
            raise CocosegError(f"{wide}; expected {_SMALLEST_INPUT} to {math.isqrt(_MOST_INPUT_PIXELS)}")
        try:
            with torch.inference_mode(), own_errors_explained():
                model.eval()(torch.zeros(1, 3, pixels, pixels))
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:  # an encoder built for one size
            reason = first_line(error).rstrip(".")
            why = (
                "for which memory is too small"
                if out_of_memory(error)
                else f"which this model does not take ({reason})"
            )
            raise CocosegError(f"{wide}, {why}; leave it out") from None


def _replaces(out: Path, photos: Sequence[Photo]) -> bool:
    """Return whether an earlier run has predicted some of these photos into `out`.

    Raises `CocosegError` if it has predicted others: their masks, perhaps of another model, would lie among the new.
    """
    earlier = {path.relative_to(out / "masks").as_posix() for path in (out / "masks").rglob("*.png")}
    if photos and earlier and not (out / "overlays").is_dir():
        raise CocosegError(
            f"{out}: holds masks that predict did not write, such as {min(earlier)}; name another folder for --out"
        )
    others = sorted(earlier - {mask_name(photo.name) for photo in photos})
    if photos and others:
        raise CocosegError(
            f"{out}: holds masks of images that this run does not predict ({len(others):,}, such as {others[0]}); name "
            f"another folder, or delete {out}/masks and {out}/overlays"
        )
    return bool(earlier)


def _clear(out: Path, photos: Sequence[Photo]) -> None:
    """Remove what an earlier run has written of these photos: one that fails now has no prediction."""
    made = [(out / "masks" / mask_name(one.name), out / "overlays" / overlay_name(one.name)) for one in photos]
    with _writing(out):
        for path in chain.from_iterable(made):
            path.unlink(missing_ok=True)
        for name in _LISTS if photos else ():
            (out / name).unlink(missing_ok=True)


def _write_image(
    one: Predicted[Photo], out: Path, ids: Sequence[int], class_names: Sequence[str], threshold_logit: float
) -> _Written:
    """Write the mask and the overlay of an image, and return its entries."""
    parts, tallies = [], []
    for logits, place in one.parts:
        parts.append(original_labels(finite(logits, str(one.key.path)), place, threshold_logit))
        tallies.append(confidence_tally(logits, place, threshold_logit))
    labels = joined_labels(parts, one.place.width)
    confidences = class_confidences(tallies)
    name = one.key.name
    height, width = labels.shape
    write_bytes(out / "masks" / mask_name(name), encode_png(labels))
    shown = overlay(one.image, labels, class_names, _letters(max(height, width)))
    write_bytes(out / "overlays" / overlay_name(name), _jpeg(shown))
    image = {"file_name": name, "width": width, "height": height}
    return _Written(image, list(coco_results(labels, confidences, ids)))


def _letters(longest_side: int) -> float:
    """Return the size of the letters in an overlay."""
    return max(_SMALLEST_LETTERS, _LETTERS * min(1, longest_side / _LETTERS_SIDE))


def _write_lists(out: Path, written: Sequence[_Written], info: ModelInfo) -> None:
    """Write the results, the list of images and the legend, if any image was predicted."""
    if not written:
        return
    numbered = list(zip(image_ids([one.image["file_name"] for one in written]), written, strict=True))
    results = [{"image_id": image_id, **result} for image_id, one in numbered for result in one.results]
    images = [{"id": image_id, **one.image} for image_id, one in numbered]
    write_json(out / "results.json", results)
    write_json(out / "images.json", described_images(images, info))
    write_bytes(out / "legend.png", encode_png(legend(info.classes)))


@contextmanager
def _writing(out: Path) -> Iterator[None]:
    """Raise `CocosegError` for a full disk or memory."""
    try:
        yield
    except OSError as error:
        raise unwritable(out, error) from None
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise CocosegError("out of memory; expected a smaller --batch-size or smaller images") from None


class _Problems:
    """The images that could not be predicted, told as they come."""

    def __init__(self, lines: Sequence[str], progress: "tqdm[Any]") -> None:
        self.count = 0
        self._progress = progress
        for line in lines:
            self.tell(line)

    def tell(self, line: str) -> None:
        """Write a line above the progress bar, and count it."""
        self.count += 1
        self.remark(line)

    def remark(self, line: str) -> None:
        """Write a line above the progress bar."""
        tqdm.write(f"cocoseg predict: {line}", file=sys.stderr)

    def without(self, attempts: Iterable[tuple[Photo, Item | str]]) -> Iterator[tuple[Photo, Item]]:
        """Yield what was made of the photos; tell the lines that are in place of it."""
        for photo, made in attempts:
            if isinstance(made, str):
                self.tell(made)
                self._progress.update()
            else:
                yield photo, made


def _opened(photo: Photo) -> tuple[Photo, Opened | str]:
    """Return a photo's file, or why it cannot be predicted."""
    try:
        return photo, open_photo(photo.path)
    except CocosegError as error:
        return photo, str(error)


def _opened_pixels(entry: tuple[Photo, Opened]) -> int:
    header = entry[1].header
    return header.width * header.height


def _predicted_pixels(one: Predicted[Photo]) -> int:
    return one.place.height * one.place.width


def _decoded(entry: tuple[Photo, Opened], *, upright: bool, dark: list[Path]) -> tuple[Photo, NDArray[np.uint8] | str]:
    """Return the pixels of a photo, or why there are none. Adds one that is nearly black to `dark`."""
    photo, opened = entry
    try:
        if is_low_range(opened.data, opened.header):
            dark.append(photo.path)
        return photo, decode_photo(opened, upright=upright)
    except CocosegError as error:
        return photo, str(error)


def _fitting(
    images: Iterable[tuple[Photo, NDArray[np.uint8]]], preprocessing: Preprocessing, scale: float
) -> Iterator[tuple[Photo, NDArray[np.uint8] | str]]:
    """Yield the pixels of each photo, or why the network cannot take them at the largest scale."""
    most = MOST_PIXELS if preprocessing.resize == "crop" else _MOST_INPUT_PIXELS
    for photo, image in images:
        height, width = image.shape[:2]
        if preprocessing.resize == "crop":
            input_height, input_width = scaled_px(height, scale), scaled_px(width, scale)
        else:
            size = scaled_px(preprocessing.image_size_px, scale)
            place = placement(height, width, size, preprocessing.resize)
            input_height, input_width = place.input_height, place.input_width
        if input_height * input_width <= most:
            yield photo, image
        else:
            yield (
                photo,
                (
                    f"{photo.path}: {width}×{height} pixels would become {input_width}×{input_height} in the network; "
                    f"expected at most {most // 10**6} megapixels"
                ),
            )


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    blue_first = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()
