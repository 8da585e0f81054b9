from pathlib import Path

import pytest
import torch
from small_data import write_pairs

from cocoseg.errors import CocosegError
from cocoseg.geometry import Preprocessing
from cocoseg.samples import Samples, TrainingBatches, ValidationBatches, loader, sample_seed

SQUASH = Preprocessing(image_size_px=16, resize="squash")


def indices(batches: TrainingBatches) -> list[list[int]]:
    return [[index for _, index in batch] for batch in batches]


def test_an_epoch_shows_every_sample_once_in_an_order_of_its_own() -> None:
    batches = TrainingBatches(samples=12, batch_size=4, seed=0)
    first = indices(batches)
    assert sorted(index for batch in first for index in batch) == list(range(12))
    batches.epoch = 1
    assert indices(batches) != first
    batches.epoch = 0
    assert indices(batches) == first


def test_a_last_batch_of_one_is_left_out_and_one_of_two_is_not() -> None:
    assert [len(batch) for batch in indices(TrainingBatches(9, 4, seed=0))] == [4, 4]
    assert [len(batch) for batch in indices(TrainingBatches(10, 4, seed=0))] == [4, 4, 2]
    assert [len(batch) for batch in indices(TrainingBatches(3, 1, seed=0))] == [1, 1, 1]


def test_a_single_sample_makes_a_batch_of_two() -> None:
    assert indices(TrainingBatches(1, 4, seed=0)) == [[0, 0]]


@pytest.mark.parametrize("samples", [8, 9, 10, 11, 12])
def test_two_processes_share_the_batches_of_one(samples: int) -> None:
    alone = indices(TrainingBatches(samples, 4, seed=3))
    shares = [indices(TrainingBatches(samples, 4, seed=3, rank=rank, world_size=2)) for rank in range(2)]
    assert len(shares[0]) == len(shares[1])
    for whole, one, other in zip(alone, *shares, strict=False):
        assert sorted(one + other) == sorted(whole)
        assert min(len(one), len(other)) >= 2 or len(whole) < 4


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_validation_takes_every_sample_exactly_once_over_all_processes(world_size: int) -> None:
    seen = [
        index
        for rank in range(world_size)
        for batch in ValidationBatches(10, 4, rank, world_size)
        for _, index in batch
    ]
    assert sorted(seen) == list(range(10))


def test_a_sample_depends_on_seed_epoch_and_index_alone(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 2)
    samples = Samples(pairs, 3, SQUASH, "light", seed=0)
    before = samples[3, 1]
    torch.rand(100)
    assert samples.keep_in_memory("test")
    again = samples[3, 1]
    assert all(torch.equal(a, b) for a, b in zip(before, again, strict=True))
    others = [samples[4, 1], Samples(pairs, 3, SQUASH, "light", seed=1)[3, 1]]
    assert not any(torch.equal(before[0], other[0]) for other in others)


def test_drawing_a_sample_leaves_the_global_generator_alone(tmp_path: Path) -> None:
    samples = Samples(write_pairs(tmp_path, 1), 3, SQUASH, "strong", seed=0)
    state = torch.get_rng_state()
    samples[0, 0]
    assert torch.equal(torch.get_rng_state(), state)


def test_workers_give_the_same_batches_as_none(tmp_path: Path) -> None:
    samples = Samples(write_pairs(tmp_path, 6), 3, SQUASH, "light", seed=0)
    plan = TrainingBatches(6, 3, seed=0)
    alone, helped = list(loader(samples, plan, 0, False)), list(loader(samples, plan, 1, False))
    for (image, mask), (other_image, other_mask) in zip(alone, helped, strict=True):
        assert torch.equal(image, other_image)
        assert torch.equal(mask, other_mask)


def test_what_is_in_memory_is_not_read_again(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 2)
    samples = Samples(pairs, 3, SQUASH, None, seed=0)
    samples.keep_in_memory("test")
    for pair in pairs:
        pair.image.unlink()
    assert samples[0, 1][0].shape == (3, 16, 16)


def test_without_memory_to_spare_images_are_read_when_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cocoseg.samples.MEMORY_SHARE", 0.0)
    samples = Samples(write_pairs(tmp_path, 2), 3, SQUASH, None, seed=0)
    assert not samples.keep_in_memory("test")
    assert samples[0, 1][0].shape == (3, 16, 16)


def test_a_mask_of_another_class_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CocosegError, match="holds the value 2"):
        Samples(write_pairs(tmp_path, 2), 2, SQUASH, None, seed=0).keep_in_memory("test")


def test_seeds_differ() -> None:
    seeds = {sample_seed(seed, epoch, index) for seed in range(5) for epoch in range(5) for index in range(-1, 5)}
    assert len(seeds) == 5 * 5 * 6
