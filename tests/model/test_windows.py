from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from cocoseg.model.windows import (
    reflected,
    rows_of_parts,
    window_starts,
    window_step,
    window_weights,
    windowed_logits,
)


@pytest.mark.parametrize("window", [64, 96, 100, 256])
@pytest.mark.parametrize("length", [1, 63, 64, 65, 150, 257, 1000])
def test_windows_cover_every_pixel_and_at_each_one_of_them_has_context(window: int, length: int) -> None:
    starts = window_starts(length, window)
    assert starts[0] == 0
    assert all(start % 32 == 0 for start in starts)
    assert length <= starts[-1] + window < max(length, window) + 32
    assert all(0 < after - before <= window_step(window) for before, after in pairwise(starts))
    weights = torch.zeros(starts[-1] + window)
    for number, start in enumerate(starts):
        weights[start : start + window] += window_weights(window, number == 0, number == len(starts) - 1)
    assert weights.min() >= 0.5


def test_starts_and_weights_by_hand() -> None:
    assert window_step(64) == 32  # three quarters of it are 48, of which 32 is the next multiple
    assert window_starts(130, 64) == [0, 32, 64, 96]  # the last one ends at 160
    weights = window_weights(64, first=False, last=True)
    assert weights[:10].tolist() == pytest.approx(
        [0] * 8 + [0.5 / 16, 1.5 / 16]
    )  # a quarter of 32, then a rise over 16
    assert weights[24:].tolist() == [1] * 40


def forward(network: nn.Module, images: Tensor) -> Tensor:
    logits: Tensor = network(images.float() / 255)
    return logits


@pytest.mark.parametrize(("height", "width"), [(300, 200), (64, 400), (40, 50), (129, 64)])
def test_the_logits_are_those_of_the_whole_image_where_the_network_sees_no_farther_than_a_quarter_of_the_overlap(
    height: int, width: int
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(  # sees 7 pixels to each side
        nn.Conv2d(3, 4, 5, padding=2), nn.ReLU(), nn.Conv2d(4, 4, 2, stride=2), nn.Conv2d(4, 3, 3, padding=1),
        nn.Upsample(scale_factor=2),
    ).eval()  # fmt: skip
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    with torch.inference_mode():
        whole = forward(network, torch.nn.functional.pad(image[None], (0, width % 2, 0, height % 2)))[0]
        parts = list(windowed_logits(lambda images: forward(network, images), image, 64, 3))
    assert max(part.numel() for part in parts) <= 3 * 64 * 64  # so that memory does not hold a row of windows
    found = torch.cat(list(rows_of_parts(parts, width, partial(torch.cat, dim=-1))), dim=1)
    assert found.shape == (3, height, width)
    inner = (slice(None), slice(0, height - 8), slice(0, width - 8))  # beyond lies a border of another color
    assert (found[inner] - whole[:, :height, :width][inner]).abs().max() < 1e-5


def test_reflected_pixels_by_hand() -> None:
    assert reflected(3, before=2, total=8).tolist() == [2, 1, 0, 1, 2, 1, 0, 1]
    assert reflected(1, before=2, total=4).tolist() == [0, 0, 0, 0]


def sum_of_neighbors(images: Tensor) -> Tensor:
    return torch.nn.functional.conv2d(images[:, :1].float(), torch.ones(1, 1, 3, 3), padding=1)


def test_at_the_left_edge_of_a_row_a_network_sees_its_own_zeros_or_the_image_mirrored() -> None:
    image = torch.tensor([1, 2, 3], dtype=torch.uint8).expand(3, 1, 3)
    (plain,), (mirrored,) = (
        list(windowed_logits(sum_of_neighbors, image, 64, 1, name)) for name in ("none", "reflect")
    )
    assert plain[0, 0, 0].item() == 1 + 2 + 2 * 124  # below an image that is smaller than a window lies a mean color
    assert mirrored[0, 0].tolist() == [3 * (2 + 1 + 2), 3 * (1 + 2 + 3), 3 * (2 + 3 + 2)]


@pytest.mark.parametrize(("height", "width"), [(300, 200), (64, 400), (40, 50), (1, 1), (2, 129)])
@pytest.mark.parametrize("window", [64, 100])
def test_with_a_reflected_border_every_logit_is_that_of_the_whole_mirrored_image(
    height: int, width: int, window: int
) -> None:
    image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8)
    rows, columns = reflected(height, 1, height + 2), reflected(width, 1, width + 2)
    expected = sum_of_neighbors(image[:, rows][:, :, columns][None])[0, :, 1:-1, 1:-1]
    parts = list(windowed_logits(sum_of_neighbors, image, window, 3, "reflect"))
    strips = list(rows_of_parts(parts, image.shape[-1], partial(torch.cat, dim=-1)))
    assert torch.allclose(torch.cat(strips, dim=1), expected)
    assert all(part.numel() for part in parts)
