"""Galleries of masks: rows of panels with headings, captions and a legend."""

import hashlib
import math
from collections.abc import Iterable, Sequence

import cv2
import msgspec
import numpy as np

from cocoseg.coco.categories import BACKGROUND, IGNORE
from cocoseg.coco.format import Box
from cocoseg.pictures.boxes import draw_boxes, scaled
from cocoseg.pictures.layout import (
    FAINT_INK,
    GAP_PX,
    LINE_PX,
    PAGE_PX,
    Pixels,
    beside,
    centered,
    framed,
    stacked,
    text_line,
    text_width,
)
from cocoseg.pictures.overlay import ERRORS, RIGHT, color_map, error_map, overlay

_ROW_PIXELS = 4_000_000
_LONGEST = 3  # sides of a panel: the panels of a longer image are lines, or columns, or nobody could read them
_STEP, _NEAR = 17, 12  # of colors: 15 steps from black to white
_SWATCH = (14, 20)
_LARGE = 1.9  # letters that are legible where a phone shrinks the page to 360 pixels

_ERROR_LEGEND = {
    "missed: object taken for background": ERRORS["missed"],
    "invented: background taken for an object": ERRORS["invented"],
    "confused: object taken for another class": ERRORS["confused"],
    "right": RIGHT,
}


class GalleryRow(msgspec.Struct, frozen=True, kw_only=True):
    """One image of a gallery, with its true mask and, if there is one, its prediction."""

    image: Pixels
    truth: Pixels
    prediction: Pixels | None = None
    caption: str = ""
    boxes: Sequence[tuple[str, Box]] = ()
    """Drawn into mask and overlay, each with a word."""


def row(
    image: Pixels,
    truth: Pixels,
    prediction: Pixels | None = None,
    caption: str = "",
    boxes: Sequence[tuple[str, Box]] = (),
) -> GalleryRow:
    """Return a row that keeps no more of a gigantic image than a gallery could show."""
    height, width = truth.shape
    factor = math.isqrt(height * width // _ROW_PIXELS)
    if factor > 1:
        size = max(1, height // factor), max(1, width // factor)
        image, truth = resized(image, *size), resized_labels(truth, *size)
        prediction = None if prediction is None else resized_labels(prediction, *size)
        boxes = [(word, scaled(box, size[1] / width, size[0] / height)) for word, box in boxes]
    return GalleryRow(image=image, truth=truth, prediction=prediction, caption=caption, boxes=boxes)


def gallery(rows: Sequence[GalleryRow], class_names: Sequence[str], title: str = "", *, large: bool = False) -> Pixels:
    """Return a picture of all rows, as wide as a page, with headings and a legend. `class_names`: background first.

    Rows with predictions show input, truth, prediction and errors; rows without, input, mask and overlay. All rows of a
    picture must be of one kind. `large`: larger letters, and no errors.
    """
    if not rows:
        return framed(text_line(f"{title}: none", PAGE_PX - 2 * GAP_PX))
    size = _LARGE if large else 1
    predicted = rows[0].prediction is not None
    headings = ("input", "truth", "prediction", "errors") if predicted else ("input", "mask", "overlay")
    headings = headings[:3] if large else headings
    width = (PAGE_PX - GAP_PX) // len(headings) - GAP_PX
    across = len(headings) * (width + GAP_PX) - GAP_PX
    titles = [text_line(title, across, size=size)] if title else []
    shown = _shown_classes(rows, class_names, with_background=not predicted)
    parts = [
        *titles,
        beside([_heading(word, width, size) for word in headings], GAP_PX),
        *(_cell(row, class_names, across if _is_wide(row) else width, headings, size) for row in rows),
        _legend("classes", _class_swatches(shown, class_names), across, size),
    ]
    if "errors" in headings:
        parts.append(_legend("errors", _error_swatches(), across, size))
    return framed(stacked(parts))


def resized(image: Pixels, height: int, width: int) -> Pixels:
    """Resize an image for display, smoothly up and down."""
    factor = min(image.shape[0] // height, image.shape[1] // width)
    if factor >= 2:
        # Means of blocks of pixels first: the interpolation below would skip pixels.
        tall, wide = image.shape[0] // factor * factor, image.shape[1] // factor * factor
        blocks = image[:tall, :wide].reshape(tall // factor, factor, wide // factor, factor, -1)
        image = (blocks.sum(axis=(1, 3), dtype=np.uint32) // factor**2).astype(np.uint8)
    # the bit-exact variants: the same pixels on every CPU
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.uint8, copy=False)


def resized_labels(labels: Pixels, height: int, width: int) -> Pixels:
    """Resize labels for display, to the nearest: between two class indices lies no class."""
    return cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(np.uint8, copy=False)


def _is_wide(row: GalleryRow) -> bool:
    height, width = row.truth.shape
    return bool(width > _LONGEST * height)


def _cell(row: GalleryRow, class_names: Sequence[str], width: int, headings: Sequence[str], size: float) -> Pixels:
    """Return the panels of a row, each at most of `width`, under its caption; those of a wide image as lines of it."""
    narrow = row.truth.shape[0] > _LONGEST * row.truth.shape[1]
    scale = width * (_LONGEST if narrow else 1) / max(row.truth.shape)
    shape = max(1, round(row.truth.shape[0] * scale)), max(1, round(row.truth.shape[1] * scale))
    image, truth = resized(row.image, *shape), resized_labels(row.truth, *shape)
    shown = [image]
    if row.prediction is None:
        shown += [color_map(truth), overlay(image, truth, class_names, size)]
        boxes = [
            (word, scaled(box, shape[1] / row.truth.shape[1], shape[0] / row.truth.shape[0])) for word, box in row.boxes
        ]
        for panel in shown[1:]:
            draw_boxes(panel, boxes)
    else:
        prediction = resized_labels(row.prediction, *shape)
        shown += [overlay(image, labels, class_names, size) for labels in (truth, prediction)]
        shown.append(error_map(image, truth, prediction))
    panels = [centered(_thrifty(panel), shape[0], width) for panel in shown[: len(headings)]]
    if _is_wide(row):
        lines = [[text_line(word, width, FAINT_INK, size), panel] for word, panel in zip(headings, panels, strict=True)]
        cell = stacked([part for line in lines for part in line])
    else:
        cell = beside(panels, GAP_PX)
    return stacked([text_line(row.caption, cell.shape[1], size=size), cell]) if row.caption else cell


def _thrifty(pixels: Pixels) -> Pixels:
    """Return the pixels with 16 levels of each color, or the level above where that is near: a PNG of a third.

    Nearly gray pixels become gray: else noise in a gray photograph would put its channels on different levels.
    """
    pixels = np.where(np.ptp(pixels, axis=2, keepdims=True) <= _NEAR, pixels[..., 1:2], pixels)
    levels = ((pixels.astype(np.int16) + _STEP // 2) // _STEP * _STEP).astype(np.uint8)
    for above, below, exact in zip(levels, levels[1:], pixels[1:], strict=False):
        near = cv2.absdiff(above, exact) <= _NEAR
        below[near] = above[near]
    return levels


def _heading(word: str, width: int, size: float) -> Pixels:
    return centered(text_line(word, text_width(word, size), size=size), round(LINE_PX * size), width)


def _legend(heading: str, swatches: Sequence[tuple[Pixels, str]], width: int, size: float = 1) -> Pixels:
    """Return swatches with names under a small heading, on as many lines as they need."""
    lines: list[list[Pixels]] = [[]]
    for swatch, name in swatches:
        text = text_line(name, min(text_width(name, size) + 4, width - swatch.shape[1] - GAP_PX), size=size)
        entry = beside([centered(swatch, len(text), swatch.shape[1]), text], GAP_PX)
        taken = sum(part.shape[1] + 2 * GAP_PX for part in lines[-1])
        if lines[-1] and taken + entry.shape[1] > width:
            lines.append([])
        lines[-1].append(entry)
    return stacked([text_line(heading, width, FAINT_INK, size), *(beside(line, 2 * GAP_PX) for line in lines)])


def legend(class_names: Sequence[str], width: int = 480) -> Pixels:
    """Return a picture of the color of each class in overlays. `class_names`: background, which has none, first."""
    return framed(_legend("classes", _class_swatches(range(1, len(class_names)), class_names), width))


def _class_swatches(indices: Iterable[int], class_names: Sequence[str]) -> list[tuple[Pixels, str]]:
    return [
        (color_map(np.full(_SWATCH, index, np.uint8)), "ignored" if index == IGNORE else class_names[index])
        for index in indices
    ]


def _error_swatches() -> list[tuple[Pixels, str]]:
    return [(np.full((*_SWATCH, 3), color, np.uint8), name) for name, color in _ERROR_LEGEND.items()]


def _shown_classes(rows: Sequence[GalleryRow], class_names: Sequence[str], *, with_background: bool) -> list[int]:
    """Return the classes for the legend: all of up to 12, else those that are shown; 255 if it is shown."""
    present: set[int] = set()
    for row in rows:
        present.update(np.unique(row.truth).tolist())
        if row.prediction is not None:
            present.update(np.unique(row.prediction).tolist())
    few = set(range(len(class_names))) if len(class_names) <= 12 else {BACKGROUND}
    return sorted((present | few) & {*range(0 if with_background else 1, len(class_names)), IGNORE})


def chosen_images(file_names: Iterable[str], count: int) -> list[str]:
    """Return a sample of `count` names, or all if there are fewer, sorted. A larger sample contains a smaller one."""
    ordered = sorted(file_names, key=lambda name: (hashlib.sha256(name.encode()).digest(), name))
    return sorted(ordered[:count])
