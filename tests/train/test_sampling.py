import math
from collections import Counter

import pytest
import torch

from cocoseg.tables import MaskRow
from cocoseg.train.dataset import TrainingBatchSampler
from cocoseg.train.sampling import drawn, repeat_factors, sampling_line


def rows(**shown: str) -> list[MaskRow]:
    """One row for each digit of each image's text: a class that it shows; `x` is 255."""
    return [
        MaskRow(image_id=1, file_name=image, class_index=255 if digit == "x" else int(digit), class_name=digit,
                instances=1, pixels=5)
        for image, digits in shown.items()
        for digit in digits
    ]  # fmt: skip


def test_an_image_is_drawn_by_the_root_of_one_over_the_share_of_its_rarest_class() -> None:
    table = rows(a="0", b="01", c="01", d="012", elsewhere="2222", e="x")
    table.append(MaskRow(image_id=1, file_name="a", class_index=2, class_name="2", instances=0, pixels=0))
    # Of five images four show class 0, three class 1, one class 2; the last shows none, and counts as the commonest.
    expected = [math.sqrt(5 / 4), math.sqrt(5 / 3), math.sqrt(5 / 3), math.sqrt(5), 1]
    assert repeat_factors(table, ["a", "b", "c", "d", "e"]) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_an_epoch_has_each_image_as_often_as_its_share_rounded_up_or_down(seed: int) -> None:
    # Of 8 draws the shares are 8 · 1 / 10 = 0.8 each of the first six, and 1.6 each of the last two.
    generator = torch.Generator().manual_seed(seed)
    indices = drawn(torch.tensor([1.0] * 6 + [2.0] * 2), generator)
    counts = Counter(indices)
    assert len(indices) == 8
    assert all(counts[index] <= 1 for index in range(6))
    assert all(1 <= counts[index] <= 2 for index in (6, 7))
    assert indices != sorted(indices)
    often = [place for place, index in enumerate(drawn(torch.tensor([1.0] * 90 + [90.0]), generator)) if index == 90]
    assert max(often) - min(often) > len(often)  # not one after the other


def test_over_many_epochs_every_image_has_its_share() -> None:
    factors, generator = torch.tensor([1.0, 1.0, 1.0, 3.0, 10.0]), torch.Generator().manual_seed(0)
    counts = Counter(index for _ in range(2000) for index in drawn(factors, generator))
    assert [counts[index] / 2000 for index in range(5)] == pytest.approx([5 / 16] * 3 + [15 / 16, 50 / 16], abs=0.03)


def test_equal_factors_show_every_image_once() -> None:
    for samples in (1, 7, 1000, 12_345):
        indices = drawn(torch.full((samples,), math.sqrt(3)), torch.Generator().manual_seed(samples))
        assert sorted(indices) == list(range(samples))


def test_two_processes_share_the_batches_of_one_and_repeats_are_augmented_differently() -> None:
    factors = [1.0] * 9 + [20.0]

    def keys(rank: int = 0, world_size: int = 1, epoch: int = 0) -> list[list[tuple[int, int]]]:
        sampler = TrainingBatchSampler(10, 5, 3, rank, world_size, factors)
        sampler.epoch = epoch
        return list(sampler)

    alone = keys()
    assert [len(batch) for batch in alone] == [len(batch) for batch in TrainingBatchSampler(10, 5, 3)]
    assert len({key for batch in alone for key in batch}) == 10  # a key of its own, so an augmentation of its own
    crops = [key for batch in TrainingBatchSampler(3, 4, 0, times=[1, 5, 2]) for key in batch]
    assert Counter(index for _, index in crops) == {0: 1, 1: 5, 2: 2}
    assert len(set(crops)) == 8
    rare_first = [key for batch in TrainingBatchSampler(2, 4, 0, factors=[3, 1], times=[4, 4]) for key in batch]
    assert Counter(index for _, index in rare_first) == {0: 6, 1: 2}
    assert len({index for batch in alone for _, index in batch}) < 6
    for whole, one, other in zip(alone, keys(0, 2), keys(1, 2), strict=True):
        assert sorted(one + other) == sorted(whole)
    assert alone == keys() != keys(epoch=1)
    assert not {key for batch in alone for key in batch} & {key for batch in keys(epoch=1) for key in batch}


def test_the_line_says_how_much_sampling_changes() -> None:
    assert sampling_line([1.0, 1.5, 3.75]) == (
        "sampling: images of the rarest class are drawn 3.8 times as often as those of the commonest"
    )
    assert "balanced has no effect here" in sampling_line([1.2, 1.2])
