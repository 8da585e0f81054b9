"""Time the input pipeline, from image and mask files to batches: `uv run python benchmarks/input.py`.

The files are JPEGs of 640×480 pixels like photographs, made of smooth noise, and PNG masks. All contenders run in one
process, in turns, in batches of 16: image (16, 3, h, w) and mask (16, h, w) uint8. The median of the rounds counts.

- plain: `cv2.imread`, `cv2.resize` and a tensor for each image, every epoch; one thread
- full decode: what ours does without the decoder's own reduction; one thread
- first epoch: ours, one thread; and cached, by `fill_cache`, which decodes with as many threads as there are cores
- memory, mapped file: ours in any later epoch, from memory or from the file on disk
- floor: indexing and stacking ready tensors, the lower bound

`--resize letterbox` needs 256×192 of 640×480 pixels, so that half the size is enough; for `squash`, which needs
256×256, half the height, 240, is not.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
from cocoseg.images.pairs import Pair, read_pair
from cocoseg.model.params import ResizeName
from cocoseg.model.preprocessing import Preprocessing, placed_image, placed_mask, placement
from cocoseg.train import dataset as dataset_module
from cocoseg.train.dataset import SegmentationDataset, ValidationBatchSampler, loader

HEIGHT, WIDTH = 480, 640
BATCH_SIZE = 16
CLASSES = 21

Sample = tuple[Tensor, Tensor]


def write_pairs(folder: Path, images: int) -> list[Pair]:
    """Write images of noise, of about as many bytes as COCO's, and their masks."""
    random = np.random.default_rng(0)
    found = []
    for number in range(images):
        shapes = cv2.resize(
            random.integers(0, 256, (15, 20, 3), dtype=np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
        )
        grain = cv2.GaussianBlur(random.normal(0, 25, (HEIGHT, WIDTH, 1)), (0, 0), 0.8)[..., None]
        image = (shapes + grain).clip(0, 255).astype(np.uint8)
        small = random.integers(0, CLASSES, (6, 8), dtype=np.uint8)
        mask = cv2.resize(small, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
        pair = Pair(file_name=f"{number}.jpg", image=folder / f"{number}.jpg", mask=folder / f"{number}.png")
        cv2.imwrite(str(pair.image), image, [cv2.IMWRITE_JPEG_QUALITY, 93])
        cv2.imwrite(str(pair.mask), mask)
        found.append(pair)
    return found


def plain(pair: Pair, size: int) -> Sample:
    """Load a sample as most training scripts do."""
    image = cv2.cvtColor(np.asarray(cv2.imread(str(pair.image))), cv2.COLOR_BGR2RGB)
    image = cv2.resize(image, (size, size), interpolation=cv2.INTER_LINEAR)
    mask = np.asarray(cv2.imread(str(pair.mask), cv2.IMREAD_GRAYSCALE))
    mask = cv2.resize(mask, (size, size), interpolation=cv2.INTER_NEAREST)
    return torch.from_numpy(image).permute(2, 0, 1).contiguous(), torch.from_numpy(mask)


def full_decode(pair: Pair, preprocessing: Preprocessing) -> Sample:
    """Load a sample as ours does, but decode the whole image."""
    image, mask = read_pair(pair, CLASSES)
    height, width = mask.shape
    place = placement(height, width, preprocessing.image_size_px, preprocessing.resize)
    pixels = torch.from_numpy(image).permute(2, 0, 1)
    return placed_image(pixels, place).contiguous(), placed_mask(torch.from_numpy(mask), place).contiguous()


def batched(sample: Callable[[int], Sample], count: int) -> Iterator[Sample]:
    """Yield batches of what `sample` returns for each index."""
    for start in range(0, count, BATCH_SIZE):
        parts = [sample(index) for index in range(start, min(start + BATCH_SIZE, count))]
        yield torch.stack([image for image, _ in parts]), torch.stack([mask for _, mask in parts])


def seconds(epoch: Callable[[], object]) -> float:
    """Return the seconds of one epoch."""
    started = time.perf_counter()
    epoch()
    return time.perf_counter() - started


def kept(pairs: list[Pair], preprocessing: Preprocessing, memory_share: float) -> SegmentationDataset:
    """Return a dataset that is cached in memory, or with a share of 0 on disk."""
    dataset_module.MEMORY_SHARE = memory_share
    dataset = SegmentationDataset(pairs, CLASSES, preprocessing, None, seed=0)
    assert dataset.fill_cache("keep")
    return dataset


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--resize", choices=["squash", "letterbox"], action="append", help="default: both")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    resizes: list[ResizeName] = arguments.resize or ["letterbox", "squash"]
    with tempfile.TemporaryDirectory() as name:
        os.environ["COCOSEG_CACHE"] = str(Path(name, "cache"))
        pairs = write_pairs(Path(name), arguments.images)
        size_kb = statistics.mean(pair.image.stat().st_size for pair in pairs) / 1e3
        print(f"{len(pairs)} JPEG files of {WIDTH}×{HEIGHT} px and {size_kb:.0f} kB, {arguments.size} px, "
              f"{len(os.sched_getaffinity(0))} cores, torch with {torch.get_num_threads()} threads")  # fmt: skip
        for resize in resizes:
            compare(pairs, Preprocessing(image_size_px=arguments.size, resize=resize), arguments.rounds)


def compare(pairs: list[Pair], preprocessing: Preprocessing, rounds: int) -> None:
    """Print the rows for one way to resize."""
    count, size = len(pairs), preprocessing.image_size_px
    ours = SegmentationDataset(pairs, CLASSES, preprocessing, None, seed=0)
    memory, disk = kept(pairs, preprocessing, 0.3), kept(pairs, preprocessing, 0.0)
    assert memory.cache is not None
    assert disk.cache is not None
    assert (set(memory.cache.places[:, 0]), set(disk.cache.places[:, 0])) == ({1}, {2})
    ready = [memory.decoded(index) for index in range(count)]
    plan = ValidationBatchSampler(count, BATCH_SIZE)
    contenders: dict[str, Callable[[], object]] = {
        "plain": lambda: [None for _ in batched(lambda index: plain(pairs[index], size), count)],
        "full decode": lambda: [None for _ in batched(lambda index: full_decode(pairs[index], preprocessing), count)],
        "first epoch": lambda: [None for _ in batched(ours.decoded, count)],
        "first epoch, cached": lambda: kept(pairs, preprocessing, 0.3),
        "memory": lambda: [None for _ in loader(memory, plan, 0, False)],
        "mapped file": lambda: [None for _ in loader(disk, plan, 0, False)],
        "floor": lambda: [None for _ in batched(ready.__getitem__, count)],
    }
    times: dict[str, list[float]] = {contender: [] for contender in contenders}
    for _ in range(rounds):
        for contender, epoch in contenders.items():
            times[contender].append(seconds(epoch))
    print(f"{preprocessing.resize:20}{'images/s':>10}{'ms per image':>13}{'× plain':>10}{'of the floor':>14}")
    medians = {contender: statistics.median(values) for contender, values in times.items()}
    for contender, median in medians.items():
        print(
            f"{contender:20}{count / median:10,.0f}{1e3 * median / count:13.3f}{medians['plain'] / median:10.2f}"
            f"{medians['floor'] / median:14.1%}"
        )


if __name__ == "__main__":
    main()
