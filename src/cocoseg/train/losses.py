"""Losses between logits and label maps, in float32, with 255 ignored.

`logits: (N, C, H, W)`, `target: (N, H, W)` uint8 or int64 in [0, C), or 255. One channel means `binary`: target 0 or 1.
If every pixel of a batch is ignored, the loss is 0 and its gradient zeros.

Processes that share a batch have different numbers of its images, and of pixels that count. So each takes the sums of
all, and the mean of their gradients is that of one process with the whole batch. `lovasz` sorts pixels and has no such
sums, and those of a user's own are unknown: each is the mean over processes, weighted by their pixels. In
`ohem` each process has a least number of hard pixels of its own.
"""

from collections.abc import Callable
from math import log
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, distributed

from cocoseg.coco.categories import IGNORE
from cocoseg.train.params import LossName

OwnLoss = Callable[[Tensor, Tensor], Tensor]

# The weight of the auxiliary head in torchvision's reference training.
AUXILIARY_WEIGHT = 0.5
# The value that Lin et al. found best.
FOCAL_GAMMA = 2
# The cost of a false positive and of a false negative; the pair that Salehi et al. found best.
TVERSKY_ALPHA, TVERSKY_BETA = 0.3, 0.7
# Of ohem: a pixel is hard up to this probability of its class, and at least one in so many counts as hard. The values
# that BiSeNet and its followers use.
OHEM_PROBABILITY, OHEM_ONE_IN = 0.7, 16
# So many pixels at most are added to one float32 sum: near 2 ** 24, a probability of 0.99 no longer changes it.
_PIXELS_IN_A_SUM = 2**18


def segmentation_loss(
    output: Tensor | tuple[Tensor, Tensor],
    target: Tensor,
    loss: LossName | OwnLoss,
    class_weights: Tensor | None = None,
    shared: bool = False,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Return the loss of a model's output: logits, or in training the logits of the main and of an auxiliary head.

    `shared`: every process has a part of this batch, and all are here.

    `class_weights: (C,)` float32, (2,) for `binary`: the weight of a pixel of each class in ce, bce, ohem, focal and
    the cross-entropy of ce_dice and ce_lovasz, whose sums are divided by the weights of the counted pixels. dice,
    lovasz and tversky ignore them: they average over classes, so each class counts the same already. A loss of the
    user's own does too.

    `label_smoothing`: the share of the target that the cross-entropies, not focal, spread over all classes. Szegedy et
    al. 2016, arXiv 1512.00567. A pixel keeps the weight of its own class; torch weights each term by the class of the
    term, which pulls all predictions towards the classes of large weight.
    """
    if isinstance(output, tuple):
        logits, auxiliary = output
        main = _loss(logits, target, loss, class_weights, shared, label_smoothing)
        return main + AUXILIARY_WEIGHT * _loss(auxiliary, target, loss, class_weights, shared, label_smoothing)
    return _loss(output, target, loss, class_weights, shared, label_smoothing)


def _loss(
    logits: Tensor,
    target: Tensor,
    loss: LossName | OwnLoss,
    class_weights: Tensor | None,
    shared: bool,
    label_smoothing: float,
) -> Tensor:
    logits = logits.float()  # sums over many pixels overflow in half precision
    if not isinstance(loss, str):
        own, pixels = loss(logits, target), (target != IGNORE).sum()
        return _divided(own * pixels, pixels, shared) if shared else own
    if logits.shape[1] == 1:
        # The sigmoid of one logit is the softmax of it and a fixed 0, so ce and bce are the same here.
        logits = torch.cat([torch.zeros_like(logits), logits], dim=1)
    if loss == "auto":
        raise ValueError("auto is not a loss; call resolved_loss first")
    log_probabilities = F.log_softmax(logits, dim=1)
    # The cross-entropy with a smoothed target is that of the target, if every class has a share of all classes' logs.
    smoothed = log_probabilities
    if label_smoothing:
        smoothed = torch.lerp(log_probabilities, log_probabilities.mean(dim=1, keepdim=True), label_smoothing)
    index = target.long()
    match loss:
        case "ce" | "bce":
            return _cross_entropy(smoothed, index, class_weights, shared)
        case "ohem":
            return _cross_entropy(smoothed, _hard_target(log_probabilities, index), class_weights, shared)
        case "dice":
            return _dice(log_probabilities, index, shared)
        case "ce_dice":
            dice = _dice(log_probabilities, index, shared)
            return _cross_entropy(smoothed, index, class_weights, shared) + dice
        case "ce_lovasz":
            return _cross_entropy(smoothed, index, class_weights, shared) + _lovasz(log_probabilities, index, shared)
        case "focal":
            return _focal(log_probabilities, index, class_weights, shared)
        case "lovasz":
            return _lovasz(log_probabilities, index, shared)
        case "tversky":
            return _tversky(log_probabilities, index, shared)


def _over_processes(sums: Tensor) -> Tensor:
    """Return the sum over all processes.

    Its gradient in each is that of its own part, times the number of processes: the mean of their gradients, which is
    what they step by, is then the gradient of the sum.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return sums
    total = sums.detach().clone()
    distributed.all_reduce(total)
    own = sums * distributed.get_world_size()
    return total + (own - own.detach())


def resolved_loss(loss: str) -> LossName:
    """Return the loss that `auto` stands for, cross-entropy plus Dice; others as they are."""
    # Cross-entropy alone is lowest for long where nothing is found, if little of an image is foreground.
    return "ce_dice" if loss == "auto" else cast("LossName", loss)


def _cross_entropy(log_probabilities: Tensor, target: Tensor, class_weights: Tensor | None, shared: bool) -> Tensor:
    # On CUDA nll_loss adds up in any order, and has no other way.
    apart = torch.are_deterministic_algorithms_enabled()
    reduction = "none" if apart else "sum"
    total = F.nll_loss(log_probabilities, target, class_weights, ignore_index=IGNORE, reduction=reduction).sum()
    return _divided(total, _pixel_weights(target, class_weights).sum(), shared)


def _hard_target(log_probabilities: Tensor, target: Tensor) -> Tensor:
    """Return the target with 255 for all but the hard pixels of the batch: online hard example mining.

    Hard are those with a probability of their class up to `OHEM_PROBABILITY`, and at least one in `OHEM_ONE_IN` of
    those that count: ignored ones are neither hard nor counted. Shrivastava et al. 2016, arXiv 1604.03540; for pixels
    Wu et al. 2016, arXiv 1605.06885.
    """
    hardness = F.nll_loss(log_probabilities.detach(), target, ignore_index=IGNORE, reduction="none")  # (N, H, W)
    counted = target != IGNORE
    # Counts stay on the device: reading them would make the CPU wait for the GPU.
    hardest = hardness.masked_fill(~counted, -1).flatten().topk(-(-target.numel() // OHEM_ONE_IN)).values
    fewest = (counted.sum() - 1).clamp_min(0) // OHEM_ONE_IN  # one less than the least number of hard pixels
    limit = hardest[fewest].clamp_max(-log(OHEM_PROBABILITY))
    return target.masked_fill(hardness < limit, IGNORE)


def _focal(log_probabilities: Tensor, target: Tensor, class_weights: Tensor | None, shared: bool) -> Tensor:
    """Return cross-entropy times (1 - p) ** 2, with p of the target class. Lin et al. 2017, arXiv 1708.02002.

    smp's version takes a sigmoid of each logit, so the fixed 0 of `binary` costs 0.09 even in a perfect prediction.
    """
    cross_entropy = F.nll_loss(log_probabilities, target, ignore_index=IGNORE, reduction="none")  # (N, H, W)
    focal = (1 - torch.exp(-cross_entropy)) ** FOCAL_GAMMA * cross_entropy
    weights = _pixel_weights(target, class_weights)
    return _divided((focal * weights).sum(), weights.sum(), shared)


def _pixel_weights(target: Tensor, class_weights: Tensor | None) -> Tensor:
    """Return the weight of each pixel, (N, H, W): 0 if ignored, else the weight of its class, or 1 without weights."""
    counted = target != IGNORE
    if class_weights is None:
        return counted
    return class_weights[target.masked_fill(~counted, 0)] * counted


def _divided(total: Tensor, divisor: Tensor, shared: bool) -> Tensor:
    if shared:
        total, divisor = _over_processes(torch.stack([total, divisor.to(total.dtype)]))
    return total / torch.where(divisor > 0, divisor, 1)  # all ignored, or of classes of weight 0: 0 / 1


def _dice(log_probabilities: Tensor, target: Tensor, shared: bool) -> Tensor:
    """Return one minus soft Dice of the batch, averaged over the classes in it.

    Milletari et al. 2016, arXiv 1606.04797. smp's version divides by the number of all classes, present or not, so with
    80 classes the loss nearly vanishes.
    """
    intersection, predicted, target_pixels = _soft_counts(log_probabilities, target, shared)
    dice = 2 * intersection / (predicted + target_pixels).clamp_min(1e-6)
    return _mean_of_present(1 - dice, target_pixels)


def _tversky(log_probabilities: Tensor, target: Tensor, shared: bool) -> Tensor:
    """Return one minus the soft Tversky index, averaged as in `_dice`. Salehi et al. 2017, arXiv 1706.05721.

    It is Dice with a higher cost for a missed pixel than for a false one. smp's version divides by all classes.
    """
    intersection, predicted, target_pixels = _soft_counts(log_probabilities, target, shared)
    false_positives, false_negatives = predicted - intersection, target_pixels - intersection
    costs = TVERSKY_ALPHA * false_positives + TVERSKY_BETA * false_negatives
    return _mean_of_present(1 - intersection / (intersection + costs).clamp_min(1e-6), target_pixels)


def _soft_counts(log_probabilities: Tensor, target: Tensor, shared: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return for each class the sum of its probability over its own pixels and over all, and its pixels; (C,) each."""
    classes = log_probabilities.shape[1]
    counted = target != IGNORE
    index = target.masked_fill(~counted, 0)
    probabilities = log_probabilities.exp() * counted.unsqueeze(1)
    hit = probabilities.gather(1, index.unsqueeze(1)).squeeze(1)  # of each pixel's own class; 0 where ignored
    intersection = _sum_by_class(hit, index, classes)
    if target.device.type == "cpu":  # in a third of the time; on a GPU it would wait for the largest index
        target_pixels = torch.bincount(target.flatten().int(), minlength=IGNORE + 1)[:classes].float()
    else:
        target_pixels = _sum_by_class(counted.float(), index, classes)
    predicted = probabilities.sum(dim=(0, 2, 3))
    if shared:
        intersection, predicted, target_pixels = _over_processes(torch.stack([intersection, predicted, target_pixels]))
    return intersection, predicted, target_pixels


def _sum_by_class(values: Tensor, index: Tensor, classes: int) -> Tensor:
    """Return the sum of the values (N, H, W) of each class, (classes,); `index: (N, H, W)`."""
    rows = 1 if values.numel() <= _PIXELS_IN_A_SUM else values.shape[0] * values.shape[1]
    if rows > 1:
        index = index + classes * torch.arange(rows, device=index.device).view(*index.shape[:2], 1)
    sums = torch.zeros(rows * classes, device=values.device).index_add(0, index.flatten(), values.flatten())
    return sums.view(rows, classes).sum(dim=0)


def _mean_of_present(losses: Tensor, target_pixels: Tensor) -> Tensor:
    present = target_pixels > 0
    return (losses * present).sum() / present.sum().clamp_min(1)


def _lovasz(log_probabilities: Tensor, target: Tensor, shared: bool) -> Tensor:
    """Return the Lovász extension of one minus IoU of the batch, averaged over the classes in it.

    Berman et al. 2018, arXiv 1705.08790. smp's version has the same value, but no scalar for an all-ignored batch.
    """
    counted = target != IGNORE
    probabilities = log_probabilities.exp().movedim(1, -1)[counted]  # (counted pixels, C)
    index = target[counted]
    present = index.unique().tolist()  # type: ignore[no-untyped-call]
    losses = [_lovasz_of_class(probabilities[:, c], index == c) for c in present]
    mean, pixels = torch.stack(losses).mean() if losses else probabilities.sum(), counted.sum()  # of no pixels: 0
    return _divided(mean * pixels, pixels, shared) if shared else mean


def _lovasz_of_class(probability: Tensor, own: Tensor) -> Tensor:
    """Return the sum of the errors, largest first, each times the drop in IoU once its pixel is wrong too.

    `probability: (pixels,)` float32 of the class, `own: (pixels,)` bool: whether the class is the target.
    """
    errors, order = (own.float() - probability).abs().sort(descending=True)
    own = own[order]
    wrong = own.cumsum(0)  # as integers: float32 cannot count beyond 2 ** 24
    intersection = wrong[-1] - wrong
    union = wrong[-1] + (~own).cumsum(0)
    # In closed form: smp subtracts neighboring IoUs, which in float32 makes each of a million drops off by up to 7 %.
    lost = torch.where(own, 1, intersection / (union - 1)) / union
    return (errors * lost).sum()
