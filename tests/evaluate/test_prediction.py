import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from evaluate.test_evaluation import INFO
from torch import Tensor, nn

from cocoseg.evaluate import prediction, restore
from cocoseg.evaluate.prediction import Predicted, joined_labels, predict_each, predict_logits
from cocoseg.evaluate.restore import _labels_in_parts, original_labels, original_logits
from cocoseg.evaluate.scales import averaged_strips
from cocoseg.model.params import ResizeName
from cocoseg.model.preprocessing import Preprocessing, placement
from cocoseg.workers import ahead


class Recording(nn.Module):
    """Logits are the images' first two channels; remembers how large its batches were."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[tuple[int, ...]] = []
        self.threads: set[int] = set()

    def forward(self, images: Tensor) -> Tensor:
        self.batches.append(tuple(images.shape))
        self.threads.add(torch.get_num_threads())
        return images[:, :2]


def zeros(*sizes: tuple[int, int]) -> Iterator[tuple[int, "np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]"]]:
    return ((number, np.zeros((*size, 3), np.uint8)) for number, size in enumerate(sizes))


def test_a_batch_holds_images_of_one_input_size_at_most_as_many_as_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOSEG_WORKERS", "1")
    model = Recording()
    info = msgspec.structs.replace(INFO, preprocessing=Preprocessing(image_size_px=32, resize="short_side"))
    sizes = [(32, 32)] * 3 + [(32, 64)] * 2
    keys = [predicted.key for predicted in predict_logits(model, info, zeros(*sizes), batch_size=2)]
    assert keys == [0, 1, 2, 3, 4]
    assert model.batches == [(2, 3, 32, 32), (1, 3, 32, 32), (2, 3, 32, 64)]


def test_without_a_size_a_batch_is_as_large_as_in_training_and_at_most_16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOSEG_WORKERS", "1")
    for trained, expected in ((4, [4, 4, 4, 4, 2]), (64, [16, 2])):
        model = Recording()
        info = msgspec.structs.replace(INFO, params={"batch_size": trained})
        assert len(list(predict_logits(model, info, zeros(*[(8, 8)] * 18)))) == 18
        assert [batch[0] for batch in model.batches] == expected


@pytest.mark.parametrize(("cores", "expected"), [(2, [3, 3, 3, 3, 3, 3]), (4, [1] * 18), (64, [1] * 18)])
def test_cores_share_a_batch_and_the_order_stays(
    cores: int, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCOSEG_WORKERS", str(cores))
    model = Recording()
    threads = torch.get_num_threads()
    keys = [predicted.key for predicted in predict_logits(model, INFO, zeros(*[(8, 8)] * 18), batch_size=6)]
    assert keys == list(range(18))
    assert [batch[0] for batch in model.batches] == expected
    assert model.threads == {1}
    with ThreadPoolExecutor(1) as pool:  # a thread that is new has what was set last
        assert pool.submit(torch.get_num_threads).result() == threads


class Meeting(nn.Module):
    """Comes to an end if two passes are in it at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.both = threading.Barrier(2, timeout=30)

    def forward(self, images: Tensor) -> Tensor:
        self.both.wait()
        return images


def test_two_cores_run_two_passes_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOSEG_WORKERS", "2")
    assert len(list(predict_logits(Meeting(), INFO, zeros((8, 8), (8, 8)), batch_size=2))) == 2


def test_two_cores_finish_two_images_at_a_time_and_the_order_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOSEG_WORKERS", "2")
    both = threading.Barrier(2, timeout=30)

    def finish(predicted: Predicted[int]) -> int:
        both.wait()
        return predicted.key

    info = msgspec.structs.replace(INFO, params={"batch_size": 2})
    assert list(predict_each(Recording(), info, zeros(*[(8, 8)] * 4), finish)) == [0, 1, 2, 3]


def test_photographs_of_a_phone_come_in_smaller_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOSEG_WORKERS", "1")
    monkeypatch.setattr(prediction, "_BATCH_PIXELS", 150)
    model = Recording()
    assert len(list(predict_logits(model, INFO, zeros(*[(8, 8)] * 5)))) == 5
    assert [batch[0] for batch in model.batches] == [2, 2, 1]


@pytest.mark.parametrize("said", [0, -1, "big", None, 2.5])
def test_a_batch_size_that_is_none_in_a_strangers_model_json_is_passed_over(
    said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCOSEG_WORKERS", "1")
    model = Recording()
    info = msgspec.structs.replace(INFO, params={"batch_size": said})
    assert len(list(predict_logits(model, info, zeros(*[(8, 8)] * 18)))) == 18
    assert [batch[0] for batch in model.batches] == [16, 2]


def test_on_a_cpu_a_batch_holds_so_many_windows_that_neither_their_pixels_nor_their_logits_take_much_memory() -> None:
    for classes, expected in ((2, [4, 2]), (81, [1] * 6)):
        model, names = Recording(), tuple(map(str, range(classes)))
        cut = Preprocessing(image_size_px=512, resize="crop")
        info = msgspec.structs.replace(INFO, classes=names, preprocessing=cut, params={})
        (one,) = predict_logits(model, info, zeros((512, 2432)))
        labels = joined_labels((original_labels(*part) for part in one.parts), one.place.width)
        assert labels.shape == (512, 2432)
        assert [batch[0] for batch in model.batches] == expected


class Leaning(nn.Module):
    """The logit of class 1 rises from -1 on the left to 1 on the right, whatever the image."""

    def forward(self, images: Tensor) -> Tensor:
        ramp = torch.linspace(-1, 1, images.shape[-1]).expand(images.shape[0], *images.shape[-2:])
        return torch.stack([torch.zeros_like(ramp), ramp], dim=1)


def test_flips_average_the_logits_of_an_image_and_of_its_mirror_image() -> None:
    (plain,) = predict_logits(Leaning(), INFO, zeros((64, 64)))
    (flipped,) = predict_logits(Leaning(), INFO, zeros((64, 64)), flips=True)
    ((plain_logits, _),), ((flipped_logits, _),) = plain.parts, flipped.parts
    assert plain_logits[1, 0, [0, -1]].tolist() == [-1, 1]
    assert flipped_logits[1].abs().max() < 1e-6


class Wide(nn.Module):
    """The logit of class 1 is the width of the input."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.stack([torch.zeros_like(images[:, 0]), torch.full_like(images[:, 0], images.shape[-1])], dim=1)


@pytest.mark.parametrize(("resize", "size"), [("squash", (96, 96)), ("letterbox", (48, 96)), ("short_side", (96, 192))])
def test_scales_average_the_logits_of_inputs_of_several_sizes_at_the_size_of_the_largest(
    resize: ResizeName, size: tuple[int, int]
) -> None:
    info = msgspec.structs.replace(INFO, preprocessing=Preprocessing(image_size_px=64, resize=resize))
    first, second = predict_logits(Wide(), info, zeros((32, 64), (32, 64)), batch_size=2, scales=(1, 1.5))
    for predicted in (first, second):
        ((logits, place),) = predicted.parts
        assert logits.shape == (2, *size)  # without the border of letterbox
        assert (logits[1] == (160 if resize == "short_side" else 80)).all()  # between 64 and 96
        assert original_logits(logits, place).shape == (2, 32, 64)


def test_flips_are_averaged_at_every_scale() -> None:
    (predicted,) = predict_logits(Leaning(), INFO, zeros((64, 64)), flips=True, scales=(0.5, 2))
    ((logits, _),) = predicted.parts
    assert logits[1].abs().max() < 1e-6


def test_scales_of_a_model_with_windows_scale_the_image_and_not_the_windows() -> None:
    model = Recording()
    info = msgspec.structs.replace(INFO, preprocessing=Preprocessing(image_size_px=64, resize="crop"))
    (predicted,) = predict_logits(model, info, zeros((96, 128)), batch_size=1, scales=(1, 0.5))
    assert torch.cat([logits for logits, _ in predicted.parts], dim=1).shape == (2, 96, 128)
    assert set(model.batches) == {(1, 3, 64, 64)}
    assert len(model.batches) == 2 * 3 + 1


def in_strips(image: Tensor) -> Iterator[Tensor]:
    rows = image.float()
    for strip in (rows[:, :1], rows[:, 1:3], rows[:, 3:]):
        if strip.shape[1]:
            yield strip


def test_rows_at_two_scales_by_hand() -> None:
    image = torch.tensor([0, 100], dtype=torch.uint8).reshape(1, 2, 1).expand(3, 2, 1)
    found = torch.cat(list(averaged_strips(in_strips, image, (1, 2))), dim=1)
    # Twice as large it is 0, 25, 75, 100, of which each row is the mean of two: 12.5, 87.5.
    assert found[0, :, 0].tolist() == [6.25, 93.75]


@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 7), (33, 20), (64, 50)])
def test_strips_at_several_scales_are_those_of_the_whole_image_resized_there_and_back(height: int, width: int) -> None:
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    whole = []
    for scale in (0.3, 1, 1.7, 4):
        size = [max(1, round(pixels * scale)) for pixels in (height, width)]
        there = nn.functional.interpolate(image[None], size, mode="bilinear", antialias=True).float()
        whole.append(nn.functional.interpolate(there, (height, width), mode="bilinear")[0])
    found = torch.cat(list(averaged_strips(in_strips, image, (0.3, 1, 1.7, 4))), dim=1)
    assert torch.allclose(found, torch.stack(whole).mean(dim=0), atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_labels_are_the_same_by_plane_as_on_the_cpu_and_in_parts_as_on_an_accelerator(
    channels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = placement(40, 60, 16, "letterbox")
    logits = torch.randn(5, 16, 16, generator=torch.Generator().manual_seed(0))
    logits[3] = logits[1]  # ties, which the first class wins
    expected = original_logits(logits, place).argmax(dim=0)
    monkeypatch.setattr(restore, "_MOST_VALUES", channels * 40 * 60)
    labels = original_labels(logits, place)
    assert labels.dtype == np.uint8
    assert labels.shape == (40, 60)
    assert np.array_equal(labels, expected)
    in_parts = _labels_in_parts(logits, place)
    assert in_parts.dtype == torch.uint8
    assert np.array_equal(in_parts, expected)


def test_a_binary_model_has_one_channel_by_plane_too() -> None:
    place = placement(40, 60, 16, "squash")
    logits = torch.randn(1, 16, 16, generator=torch.Generator().manual_seed(0))
    labels = original_labels(logits, place)
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, original_logits(logits, place)[0] > 0)


def test_a_few_are_made_ahead_in_their_order() -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for number in range(5):
            asked.append(number)
            yield number

    with ThreadPoolExecutor(2) as pool:
        squares = ahead(pool, lambda number: number**2, items(), most=2)
        assert next(squares) == 0
        assert asked == [0, 1, 2]
        assert list(squares) == [1, 4, 9, 16]
