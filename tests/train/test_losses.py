import math

import pytest
import torch
from segmentation_models_pytorch.losses import LovaszLoss
from torch import Tensor

from cocoseg.train.losses import resolved_loss, segmentation_loss
from cocoseg.train.params import LossName

MULTICLASS: tuple[LossName, ...] = ("ce", "ohem", "dice", "ce_dice", "ce_lovasz", "focal", "lovasz", "tversky")
BINARY: tuple[LossName, ...] = ("bce", *MULTICLASS)
WITH_WEIGHTS: tuple[LossName, ...] = ("ce", "bce", "ohem", "ce_dice", "ce_lovasz", "focal")
EACH = [*((loss, 3) for loss in MULTICLASS), *((loss, 1) for loss in BINARY)]

# Class 0 at 1/2, class 1 at 1/4, and an ignored pixel: cross-entropies log 2 and 2 log 2.
HALF_AND_QUARTER = torch.tensor([[[[0.0, math.log(3), 50.0]], [[0.0, 0.0, 0.0]]]])
ONE_EACH = torch.tensor([[[0, 1, 255]]], dtype=torch.uint8)


def sure(labels: Tensor, classes: int) -> Tensor:
    """Logits of a model that has no doubt that each pixel is of its label; one channel for 1 class."""
    if classes == 1:
        return torch.where(labels == 1, 30.0, -30.0).unsqueeze(1)
    return 60 * torch.nn.functional.one_hot(labels.long(), classes).movedim(-1, 1).float() - 30


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
    assert segmentation_loss(sure(target, 3), target, "dice").item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("other", ["dice", "lovasz"])
def test_cross_entropy_with_another_loss_is_the_sum_of_both(other: LossName) -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (2, 4, 4), generator=torch.Generator().manual_seed(1))
    both = segmentation_loss(logits, target, "ce") + segmentation_loss(logits, target, other)
    both_at_once: LossName = "ce_dice" if other == "dice" else "ce_lovasz"
    assert segmentation_loss(logits, target, both_at_once).item() == pytest.approx(both.item())


def test_focal_leaves_of_each_cross_entropy_the_square_of_what_is_missing_to_certainty() -> None:
    # (1 - 1/2)² · log 2 and (1 - 1/4)² · 2 log 2, over 2 pixels.
    expected = (1 / 4 + 9 / 16 * 2) / 2 * math.log(2)
    assert segmentation_loss(HALF_AND_QUARTER, ONE_EACH, "focal").item() == pytest.approx(expected)


def test_tversky_of_equal_logits_by_hand() -> None:
    # Two classes at 0.5 each; class 0: 1.5 right, 0.5 false, 1.5 missed; class 1: 0.5 right, 1.5 false, 0.5 missed.
    target = torch.tensor([[[0, 0], [0, 1]]], dtype=torch.uint8)
    zero, one = 1.5 / (1.5 + 0.3 * 0.5 + 0.7 * 1.5), 0.5 / (0.5 + 0.3 * 1.5 + 0.7 * 0.5)
    expected = 1 - (zero + one) / 2
    assert segmentation_loss(torch.zeros(1, 2, 2, 2), target, "tversky").item() == pytest.approx(expected)


def test_tversky_of_a_missed_pixel_and_of_a_false_one_by_hand() -> None:
    target = torch.tensor([[[0, 0, 0, 0, 0, 0, 1, 1]]])
    missed, false = target.clone(), target.clone()
    missed[..., -1], false[..., 0] = 0, 1
    # Missed: class 0 with 6 right and 1 false, class 1 with 1 right and 1 missed.
    # False: class 0 with 5 right and 1 missed, class 1 with 2 right and 1 false.
    of_missed, of_false = (6 / 6.3 + 1 / 1.7) / 2, (5 / 5.7 + 2 / 2.3) / 2
    assert segmentation_loss(sure(missed, 2), target, "tversky").item() == pytest.approx(1 - of_missed)
    assert segmentation_loss(sure(false, 2), target, "tversky").item() == pytest.approx(1 - of_false)


def test_lovasz_of_a_model_without_doubts_is_one_minus_the_miou_of_the_classes_in_the_batch() -> None:
    target = torch.tensor([[[0, 0, 0, 0, 0, 0, 1, 1]]])
    labels = target.clone()
    labels[..., -1] = 0
    # IoU 6/7 and 1/2; class 2 has no pixel.
    assert segmentation_loss(sure(labels, 3), target, "lovasz").item() == pytest.approx(1 - (6 / 7 + 1 / 2) / 2)


def test_lovasz_of_two_pixels_by_hand() -> None:
    # Class 1 on the first pixel at 3/4, and at 1/2 on the second, which is background.
    logits = torch.tensor([[[[0.0, 0.0]], [[math.log(3), 0.0]]]])
    # Class 1: errors 1/2 (false), then 1/4 (missed); IoU falls from 1 to 1/2 to 0. Class 0: error 1/2 (missed), to 0.
    expected = ((1 / 2 * 1 / 2 + 1 / 4 * 1 / 2) + 1 / 2) / 2
    value = segmentation_loss(logits, torch.tensor([[[1, 0]]]), "lovasz")
    assert value.item() == pytest.approx(expected)


def test_lovasz_has_the_value_of_smps() -> None:
    logits = torch.randn(2, 5, 8, 9, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 4, (2, 8, 9), generator=torch.Generator().manual_seed(1))
    target[:, :2] = 255
    expected = LovaszLoss("multiclass", ignore_index=255)(logits, target)
    assert segmentation_loss(logits, target, "lovasz").item() == pytest.approx(expected.item())


def test_of_a_million_pixels_lovasz_gives_each_its_exact_gradient() -> None:
    # Background, half of the pixels, has the larger errors: class 1 on it at 0.6, and at 1/2 on its own pixels.
    # So these come last, where each takes 1 / 1,000,000 off the IoU of class 1, and nothing off that of background.
    logits = torch.zeros(1, 2, 1000, 1000)
    logits[:, 1, :500] = math.log(0.6 / 0.4)
    target = torch.zeros(1, 1000, 1000, dtype=torch.uint8)
    target[:, 500:] = 1
    logits.requires_grad_()
    (gradient,) = torch.autograd.grad(segmentation_loss(logits, target, "lovasz"), logits)
    # Half for the mean of two classes, a quarter for the slope of the softmax at 1/2.
    expected = torch.full((500, 1000), -1e-6 / 2 / 4)
    torch.testing.assert_close(gradient[0, 1, 500:], expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("loss", ["dice", "tversky"])
def test_a_million_pixels_have_the_loss_of_a_few(loss: LossName) -> None:
    # Added up one by one in float32, a sum above 2 ** 19 grows by 0.9375 or 1 in place of 0.97.
    target = torch.zeros(1, 1024, 1024, dtype=torch.uint8)
    target[:, ::16] = 1
    logits = 3.5 * sure(target, 2) / 60
    few = segmentation_loss(logits[..., :16], target[..., :16], loss)
    assert segmentation_loss(logits, target, loss).item() == pytest.approx(few.item(), rel=1e-3)


def binary_pixels(*probabilities: float) -> Tensor:
    """Logits (1, 1, 1, pixels) of foreground at these probabilities."""
    return torch.logit(torch.tensor(probabilities)).view(1, 1, 1, -1)


def test_ohem_is_the_mean_over_the_pixels_of_at_most_seven_tenths() -> None:
    logits = binary_pixels(0.9, 0.5, 0.71, 0.69, 0.01)
    target = torch.tensor([[[1, 1, 1, 1, 255]]])
    value = segmentation_loss(logits, target, "ohem")
    assert value.item() == pytest.approx((-math.log(0.5) - math.log(0.69)) / 2)
    (gradient,) = torch.autograd.grad(segmentation_loss(logits.requires_grad_(), target, "ohem"), logits)
    # Of a kept pixel (p - 1) / 2.
    assert gradient.flatten().tolist() == pytest.approx([0, -0.25, 0, -0.155, 0])


def test_of_easy_pixels_ohem_takes_the_hardest_one_in_sixteen_of_those_that_count() -> None:
    # 32 count, so two are kept; 64 are ignored, or six would be kept, or the ignored ones as the hardest.
    logits = binary_pixels(0.8, 0.75, *[0.9] * 30, *[0.01] * 64)
    target = torch.tensor([[[1] * 32 + [255] * 64]])
    expected = -(math.log(0.8) + math.log(0.75)) / 2
    assert segmentation_loss(logits, target, "ohem").item() == pytest.approx(expected)
    # One more that counts makes it three.
    target[..., 32] = 0
    logits[..., 32] = -torch.logit(torch.tensor(0.9))
    expected = -(math.log(0.8) + math.log(0.75) + math.log(0.9) * 31) / 33
    assert segmentation_loss(logits, target, "ohem").item() == pytest.approx(expected)  # with all that are as hard


def test_a_smoothed_target_has_its_share_of_every_class() -> None:
    # With 0.2 over two classes 0.9 and 0.1 are left of the target's 1 and 0: log 2, and 0.9 · log 4 + 0.1 · log 4/3.
    expected = (math.log(2) + 0.9 * math.log(4) + 0.1 * math.log(4 / 3)) / 2
    for loss in ("ce", "bce", "ohem"):
        value = segmentation_loss(HALF_AND_QUARTER, ONE_EACH, loss, label_smoothing=0.2)
        assert value.item() == pytest.approx(expected)
    logits = torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 5, (2, 4, 4), generator=torch.Generator().manual_seed(1))
    target[0, 0] = 255
    torchs = torch.nn.functional.cross_entropy(logits, target, ignore_index=255, label_smoothing=0.3)
    assert segmentation_loss(logits, target, "ce", label_smoothing=0.3).item() == pytest.approx(torchs.item())


def test_smoothing_touches_the_cross_entropy_alone() -> None:
    losses: tuple[tuple[LossName, LossName], ...] = (("ce_dice", "dice"), ("ce_lovasz", "lovasz"))
    for both, other in losses:
        parts = segmentation_loss(HALF_AND_QUARTER, ONE_EACH, "ce", label_smoothing=0.2)
        parts = parts + segmentation_loss(HALF_AND_QUARTER, ONE_EACH, other)
        assert segmentation_loss(HALF_AND_QUARTER, ONE_EACH, both, label_smoothing=0.2).item() == pytest.approx(
            parts.item()
        )


@pytest.mark.parametrize("weights", [None, torch.tensor([1.0, 100.0])])
def test_whatever_the_weights_the_best_answer_to_a_smoothed_target_is_that_target(weights: Tensor | None) -> None:
    # With torch's, a pixel of class 0 would best be called class 1: by 0.1 · 100 / (0.9 · 1 + 0.1 · 100) = 92 %.
    logits = binary_pixels(0.1, 0.9).requires_grad_()
    value = segmentation_loss(logits, torch.tensor([[[0, 1]]]), "ce", weights, label_smoothing=0.2)
    (gradient,) = torch.autograd.grad(value, logits)
    assert gradient.flatten().tolist() == pytest.approx([0, 0], abs=1e-6)


@pytest.mark.parametrize("loss", ["ce", "bce", "ohem"])
def test_cross_entropy_with_weights_is_the_weighted_mean(loss: LossName) -> None:
    value = segmentation_loss(HALF_AND_QUARTER, ONE_EACH, loss, torch.tensor([1.0, 3.0]))
    assert value.item() == pytest.approx((1 * 1 + 3 * 2) / (1 + 3) * math.log(2))


def test_focal_with_weights_is_the_weighted_mean() -> None:
    value = segmentation_loss(HALF_AND_QUARTER, ONE_EACH, "focal", torch.tensor([1.0, 3.0]))
    assert value.item() == pytest.approx((1 * 1 / 4 + 3 * 9 / 16 * 2) / (1 + 3) * math.log(2))


def test_cross_entropy_with_weights_is_torchs_own() -> None:
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (2, 4, 4), generator=torch.Generator().manual_seed(1))
    target[0, 0] = 255
    weights = torch.tensor([0.1, 0.5, 2.4])
    expected = torch.nn.functional.cross_entropy(logits, target, weights, ignore_index=255)
    assert segmentation_loss(logits, target, "ce", weights).item() == pytest.approx(expected.item())


def test_of_ce_dice_the_weights_touch_the_cross_entropy_alone() -> None:
    weights = torch.tensor([1.0, 3.0])
    parts = segmentation_loss(HALF_AND_QUARTER, ONE_EACH, "ce", weights).item()
    parts += segmentation_loss(HALF_AND_QUARTER, ONE_EACH, "dice").item()
    assert segmentation_loss(HALF_AND_QUARTER, ONE_EACH, "ce_dice", weights).item() == pytest.approx(parts)


@pytest.mark.parametrize("loss", ["dice", "lovasz", "tversky"])
def test_a_loss_that_averages_over_classes_leaves_the_weights_aside(loss: LossName) -> None:
    with_weights = segmentation_loss(HALF_AND_QUARTER, ONE_EACH, loss, torch.tensor([1.0, 3.0]))
    assert with_weights.item() == segmentation_loss(HALF_AND_QUARTER, ONE_EACH, loss).item()


@pytest.mark.parametrize("loss", WITH_WEIGHTS)
def test_weights_of_one_change_nothing(loss: LossName) -> None:
    with_weights = segmentation_loss(HALF_AND_QUARTER, ONE_EACH, loss, torch.ones(2))
    assert with_weights.item() == pytest.approx(segmentation_loss(HALF_AND_QUARTER, ONE_EACH, loss).item())


@pytest.mark.parametrize("loss", ["ce", "bce", "ohem", "focal"])
def test_a_batch_of_classes_of_weight_zero_is_zero_with_a_gradient(loss: LossName) -> None:
    logits = torch.randn(1, 2, 2, 2, requires_grad=True)
    value = segmentation_loss(logits, torch.ones(1, 2, 2, dtype=torch.uint8), loss, torch.tensor([1.0, 0.0]))
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert not gradient.any()


def test_an_auxiliary_head_has_the_weights_too() -> None:
    weights = torch.tensor([1.0, 3.0])
    both = segmentation_loss((HALF_AND_QUARTER, HALF_AND_QUARTER), ONE_EACH, "ce", weights)
    assert both.item() == pytest.approx(1.5 * 7 / 4 * math.log(2))


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.8])])
@pytest.mark.parametrize("loss", BINARY)
def test_one_channel_is_two_classes_of_which_the_first_has_logit_zero(loss: LossName, weights: Tensor | None) -> None:
    logits = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 2, (2, 4, 4), generator=torch.Generator().manual_seed(1))
    # A softmax sees differences only, so any two logits that differ as much are the same two classes.
    first = torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(2))
    two = segmentation_loss(torch.cat([first, first + logits], dim=1), target, loss, weights)
    assert segmentation_loss(logits, target, loss, weights).item() == pytest.approx(two.item())


@pytest.mark.parametrize(("loss", "channels"), EACH)
def test_a_perfect_prediction_without_doubts_costs_nothing(loss: LossName, channels: int) -> None:
    target = torch.tensor([[[0, 1, 1], [0, 0, 1]]], dtype=torch.uint8)
    logits = sure(target, channels)
    target[0, 0, 0] = 255
    assert segmentation_loss(logits, target, loss).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.1, 0.5, 2.4])])
@pytest.mark.parametrize("loss", MULTICLASS)
def test_ignored_pixels_change_nothing(loss: LossName, weights: Tensor | None) -> None:
    logits = torch.randn(1, 3, 2, 4, generator=torch.Generator().manual_seed(0))
    target = torch.randint(0, 3, (1, 2, 4), generator=torch.Generator().manual_seed(1))
    target[..., 2:] = 255
    whole = segmentation_loss(logits, target, loss, weights)
    half = segmentation_loss(logits[..., :2], target[..., :2], loss, weights)
    assert whole.item() == pytest.approx(half.item())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("loss", "channels"), EACH)
def test_an_all_ignored_batch_is_zero_with_a_gradient(loss: LossName, channels: int, weighted: bool) -> None:
    logits = torch.randn(1, channels, 2, 2, requires_grad=True)
    weights = torch.ones(max(2, channels)) if weighted else None
    value = segmentation_loss(logits, torch.full((1, 2, 2), 255, dtype=torch.uint8), loss, weights, label_smoothing=0.1)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.item() == 0
    assert not gradient.any()


def test_bce_of_one_channel_is_torchs_own() -> None:
    logits = torch.tensor([[[[-1.0, 2.0]]]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], torch.tensor([[[0.0, 1.0]]]))
    value = segmentation_loss(logits, torch.tensor([[[0, 1]]], dtype=torch.uint8), "bce")
    assert value.item() == pytest.approx(expected.item())


@pytest.mark.parametrize(("loss", "channels"), EACH)
def test_half_precision_logits_do_not_overflow(loss: LossName, channels: int) -> None:
    logits = torch.full((1, channels, 400, 400), 8.0, dtype=torch.float16)
    weights = torch.ones(max(2, channels))
    value = segmentation_loss(logits, torch.zeros(1, 400, 400, dtype=torch.uint8), loss, weights)
    assert value.dtype == torch.float32
    assert value.isfinite()


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(("loss", "channels"), EACH)
def test_the_largest_half_precision_logits_right_or_wrong_have_finite_gradients(
    loss: LossName, channels: int, sign: int
) -> None:
    target = torch.tensor([[[0, 1, 1], [0, 0, 255]]], dtype=torch.uint8)
    logits = (sign * sure(target.clamp_max(1), channels) / 30 * 65504).half().requires_grad_()
    value = segmentation_loss(logits, target, loss, label_smoothing=0.1)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.isfinite()
    assert gradient.isfinite().all()


def test_an_auxiliary_head_counts_half() -> None:
    logits, target = torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8)
    assert segmentation_loss((logits, logits), target, "ce").item() == pytest.approx(1.5 * math.log(3))


def test_auto_is_ce_dice() -> None:
    assert (resolved_loss("auto"), resolved_loss("dice")) == ("ce_dice", "dice")


@pytest.mark.parametrize("weights", [None, torch.tensor([0.2, 1.8])])
@pytest.mark.parametrize("loss", ["bce", "ce", "ohem", "dice", "ce_dice", "focal", "tversky"])
def test_processes_that_share_an_uneven_batch_step_as_one_that_has_it_whole(
    loss: LossName, weights: Tensor | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = torch.Generator().manual_seed(0)
    images, target = torch.randn(5, 4, 4, generator=generator), torch.randint(0, 2, (5, 4, 4), generator=generator)
    target[0, 1:] = 255
    parts = [slice(0, 3), slice(3, 5)]  # three images, of which one is mostly ignored, and two

    def gradient(part: slice, shared: bool) -> tuple[float, Tensor]:
        slope = torch.tensor([1.0, -0.5], requires_grad=True)  # of a network with two weights
        logits = slope[:, None, None] * images[part].unsqueeze(1)
        value = segmentation_loss(logits, target[part], loss, weights, shared)
        return value.item(), torch.autograd.grad(value, slope)[0]

    # Each process alone, to learn its sums; then each with those of the other.
    sums: list[list[Tensor]] = [[], []]
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_world_size", lambda: 2)
    for rank, part in enumerate(parts):
        monkeypatch.setattr("torch.distributed.all_reduce", lambda own, rank=rank: sums[rank].append(own.clone()))
        gradient(part, shared=True)
    found = []
    for rank, part in enumerate(parts):
        others = iter(sums[1 - rank])
        monkeypatch.setattr("torch.distributed.all_reduce", lambda own, others=others: own.add_(next(others)))
        found.append(gradient(part, shared=True))
    value, expected = gradient(slice(0, 5), shared=False)
    assert [one[0] for one in found] == pytest.approx([value, value])
    torch.testing.assert_close((found[0][1] + found[1][1]) / 2, expected)
