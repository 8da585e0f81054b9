"""Scores as text, "–" if unknown. `form` is a format specification such as ".3f"."""

from typing import Literal

ScoreName = Literal[
    "miou", "mean_dice", "foreground_miou", "foreground_dice", "frequency_weighted_iou", "pixel_accuracy"
]
PrimaryScoreName = Literal["auto", ScoreName]

UNKNOWN = "–"
SCORE_NAMES = {
    "miou": "mIoU",
    "mean_dice": "mean Dice",
    "foreground_miou": "foreground mIoU",
    "foreground_dice": "foreground Dice",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "pixel_accuracy": "pixel accuracy",
}


def number(value: float | None, form: str = ".4f") -> str:
    """Return a score as text."""
    return UNKNOWN if value is None else format(value, form)


def interval(low: float | None, high: float | None, form: str) -> str:
    """Return the interval of a score as text."""
    return UNKNOWN if low is None or high is None else f"{low:{form}} to {high:{form}}"
