import re
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from small_data import write_pairs
from torch.utils.data import DataLoader
from train.test_loop import PARAMS

from cocoseg.core.errors import CocosegError
from cocoseg.images.headers import read_header
from cocoseg.images.pairs import Pair, mask_pixels, read_pair, read_reduced
from cocoseg.model.preprocessing import Preprocessing, placed_image, placement
from cocoseg.train.dataset import (
    MEMORY_SHARE,
    SegmentationDataset,
    TrainingBatchSampler,
    ValidationBatchSampler,
    loader,
    sample_seed,
    shrunk,
    validation_side,
)
from cocoseg.workers import PixelBudget

COCO_REAL = Path(__file__).parents[1].parent.parent / "shared" / "data" / "coco-real"

SQUASH = Preprocessing(image_size_px=16, resize="squash")


def indices(sampler: TrainingBatchSampler) -> list[list[int]]:
    return [[index for _, index in batch] for batch in sampler]


def test_an_epoch_shows_every_sample_once_in_an_order_of_its_own() -> None:
    sampler = TrainingBatchSampler(samples=12, batch_size=4, seed=0)
    first = indices(sampler)
    assert sorted(index for batch in first for index in batch) == list(range(12))
    sampler.epoch = 1
    assert indices(sampler) != first
    sampler.epoch = 0
    assert indices(sampler) == first


def test_a_last_batch_of_one_is_left_out_and_one_of_two_is_not() -> None:
    assert [len(batch) for batch in indices(TrainingBatchSampler(9, 4, seed=0))] == [4, 4]
    assert [len(batch) for batch in indices(TrainingBatchSampler(10, 4, seed=0))] == [4, 4, 2]
    assert [len(batch) for batch in indices(TrainingBatchSampler(3, 1, seed=0))] == [1, 1, 1]


def test_a_single_sample_makes_a_batch_of_two() -> None:
    assert indices(TrainingBatchSampler(1, 4, seed=0)) == [[0, 0]]


@pytest.mark.parametrize("samples", [8, 9, 10, 11, 12])
def test_two_processes_share_the_batches_of_one(samples: int) -> None:
    alone = indices(TrainingBatchSampler(samples, 4, seed=3))
    shares = [indices(TrainingBatchSampler(samples, 4, seed=3, rank=rank, world_size=2)) for rank in range(2)]
    assert len(shares[0]) == len(shares[1])
    for whole, one, other in zip(alone, *shares, strict=False):
        assert sorted(one + other) == sorted(whole)
        assert min(len(one), len(other)) >= 2 or len(whole) < 4


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_validation_takes_every_sample_exactly_once_over_all_processes(world_size: int) -> None:
    seen = [
        index
        for rank in range(world_size)
        for batch in ValidationBatchSampler(10, 4, rank, world_size)
        for _, index in batch
    ]
    assert sorted(seen) == list(range(10))


def test_a_sample_depends_on_seed_epoch_and_index_alone(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 2)
    dataset = SegmentationDataset(pairs, 3, SQUASH, "light", seed=0)
    before = dataset[3, 1]
    torch.rand(100)
    assert dataset.fill_cache("test")
    again = dataset[3, 1]
    assert all(torch.equal(a, b) for a, b in zip(before, again, strict=True))
    others = [dataset[4, 1], SegmentationDataset(pairs, 3, SQUASH, "light", seed=1)[3, 1]]
    assert not any(torch.equal(before[0], other[0]) for other in others)


def test_drawing_a_sample_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    dataset = SegmentationDataset(write_pairs(tmp_path, 1), 3, SQUASH, "strong", seed=0)
    state = torch.get_rng_state()
    dataset[0, 0]
    assert torch.equal(torch.get_rng_state(), state)


def test_workers_give_the_same_batches_as_none(tmp_path: Path) -> None:
    dataset = SegmentationDataset(write_pairs(tmp_path, 6), 3, SQUASH, "light", seed=0)
    sampler = TrainingBatchSampler(6, 3, seed=0)
    alone, helped = list(loader(dataset, sampler, 0, False)), list(loader(dataset, sampler, 1, False))
    for (image, mask), (other_image, other_mask) in zip(alone, helped, strict=True):
        assert torch.equal(image, other_image)
        assert torch.equal(mask, other_mask)


@pytest.mark.parametrize("memory_share", [0.3, 0.0])
def test_what_is_kept_in_memory_or_on_disk_is_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory_share: float
) -> None:
    monkeypatch.setenv("COCOSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("cocoseg.train.dataset.MEMORY_SHARE", memory_share)
    pairs = write_pairs(tmp_path, 2)
    dataset = SegmentationDataset(pairs, 3, SQUASH, None, seed=0)
    image, mask = dataset.decoded(1)
    assert dataset.fill_cache("test")
    for pair in pairs:
        pair.image.unlink()
    assert torch.equal(dataset[0, 1][0], image)
    assert torch.equal(dataset[0, 1][1], mask)


def test_what_fits_nowhere_is_read_when_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("cocoseg.train.sample_cache.DISK_RESERVE", 1.0)
    # 16 × 16 pixels, an image and a mask: 1,024 bytes. Two processes share a budget for five samples: two each.
    monkeypatch.setattr("cocoseg.train.dataset.free_memory_bytes", lambda: 5 * 1024 / MEMORY_SHARE)
    monkeypatch.setattr("cocoseg.train.dataset.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("cocoseg.train.dataset.distributed.get_world_size", lambda: 2)
    pairs = write_pairs(tmp_path, 3)
    dataset = SegmentationDataset(pairs, 3, SQUASH, None, seed=0)
    assert not dataset.fill_cache("test")
    for pair in pairs[:2]:
        pair.image.unlink()
    assert all(dataset[0, index][0].shape == (3, 16, 16) for index in range(3))
    dataset.close()
    assert dataset[0, 2][0].shape == (3, 16, 16)
    with pytest.raises(CocosegError, match=r"000\.png: not found"):
        dataset[0, 0]


def test_images_are_decoded_within_a_budget_of_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = write_pairs(tmp_path, 6)
    held: list[int] = []
    pixels = mask_pixels(pairs[0])
    budget = PixelBudget(2 * pixels)
    monkeypatch.setattr("cocoseg.train.dataset._BUDGET", budget)
    monkeypatch.setenv("COCOSEG_WORKERS", "6")
    decoded = SegmentationDataset.decoded

    def watched(self: SegmentationDataset, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        time.sleep(0.02)
        held.append(2 * pixels - budget._left)
        return decoded(self, index)

    monkeypatch.setattr(SegmentationDataset, "decoded", watched)
    assert SegmentationDataset(pairs, 3, SQUASH, None, seed=0).fill_cache("test")
    assert max(held) == 2 * pixels > 0


def test_without_a_cache_what_memory_holds_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("COCOSEG_CACHE", str(tmp_path / "file"))
    assert SegmentationDataset(write_pairs(tmp_path, 1), 3, SQUASH, None, seed=0).fill_cache("test")


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_what_was_kept_however_they_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str
) -> None:
    monkeypatch.setenv("COCOSEG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("cocoseg.train.dataset.free_memory_bytes", lambda: 2 * 1024 / MEMORY_SHARE)
    pairs = write_pairs(tmp_path, 4)
    dataset = SegmentationDataset(pairs, 3, SQUASH, "light", seed=0)
    expected = [dataset[0, index] for index in range(4)]
    assert dataset.fill_cache("test")  # two in memory, two on disk
    for pair in pairs:
        pair.image.unlink()
    batches = DataLoader(dataset, sampler=[(0, index) for index in range(4)], num_workers=1, batch_size=None,
                         multiprocessing_context=start)  # fmt: skip
    for (image, mask), (expected_image, expected_mask) in zip(batches, expected, strict=True):
        assert torch.equal(image, expected_image)
        assert torch.equal(mask, expected_mask)


def ramp_pair(folder: Path, height: int, width: int) -> Pair:
    """A JPEG that grows brighter from 0 on the left to 255 on the right, and a mask of nothing."""
    row = np.round(np.linspace(0, 255, width)).astype(np.uint8)
    pair = Pair(file_name="a.jpg", image=folder / "a.jpg", mask=folder / "a.png")
    image = np.broadcast_to(row[None, :, None], (height, width, 3))
    pair.image.write_bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes())
    pair.mask.write_bytes(cv2.imencode(".png", np.zeros((height, width), np.uint8))[1].tobytes())
    return pair


@pytest.mark.parametrize("width", [512, 513, 515, 519])
def test_a_reduced_image_lies_where_the_whole_one_does(tmp_path: Path, width: int) -> None:
    pair = ramp_pair(tmp_path, 512, width)
    preprocessing = Preprocessing(image_size_px=60, resize="squash")
    reduced, _ = SegmentationDataset([pair], 2, preprocessing, None, seed=0).decoded(0)
    whole = placed_image(torch.from_numpy(read_pair(pair, 2)[0]).permute(2, 0, 1), placement(512, width, 60, "squash"))

    assert read_reduced(pair, 512, width, 60, 60)[1] == 8
    # Four roundings of half a step each, by decoding and resizing on either way. 513 pixels become 65 columns, which
    # stand for 520: stretched over the whole width the last would lie 60 · 7/520 = 0.8 of a pixel off, 0.8 · 255/60
    # = 3.4 steps.
    assert (reduced.int() - whole.int()).abs().max() <= 2


def test_a_reduced_image_has_exactly_the_size_of_its_content() -> None:
    for width in range(16, 200):
        for divisor in (2, 4, 8):
            for content in {max(2, width // divisor // 3), width // divisor}:
                place = placement(width, width, content, "squash")
                image = torch.zeros(3, -(-width // divisor), -(-width // divisor), dtype=torch.uint8)
                assert shrunk(image, place, divisor).shape == (3, content, content)


@pytest.mark.skipif(not COCO_REAL.is_dir(), reason="real images are not at hand")
def test_reduced_photographs_differ_from_whole_ones_less_than_one_can_see(tmp_path: Path) -> None:
    preprocessing = Preprocessing(image_size_px=96, resize="squash")
    differences = []
    for file in sorted((COCO_REAL / "images").iterdir())[:20]:
        header = read_header(file.read_bytes())
        height, width = header.height, header.width
        mask = tmp_path / f"{file.stem}.png"
        mask.write_bytes(cv2.imencode(".png", np.zeros((height, width), np.uint8))[1].tobytes())
        pair = Pair(file_name=file.name, image=file, mask=mask)
        reduced, _ = SegmentationDataset([pair], 2, preprocessing, None, seed=0).decoded(0)
        pixels = torch.from_numpy(read_pair(pair, 2)[0]).permute(2, 0, 1)
        whole = placed_image(pixels, placement(height, width, 96, "squash"))
        differences.append((reduced.int() - whole.int()).abs().float().mean().item())
    assert 0 < max(differences) <= 3  # of 255


def test_a_mask_of_another_class_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CocosegError, match="contains the value 2"):
        SegmentationDataset(write_pairs(tmp_path, 2), 2, SQUASH, None, seed=0).fill_cache("test")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_wrong_with_a_sample_is_one_line_from_a_worker_too(tmp_path: Path, workers: int) -> None:
    pairs = write_pairs(tmp_path, 2)
    dataset = SegmentationDataset(pairs, 2, SQUASH, None, seed=0)
    with pytest.raises(CocosegError) as caught:
        list(loader(dataset, ValidationBatchSampler(2, 1), workers, pin_memory=False))
    assert str(caught.value) == (
        f"{pairs[0].mask}: contains the value 2; expected 0 to 1 or 255; make it again with: dvc repro -f mask"
    )


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            "unable to allocate shared memory(shm) for file </torch_1_2_0>: No space left on device (28)",
            "--shm-size=8g",
        ),
        ("DataLoader worker (pid 37) is killed by signal: Bus error.", "--shm-size=8g"),
        ("Too many open files. Communication with the workers is no longer possible.", "ulimit -n 4096"),
        ("received 0 items of ancdata", "ulimit -n 4096"),
    ],
)
def test_what_worker_processes_lack_is_one_line_with_the_way_to_do_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str, line: str
) -> None:
    def fail(self: object, index: int) -> None:
        raise RuntimeError(error)

    monkeypatch.setattr(SegmentationDataset, "decoded", fail)
    monkeypatch.setattr("torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL", 0.5)  # how long an end may hang
    dataset = SegmentationDataset(write_pairs(tmp_path, 2), 2, SQUASH, None, seed=0)
    with pytest.raises(CocosegError, match=f"{line}, or train without worker processes: COCOSEG_WORKERS=1 dvc repro$"):
        list(loader(dataset, ValidationBatchSampler(2, 1), 1, pin_memory=False))
    with pytest.raises(RuntimeError, match=re.escape(error)):
        list(loader(dataset, ValidationBatchSampler(2, 1), 0, pin_memory=False))


def test_one_worker_is_the_training_process_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SegmentationDataset, "fill_cache", lambda *_: False)
    counts = []
    for asked in ("1", "2"):
        monkeypatch.setenv("COCOSEG_WORKERS", asked)
        fabric = Fabric(accelerator="cpu", devices=1, plugins=LightningEnvironment())
        side = validation_side(write_pairs(tmp_path, 2), SQUASH, "abc", PARAMS, fabric)
        counts.append(side.loader.num_workers)
    assert counts == [0, 2]


def test_seeds_differ() -> None:
    seeds = {sample_seed(seed, epoch, index) for seed in range(5) for epoch in range(5) for index in range(-1, 5)}
    assert len(seeds) == 5 * 5 * 6
