"""The logits of an image of any size, by overlapping windows whose logits are blended: nothing is resized."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cocoseg.model.preprocessing import bordered

# Windows start at multiples of it, so that a network with a stride sees a window on the same grid as the whole image.
_GRID = 32

BorderName = Literal["none", "reflect"]


def window_step(window: int) -> int:
    """Return the largest distance between windows: at least a quarter of a window overlaps the next."""
    return max(_GRID, window * 3 // 4 // _GRID * _GRID)


def window_starts(length: int, window: int) -> list[int]:
    """Return where windows of `window` pixels start, spread evenly, so that they cover `length` pixels.

    The last one may reach up to 31 pixels beyond the end, and the only one of a smaller image farther.
    """
    span = -(-max(0, length - window) // _GRID)
    gaps = -(-span * _GRID // window_step(window))
    return [span * index // max(1, gaps) * _GRID for index in range(gaps + 1)]


def window_weights(window: int, first: bool, last: bool) -> Tensor:
    """Return the weight of a window's pixels along one side, (window,).

    It is 0 near the ends, where the network lacks context, and rises over the middle half of the overlap.
    At the image's own border, `first` and `last`, it stays 1.
    """
    overlap = window - window_step(window)
    inside = torch.arange(window) + 0.5  # pixel centers, from the end
    rising = ((inside - overlap / 4) / (overlap / 2)).clamp(0, 1)
    ones = torch.ones(window)
    return (ones if first else rising) * (ones if last else rising.flip(0))


def reflected(length: int, before: int, total: int) -> Tensor:
    """Return which of `length` pixels lie in a row of `total`, (total,) int64: mirrored at both ends, `before` first.

    The pixel at the end is not repeated, and a row of one pixel is that pixel alone.
    """
    period = max(1, 2 * (length - 1))
    place = (torch.arange(total) - before).abs() % period
    return torch.where(place < length, place, period - place)


def _reach(window: int) -> int:
    """Return how far windows reach beyond the image's edge: half an overlap, or more to stay on the grid."""
    return -(-(window - window_step(window)) // (2 * _GRID)) * _GRID


def windowed_logits(
    forward: Callable[[Tensor], Tensor], image: Tensor, window: int, batch_size: int, border: BorderName = "none"
) -> Iterator[Tensor]:
    """Yield the logits of an image in final parts (C, h, w), a row of them from left to right, then the next below.

    `forward` returns the logits (N, C, window, window) of uint8 images; `image` is (3, H, W) uint8. Where what the
    network sees around a pixel fits a quarter of the overlap, the logits are those of the whole image. Memory holds
    the logits of a batch of windows, and those of the overlap between two rows of windows.
    `border`: windows end at the edge of the image (`none`), or reach half an overlap beyond it and see the image
    mirrored there (`reflect`), as in U-Net's overlap-tile strategy, Ronneberger et al. 2015, arXiv 1505.04597.
    """
    height, width = image.shape[1:]
    around = _reach(window) if border == "reflect" else 0
    tops, lefts = window_starts(height + 2 * around, window), window_starts(width + 2 * around, window)
    downs, acrosses = _steps(tops, around + height), _steps(lefts, around + width)
    if border == "reflect":
        rows, columns = reflected(height, around, tops[-1] + window), reflected(width, around, lefts[-1] + window)
        image = image[:, rows][:, :, columns]
    sums = above = torch.empty(0)  # of weighted logits, and last of weights: of this window, and of the row before it
    shared = 0  # rows with the row before it
    for row, (top, down) in enumerate(zip(tops, downs, strict=True)):
        vertical = window_weights(window, row == 0, row == len(tops) - 1)
        strip = bordered(image[:, top : top + window], window, lefts[-1] + window)
        windows = _each_window(forward, strip, lefts, window, batch_size)
        for number, (logits, left, across) in enumerate(zip(windows, lefts, acrosses, strict=True)):
            if not sums.numel():
                sums = logits.new_zeros(len(logits) + 1, window, window)
                above = logits.new_empty(len(sums), window - min(downs[:-1], default=window), around + width)
            horizontal = window_weights(window, number == 0, number == len(lefts) - 1)
            _add(sums, logits, (vertical[:, None] * horizontal).to(logits.device))
            shown = above[:, :, left : left + across]
            sums[:, :shared, :across] += shown[:, :shared]
            part = sums[:, max(0, around - top) : down, max(0, around - left) : across]
            if part.numel():  # else beyond the edge of the image
                yield part[:-1] / part[-1]
            if row + 1 < len(tops):
                shown[:, : window - down] = sums[:, down:, :across]
            _move_left(sums, across, window - across if number + 1 < len(lefts) else 0)
        shared = window - down


def _steps(starts: Sequence[int], length: int) -> list[int]:
    """Return how many pixels lie from each start to the next, and from the last to the end."""
    return [after - before for before, after in pairwise([*starts, length])]


def _add(sums: Tensor, logits: Tensor, weight: Tensor) -> None:
    sums[:-1].addcmul_(logits, weight)
    sums[-1] += weight


def _move_left(sums: Tensor, by: int, kept: int) -> None:
    """Move the columns after the first `by` to the left, so many of them, and clear the others."""
    sums[:, :, :kept] = sums[:, :, by : by + kept].clone()  # where they come from and go to may overlap
    sums[:, :, kept:] = 0


def _each_window(
    forward: Callable[[Tensor], Tensor], strip: Tensor, lefts: Sequence[int], window: int, batch_size: int
) -> Iterator[Tensor]:
    for first in range(0, len(lefts), batch_size):
        yield from forward(
            torch.stack([strip[:, :, left : left + window] for left in lefts[first : first + batch_size]])
        )


Part = TypeVar("Part", Tensor, NDArray[np.uint8])


def rows_of_parts(parts: Iterable[Part], width: int, join: Callable[[list[Part]], Part]) -> Iterator[Part]:
    """Yield what `join` makes of the parts (…, w) of each row, whose widths are `width` together."""
    row: list[Part] = []
    for part in parts:
        row.append(part)
        if sum(one.shape[-1] for one in row) == width:
            yield join(row) if len(row) > 1 else part
            row = []
