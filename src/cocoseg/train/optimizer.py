"""The optimizer, the learning rate schedule and the moving average of weights."""

import math
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cocoseg.train.params import OptimizerName, ScheduleName

# What the lists of timm's encoders name. smp takes some encoders apart, and their list is lost.
_NO_DECAY = re.compile(r"pos_embed|position_bias|rel_pos|_token$|attention_bias|logit_scale|cpb_mlp")


def make_optimizer(
    model: nn.Module,
    name: OptimizerName,
    lr: float,
    weight_decay: float,
    encoder: nn.Module | None = None,
    encoder_lr_factor: float = 1.0,
) -> torch.optim.Optimizer:
    """Return an optimizer of the model's parameters; SGD has a momentum of 0.9.

    Biases, scales of norms, tables of positions and what else an encoder lists get no weight decay: shrinking them does
    not reduce overfitting. Those of `encoder`, a part of `model`, learn at `encoder_lr_factor` times the others' rate.
    """
    listed = {
        f"{path}.{own}".lstrip(".")
        for path, module in model.named_modules()
        if callable(names := getattr(module, "no_weight_decay", None))
        for own in names()
    }
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for path, parameter in model.named_parameters():
        spared = parameter.ndim <= 1 or path in listed or _NO_DECAY.search(path)
        (others if spared else decayed).append(parameter)
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    if encoder is not None and encoder_lr_factor != 1:
        groups = _with_factor(groups, encoder, encoder_lr_factor)
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr)
        case "adam":
            return torch.optim.Adam(groups, lr=lr)
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=0.9)


def _with_factor(groups: Sequence[dict[str, Any]], encoder: nn.Module, factor: float) -> list[dict[str, Any]]:
    """Return the groups cut in two: first what is outside the encoder, then the encoder's with an `lr_factor`."""
    inside = {id(parameter) for parameter in encoder.parameters()}
    return [
        {**group, "params": [one for one in group["params"] if (id(one) in inside) == is_encoder], "lr_factor": own}
        for is_encoder, own in ((False, 1.0), (True, factor))
        for group in groups
    ]


def current_lr(optimizer: torch.optim.Optimizer) -> float:
    """Return the learning rate of the last step, outside the encoder if that has another."""
    return float(optimizer.param_groups[0]["lr"])


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of the next step, times the factor of each group that has one."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)


def averaged(model: nn.Module, ema_decay: float) -> AveragedModel:
    """Return a copy of `model` for the exponential moving average of its weights and running statistics.

    The decay warms up, or a short run would end with its first weights: after n steps it is at most
    1 - (1 + n) ** (-2/3), as in timm's `ModelEmaV3`, which has it from K. Crowson.
    """

    def update(averages: Any, current: Any, steps: Any) -> None:
        if not (averages[0].is_floating_point() or averages[0].is_complex()):  # such as Swin's table of positions
            torch._foreach_copy_(averages, current)
            return
        # `average` counts on the CPU; reading `steps` would make the CPU wait for the GPU.
        decay = min(ema_decay, 1 - (1 + int(average.n_averaged)) ** (-2 / 3))
        mixed: Any = get_ema_multi_avg_fn  # which has no types
        mixed(decay)(averages, current, steps)

    average = AveragedModel(model, multi_avg_fn=update, use_buffers=True)
    return average


# As in torch's OneCycleLR: the factor at the start and at the end, and the share of the steps that the rise takes.
ONECYCLE_START = 1 / 25
ONECYCLE_END = ONECYCLE_START / 10_000
ONECYCLE_RISE = 0.3


def lr_factor(step: int, steps: int, warmup_steps: int, schedule: ScheduleName) -> float:
    """Return the factor of the learning rate at `step` of `steps`: a linear warm-up, then the schedule.

    With t from 0 to 1 after the warm-up, `poly` falls as (1 - t) ** 0.9, Chen et al. 2017, arXiv 1606.00915, and
    `cosine` as (1 + cos πt) / 2, Loshchilov and Hutter 2017, arXiv 1608.03983.
    `onecycle` rises from 1/25 to 1 and falls to 1/250,000 at the last step, along half a cosine each; Smith and Topin
    2018, arXiv 1708.07120. Its rise is the warm-up: it takes `warmup_steps`, or 30 % of the steps if they are 0. Unlike
    torch's, it does not change the momentum.
    """
    if schedule == "onecycle":
        return _onecycle(step, steps, warmup_steps)
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    t = (step - warmup_steps) / max(1, steps - warmup_steps)
    match schedule:
        case "constant":
            return 1.0
        case "poly":
            return float((1 - t) ** 0.9)
        case "cosine":
            return _along_cosine(1, 0, t)


def _onecycle(step: int, steps: int, warmup_steps: int) -> float:
    top = max(0.0, (warmup_steps or ONECYCLE_RISE * steps) - 1)
    if step < top:
        return _along_cosine(ONECYCLE_START, 1, step / top)
    return _along_cosine(1, ONECYCLE_END, (step - top) / max(1.0, steps - 1 - top))


def _along_cosine(start: float, end: float, t: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * t)) / 2
