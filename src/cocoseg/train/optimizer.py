"""How weights change: the optimizer, and what surrounds its steps."""

from typing import Any, Literal

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

OptimizerName = Literal["adamw", "adam", "sgd"]


def make_optimizer(model: nn.Module, name: OptimizerName, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """The optimizer of a model's parameters; SGD with momentum 0.9."""
    # Biases and the scales of norms are not decayed: drawing them to zero restrains nothing that overfits.
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    match name:
        case "adamw":
            return torch.optim.AdamW(groups, lr=lr)
        case "adam":
            return torch.optim.Adam(groups, lr=lr)
        case "sgd":
            return torch.optim.SGD(groups, lr=lr, momentum=0.9)


def current_lr(optimizer: torch.optim.Optimizer) -> float:
    """The learning rate of the last step."""
    return float(optimizer.param_groups[0]["lr"])


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """The learning rate of the next step."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def averaged(model: nn.Module, ema_decay: float) -> AveragedModel:
    """A second model whose weights, and running statistics, follow those of `model` as an exponential average."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True)  # type: ignore[no-untyped-call]
