import math

import pytest
import torch

from cocoseg.losses import LossName, resolved_loss, segmentation_loss

MULTICLASS: tuple[LossName, ...] = ("ce", "dice", "ce_dice")


def test_cross_entropy_of_equal_logits_is_the_log_of_the_number_of_classes() -> None:
    target = torch.zeros(1, 2, 2, dtype=torch.uint8)
    assert segmentation_loss(torch.zeros(1, 3, 2, 2), target, "ce").item() == pytest.approx(math.log(3))


def test_dice_of_equal_logits_by_hand() -> None:
    # Two classes at 0.5 each; 3 pixels of class 0, 1 of class 1: Dice 2·1.5/(2+3) and 2·0.5/(2+1).
    target = torch.tensor([[[0, 0], [0, 1]]], dtype=torch.uint8)
    expected = 1 - (3 / 5 + 1 / 3) / 2
    assert segmentation_loss(torch.zeros(1, 2, 2, 2), target, "dice").item() == pytest.approx(expected)


def test_dice_leaves_out_classes_that_are_not_in_the_batch() -> None:
    target = torch.zeros(1, 2, 2, dtype=torch.uint8)
    sure = torch.tensor([20.0, -20.0, -20.0])[None, :, None, None].expand(1, 3, 2, 2)
    assert segmentation_loss(sure, target, "dice").item() == pytest.approx(0, abs=1e-6)


def test_ce_dice_is_the_sum_of_both() -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (2, 4, 4), generator=torch.Generator().manual_seed(1))
    both = segmentation_loss(logits, target, "ce") + segmentation_loss(logits, target, "dice")
    assert segmentation_loss(logits, target, "ce_dice").item() == pytest.approx(both.item())


@pytest.mark.parametrize("loss", MULTICLASS)
def test_ignored_pixels_change_nothing(loss: LossName) -> None:
    logits = torch.randn(1, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (1, 2, 4), generator=torch.Generator().manual_seed(1))
    target[..., 2:] = 255
    whole, half = segmentation_loss(logits, target, loss), segmentation_loss(logits[..., :2], target[..., :2], loss)
    assert whole.item() == pytest.approx(half.item())


@pytest.mark.parametrize(("loss", "channels"), [*((loss, 3) for loss in MULTICLASS), ("bce", 1), ("dice", 1)])
def test_an_all_ignored_batch_is_zero_with_a_gradient(loss: LossName, channels: int) -> None:
    logits = torch.randn(1, channels, 2, 2, requires_grad=True)
    value = segmentation_loss(logits, torch.full((1, 2, 2), 255, dtype=torch.uint8), loss)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert not gradient.any()


def test_bce_of_one_channel_is_torchs_own() -> None:
    logits = torch.tensor([[[[-1.0, 2.0]]]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], torch.tensor([[[0.0, 1.0]]]))
    value = segmentation_loss(logits, torch.tensor([[[0, 1]]], dtype=torch.uint8), "bce")
    assert value.item() == pytest.approx(expected.item())


def test_half_precision_logits_do_not_overflow() -> None:
    logits = torch.full((1, 2, 400, 400), 8.0, dtype=torch.float16)
    assert segmentation_loss(logits, torch.zeros(1, 400, 400, dtype=torch.uint8), "ce_dice").isfinite()


def test_an_auxiliary_head_counts_half() -> None:
    logits, target = torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8)
    assert segmentation_loss((logits, logits), target, "ce").item() == pytest.approx(1.5 * math.log(3))


def test_auto_is_bce_for_binary_and_ce_dice_otherwise() -> None:
    assert (resolved_loss("auto", binary=True), resolved_loss("auto", binary=False)) == ("bce", "ce_dice")
    assert resolved_loss("dice", binary=True) == "dice"
