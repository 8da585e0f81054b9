"""Galleries of masks: rows of panels with headings, captions and a legend."""

import hashlib
import math
from collections.abc import Iterable, Sequence
from typing import Annotated

import cv2
import msgspec
import numpy as np
from msgspec import Meta

from cocoseg.coco.categories import BACKGROUND, IGNORE
from cocoseg.pictures.layout import (
    FAINT_INK,
    GAP_PX,
    LINE_PX,
    Pixels,
    beside,
    centered,
    framed,
    paper,
    stacked,
    text_line,
    text_width,
)
from cocoseg.pictures.overlay import ERRORS, RIGHT, color_map, error_map, overlay

PANEL_HEIGHT_PX = 172
_NARROWEST, _WIDEST = 3 / 4, 4 / 3  # width of a panel over its height: room for its heading, and for two columns
_ROW_PIXELS = 4_000_000
_SWATCH = (14, 20)

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


def row(image: Pixels, truth: Pixels, prediction: Pixels | None = None, caption: str = "") -> GalleryRow:
    """Return a row that keeps no more of a gigantic image than a gallery could show."""
    height, width = truth.shape
    factor = math.isqrt(height * width // _ROW_PIXELS)
    if factor > 1:
        size = max(1, height // factor), max(1, width // factor)
        image, truth = resized(image, *size), resized_labels(truth, *size)
        prediction = None if prediction is None else resized_labels(prediction, *size)
    return GalleryRow(image=image, truth=truth, prediction=prediction, caption=caption)


def gallery(
    rows: Sequence[GalleryRow], class_names: Sequence[str], columns: int | None = None, title: str = ""
) -> Pixels:
    """Return a picture of all rows with headings above and a legend below. `class_names`: background first.

    Rows with predictions show input, truth, prediction and errors; rows without, input, mask and overlay. All rows of a
    picture must be of one kind. `columns` rows are side by side: by default two if there are more than four rows.
    """
    if not rows:
        return framed(text_line(f"{title}: none", text_width(f"{title}: none")))
    columns = columns or (2 if len(rows) > 4 else 1)
    shapes = [row.truth.shape for row in rows]
    # All panels of a picture have the same width, so that columns line up.
    widest = max(width / height for height, width in shapes)
    panel_width = round(PANEL_HEIGHT_PX * min(max(widest, _NARROWEST), _WIDEST))
    cells = [_cell(row, panel_width) for row in rows]
    predicted = rows[0].prediction is not None
    headings = ("input", "truth", "prediction", "errors") if predicted else ("input", "mask", "overlay")
    across = len(headings) * (panel_width + GAP_PX) - GAP_PX
    parts = [beside([_headings(headings, panel_width)] * min(columns, len(cells)), 3 * GAP_PX)]
    if title:
        parts.insert(0, text_line(title, parts[0].shape[1]))
    for start in range(0, len(cells), columns):
        line = cells[start : start + columns]
        line += [paper(line[0].shape[0], across)] * (min(columns, len(cells)) - len(line))
        parts.append(beside(line, 3 * GAP_PX))
    parts.append(_legend("classes", _class_swatches(_shown_classes(rows, class_names), class_names), parts[0].shape[1]))
    if predicted:
        parts.append(_legend("errors", _error_swatches(), parts[0].shape[1]))
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


def _cell(row: GalleryRow, width: int) -> Pixels:
    height_px = PANEL_HEIGHT_PX
    scale = min(height_px / row.truth.shape[0], width / row.truth.shape[1])
    size = max(1, round(row.truth.shape[0] * scale)), max(1, round(row.truth.shape[1] * scale))
    image, truth = resized(row.image, *size), resized_labels(row.truth, *size)
    if row.prediction is None:
        panels = [_thrifty(image, bits=5), color_map(truth), _thrifty(overlay(image, truth), bits=4)]
    else:
        prediction = resized_labels(row.prediction, *size)
        panels = [
            _thrifty(image, bits=5),
            _thrifty(overlay(image, truth), bits=4),
            _thrifty(overlay(image, prediction), bits=4),
            _thrifty(error_map(image, truth, prediction), bits=4),
        ]
    cell = beside([centered(panel, height_px, width) for panel in panels], GAP_PX)
    return stacked([text_line(row.caption, cell.shape[1]), cell]) if row.caption else cell


def _thrifty(pixels: Pixels, bits: int) -> Pixels:
    """Return the pixels with only `bits` of their eight bits: hard to see, and it halves the size of the PNG."""
    step = 1 << (8 - bits)
    return pixels // np.uint8(step) * np.uint8(step) + np.uint8(step // 2)


def _headings(words: Sequence[str], width: int) -> Pixels:
    return beside([centered(text_line(word, text_width(word)), LINE_PX, width) for word in words], GAP_PX)


def _legend(heading: str, swatches: Sequence[tuple[Pixels, str]], width: int) -> Pixels:
    """Return swatches with names under a small heading, on as many lines as they need."""
    lines: list[list[Pixels]] = [[]]
    for swatch, name in swatches:
        text = text_line(name, min(text_width(name) + 4, width - swatch.shape[1] - GAP_PX))
        entry = beside([centered(swatch, LINE_PX, swatch.shape[1]), text], GAP_PX)
        taken = sum(part.shape[1] + 2 * GAP_PX for part in lines[-1])
        if lines[-1] and taken + entry.shape[1] > width:
            lines.append([])
        lines[-1].append(entry)
    return stacked([text_line(heading, width, FAINT_INK), *(beside(line, 2 * GAP_PX) for line in lines)])


def legend(class_names: Sequence[str], width: int = 480) -> Pixels:
    """Return a picture of each class's color as `overlay` shows it on middle gray, background first."""
    gray = np.full((*_SWATCH, 3), 128, np.uint8)
    swatches = [(overlay(gray, np.full(_SWATCH, index, np.uint8)), name) for index, name in enumerate(class_names)]
    return framed(_legend("classes", swatches, width))


def _class_swatches(indices: Iterable[int], class_names: Sequence[str]) -> list[tuple[Pixels, str]]:
    return [
        (color_map(np.full(_SWATCH, index, np.uint8)), "ignored" if index == IGNORE else class_names[index])
        for index in indices
    ]


def _error_swatches() -> list[tuple[Pixels, str]]:
    return [(np.full((*_SWATCH, 3), color, np.uint8), name) for name, color in _ERROR_LEGEND.items()]


def _shown_classes(rows: Sequence[GalleryRow], class_names: Sequence[str]) -> list[int]:
    """Return the classes for the legend: all of up to 12, else those that are shown; 255 if it is shown."""
    present: set[int] = set()
    for row in rows:
        present.update(np.unique(row.truth).tolist())
        if row.prediction is not None:
            present.update(np.unique(row.prediction).tolist())
    few = set(range(len(class_names))) if len(class_names) <= 12 else {BACKGROUND}
    return sorted((present | few) & {*range(len(class_names)), IGNORE})


GalleryImages = Annotated[int, Meta(ge=0, le=100, extra_json_schema={"examples": [8]})]


def chosen_images(file_names: Iterable[str], count: int) -> list[str]:
    """Return a sample of `count` names, or all if there are fewer, sorted. A larger sample contains a smaller one."""
    ordered = sorted(file_names, key=lambda name: (hashlib.sha256(name.encode()).digest(), name))
    return sorted(ordered[:count])
