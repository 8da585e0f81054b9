"""The logits of an image of any size, by overlapping windows whose logits are blended: nothing is resized."""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
import torch.nn.functional as F
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
    """Yield the logits of an image from top to bottom, in strips (C, rows, W) that are final: no strip needs another.

    `forward` returns the logits (N, C, window, window) of uint8 images; `image` is (3, H, W) uint8. Where what the
    network sees around a pixel fits a quarter of the overlap, the logits are those of the whole image.

    `border`: windows end at the edge of the image (`none`), or reach half an overlap beyond it and see the image
    mirrored there (`reflect`), as in U-Net's overlap-tile strategy, Ronneberger et al. 2015, arXiv 1505.04597.
    """
    height, width = image.shape[1:]
    around = _reach(window) if border == "reflect" else 0
    tops, lefts = window_starts(height + 2 * around, window), window_starts(width + 2 * around, window)
    full_height, full_width = tops[-1] + window, lefts[-1] + window
    if border == "reflect":
        image = image[:, reflected(height, around, full_height)][:, :, reflected(width, around, full_width)]
    else:
        image = bordered(image, full_height, full_width)
    sums = weights = torch.empty(0)
    for row, top in enumerate(tops):
        vertical = window_weights(window, row == 0, row == len(tops) - 1)
        for first in range(0, len(lefts), batch_size):
            own = lefts[first : first + batch_size]
            logits = forward(torch.stack([image[:, top : top + window, left : left + window] for left in own]))
            if not sums.numel():
                sums = logits.new_zeros(logits.shape[1], window, image.shape[2])
                weights = logits.new_zeros(window, image.shape[2])
            for number, (left, part) in enumerate(zip(own, logits, strict=True), start=first):
                horizontal = window_weights(window, number == 0, number == len(lefts) - 1)
                weight = (vertical[:, None] * horizontal).to(part.device)
                sums[:, :, left : left + window].addcmul_(part, weight)
                weights[:, left : left + window] += weight
        done = (tops[row + 1] if row + 1 < len(tops) else around + height) - top
        rows = slice(max(0, around - top), min(done, around + height - top))
        if rows.start < rows.stop:  # else above the image
            yield sums[:, rows, around : around + width] / weights[rows, around : around + width]
        sums, weights = F.pad(sums[:, done:], (0, 0, 0, done)), F.pad(weights[done:], (0, 0, 0, done))
