"""The learning rate over a run, as a factor of `lr`."""

from typing import Literal

ScheduleName = Literal["poly", "constant"]


def lr_factor(step: int, steps: int, warmup_steps: int, schedule: ScheduleName) -> float:
    """The factor at `step` of `steps`: a straight rise over the first `warmup_steps`, then the schedule.

    `poly` falls as (1 - t) ** 0.9, t from 0 to 1 over the rest. Chen et al. 2017, arXiv 1606.00915.
    """
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if schedule == "constant":
        return 1.0
    return float((1 - (step - warmup_steps) / max(1, steps - warmup_steps)) ** 0.9)
