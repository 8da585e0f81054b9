"""Images through a trained network: decoded ahead, in batches, on the accelerator where there is one."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cocoseg.model.preprocessing import Placement, Preprocessing, normalized, placed_image, placement
from cocoseg.model.weights import ModelInfo
from cocoseg.workers import ahead, worker_count

BATCH_SIZE = 16  # at most: what was trained in smaller batches is predicted in them
_BATCH_PIXELS = 2**26  # of the images' own, 200 MB: photographs of a phone come in smaller batches

Key = TypeVar("Key")
_Batch = list[tuple[Key, NDArray[np.uint8], Placement]]


class Predicted(NamedTuple, Generic[Key]):
    """One image, RGB (H, W, 3) uint8, and its logits (C, input_height, input_width), float32 on their device."""

    key: Key
    image: NDArray[np.uint8]
    logits: Tensor
    place: Placement


def predict_logits(
    model: nn.Module,
    info: ModelInfo,
    images: Iterable[tuple[Key, NDArray[np.uint8]]],
    *,
    batch_size: int | None = None,
    flips: bool = False,
) -> Iterator[Predicted[Key]]:
    """The logits of each image, in order; `flips` averages them with those of its mirror image."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    model = model.to(device).to(memory_format=torch.channels_last).eval()
    trained = info.params.get("batch_size")  # a stranger's file may say anything
    most = batch_size or (min(BATCH_SIZE, trained) if isinstance(trained, int) and trained > 0 else BATCH_SIZE)
    # A core for each of several passes at a time: cores that share one wait for whichever also reads or writes a file.
    passes = min(worker_count(), most) if device.type == "cpu" else 1

    def forward(batch: _Batch[Key]) -> tuple[_Batch[Key], Tensor]:
        stacked = torch.stack(
            [placed_image(torch.from_numpy(image).permute(2, 0, 1), place) for _, image, place in batch]
        )
        with torch.inference_mode():
            inputs = normalized(stacked.to(device), info.preprocessing)
            logits = model(inputs).float()
            if flips:
                logits = (logits + model(inputs.flip(-1)).float().flip(-1)) / 2
            if device.type == "mps":  # two threads that use it at once end the process: pytorch/pytorch#197805
                logits = logits.cpu()
            return batch, logits.contiguous()  # by channel, which is enlarged in half the time of channels last

    with sharing_cores(passes) as pool:
        for batch, logits in ahead(
            pool, forward, _batches(images, info.preprocessing, most // passes), passes, _pixels
        ):
            for own in logits:
                yield _predicted(batch.pop(0), own)  # so that nothing here holds an image that its user let go


def _predicted(entry: tuple[Key, NDArray[np.uint8], Placement], logits: Tensor) -> Predicted[Key]:
    key, image, place = entry
    return Predicted(key, image, logits, place)


def _pixels(batch: _Batch[Key]) -> int:
    return sum(place.height * place.width for _, _, place in batch)


@contextmanager
def sharing_cores(count: int) -> Iterator[ThreadPoolExecutor]:
    """As many threads, among which PyTorch's cores are divided."""
    cores = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(max(1, cores // count),)) as pool:
            yield pool
    finally:
        torch.set_num_threads(cores)  # of threads that are yet to come


def _batches(
    images: Iterable[tuple[Key, NDArray[np.uint8]]], preprocessing: Preprocessing, most: int
) -> Iterator[_Batch[Key]]:
    """At most `most` images of one input size together."""
    batch: _Batch[Key] = []
    pixels = 0
    for key, image in images:
        height, width = image.shape[:2]
        place = placement(height, width, preprocessing.image_size_px, preprocessing.resize)
        size = (place.input_height, place.input_width)
        full = len(batch) == most or pixels + height * width > _BATCH_PIXELS
        if batch and (full or size != (batch[0][2].input_height, batch[0][2].input_width)):
            yield batch
            batch, pixels = [], 0
        batch.append((key, image, place))
        pixels += height * width
        del image
        if pixels + height * width > _BATCH_PIXELS:  # not to hold a gigantic one while the next is decoded
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
