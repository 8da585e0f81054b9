import numpy as np
import pytest
import torch

from cocoseg.evaluate.restore import original_logits
from cocoseg.model.params import ResizeName
from cocoseg.model.preprocessing import (
    BORDER_RGB,
    Preprocessing,
    normalized,
    placed_image,
    placed_mask,
    placement,
    predicted_labels,
    stored_size_px,
)

RESIZES: tuple[ResizeName, ...] = ("squash", "letterbox", "short_side")


def test_the_three_ways_into_the_network_by_hand() -> None:
    sizes = {name: placement(50, 100, 20, name) for name in RESIZES}
    assert [(p.input_height, p.input_width) for p in sizes.values()] == [(20, 20), (20, 20), (20, 40)]
    assert [(p.content_height, p.content_width) for p in sizes.values()] == [(20, 20), (10, 20), (20, 40)]
    assert (sizes["letterbox"].top, sizes["letterbox"].left) == (5, 0)


def test_a_letterbox_has_a_border_of_the_mean_color_that_is_ignored() -> None:
    place = placement(2, 4, 4, "letterbox")
    image = placed_image(torch.full((3, 2, 4), 9, dtype=torch.uint8), place)
    mask = placed_mask(torch.ones(2, 4, dtype=torch.uint8), place)
    assert image[:, 0, 0].tolist() == list(BORDER_RGB)
    assert mask.tolist() == [[255] * 4, [1] * 4, [1] * 4, [255] * 4]


def test_a_mask_is_resized_without_inventing_classes() -> None:
    mask = torch.tensor([[0, 80], [255, 7]], dtype=torch.uint8)
    assert set(placed_mask(mask, placement(2, 2, 13, "squash")).flatten().tolist()) == {0, 80, 255, 7}


@pytest.mark.parametrize("resize", RESIZES)
@pytest.mark.parametrize(("height", "width"), [(37, 91), (91, 37), (1, 1), (64, 64), (1, 50)])
def test_there_and_back_ends_where_it_began(resize: ResizeName, height: int, width: int) -> None:
    place = placement(height, width, 64, resize)
    mask = torch.zeros(height, width, dtype=torch.uint8)
    mask[:, width // 2 :] = 1
    placed = placed_mask(mask, place)
    assert placed.shape == (place.input_height, place.input_width)
    logits = torch.nn.functional.one_hot(placed.clamp_max(1).long(), 2).permute(2, 0, 1).float()
    back = predicted_labels(original_logits(logits, place))
    assert back.shape == (height, width)
    assert (back != mask).float().mean() <= 2 / width


def test_one_channel_is_foreground_above_zero() -> None:
    assert predicted_labels(torch.tensor([[[-0.1, 0.0, 0.1]]])).tolist() == [[0, 0, 1]]


def test_the_mean_color_is_nothing_to_the_network() -> None:
    image = torch.tensor(BORDER_RGB, dtype=torch.uint8)[None, :, None, None]
    values = normalized(image, Preprocessing(image_size_px=1, resize="squash"))
    assert values.abs().max() < 0.02


def test_nothing_is_kept_larger_than_it_was_or_than_crops_need() -> None:
    assert stored_size_px(480, 640, image_size_px=128, zoom=1.5) == 192
    assert stored_size_px(150, 160, image_size_px=128, zoom=1.5) == 150
    assert stored_size_px(90, 100, image_size_px=128, zoom=1.5) == 128


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_of_equal_logits_the_first_class_is_predicted(layout: torch.memory_format) -> None:
    logits = torch.randint(0, 3, (2, 5, 7, 9), generator=torch.Generator().manual_seed(0)).float()
    labels = predicted_labels(logits.contiguous(memory_format=layout))
    assert np.array_equal(labels.numpy(), logits.numpy().argmax(axis=1))  # of which NumPy says so
    assert labels.dtype == torch.uint8
