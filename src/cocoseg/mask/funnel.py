"""Draw what became of every entry of an annotations file: dropped, by reason, or painted, and of these the hidden."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cocoseg.pictures.layout import GAP_PX, PAGE_PX, Pixels, beside, framed, paper, stacked, text_line, text_width

_BAR_PX = 320
_BAR_HEIGHT_PX = 16
_KEPT = (0, 114, 178)
_DROPPED = (213, 94, 0)
_HIDDEN = (230, 159, 0)
_GONE = (226, 228, 232)
_MOST_CLASSES = 5  # with a bar of their own
_FEW, _LARGE = 16, 1.5  # bars, with letters that are legible where a phone shrinks the page


def funnel(
    noun: str, accounts: Sequence[tuple[str, Mapping[str, Any]]], hidden: Mapping[str, Mapping[str, int]] | None = None
) -> Pixels:
    """Draw bars from the input of the first account to what the last one kept; `accounts`: of each stage in turn.

    A dropped bar spans what its reason took away of what was left: the bars make a staircase down to the kept.
    `hidden`: of the kept, those of each class that others hide, under the words for how far; their bars go on down.
    """
    total = accounts[0][1]["input"]
    left = total
    bars = [(f"{noun} in the file", f"{total:,}", 0, total, _KEPT)]
    for stage, account in accounts:
        for reason, count in sorted(account["dropped"].items(), key=lambda item: (-item[1], item[0])):
            bars.append((f"{stage}: {reason}", f"-{count:,}", left - count, left, _DROPPED))
            left -= count
    bars.append((f"{noun} kept", f"{left:,}", 0, left, _KEPT))
    for words, count in _hidden_rows(hidden or {}):
        bars.append((words, f"{count:,}", left - count, left, _HIDDEN))
        left -= count
    size = _LARGE if len(bars) <= _FEW else 1
    numbers = max(text_width(number, size) for _, number, *_ in bars) + 6
    room = PAGE_PX - 2 * GAP_PX - numbers - _BAR_PX - 16  # 16: the gaps
    names = min(room, max(text_width(name, size) for name, *_ in bars) + 6)
    lines = [
        [
            text_line(name, names, size=size),
            text_line(number, numbers, size=size),
            _bar(start, stop, total, color, round(_BAR_HEIGHT_PX * size)),
        ]
        for name, number, start, stop, color in bars
    ]
    return framed(stacked([beside(line, gap_px=8) for line in lines]))


def _hidden_rows(hidden: Mapping[str, Mapping[str, int]]) -> Iterator[tuple[str, int]]:
    """Yield the classes that lose most, and what all others lose together."""
    for words, by_class in hidden.items():
        ordered = sorted(by_class.items(), key=lambda item: (-item[1], item[0]))
        yield from ((f"{words}: {name}", count) for name, count in ordered[:_MOST_CLASSES])
        if others := ordered[_MOST_CLASSES:]:
            yield f"{words}: {len(others)} other classes", sum(count for _, count in others)


def _bar(start: int, stop: int, total: int, color: tuple[int, int, int], height: int) -> Pixels:
    """Draw `start` to `stop` of `total` in color, what lies before in light gray; one pixel or more if not empty."""
    first, last = (_BAR_PX * count // total if total else 0 for count in (start, stop))
    if stop > start and last == first:
        first, last = min(first, _BAR_PX - 1), min(first, _BAR_PX - 1) + 1
    row = np.full((height, _BAR_PX, 3), 255, np.uint8)
    row[:, :first] = _GONE
    row[:, first:last] = color
    return np.vstack([paper(2, _BAR_PX), row])
