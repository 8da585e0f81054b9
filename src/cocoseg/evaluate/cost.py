"""The cost of using a model, to be read beside its scores."""

import copy
import statistics
import time
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from cocoseg.hardware import device_name, peak_memory_mb
from cocoseg.model.architectures import parameter_count

WARM_UP, LEAST_TIMED, MOST_TIMED = 3, 7, 30  # passes
MOST_SECONDS = 2


def model_cost(model: nn.Module, image_size_px: int) -> dict[str, Any]:
    """Return parameters, multiply-adds, time and memory of a model on its device, for the timing metrics.

    The peak memory is that of the process so far, so call this after the images have been predicted.
    """
    device = next(model.parameters()).device
    return {
        "peak_memory_mb": peak_memory_mb(device),  # first: counting makes a copy of the model
        "parameters": parameter_count(model),
        "multiply_adds": multiply_adds(model, image_size_px),
        "milliseconds_per_image": round(milliseconds_per_image(model, image_size_px), 2),
        "device": device_name(device),
    }


def multiply_adds(model: nn.Module, image_size_px: int) -> int:
    """Return the multiply-adds of one square image in convolutions and matrix products, as torch counts them.

    Norms, activations and resizing are not counted.
    """
    try:
        return _counted(copy.deepcopy(model).to("meta"), image_size_px, torch.device("meta"))  # which needs no memory
    except (RuntimeError, NotImplementedError):  # a network of the user's own may look at values
        return _counted(model, image_size_px, next(model.parameters()).device)


def _counted(model: nn.Module, image_size_px: int, device: torch.device) -> int:
    # `FlopCounterMode` counts a multiply-add as two operations.
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.eval()(torch.zeros(1, 3, image_size_px, image_size_px, device=device))
    return int(counter.get_total_flops()) // 2


def milliseconds_per_image(model: nn.Module, image_size_px: int) -> float:
    """Return the median time that one square image alone takes in the network, without reading and resizing it."""
    device = next(model.parameters()).device
    image = torch.zeros(1, 3, image_size_px, image_size_px, device=device).to(memory_format=torch.channels_last)
    taken: list[float] = []
    for _ in range(WARM_UP + MOST_TIMED):
        started = time.perf_counter()
        with torch.inference_mode():
            model.eval()(image).sum().item()  # so that a GPU has finished
        taken.append(time.perf_counter() - started)
        timed = taken[WARM_UP:]
        if len(timed) >= LEAST_TIMED and sum(timed) > MOST_SECONDS:
            break
    return 1000 * statistics.median(timed)
