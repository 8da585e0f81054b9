"""Losses of logits against label maps, in float32, with 255 ignored.

`logits: (N, C, H, W)`, `target: (N, H, W)` uint8 or int64 in [0, C), or 255. One channel means `binary`: target 0 or 1.
Where every pixel is ignored a loss is 0 and has a gradient (of zeros), so such a batch changes nothing.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from cocoseg.categories import IGNORE

LossName = Literal["auto", "ce", "bce", "dice", "ce_dice"]

# The weight torchvision's reference training gives a second head.
AUXILIARY_WEIGHT = 0.5


def segmentation_loss(output: Tensor | tuple[Tensor, Tensor], target: Tensor, loss: LossName) -> Tensor:
    """The loss of a model's output: logits, or in training the logits of the main and of an auxiliary head."""
    if isinstance(output, tuple):
        logits, auxiliary = output
        return _loss(logits, target, loss) + AUXILIARY_WEIGHT * _loss(auxiliary, target, loss)
    return _loss(output, target, loss)


def _loss(logits: Tensor, target: Tensor, loss: LossName) -> Tensor:
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
            return _cross_entropy(log_probabilities, index)
        case "dice":
            return _dice(log_probabilities, index)
        case "ce_dice":
            return _cross_entropy(log_probabilities, index) + _dice(log_probabilities, index)


def resolved_loss(loss: LossName, binary: bool) -> LossName:
    """What `auto` stands for: bce for `binary`, else cross-entropy plus Dice."""
    if loss == "auto":
        return "bce" if binary else "ce_dice"
    return loss


def _cross_entropy(log_probabilities: Tensor, target: Tensor) -> Tensor:
    total = F.nll_loss(log_probabilities, target, ignore_index=IGNORE, reduction="sum")
    return total / (target != IGNORE).sum().clamp_min(1)


def _dice(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """One minus soft Dice over the batch, averaged over the classes in it. Milletari et al. 2016, arXiv 1606.04797.

    smp's own divides by all classes, present or not, so that with 80 classes hardly anything of it is left.
    """
    classes = log_probabilities.shape[1]
    counted = target != IGNORE
    index = target.masked_fill(~counted, 0)
    probabilities = log_probabilities.exp() * counted.unsqueeze(1)
    hit = probabilities.gather(1, index.unsqueeze(1)).flatten()  # of each pixel's own class; 0 where ignored
    flat = index.flatten()
    intersection = torch.zeros(classes, device=hit.device).index_add(0, flat, hit)
    target_pixels = torch.zeros(classes, device=hit.device).index_add(0, flat, counted.flatten().float())
    dice = 2 * intersection / (probabilities.sum(dim=(0, 2, 3)) + target_pixels).clamp_min(1e-6)
    present = target_pixels > 0
    return ((1 - dice) * present).sum() / present.sum().clamp_min(1)
