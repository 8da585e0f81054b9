"""Batches for training and validation, the same for any number of workers. Images are decoded once and kept small."""

import re
import shutil
import sys
from collections import Counter
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
from cocoseg.core.interrupt import children_without_ctrl_c
from cocoseg.core.lifetime import end_with_parent
from cocoseg.core.work_tree import is_first_process
from cocoseg.images.pairs import Pair, mask_pixels, mask_size, read_mask, read_reduced
from cocoseg.model.params import is_own
from cocoseg.model.preprocessing import Placement, Preprocessing, placed_image, placed_mask, placement, stored_size_px
from cocoseg.train.augment import SCALES, augmentation, augmented
from cocoseg.train.devices import node_count
from cocoseg.train.memory import MOST_IN_HEAP_BYTES, free_memory_bytes, keep_freed_memory
from cocoseg.train.own_parts import TRIED_SAMPLES, OwnAugmentation
from cocoseg.train.params import AugmentName, FlipsName, TrainParams
from cocoseg.train.sample_cache import SampleCache
from cocoseg.train.sampling import drawn
from cocoseg.user_cache import cache_folder
from cocoseg.workers import PixelBudget, counted_in, worker_count

_BUDGET = PixelBudget()

Loader = DataLoader[tuple[Tensor, Tensor]]
"""Batches of images (N, 3, h, w) and masks (N, h, w), uint8."""

MEMORY_SHARE = 0.3
"""The share of the memory free at the start of training that decoded images may take."""
_REPEAT = 2**17  # of an image within an epoch, in the key's place of the epoch: above the largest that params allow


class SegmentationDataset(Dataset[tuple[Tensor, Tensor]]):
    """Images (3, h, w) and masks (h, w), uint8, at the size of the network's input.

    A key is (epoch, index), and (epoch + `_REPEAT` · n, index) where the epoch has had the index n times before. All
    that is random in a sample comes from `seed` and key alone, so the number of workers and processes changes nothing.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        classes: int,
        preprocessing: Preprocessing,
        augment: AugmentName | None,
        seed: int,
        flips: FlipsName = "horizontal",
    ) -> None:
        """Prepare the samples of `pairs`. `augment` is `None` for validation: whole images, placed as in evaluation."""
        self.pairs = pairs
        self.classes = classes
        self.preprocessing = preprocessing
        self.seed = seed
        self.zoom = SCALES[augment][1] if augment else 1.0
        size, resize = preprocessing.image_size_px, preprocessing.resize
        # Without augmentation and at the right size already, the transforms would leave every image as it is.
        changed = augment and (augment != "none" or resize in ("short_side", "crop"))
        self.transforms = augmentation(augment, size, resize, flips) if augment and changed else None
        self.own: OwnAugmentation | None = None  # in addition
        self.cache: SampleCache | None = None

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, Tensor]:
        epoch, index = key
        image, mask = (self.cache and self.cache.get(index)) or self.decoded(index)
        if self.transforms is None and self.own is None:
            return image, mask
        seed = sample_seed(self.seed, epoch, index)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            if self.transforms is not None:
                image, mask = augmented(self.transforms, image, mask)
            return (image, mask) if self.own is None else self.own(image, mask, seed)

    def decoded(self, index: int) -> tuple[Tensor, Tensor]:
        """Return the sample as the cache keeps it: at its size, before augmentation."""
        mask = read_mask(self.pairs[index], self.classes)
        height, width = mask.shape
        size_px = stored_size_px(height, width, self.preprocessing.image_size_px, self.zoom)
        place = placement(height, width, size_px, self.preprocessing.resize)
        image, divisor = read_reduced(self.pairs[index], height, width, place.content_height, place.content_width)
        pixels = shrunk(torch.from_numpy(image).permute(2, 0, 1), place, divisor)
        # contiguous: a view of channels-last pixels, as they come from the file, is slower to augment and to stack
        return placed_image(pixels, place).contiguous(), placed_mask(torch.from_numpy(mask), place).contiguous()

    def _decoded_within(self, index: int) -> tuple[Tensor, Tensor]:
        with _BUDGET.holding(mask_pixels(self.pairs[index])):
            return self.decoded(index)

    def fill_cache(self, description: str) -> bool:
        """Decode samples in parallel until memory and disk are full; return whether all of them fit.

        `description` is the label of the progress bar. Memory is full at this process's part of `MEMORY_SHARE`.
        """
        self.close()
        memory_bytes = MEMORY_SHARE * free_memory_bytes() / processes_here()
        disable = None if is_first_process() else True
        self.cache = SampleCache(len(self), memory_bytes, _disk_folder())
        with (
            ThreadPoolExecutor(worker_count()) as pool,
            tqdm(total=len(self), desc=description, unit="image", disable=disable, leave=False) as bar,
        ):
            # In slices, so that hardly more is decoded than fits.
            for start in range(0, len(self), 64):
                indices = range(start, min(start + 64, len(self)))
                for index, sample in zip(indices, pool.map(self._decoded_within, indices), strict=True):
                    if not self.cache.put(index, *sample):
                        return False
                    bar.update()
        return True

    def close(self) -> None:
        """Empty the cache. Its memory and disk space are freed without this, too, once the object is gone."""
        if self.cache is not None:
            self.cache.close()
            self.cache = None


def shrunk(image: Tensor, place: Placement, divisor: int) -> Tensor:
    """Resize an image that was decoded at 1 / `divisor` of its size, to the size of its content in the input.

    `image`: (3, ⌈height / divisor⌉, ⌈width / divisor⌉). With a divisor of 1 it is returned as it is.
    """
    if divisor == 1 or image.shape[1:] == (place.content_height, place.content_width):
        return image
    # By factors and not to a size: the last row and column may stand for fewer pixels than the others, and resizing to
    # a size would stretch the image by what they lack. torch rounds factor times size down, hence the 1e-9.
    factors = (place.content_height / place.height, place.content_width / place.width)
    scale = [factor * divisor * (1 + 1e-9) for factor in factors]
    return F.interpolate(image[None], scale_factor=scale, mode="bilinear", antialias=True)[0]


class TrainingBatchSampler(Sampler[list[tuple[int, int]]]):
    """The keys of an epoch's batches: a permutation cut into global batches, of which each process takes its share.

    With `factors`, an epoch has as many samples, but more of those with larger factors, each augmented differently.
    Set `epoch` before each epoch. A last batch that would leave a process fewer than two samples is dropped, since
    BatchNorm cannot learn from one.
    """

    def __init__(
        self,
        samples: int,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        factors: Sequence[float] | None = None,
        times: Sequence[int] | None = None,
    ) -> None:
        """Prepare the batches. `factors`: how often to draw each sample, of `repeat_factors`; `None` for equally often.

        `times`: how many crops an epoch shows of each sample; `None` for one.
        """
        self.indices = torch.arange(samples)
        if times is not None:
            self.indices = self.indices.repeat_interleave(torch.tensor(times))
        self.factors = None if factors is None else torch.tensor(factors)[self.indices]
        self.batch_size = batch_size
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        generator = torch.Generator().manual_seed(sample_seed(self.seed, self.epoch, -1))
        if self.factors is None:
            places = torch.randperm(len(self.indices), generator=generator)
        else:
            places = torch.tensor(drawn(self.factors, generator))
        order = self.indices[places].tolist()
        if len(order) < self._smallest_batch():
            order = (order * self._smallest_batch())[: self._smallest_batch()]
        seen = Counter[int]()
        keys = []
        for index in order:
            keys.append((self.epoch + _REPEAT * seen[index], index))
            seen[index] += 1
        for batch, size in enumerate(self.sizes()):
            yield keys[batch * self.batch_size :][:size][self.rank :: self.world_size]

    def __len__(self) -> int:
        return len(self.sizes())

    def sizes(self) -> list[int]:
        """Return how many images each batch has, over all processes."""
        full, rest = divmod(len(self.indices), self.batch_size)
        last = [rest] if rest >= self._smallest_batch() else []
        return [self.batch_size] * full + last or [self._smallest_batch()]

    def _smallest_batch(self) -> int:
        return min(2 * self.world_size, self.batch_size)


class ValidationBatchSampler(Sampler[list[tuple[int, int]]]):
    """The keys of every sample exactly once over all processes. No padding: a repeated sample would count twice."""

    def __init__(self, samples: int, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, samples, world_size)
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield [(0, index) for index in self.indices[start : start + self.batch_size]]

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)


def loader(
    dataset: SegmentationDataset, sampler: Sampler[list[tuple[int, int]]], workers: int, pin_memory: bool
) -> Loader:
    """Return a loader of the batches whose keys `sampler` gives."""
    return _Loader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        pin_memory=pin_memory,
        persistent_workers=workers > 0,
        worker_init_fn=_start_worker if workers else None,
        # A generator of its own: how often it draws from the global one depends on the number of workers, and dropout
        # would then depend on it too.
        generator=torch.Generator().manual_seed(dataset.seed),
    )


class _Loader(DataLoader[tuple[Tensor, Tensor]]):
    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        try:
            with children_without_ctrl_c():
                batches = super().__iter__()
            yield from batches
        except CocosegError as error:
            # An error from a worker has a traceback as its message, which ends with the original message.
            raise CocosegError(str(error).splitlines()[-1].removeprefix("cocoseg.core.errors.CocosegError: ")) from None
        except (OSError, RuntimeError) as error:
            if not self.num_workers or (lacking := lacked_by_workers(str(error))) is None:
                raise
            raise CocosegError(f"{lacking}, or train without worker processes: COCOSEG_WORKERS=1 dvc repro") from None


def lacked_by_workers(error: str) -> str | None:
    """Return what worker processes lack and how to give them more, by the text of torch's error; `None` if nothing."""
    if re.search("Bus error|shared memory", error):
        size = f" ({shutil.disk_usage('/dev/shm').total >> 20} MB)" if Path("/dev/shm").is_dir() else ""
        return f"worker processes need more shared memory than /dev/shm has{size}; start a container with --shm-size=8g"
    if re.search("Too many open files|items of ancdata", error):
        return "worker processes need more open files than allowed; allow more with: ulimit -n 4096"
    return None


class LoadedSide(NamedTuple):
    """One side of the split, ready for a run."""

    dataset: SegmentationDataset
    sampler: Any
    """Of the training side a `TrainingBatchSampler`, of the validation side a `ValidationBatchSampler`."""
    loader: Loader


def training_side(
    pairs: Sequence[Pair],
    preprocessing: Preprocessing,
    classes: Sequence[str],
    params: TrainParams,
    fabric: Fabric,
    factors: Sequence[float] | None = None,
) -> LoadedSide:
    """Return the training side: augmented, in a new order each epoch, each image as often as its factor says."""
    times = crop_counts(pairs, params) if params.resize == "crop" else None
    own = OwnAugmentation(params.augment, len(classes)) if is_own(params.augment) else None
    augment: Any = "none" if own else params.augment
    dataset = SegmentationDataset(pairs, len(classes), preprocessing, augment, params.seed, params.flips)
    if own is not None:
        own.check([dataset[0, index] for index in range(min(TRIED_SAMPLES, len(dataset)))])
        dataset.own = own
    processes = fabric.global_rank, fabric.world_size
    sampler = TrainingBatchSampler(len(dataset), params.batch_size, params.seed, *processes, factors, times)
    return _loaded_side(dataset, sampler, "training images", fabric)


def crop_counts(pairs: Sequence[Pair], params: TrainParams) -> list[int]:
    """Return how many crops of each image an epoch shows, and say how many that are.

    Raises `CocosegError` if all crops are larger than their image: they would be mostly border.
    """
    sizes = [mask_size(pair) for pair in pairs]
    _check_crop([max(size) for size in sizes], params.image_size_px)
    pixels = params.image_size_px**2
    counts = [params.crops_per_image or max(1, round(height * width / pixels)) for height, width in sizes]
    if is_first_process():
        tqdm.write(f"train: an epoch shows {sum(counts):,} crops of {len(counts):,} images", file=sys.stderr)
    return counts


def _check_crop(sides: Sequence[int], image_size_px: int) -> None:
    """Say if most crops are larger than their image, by the images' longer sides."""
    if (largest := max(sides)) < image_size_px:
        raise CocosegError(
            f"resize is crop, and image_size_px {image_size_px} is larger than every training image; their longest "
            f"side is {largest}: expected at most that, or another resize, such as squash"
        )
    small = sum(side < image_size_px for side in sides)
    if 2 * small > len(sides) and is_first_process():
        tqdm.write(
            f"train: {small:,} of {len(sides):,} training images are smaller than a crop of {image_size_px} pixels, "
            "and what lies outside them is ignored; a smaller image_size_px or another resize would learn more",
            file=sys.stderr,
        )


def validation_side(
    pairs: Sequence[Pair], preprocessing: Preprocessing, classes: Sequence[str], params: TrainParams, fabric: Fabric
) -> LoadedSide:
    """Return the validation side: each image once, placed as in evaluation."""
    dataset = SegmentationDataset(pairs, len(classes), preprocessing, None, params.seed)
    # Images of different sizes are not batched: they would need a border, which changes the logits at their edges.
    batch_size = 1 if params.resize in ("short_side", "crop") else params.batch_size
    sampler = ValidationBatchSampler(len(dataset), batch_size, fabric.global_rank, fabric.world_size)
    return _loaded_side(dataset, sampler, "validation images", fabric)


def _loaded_side(
    dataset: SegmentationDataset, sampler: Sampler[list[tuple[int, int]]], description: str, fabric: Fabric
) -> LoadedSide:
    all_cached = dataset.fill_cache(description)
    on_cpu = fabric.device.type == "cpu"
    alone = counted_in("COCOSEG_WORKERS") == 1  # this process; one more would need shared memory
    workers = 0 if alone or (all_cached and on_cpu) else min(-(-worker_count() // processes_here()), 16)
    return LoadedSide(dataset, sampler, loader(dataset, sampler, workers, pin_memory=fabric.device.type == "cuda"))


def sample_seed(seed: int, epoch: int, index: int) -> int:
    """Return a 64-bit seed of its own for each combination of arguments."""
    return int(np.random.SeedSequence([seed, epoch, index + 1]).generate_state(1, np.uint64)[0])


def _disk_folder() -> Path | None:
    try:
        return cache_folder()
    except CocosegError:  # training works without a disk cache
        return None


def processes_here() -> int:
    """Return how many processes of this run share the memory of this machine."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return -(-distributed.get_world_size() // node_count())


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # no threads of its own: those of all workers would compete for the same cores
    keep_freed_memory(MOST_IN_HEAP_BYTES)  # less than its parent: each would hold its largest photograph for good
    end_with_parent()
