"""Draw how the images of each class are shared among the sides."""

from collections.abc import Mapping, Sequence
from typing import Any

from cocoseg.pictures.layout import GAP_PX, LINE_PX, Pixels, beside, framed, paper, stacked, text_line

# Okabe and Ito 2008: of training, validation and test
_COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115))
_NAME_PX, _BAR_PX, _NUMBER_PX = 220, 290, 90
_FEW = 12  # classes, with letters that are legible where a phone shrinks the page to 360 pixels
_LARGE = 1.7


def side_shares(sides: Mapping[str, Any]) -> Pixels:
    """Return a picture with a bar for each class: the shares of the sides in its images, and their numbers.

    `sides`: those of `metrics/split.json`.
    """
    names = list(next(iter(sides.values()))["classes"])
    size = _LARGE if len(names) <= _FEW else 1
    heads = [text_line(side, _NUMBER_PX, color, size) for side, color in zip(sides, _COLORS, strict=True)]
    rows = [("all images", [side["images"] for side in sides.values()])]
    rows += [(name, [side["classes"][name]["images"] for side in sides.values()]) for name in names]
    lines = [beside([paper(1, _NAME_PX + GAP_PX + _BAR_PX), *heads], GAP_PX)]
    for name, counts in rows:
        numbers = [text_line(f"{count:,}", _NUMBER_PX, size=size) for count in counts]
        lines.append(
            beside([text_line(name, _NAME_PX, size=size), _bar(counts, round(LINE_PX * size)), *numbers], GAP_PX)
        )
    return framed(stacked(lines))


def _bar(counts: Sequence[int], height: int) -> Pixels:
    """Draw the counts one after the other, as shares of their sum, in a line of this height."""
    bar = paper(height, _BAR_PX)
    inside = bar[height // 6 : -height // 6]
    total, before = sum(counts), 0
    for count, color in zip(counts, _COLORS, strict=True):
        inside[:, _BAR_PX * before // max(1, total) : _BAR_PX * (before + count) // max(1, total)] = color
        before += count
    return bar
