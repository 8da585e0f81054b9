"""The command `cocoseg predict`: masks, overlays and COCO results of a user's own images."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from cocoseg.coco_results import category_ids, class_confidences, coco_results, described_images, image_ids
from cocoseg.errors import CocosegError
from cocoseg.file_names import mask_name
from cocoseg.files import write_bytes, write_json
from cocoseg.geometry import original_labels
from cocoseg.hardware import out_of_memory
from cocoseg.output_folder import unwritable
from cocoseg.photos import Photo, find_photos, read_photo
from cocoseg.pictures import legend, overlay
from cocoseg.png import encode_png
from cocoseg.prediction import Predicted, ahead, predict_logits, sharing_cores
from cocoseg.weights import ModelCard
from cocoseg.workers import worker_count

_JPEG_QUALITY = 90


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command line's images."""

    predicted: int
    failed: int


class _Written(NamedTuple):
    image: dict[str, Any]
    results: list[dict[str, Any]]


def predict(
    model: nn.Module, card: ModelCard, arguments: Sequence[str], out: Path, batch_size: int | None, flips: bool
) -> Summary:
    """Predict every image that `arguments` name, at its own size, into `out`.

    That is `masks/` and `overlays/`, each image under its own name, `results.json`, with `images.json` to load it
    beside, and `legend.png`. What cannot be predicted is a line on standard error, and the rest goes on. Raises
    `CocosegError` if `out` cannot be written or memory does not suffice.
    """
    found = find_photos(arguments, leave_out=out)
    problems = _Problems(found.problems)
    id_of = dict(zip(found.photos, image_ids([photo.name for photo in found.photos]), strict=True))
    ids = category_ids(card)
    images, results = [], []

    def write(one: Predicted[Photo]) -> _Written:
        labels = original_labels(one.logits, one.place)
        confidences = class_confidences(one.logits, one.place)
        name = mask_name(one.key.name)
        height, width = labels.shape
        write_bytes(out / "masks" / name, encode_png(labels))
        write_bytes(out / "overlays" / Path(name).with_suffix(".jpg"), _jpeg(overlay(one.image, labels)))
        image = {"id": id_of[one.key], "file_name": one.key.name, "width": width, "height": height}
        return _Written(image, list(coco_results(id_of[one.key], labels, confidences, ids)))

    workers = worker_count()
    with ThreadPoolExecutor(workers) as readers, sharing_cores(workers) as writers:
        decoded = problems.without(ahead(readers, _attempt, found.photos, 2 * workers), len(found.photos))
        predicted = predict_logits(model, card, decoded, batch_size=batch_size, flips=flips)
        try:
            for written in ahead(writers, write, predicted, 2 * workers):
                images.append(written.image)
                results += written.results
            if images:
                write_json(out / "results.json", results)
                write_json(out / "images.json", described_images(images, card))
                write_bytes(out / "legend.png", encode_png(legend(card.classes)))
        except OSError as error:
            raise unwritable(out, error) from None
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            raise CocosegError("memory does not suffice; expected a smaller --batch-size or smaller images") from None
    return Summary(predicted=len(images), failed=problems.count)


class _Problems:
    """What could not be predicted, told as it comes."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.count = 0
        for line in lines:
            self.tell(line)

    def tell(self, line: str) -> None:
        """One line more, above the progress bar."""
        self.count += 1
        tqdm.write(f"cocoseg predict: {line}", file=sys.stderr)

    def without(
        self, attempts: Iterator[tuple[Photo, NDArray[np.uint8] | str]], total: int
    ) -> Iterator[tuple[Photo, NDArray[np.uint8]]]:
        """The images that could be read."""
        for photo, image in tqdm(attempts, total=total, desc="predict", unit="image", disable=None):
            if isinstance(image, str):
                self.tell(image)
            else:
                yield photo, image


def _attempt(photo: Photo) -> tuple[Photo, NDArray[np.uint8] | str]:
    """The pixels of a photo, or why there are none."""
    try:
        return photo, read_photo(photo.path)
    except CocosegError as error:
        return photo, str(error)


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    return cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[
        1
    ].tobytes()
