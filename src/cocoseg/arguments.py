"""The types of the arguments of `cocoseg`, and how its help is laid out."""

import argparse
import math
import textwrap
from contextlib import suppress
from typing import Literal


class Help(argparse.HelpFormatter):
    """Wraps prose at the width of the terminal. Indented lines stay: they are commands to copy, or columns."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = text.splitlines()
        return "\n".join(line if line.startswith("  ") else textwrap.fill(line, width) for line in lines)


def threshold_of(text: str) -> float | Literal["auto"]:
    """Return a probability, or `auto`."""
    if text == "auto":
        return "auto"
    with suppress(ValueError):
        if 0 < float(text) < 1:
            return float(text)
    raise argparse.ArgumentTypeError(f"{text!r} is not a valid threshold; expected a number between 0 and 1, or auto")


def scales_of(text: str) -> tuple[float, ...]:
    """Return factors of an image's size."""
    with suppress(ValueError):
        scales = tuple(map(float, text.split(",")))
        if all(0 < scale < math.inf for scale in scales) and len(set(scales)) == len(scales):
            return scales
    raise argparse.ArgumentTypeError(f"{text!r} is not valid; expected different numbers above 0, such as 0.75,1,1.25")


def positive_count(text: str) -> int:
    """Return a whole number of at least 1."""
    return count(text, least=1)


def count(text: str, least: int = 0) -> int:
    """Return a whole number of at least `least`."""
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a valid count; expected a whole number from {least}")
    return int(text)
