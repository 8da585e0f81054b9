"""Draw boxes with words."""

from collections.abc import Sequence

import cv2

from cocoseg.coco.format import Box
from cocoseg.pictures.layout import LINE_PX, PAPER, Pixels, text_line, text_width


def scaled(box: Box, across: float, down: float) -> Box:
    """Return the box in an image that is so many times as wide and as tall."""
    left, top, width, height = box
    return left * across, top * down, width * across, height * down


def draw_boxes(pixels: Pixels, boxes: Sequence[tuple[str, Box]]) -> None:
    """Draw each box, black in white, and its word above it, or below or in it where the image has no room above."""
    height, width = pixels.shape[:2]
    for word, box in boxes:
        left, top = (max(0, round(edge)) for edge in box[:2])
        right, lower = min(width, round(box[0] + box[2])) - 1, min(height, round(box[1] + box[3])) - 1
        cv2.rectangle(pixels, (left, top), (right, lower), PAPER, 3)
        cv2.rectangle(pixels, (left, top), (right, lower), (0, 0, 0), 1)
        line = text_line(word, min(width, text_width(word)))[4 : LINE_PX - 2]
        room = height - len(line)
        y = top - len(line) - 2 if top > len(line) + 2 else lower + 2 if lower + 2 <= room else max(0, min(top, room))
        x = max(0, min(left, width - line.shape[1]))
        pixels[y : y + len(line), x : x + line.shape[1]] = line[: height - y]
