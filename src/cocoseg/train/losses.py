"""Losses of logits against label maps, in float32, with 255 ignored.

`logits: (N, C, H, W)`, `target: (N, H, W)` uint8 or int64 in [0, C), or 255. One channel means `binary`: target 0 or 1.
Where every pixel is ignored a loss is 0 and has a gradient (of zeros), so such a batch changes nothing.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cocoseg.coco.categories import IGNORE

LossName = Literal["auto", "ce", "bce", "dice", "ce_dice", "focal", "lovasz", "tversky"]

# The weight torchvision's reference training gives a second head.
AUXILIARY_WEIGHT = 0.5
# The value that Lin et al. found best.
FOCAL_GAMMA = 2
# What a false positive and a false negative cost; the pair that Salehi et al. found best.
TVERSKY_ALPHA, TVERSKY_BETA = 0.3, 0.7


def segmentation_loss(
    output: Tensor | tuple[Tensor, Tensor], target: Tensor, loss: LossName, class_weights: Tensor | None = None
) -> Tensor:
    """The loss of a model's output: logits, or in training the logits of the main and of an auxiliary head.

    `class_weights: (C,)` float32, (2,) for `binary`: what a pixel of each class counts in ce, bce, focal and the
    cross-entropy of ce_dice, whose means are divided by the weights of the counted pixels. dice, lovasz and tversky
    average over the classes, so each class counts the same there already, and leave the weights aside.
    """
    if isinstance(output, tuple):
        logits, auxiliary = output
        main = _loss(logits, target, loss, class_weights)
        return main + AUXILIARY_WEIGHT * _loss(auxiliary, target, loss, class_weights)
    return _loss(output, target, loss, class_weights)


def _loss(logits: Tensor, target: Tensor, loss: LossName, class_weights: Tensor | None) -> Tensor:
    logits = logits.float()  # sums over many pixels overflow in half precision
    if logits.shape[1] == 1:
        # One logit against a fixed 0 is the softmax of two classes; so ce and bce are the same thing here.
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    if loss == "auto":
        raise ValueError("auto names no loss; ask resolved_loss first")
    log_probabilities = F.log_softmax(logits, dim=1)
    index = target.long()
    match loss:
        case "ce" | "bce":
            return _cross_entropy(log_probabilities, index, class_weights)
        case "dice":
            return _dice(log_probabilities, index)
        case "ce_dice":
            return _cross_entropy(log_probabilities, index, class_weights) + _dice(log_probabilities, index)
        case "focal":
            return _focal(log_probabilities, index, class_weights)
        case "lovasz":
            return _lovasz(log_probabilities, index)
        case "tversky":
            return _tversky(log_probabilities, index)


def resolved_loss(loss: LossName, binary: bool) -> LossName:
    """What `auto` stands for: bce for `binary`, else cross-entropy plus Dice."""
    if loss == "auto":
        return "bce" if binary else "ce_dice"
    return loss


def _cross_entropy(log_probabilities: Tensor, target: Tensor, class_weights: Tensor | None) -> Tensor:
    total = F.nll_loss(log_probabilities, target, class_weights, ignore_index=IGNORE, reduction="sum")
    return _divided(total, _pixel_weights(target, class_weights))


def _focal(log_probabilities: Tensor, target: Tensor, class_weights: Tensor | None) -> Tensor:
    """Cross-entropy times (1 - p) ** 2, p the probability of a pixel's own class. Lin et al. 2017, arXiv 1708.02002.

    smp's own takes a sigmoid of each logit, so that the fixed 0 of `binary` costs 0.09 in even a perfect prediction.
    """
    cross_entropy = F.nll_loss(log_probabilities, target, ignore_index=IGNORE, reduction="none")  # (N, H, W)
    focal = (1 - torch.exp(-cross_entropy)) ** FOCAL_GAMMA * cross_entropy
    weights = _pixel_weights(target, class_weights)
    return _divided((focal * weights).sum(), weights)


def _pixel_weights(target: Tensor, class_weights: Tensor | None) -> Tensor:
    """What each pixel counts, (N, H, W): 0 where ignored, else its class's weight, or 1 without weights."""
    counted = target != IGNORE
    if class_weights is None:
        return counted
    return class_weights[target.masked_fill(~counted, 0)] * counted


def _divided(total: Tensor, pixel_weights: Tensor) -> Tensor:
    divisor = pixel_weights.sum()
    return total / torch.where(divisor > 0, divisor, 1)  # all ignored, or of classes of weight 0: 0 / 1


def _dice(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """One minus soft Dice over the batch, averaged over the classes in it. Milletari et al. 2016, arXiv 1606.04797.

    smp's own divides by all classes, present or not, so that with 80 classes hardly anything of it is left.
    """
    intersection, predicted, target_pixels = _soft_counts(log_probabilities, target)
    dice = 2 * intersection / (predicted + target_pixels).clamp_min(1e-6)
    return _mean_of_present(1 - dice, target_pixels)


def _tversky(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """One minus the soft Tversky index, averaged as `_dice` is. Salehi et al. 2017, arXiv 1706.05721.

    It is Dice in which a missed pixel costs more than a false one. smp's divides by all classes, as its Dice does.
    """
    intersection, predicted, target_pixels = _soft_counts(log_probabilities, target)
    false_positives, false_negatives = predicted - intersection, target_pixels - intersection
    costs = TVERSKY_ALPHA * false_positives + TVERSKY_BETA * false_negatives
    return _mean_of_present(1 - intersection / (intersection + costs).clamp_min(1e-6), target_pixels)


def _soft_counts(log_probabilities: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each class the probability on its own pixels, that on all counted ones, and its pixels; (C,) each."""
    classes = log_probabilities.shape[1]
    counted = target != IGNORE
    index = target.masked_fill(~counted, 0)
    probabilities = log_probabilities.exp() * counted.unsqueeze(1)
    hit = probabilities.gather(1, index.unsqueeze(1)).flatten()  # of each pixel's own class; 0 where ignored
    flat = index.flatten()
    intersection = torch.zeros(classes, device=hit.device).index_add(0, flat, hit)
    target_pixels = torch.zeros(classes, device=hit.device).index_add(0, flat, counted.flatten().float())
    return intersection, probabilities.sum(dim=(0, 2, 3)), target_pixels


def _mean_of_present(losses: Tensor, target_pixels: Tensor) -> Tensor:
    present = target_pixels > 0
    return (losses * present).sum() / present.sum().clamp_min(1)


def _lovasz(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """The Lovász extension of one minus IoU over the batch, averaged over the classes in it.

    Berman et al. 2018, arXiv 1705.08790. smp's own has the same value, but no scalar for an all-ignored batch.
    """
    counted = target != IGNORE
    probabilities = log_probabilities.exp().movedim(1, -1)[counted]  # (counted pixels, C)
    index = target[counted]
    present = index.unique().tolist()  # type: ignore[no-untyped-call]
    losses = [_lovasz_of_class(probabilities[:, c], index == c) for c in present]
    return torch.stack(losses).mean() if losses else probabilities.sum()  # of no pixels: 0


def _lovasz_of_class(probability: Tensor, own: Tensor) -> Tensor:
    """Errors, largest first, each times what IoU loses once its pixel is wrong too; `(pixels,)` float32 and bool."""
    errors, order = (own.float() - probability).abs().sort(descending=True)
    own = own[order]
    wrong = own.cumsum(0)  # whole numbers: in float32 sums stick at 2 ** 24
    intersection = wrong[-1] - wrong
    union = wrong[-1] + (~own).cumsum(0)
    # Written out: smp subtracts neighbouring IoUs, so each of a million such shares is off by up to 7 % in float32.
    lost = torch.where(own, 1, intersection / (union - 1)) / union
    return (errors * lost).sum()
