"""Lay out text and pictures on blank pictures."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
PAGE_PX = 840  # the column of a page on GitHub: a wider picture would be shrunk, and its text with it
GAP_PX = 6
LINE_PX = 24
_TEXT_SCALE = 0.5  # letters of 14 pixels; of 11 where two pictures share a window of 1,400 pixels
PAPER = (255, 255, 255)
INK = (32, 34, 38)
FAINT_INK = (110, 114, 120)


def text_line(text: str, width: int, ink: tuple[int, int, int] = INK, size: float = 1) -> Pixels:
    """Return a picture of one line of text, shortened with "..." if it is wider than `width`."""
    if text_width(text, size) > width:
        while text and text_width(f"{text}...", size) > width:
            text = text[:-1]
        text = f"{text}..."
    line = paper(round(LINE_PX * size), width)
    at = 1, round(17 * size)
    cv2.putText(line, text, at, cv2.FONT_HERSHEY_SIMPLEX, _TEXT_SCALE * size, ink, 1, cv2.LINE_AA)
    return line


def text_width(text: str, size: float = 1) -> int:
    """Return the width of one line of text in pixels."""
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, _TEXT_SCALE * size, 1)[0][0]) + 2


def centered(panel: Pixels, height: int, width: int) -> Pixels:
    """Return the panel in the middle of a blank picture, (height, width, 3)."""
    out = paper(height, width)
    top, left = (height - panel.shape[0]) // 2, (width - panel.shape[1]) // 2
    out[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
    return out


def beside(parts: Sequence[Pixels], gap_px: int) -> Pixels:
    """Place pictures from left to right, aligned at the top."""
    height = max(part.shape[0] for part in parts)
    spaced: list[Pixels] = []
    for part in parts:
        spaced += [paper(height, gap_px), np.vstack([part, paper(height - part.shape[0], part.shape[1])])]
    return np.hstack(spaced[1:])


def stacked(parts: Sequence[Pixels], gap_px: int = 2) -> Pixels:
    """Place pictures from top to bottom, aligned on the left."""
    width = max(part.shape[1] for part in parts)
    spaced: list[Pixels] = []
    for part in parts:
        spaced += [paper(gap_px, width), np.hstack([part, paper(part.shape[0], width - part.shape[1])])]
    return np.vstack(spaced[1:])


def framed(picture: Pixels) -> Pixels:
    """Return the picture with a margin."""
    height, width = picture.shape[:2]
    return centered(picture, height + 2 * GAP_PX, width + 2 * GAP_PX)


def paper(height: int, width: int) -> Pixels:
    """Return a blank white picture, (height, width, 3)."""
    return np.full((height, width, 3), PAPER, np.uint8)
