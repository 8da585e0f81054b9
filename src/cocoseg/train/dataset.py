"""Batches for training and validation: decoded once, kept small, the same for any number of workers."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from lightning_fabric import Fabric
from torch import Tensor, distributed
from torch.utils.data import DataLoader, Dataset, Sampler
from tqdm import tqdm

from cocoseg.core.errors import CocosegError
from cocoseg.images.pairs import Pair, read_mask, read_reduced
from cocoseg.model.preprocessing import Placement, Preprocessing, placed_image, placed_mask, placement, stored_size_px
from cocoseg.train.augment import SCALES, AugmentName, augmentation, augmented
from cocoseg.train.devices import node_count
from cocoseg.train.memory import free_memory_bytes
from cocoseg.train.params import TrainParams
from cocoseg.train.sample_cache import Shelves
from cocoseg.user_cache import cache_folder
from cocoseg.workers import worker_count

# Decoded images may take this share of the memory that is free when training starts.
MEMORY_SHARE = 0.3


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Images (3, h, w) and masks (h, w), uint8, at the network's size.

    Every random choice comes from (`seed`, epoch, index) alone, so the number of workers and processes changes nothing.
    """

    def __init__(
        self, pairs: Sequence[Pair], classes: int, preprocessing: Preprocessing, augment: AugmentName | None, seed: int
    ) -> None:
        """`augment` is `None` for validation: whole images, placed as in evaluation."""
        self.pairs = pairs
        self.classes = classes
        self.preprocessing = preprocessing
        self.seed = seed
        self.zoom = SCALES[augment][1] if augment else 1.0
        self.transforms = augmentation(augment, preprocessing.image_size_px) if augment else None
        # An input that has the right size already needs no transforms that could only leave it as it is.
        if augment == "none" and preprocessing.resize != "short_side":
            self.transforms = None
        self.shelves: Shelves | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The sample of `key`: epoch and index."""
        epoch, index = key
        image, mask = (self.shelves and self.shelves.get(index)) or self.decoded(index)
        if self.transforms is None:
            return image, mask
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(sample_seed(self.seed, epoch, index))
            return augmented(self.transforms, image, mask)

    def decoded(self, index: int) -> tuple[Tensor, Tensor]:
        """The sample as it is kept: placed, not yet augmented."""
        mask = read_mask(self.pairs[index], self.classes)
        height, width = mask.shape
        size_px = stored_size_px(height, width, self.preprocessing.image_size_px, self.zoom)
        place = placement(height, width, size_px, self.preprocessing.resize)
        image, divisor = read_reduced(self.pairs[index], height, width, place.content_height, place.content_width)
        pixels = shrunk(torch.from_numpy(image).permute(2, 0, 1), place, divisor)
        # contiguous: a view of the channels-last file order is slower to augment and to stack
        return placed_image(pixels, place).contiguous(), placed_mask(torch.from_numpy(mask), place).contiguous()

    def keep(self, description: str) -> bool:
        """Decode what fits into the memory budget and on the cache's disk, several at a time; True if all of it did."""
        self.close()
        memory_bytes = MEMORY_SHARE * free_memory_bytes() / processes_here()
        self.shelves = Shelves(len(self), memory_bytes, _disk_folder())
        with (
            ThreadPoolExecutor(worker_count()) as pool,
            tqdm(total=len(self), desc=description, unit="image", disable=None, leave=False) as bar,
        ):
            # In slices, so that no more is decoded than will be kept.
            for start in range(0, len(self), 64):
                indices = range(start, min(start + 64, len(self)))
                for index, sample in zip(indices, pool.map(self.decoded, indices), strict=True):
                    if not self.shelves.put(index, *sample):
                        return False
                    bar.update()
        return True

    def close(self) -> None:
        """Forget what was kept. Not needed for its memory and disk, which are free once the object is gone."""
        if self.shelves is not None:
            self.shelves.close()
            self.shelves = None


def shrunk(image: Tensor, place: Placement, divisor: int) -> Tensor:
    """An image (3, ⌈height / divisor⌉, ⌈width / divisor⌉) at the size of its content; as it is for a divisor of 1."""
    if divisor == 1 or image.shape[1:] == (place.content_height, place.content_width):
        return image
    # Factors and not a size: the last row and column may stand for fewer pixels than the others, and the image would
    # be stretched by what they lack. Factor times input is rounded down, hence the hair more.
    factors = (place.content_height / place.height, place.content_width / place.width)
    scale = [factor * divisor * (1 + 1e-9) for factor in factors]
    return F.interpolate(image[None], scale_factor=scale, mode="bilinear", antialias=True)[0]


class TrainingBatches(Sampler[list[tuple[int, int]]]):
    """The batches of one epoch: a permutation cut into global batches, of which each process takes its share.

    A last batch that would leave a process fewer than two samples is left out, as BatchNorm cannot learn from one.
    """

    def __init__(self, samples: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1) -> None:
        self.samples = samples
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(sample_seed(self.seed, self.epoch, -1))
        order = torch.randperm(self.samples, generator=generator).tolist()
        if len(order) < self._least():
            order = (order * self._least())[: self._least()]
        for batch in range(len(self)):
            indices = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(self.epoch, index) for index in indices[self.rank :: self.world_size]]

    def __len__(self) -> int:
        full, rest = divmod(self.samples, self.batch_size)
        return max(1, full + (rest >= self._least()))

    def _least(self) -> int:
        return min(2 * self.world_size, self.batch_size)


class ValidationBatches(Sampler[list[tuple[int, int]]]):
    """Every sample exactly once over all processes: no padding, for a repeated sample would count twice."""

    def __init__(self, samples: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, samples, world_size)
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield [(0, index) for index in self.indices[start : start + self.batch_size]]

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)


def loader(
    samples: Samples, batches: Sampler[list[tuple[int, int]]], workers: int, pin_memory: bool
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches of images (N, 3, h, w) and masks (N, h, w), uint8."""
    return _Batches(
        samples,
        batch_sampler=batches,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=_start_worker if workers else None,
        # Its own: from the global one it would draw once an epoch or once a run, depending on the workers, and dropout
        # would differ with them.
        generator=torch.Generator().manual_seed(samples.seed),
    )


class _Batches(DataLoader[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            yield from super().__iter__()
        except CocosegError as error:
            # From a worker it comes with a traceback in its text, whose last line is what was said.
            raise CocosegError(str(error).splitlines()[-1].removeprefix("cocoseg.core.errors.CocosegError: ")) from None


class Side(NamedTuple):
    """One side of a run: its samples, the batches that each epoch makes of them, and those batches loaded."""

    samples: Samples
    plan: Any
    batches: DataLoader[tuple[Tensor, Tensor]]


def training_side(
    pairs: Sequence[Pair], preprocessing: Preprocessing, classes: Sequence[str], params: TrainParams, fabric: Fabric
) -> Side:
    """Return the training side: augmented, in another order each epoch."""
    samples = Samples(pairs, len(classes), preprocessing, params.augment, params.seed)
    plan = TrainingBatches(len(samples), params.batch_size, params.seed, fabric.global_rank, fabric.world_size)
    return _side(samples, plan, "training images", fabric)


def validation_side(
    pairs: Sequence[Pair], preprocessing: Preprocessing, classes: Sequence[str], params: TrainParams, fabric: Fabric
) -> Side:
    """Return the validation side: each image once, placed as in evaluation."""
    samples = Samples(pairs, len(classes), preprocessing, None, params.seed)
    # Images of unequal size go through alone: in a batch a border would change their edges.
    batch_size = 1 if params.resize == "short_side" else params.batch_size
    plan = ValidationBatches(len(samples), batch_size, fabric.global_rank, fabric.world_size)
    return _side(samples, plan, "validation images", fabric)


def _side(samples: Samples, plan: Sampler[list[tuple[int, int]]], description: str, fabric: Fabric) -> Side:
    kept = samples.keep(description)
    on_cpu = fabric.device.type == "cpu"
    workers = 0 if kept and on_cpu else min(-(-worker_count() // processes_here()), 16)
    return Side(samples, plan, loader(samples, plan, workers, pin_memory=fabric.device.type == "cuda"))


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """A seed of 64 bits that differs for each of its arguments."""
    return int(np.random.SeedSequence([seed, epoch, index + 1]).generate_state(1, np.uint64)[0])


def _disk_folder() -> Path | None:
    try:
        return cache_folder()
    except CocosegError:  # no place to write is no reason not to train
        return None


def processes_here() -> int:
    """Processes of this run that share the machine's memory."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return -(-distributed.get_world_size() // node_count())


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # one thread a worker: more would fight over the same cores
