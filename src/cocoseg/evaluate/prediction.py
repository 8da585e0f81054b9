"""Predict images with a trained model, in batches, on the accelerator if there is one."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from functools import partial
from threading import Lock
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cocoseg.core.errors import CocosegError
from cocoseg.evaluate.scales import ONE_SCALE, averaged_logits, averaged_strips, scaled_px
from cocoseg.model.own_code import own_errors_explained
from cocoseg.model.preprocessing import Placement, Preprocessing, normalized, placed_image, placement, unresized
from cocoseg.model.weights import ModelInfo, output_channels
from cocoseg.model.windows import BorderName, rows_of_parts, windowed_logits
from cocoseg.workers import ahead, worker_count

BATCH_SIZE = 16  # at most: a model that was trained with smaller batches predicts in those
_WINDOW_PIXELS = 2**20  # at most at a time on a CPU, which gains nothing from more
_WINDOW_VALUES = 2**24  # likewise, 64 MB of logits
_BATCH_PIXELS = 2**26  # at most, before resizing, 200 MB: photographs from a phone come in smaller batches

Key = TypeVar("Key")
Result = TypeVar("Result")
_Batch = list[tuple[Key, NDArray[np.uint8], Sequence[Placement]]]


class Predicted(NamedTuple, Generic[Key]):
    """One image, RGB (H, W, 3) uint8, and its logits, to be read once."""

    key: Key
    image: NDArray[np.uint8]
    parts: Iterable[tuple[Tensor, Placement]]
    """Logits (C, input_height, input_width), float32 on their device, and where they lie in the part of the image that
    they are of: all of it, but for `resize: crop`. Then row by row of parts, each from left to right."""
    place: Placement


def predict_logits(
    model: nn.Module,
    info: ModelInfo,
    images: Iterable[tuple[Key, NDArray[np.uint8]]],
    *,
    batch_size: int | None = None,
    flips: bool = False,
    scales: Sequence[float] = ONE_SCALE,
    border: BorderName = "none",
) -> Iterator[Predicted[Key]]:
    """Yield the logits of each image, in order; `flips` averages them with those of the mirrored image.

    `scales`: the logits are averaged over images that are as much larger. `border`: as in `windowed_logits`, for
    `resize: crop` alone. A key comes back with its image and is not used otherwise.
    """
    return _predict(model, info, images, lambda one: one, batch_size, flips, scales, border)


def predict_each(
    model: nn.Module,
    info: ModelInfo,
    images: Iterable[tuple[Key, NDArray[np.uint8]]],
    finish: Callable[[Predicted[Key]], Result],
) -> Iterator[Result]:
    """Yield what `finish` makes of each image, in order.

    On a CPU, several at a time: each core then goes its way from the pass to the result, and waits for no other.
    """
    return _predict(model, info, images, finish, None, flips=False, scales=ONE_SCALE, border="none")


def _predict(
    model: nn.Module,
    info: ModelInfo,
    images: Iterable[tuple[Key, NDArray[np.uint8]]],
    finish: Callable[[Predicted[Key]], Result],
    batch_size: int | None,
    flips: bool,
    scales: Sequence[float],
    border: BorderName,
) -> Iterator[Result]:
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    model = model.to(device).to(memory_format=torch.channels_last).eval()
    trained = info.params.get("batch_size")  # of any type: model.json may come from anywhere
    most = batch_size or (min(BATCH_SIZE, trained) if isinstance(trained, int) and trained > 0 else BATCH_SIZE)
    logits_of = _forward(model, info.preprocessing, device, flips)
    if info.preprocessing.resize != "crop":
        # Several passes at once, one core each: cores that share a pass wait for the one that also reads or writes a
        # file.
        passes = min(worker_count(), most) if device.type == "cpu" else 1
        yield from _by_batches(logits_of, _batches(images, info.preprocessing, most // passes, scales), passes, finish)
        return
    window = info.preprocessing.image_size_px
    pixels = min(_WINDOW_PIXELS, _WINDOW_VALUES // output_channels(info.task, info.classes))
    windows = max(1, min(most, pixels // window**2)) if device.type == "cpu" else most
    parts_of = partial(windowed_logits, logits_of, window=window, batch_size=windows, border=border)
    for key, image in images:
        yield finish(Predicted(key, image, _parts(parts_of, image, scales), unresized(*image.shape[:2])))


def _forward(
    model: nn.Module, preprocessing: Preprocessing, device: torch.device, flips: bool
) -> Callable[[Tensor], Tensor]:
    """Return what returns the float32 logits of uint8 images of one size."""
    # One thread at a time uses an accelerator; on MPS two would crash the process: pytorch/pytorch#197805
    turn = nullcontext() if device.type == "cpu" else Lock()

    def logits_of(stacked: Tensor) -> Tensor:
        with turn, torch.inference_mode(), own_errors_explained():
            inputs = normalized(stacked.to(device), preprocessing)
            logits: Tensor = model(inputs).float()
            if flips:
                logits = (logits + model(inputs.flip(-1)).float().flip(-1)) / 2
            if device.type == "mps":  # for other threads
                logits = logits.cpu()
            return logits.contiguous()  # channels first, which is resized in half the time of channels last

    return logits_of


def _by_batches(
    logits_of: Callable[[Tensor], Tensor],
    batches: Iterable[_Batch[Key]],
    passes: int,
    finish: Callable[[Predicted[Key]], Result],
) -> Iterator[Result]:
    def forward(batch: _Batch[Key]) -> tuple[_Batch[Key], list[Tensor]]:
        planes = [(torch.from_numpy(image).permute(2, 0, 1), places) for _, image, places in batch]
        scales = range(len(batch[0][2]))
        stacked = (torch.stack([placed_image(image, places[scale]) for image, places in planes]) for scale in scales)
        return batch, [logits_of(images) for images in stacked]

    def finished(batch: _Batch[Key], by_scale: Sequence[Tensor]) -> Iterator[Result]:
        for own in zip(*by_scale, strict=True):
            yield finish(_predicted(batch.pop(0), own))  # so that nothing here holds an image that its user let go

    with sharing_cores(passes) as pool:
        if passes == 1:  # the next pass begins meanwhile
            for batch, by_scale in ahead(pool, forward, batches, 1, _pixels):
                yield from finished(batch, by_scale)
            return
        for results in ahead(pool, lambda batch: deque(finished(*forward(batch))), batches, passes, _pixels):
            while results:
                yield results.popleft()


def _predicted(entry: tuple[Key, NDArray[np.uint8], Sequence[Placement]], logits: Sequence[Tensor]) -> Predicted[Key]:
    key, image, places = entry
    mean, place = averaged_logits(logits, places)
    return Predicted(key, image, [(mean, place)], place)


def joined_labels(parts: Iterable[NDArray[np.uint8]], width: int) -> NDArray[np.uint8]:
    """Return the labels (H, `width`) of an image from those of its parts."""
    rows = list(rows_of_parts(parts, width, np.hstack))
    return np.concatenate(rows) if len(rows) > 1 else rows[0]


def _parts(
    parts_of: Callable[[Tensor], Iterator[Tensor]], image: NDArray[np.uint8], scales: Sequence[float]
) -> Iterator[tuple[Tensor, Placement]]:
    """Yield the parts of an image by windows, each when it is asked for: all at once would not fit into memory."""

    def strips_of(pixels: Tensor) -> Iterator[Tensor]:
        return rows_of_parts(parts_of(pixels), pixels.shape[-1], partial(torch.cat, dim=-1))

    pixels = torch.from_numpy(image).permute(2, 0, 1)
    for logits in parts_of(pixels) if scales == ONE_SCALE else averaged_strips(strips_of, pixels, scales):
        yield logits, unresized(*logits.shape[1:])


def _pixels(batch: _Batch[Key]) -> int:
    return sum(places[0].height * places[0].width for _, _, places in batch)


def finite(logits: Tensor, place: str) -> Tensor:
    """Return the logits of the image `place`. Raises `CocosegError` if one is not finite: it would count as a class."""
    # The ends alone, in a fifth of the time: both are NaN if any is.
    if torch.isfinite(torch.stack(torch.aminmax(logits))).all():
        return logits
    raise CocosegError(
        f"{place}: the model's logits are not finite; its weights or the image's preprocessing are out of range; train "
        "it again, with a smaller lr, or restore it with: dvc checkout"
    )


@contextmanager
def sharing_cores(count: int) -> Iterator[ThreadPoolExecutor]:
    """Open a pool of `count` threads that share PyTorch's cores equally."""
    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(max(1, cores // count),)) as pool:
            yield pool
    finally:
        torch.set_num_threads(cores)  # for threads that start later


def _batches(
    images: Iterable[tuple[Key, NDArray[np.uint8]]], preprocessing: Preprocessing, most: int, scales: Sequence[float]
) -> Iterator[_Batch[Key]]:
    """Yield batches of at most `most` images that have the same input size, at every scale."""
    batch: _Batch[Key] = []
    pixels = 0
    for key, image in images:
        height, width = image.shape[:2]
        places = [
            placement(height, width, scaled_px(preprocessing.image_size_px, scale), preprocessing.resize)
            for scale in scales
        ]
        full = len(batch) == most or pixels + height * width > _BATCH_PIXELS
        if batch and (full or _sizes(places) != _sizes(batch[0][2])):
            yield batch
            batch, pixels = [], 0
        batch.append((key, image, places))
        pixels += height * width
        del image
        if pixels + height * width > _BATCH_PIXELS:  # not to hold a gigantic one while the next is decoded
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _sizes(places: Sequence[Placement]) -> list[tuple[int, int]]:
    return [(place.input_height, place.input_width) for place in places]
