"""Pictures of masks for people: color maps, overlays, error maps, galleries with headings, captions and a legend.

Images are RGB (H, W, 3) uint8, label maps (H, W) uint8 with 255 for ignored pixels. Arithmetic is in integers, so that
the same input gives the same picture on every machine.
"""

from collections.abc import Iterable, Sequence
from functools import cache

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.categories import BACKGROUND, IGNORE
from cocoseg.palette import palette

Pixels = NDArray[np.uint8]

PANEL_HEIGHT_PX = 172
_NARROWEST, _WIDEST = 3 / 4, 4 / 3  # width of a panel by its height: room for its heading, and for two columns
_SWATCH = (14, 20)
_GAP_PX = 6
_TEXT_SCALE = 0.42
_LINE_PX = 22
PAPER = (255, 255, 255)
INK = (32, 34, 38)
_HATCH = (90, 90, 90)
_FAINT_INK = (110, 114, 120)

# Told apart by color-blind people too: from each other, from gray, and from the first twenty class colors.
ERRORS = {"missed": (221, 17, 34), "invented": (119, 255, 255), "confused": (204, 0, 255)}
_RIGHT = (110, 110, 110)
_ERROR_LEGEND = {
    "missed: object taken for background": ERRORS["missed"],
    "invented: background taken for an object": ERRORS["invented"],
    "confused: object taken for another class": ERRORS["confused"],
    "right": _RIGHT,
}


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One image of a gallery: beside its truth either a prediction or, without one, the overlay of the truth."""

    image: Pixels
    truth: Pixels
    prediction: Pixels | None = None
    caption: str = ""


def color_map(labels: Pixels) -> Pixels:
    """Labels in their class colors, (H, W, 3); ignored pixels hatched."""
    pixels = palette()[labels]
    pixels[(labels == IGNORE) & _stripes(*labels.shape)] = _HATCH
    return pixels


def overlay(image: Pixels, labels: Pixels) -> Pixels:
    """The image dimmed, its classes tinted and outlined in their colors, ignored pixels hatched."""
    gray = _gray(image)
    cells = labels.astype(np.uint16) << np.uint16(8) | gray[..., 0]
    pixels = np.take(_tints(), cells, axis=0)  # ten times as fast as worked out pixel by pixel
    hatched = labels == IGNORE
    if hatched.any():  # of predictions none is
        hatched &= _stripes(*labels.shape)
        pixels[hatched] = (gray[hatched] * 3 + np.array(_HATCH, np.uint16) * 5) // 8
    edge = np.flatnonzero(outline(labels))
    pixels.reshape(-1, 3)[edge] = palette()[labels.ravel()[edge]]
    return pixels


def error_map(image: Pixels, truth: Pixels, prediction: Pixels) -> Pixels:
    """The image dimmed, wrong pixels in the colors of `ERRORS`, right objects gray, ignored pixels hatched.

    missed: an object predicted as background; invented: background predicted as an object; confused: an object
    predicted as one of another class.
    """
    gray = _gray(image)
    pixels = np.repeat(gray * 3 // 8, 3, axis=2).astype(np.uint8)
    object_there, object_predicted, same = truth != BACKGROUND, prediction != BACKGROUND, truth == prediction
    right = object_there & same
    pixels[right] = ((gray * 3 + np.array(_RIGHT, np.uint16) * 5) // 8)[right]
    pixels[object_there & ~object_predicted] = ERRORS["missed"]
    pixels[~object_there & object_predicted] = ERRORS["invented"]
    pixels[object_there & object_predicted & ~same] = ERRORS["confused"]
    ignored = truth == IGNORE
    pixels[ignored] = color_map(truth)[ignored]
    return pixels


def outline(labels: Pixels) -> NDArray[np.bool_]:
    """The pixels of a class that have another label beside them, (H, W)."""
    grown = cv2.dilate(labels, np.ones((3, 3), np.uint8))
    shrunk = cv2.erode(labels, np.ones((3, 3), np.uint8))
    edge: NDArray[np.bool_] = (grown != shrunk) & (labels != BACKGROUND) & (labels != IGNORE)
    return edge


def gallery(rows: Sequence[Row], class_names: Sequence[str], columns: int | None = None, title: str = "") -> Pixels:
    """One picture of all rows, under headings and above a legend of `class_names`, background first.

    Rows with predictions show input, truth, prediction and errors; rows without, input, mask and overlay; a picture
    holds rows of one kind. `columns` rows lie side by side: by default two where there are more than four.
    """
    if not rows:
        return framed(text_line(f"{title}: none", text_width(f"{title}: none")))
    columns = columns or (2 if len(rows) > 4 else 1)
    shapes = [row.truth.shape for row in rows]
    # All panels of one picture are equally wide, so that its columns line up.
    widest = max(width / height for height, width in shapes)
    panel_width = round(PANEL_HEIGHT_PX * min(max(widest, _NARROWEST), _WIDEST))
    cells = [_cell(row, panel_width) for row in rows]
    predicted = rows[0].prediction is not None
    headings = ("input", "truth", "prediction", "errors") if predicted else ("input", "mask", "overlay")
    across = len(headings) * (panel_width + _GAP_PX) - _GAP_PX
    parts = [beside([_headings(headings, panel_width)] * min(columns, len(cells)), 3 * _GAP_PX)]
    if title:
        parts.insert(0, text_line(title, parts[0].shape[1]))
    for start in range(0, len(cells), columns):
        line = cells[start : start + columns]
        line += [paper(line[0].shape[0], across)] * (min(columns, len(cells)) - len(line))
        parts.append(beside(line, 3 * _GAP_PX))
    parts.append(_legend("classes", _class_swatches(_shown_classes(rows, class_names), class_names), parts[0].shape[1]))
    if predicted:
        parts.append(_legend("errors", _error_swatches(), parts[0].shape[1]))
    return framed(stacked(parts))


def resized(image: Pixels, height: int, width: int) -> Pixels:
    """An image at another size for looking at, smooth in both directions."""
    factor = min(image.shape[0] // height, image.shape[1] // width)
    if factor >= 2:
        # Means of whole blocks first: the interpolation below would skip pixels.
        tall, wide = image.shape[0] // factor * factor, image.shape[1] // factor * factor
        blocks = image[:tall, :wide].reshape(tall // factor, factor, wide // factor, factor, -1)
        image = (blocks.sum(axis=(1, 3), dtype=np.uint32) // factor**2).astype(np.uint8)
    # the bit-exact variants: the same pixels whatever the CPU
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT).astype(np.uint8, copy=False)


def resized_labels(labels: Pixels, height: int, width: int) -> Pixels:
    """Labels at another size for looking at; between two class indices lies no class."""
    return cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(np.uint8, copy=False)


def _cell(row: Row, width: int) -> Pixels:
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
    cell = beside([_centred(panel, height_px, width) for panel in panels], _GAP_PX)
    return stacked([text_line(row.caption, cell.shape[1]), cell]) if row.caption else cell


def _thrifty(pixels: Pixels, bits: int) -> Pixels:
    """The pixels with so many of their eight bits: hardly to be seen, and a PNG of it is half as large."""
    step = 1 << (8 - bits)
    return pixels // np.uint8(step) * np.uint8(step) + np.uint8(step // 2)


def _gray(image: Pixels) -> NDArray[np.uint16]:
    """How bright a pixel is, (H, W, 1) from 0 to 255, of 16 bits: room to multiply."""
    red, green, blue = (image[..., channel].astype(np.uint16) for channel in range(3))
    gray: NDArray[np.uint16] = red * np.uint16(77) + green * np.uint16(150) + blue * np.uint16(29) >> np.uint16(8)
    return gray[..., None]


@cache
def _tints() -> Pixels:
    """What each label makes of each brightness, (256 labels × 256, 3)."""
    brightness = np.arange(256, dtype=np.uint16)[:, None]
    tints = (brightness * 3 + palette().astype(np.uint16)[:, None] * 5) // 8
    tints[BACKGROUND] = brightness * 5 // 8
    return tints.astype(np.uint8).reshape(-1, 3)


def _stripes(height: int, width: int) -> NDArray[np.bool_]:
    """Diagonal stripes, (height, width)."""
    # of bytes and not of 64-bit numbers; 256 is a multiple of the pattern's 8, so going round does no harm
    down, across = (np.arange(size).astype(np.uint8) for size in (height, width))
    stripes: NDArray[np.bool_] = (down[:, None] + across) % np.uint8(8) < 3
    return stripes


def _headings(words: Sequence[str], width: int) -> Pixels:
    return beside([_centred(text_line(word, text_width(word)), _LINE_PX, width) for word in words], _GAP_PX)


def _legend(heading: str, swatches: Sequence[tuple[Pixels, str]], width: int) -> Pixels:
    """Swatches with names under a small heading, in as many lines as they need."""
    lines: list[list[Pixels]] = [[]]
    for swatch, name in swatches:
        text = text_line(name, min(text_width(name) + 4, width - swatch.shape[1] - _GAP_PX))
        entry = beside([_centred(swatch, _LINE_PX, swatch.shape[1]), text], _GAP_PX)
        taken = sum(part.shape[1] + 2 * _GAP_PX for part in lines[-1])
        if lines[-1] and taken + entry.shape[1] > width:
            lines.append([])
        lines[-1].append(entry)
    return stacked([text_line(heading, width, _FAINT_INK), *(beside(line, 2 * _GAP_PX) for line in lines)])


def legend(class_names: Sequence[str], width: int = 480) -> Pixels:
    """What `overlay` makes of middle gray under every class, background first."""
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


def _shown_classes(rows: Sequence[Row], class_names: Sequence[str]) -> list[int]:
    """All classes of a short list; of a long one those in the picture. 255 if it is in the picture."""
    present: set[int] = set()
    for row in rows:
        present.update(np.unique(row.truth).tolist())
        if row.prediction is not None:
            present.update(np.unique(row.prediction).tolist())
    few = set(range(len(class_names))) if len(class_names) <= 12 else {BACKGROUND}
    return sorted((present | few) & {*range(len(class_names)), IGNORE})


def text_line(text: str, width: int, ink: tuple[int, int, int] = INK) -> Pixels:
    """One line of text, shortened with «…» if it is wider."""
    if text_width(text) > width:
        while text and text_width(f"{text}...") > width:
            text = text[:-1]
        text = f"{text}..."
    line = paper(_LINE_PX, width)
    cv2.putText(line, text, (1, 15), cv2.FONT_HERSHEY_SIMPLEX, _TEXT_SCALE, ink, 1, cv2.LINE_AA)
    return line


def text_width(text: str) -> int:
    """The width of one line of text, in pixels."""
    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, _TEXT_SCALE, 1)[0][0]) + 2


def _centred(panel: Pixels, height: int, width: int) -> Pixels:
    out = paper(height, width)
    top, left = (height - panel.shape[0]) // 2, (width - panel.shape[1]) // 2
    out[top : top + panel.shape[0], left : left + panel.shape[1]] = panel
    return out


def beside(parts: Sequence[Pixels], gap_px: int) -> Pixels:
    """Pictures from left to right, aligned at the top."""
    height = max(part.shape[0] for part in parts)
    spaced: list[Pixels] = []
    for part in parts:
        spaced += [paper(height, gap_px), np.vstack([part, paper(height - part.shape[0], part.shape[1])])]
    return np.hstack(spaced[1:])


def stacked(parts: Sequence[Pixels], gap_px: int = 2) -> Pixels:
    """Pictures from top to bottom, aligned on the left."""
    width = max(part.shape[1] for part in parts)
    spaced: list[Pixels] = []
    for part in parts:
        spaced += [paper(gap_px, width), np.hstack([part, paper(part.shape[0], width - part.shape[1])])]
    return np.vstack(spaced[1:])


def framed(picture: Pixels) -> Pixels:
    """The picture with a margin."""
    height, width = picture.shape[:2]
    return _centred(picture, height + 2 * _GAP_PX, width + 2 * _GAP_PX)


def paper(height: int, width: int) -> Pixels:
    """Nothing, drawn."""
    return np.full((height, width, 3), PAPER, np.uint8)
