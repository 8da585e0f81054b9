"""The learning rate over a run, as a factor of `lr`."""

import math
from typing import Literal

ScheduleName = Literal["poly", "constant", "cosine", "onecycle"]

# torch's OneCycleLR has the same three: where it starts, where it ends, and how much of a run the rise takes.
ONECYCLE_START = 1 / 25
ONECYCLE_END = ONECYCLE_START / 10_000
ONECYCLE_RISE = 0.3


def lr_factor(step: int, steps: int, warmup_steps: int, schedule: ScheduleName) -> float:
    """The factor at `step` of `steps`: a straight rise over the first `warmup_steps`, then the schedule.

    With t from 0 to 1 over the rest, `poly` falls as (1 - t) ** 0.9, Chen et al. 2017, arXiv 1606.00915, and `cosine`
    as (1 + cos πt) / 2, Loshchilov and Hutter 2017, arXiv 1608.03983.
    `onecycle` rises from 1/25 to 1 and falls to 1/250,000 at the last step, along half a cosine each; Smith and Topin
    2018, arXiv 1708.07120. Its rise is the warm-up: it takes `warmup_steps`, or 30 % of the steps where they are 0.
    Momentum stays as it is.
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
