"""A confusion matrix as a picture: which class is taken for which."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from cocoseg.pictures.layout import INK, Pixels, beside, framed, paper, stacked, text_line, text_width

_FULL = (8, 48, 107)  # the blue of a share of 1; 0 is paper
_NOTHING = (235, 235, 235)
# Above so many classes their cells are too small for numbers.
_MOST_WITH_NUMBERS = 20


def confusion_picture(confusion: NDArray[np.int64], classes: Sequence[str]) -> Pixels:
    """Rows are the target, columns the prediction; each cell is a share of its row's pixels, in percent.

    The row of a class without a target pixel is gray.
    """
    numbers = len(classes) <= _MOST_WITH_NUMBERS
    cell = 46 if numbers else 14
    names = max(text_width(name) for name in classes) + 8
    target = confusion.sum(axis=1)
    rows = []
    for index in range(len(classes)):
        cells = [_cell(int(count), int(target[index]), cell, numbers) for count in confusion[index]]
        rows.append(beside([_right_aligned(classes[index], cell, names), *cells], gap_px=1))
    corner = paper(names, names)
    across = beside([corner, *(_upright(name, names, cell) for name in classes)], gap_px=1)
    title = "rows: target, columns: prediction; percent of the target's pixels"
    width = max(across.shape[1], text_width(title))
    return framed(stacked([text_line(title, width), across, *rows], gap_px=1))


def _cell(count: int, total: int, size: int, number: bool) -> Pixels:
    if total == 0:
        return np.full((size, size, 3), _NOTHING, np.uint8)
    percent = (200 * count + total) // (2 * total)
    shade = tuple(255 - (255 - full) * percent // 100 for full in _FULL)
    pixels = np.full((size, size, 3), shade, np.uint8)
    if number and count:
        text = str(percent) if percent else "<1"
        ink = (255, 255, 255) if percent > 45 else INK
        left = (size - text_width(text)) // 2
        cv2.putText(pixels, text, (left, size // 2 + 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, ink, 1, cv2.LINE_AA)
    return pixels


def _right_aligned(name: str, height: int, width: int) -> Pixels:
    line = text_line(name, text_width(name))
    if height < line.shape[0]:
        line = line[(line.shape[0] - height) // 2 :][:height]
    out = paper(height, width)
    top = (height - line.shape[0]) // 2
    out[top : top + line.shape[0], width - line.shape[1] - 4 : width - 4] = line
    return out


def _upright(name: str, height: int, width: int) -> Pixels:
    """The name from bottom to top, at the bottom of a strip."""
    line = text_line(name, text_width(name))
    if width < line.shape[0]:
        line = line[(line.shape[0] - width) // 2 :][:width]
    turned = np.rot90(line)
    out = paper(height, width)
    left = (width - turned.shape[1]) // 2
    out[height - turned.shape[0] - 4 : height - 4, left : left + turned.shape[1]] = turned
    return out
