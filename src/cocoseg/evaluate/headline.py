"""The few scores that people compare: for the tables of DVC, and for the line that the stage ends with."""

from collections.abc import Mapping
from typing import Any

from cocoseg.scores.formats import SCORE_NAMES, interval, number

_FORM = ".3f"
_MOST_CLASSES = 20  # `dvc metrics diff` has a line per class


def headline_scores(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `metrics/scores.json` out of those of `metrics/evaluate.json`."""
    found = {name: metrics[name] for name in ("miou", "foreground_dice")}
    return found | ({"iou": metrics["iou"]} if len(metrics["iou"]) <= _MOST_CLASSES else {})


def closing_line(metrics: Mapping[str, Any]) -> str:
    """Return the primary score in words, with its interval and the baseline to beat."""
    name = metrics["primary_score"]
    score, ends = metrics[name], metrics["intervals"].get(name)
    said = f"{metrics['split']} {SCORE_NAMES[name]} {number(score, _FORM)}"
    if ends:
        said += f" ({interval(ends['low'], ends['high'], _FORM)})"
    baseline = metrics["baselines"].get("color_and_position", {}).get(name)
    if score is not None and baseline is not None:
        place = "above" if score > baseline else "not above"
        said += f", {place} the color-and-position baseline {number(baseline, _FORM)}"
    return said
