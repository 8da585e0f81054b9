"""What a model costs, counted by hand where it can be."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cocoseg.evaluate.cost import milliseconds_per_image, model_cost, multiply_adds
from cocoseg.model.architectures import build_model


class Attention(nn.Module):
    """Each pixel looks at each, in three numbers."""

    def forward(self, images: Tensor) -> Tensor:
        tokens = images.flatten(2).transpose(1, 2)
        return F.scaled_dot_product_attention(tokens, tokens, tokens)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        # output pixels × filter × channels in of a group × channels out, at 16 × 16
        (nn.Conv2d(3, 8, 3, padding=1), 256 * 9 * 3 * 8),
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), 64 * 9 * 3 * 8),
        (nn.Conv2d(3, 6, 3, padding=1, groups=3), 256 * 9 * 1 * 6),  # depthwise: a group a channel
        (nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3, groups=2)),
         256 * 3 * 8 + 196 * 9 * 4 * 4),
        (nn.ConvTranspose2d(3, 5, 2, stride=2), 256 * 4 * 3 * 5),  # an input pixel paints four
        (nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7)), 3 * 7),
        (Attention(), 2 * 256 * 256 * 3),  # how much, and of what
    ],
)  # fmt: skip
def test_the_multiply_adds_of_an_image_by_hand(network: nn.Module, expected: int) -> None:
    assert multiply_adds(network, 16) == expected


def test_counting_leaves_no_trace() -> None:
    model = build_model("fastscnn", "", "none", 3).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert multiply_adds(model, 64) > 10**6
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_larger_image_takes_longer() -> None:
    model = nn.Conv2d(3, 64, 9, padding=4)
    assert 0 < milliseconds_per_image(model, 16) < milliseconds_per_image(model, 256)


def test_the_cost_of_a_model() -> None:
    cost = model_cost(nn.Conv2d(3, 2, 1), 16)
    assert (cost["parameters"], cost["multiply_adds"]) == (8, 256 * 3 * 2)
    assert cost["milliseconds_per_image"] >= 0
    assert 50 < cost["peak_memory_mb"] < 1_000_000  # torch alone takes more than the first
    threads = torch.get_num_threads()
    assert cost["device"] == ("cpu, 1 thread" if threads == 1 else f"cpu, {threads} threads")
