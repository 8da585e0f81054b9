"""What becomes of objects in a mask: the lost ones, those that others hide, and those that paint what nobody said."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import ceil, floor
from typing import Literal

import cv2
import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

from cocoseg.coco.categories import BACKGROUND, IGNORE
from cocoseg.coco.format import UNREADABLE, Annotation
from cocoseg.mask.painting import Paint

MOST_BOX_PX = 2
"""How far a painted box may lie from `bbox` at an edge."""
MOST_AREA_SHARE = 0.1
"""How far a painted area may lie from `area`."""
_MOST_COMPARED = 512  # objects of an image, each with each
_MOSTLY = 0.1  # of its pixels: who keeps fewer is mostly hidden
_BOX = msgspec.json.Decoder(tuple[float, float, float, float])
_TEXTS = msgspec.json.Decoder(tuple[str, str, str, str])  # numbers in quotes


class Visibility(msgspec.Struct, frozen=True):
    """How many objects of each class index keep no pixel of their class, and how many under a tenth or none."""

    hidden: dict[int, int] = {}
    mostly_hidden: dict[int, int] = {}


class Disagreement(msgspec.Struct, frozen=True):
    """What one annotation says of itself, its `bbox` or `area`, and does not paint.

    `off`: by how many times what is allowed.
    """

    kind: Literal["box", "area"]
    off: float
    what: str


def box_of(bbox: Raw | UnsetType) -> tuple[float, float, float, float] | None:
    """Return the left, top, width and height of a `bbox`; `None` if it is not a box with an area."""
    if bbox is UNSET:
        return None
    try:
        left, top, width, height = _BOX.decode(bbox)
    except UNREADABLE:
        try:
            left, top, width, height = map(float, _TEXTS.decode(bbox))
        except (*UNREADABLE, ValueError):
            return None
    usable = width > 0 and height > 0 and max(abs(left), abs(top), width, height) < 1e9
    # One within a pixel, of numbers that are not whole, is in shares of the image.
    if left >= 0 and top >= 0 and left + width <= 1 and top + height <= 1 and (width < 1 or height < 1):
        return None
    return (left, top, width, height) if usable else None


def pixels_of(bbox: Raw | UnsetType, height: int, width: int) -> tuple[slice, slice] | None:
    """Return the rows and columns that a `bbox` touches in an image; `None` if it is not usable there."""
    box = box_of(bbox)
    if box is None:
        return None
    left, top = max(0, floor(box[0])), max(0, floor(box[1]))
    right, bottom = min(width, ceil(box[0] + box[2])), min(height, ceil(box[1] + box[3]))
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def ignore_boxes(labels: NDArray[np.uint8], boxes: Sequence[Raw | UnsetType]) -> int:
    """Make 255 of what nothing paints in each box; return how many boxes are not usable in this image."""
    without = 0
    for bbox in boxes:
        pixels = pixels_of(bbox, *labels.shape)
        if pixels is None:
            without += 1
        else:
            inside = labels[pixels]
            inside[inside == BACKGROUND] = IGNORE
    return without


def visibility(paints: Sequence[Paint], boxes: NDArray[np.int64], labels: NDArray[np.uint8]) -> Visibility:
    """Return which objects others hide: those of whose pixels few or none bear their class.

    `boxes`: what each paints, as `painted_boxes` gives it. `labels`: (height, width).
    """
    hidden: Counter[int] = Counter()
    mostly: Counter[int] = Counter()
    columns = cv2.transpose(labels).ravel()
    for index in _perhaps_hidden(paints, boxes):
        entry = paints[index]
        if entry.ignored:
            continue
        span = entry.span
        own = (columns[span.start : span.stop] == entry.class_index).view(np.uint8)
        own &= span.covered
        left = cv2.countNonZero(own)
        if left < _MOSTLY * span.size:
            mostly[entry.class_index] += 1
            hidden[entry.class_index] += not left
    return Visibility({index: count for index, count in hidden.items() if count}, dict(mostly))


def _perhaps_hidden(paints: Sequence[Paint], boxes: NDArray[np.int64]) -> Iterable[int]:
    """Return the objects whose boxes others of another class meet that have nine tenths of their pixels together."""
    if len(paints) > _MOST_COMPARED:
        return range(len(paints))
    left, top, right, bottom = boxes.T
    classes = np.array([entry.class_index for entry in paints])
    sizes = np.array([entry.span.size for entry in paints])
    meet = (left[:, None] < right) & (top[:, None] < bottom)
    meet &= meet.T & (classes[:, None] != classes)
    found: list[int] = (meet @ sizes >= (1 - _MOSTLY) * sizes).nonzero()[0].tolist()
    return found


def disagreements(
    annotations: Sequence[Annotation], sizes: Sequence[int], boxes: NDArray[np.int64]
) -> list[Disagreement]:
    """Return the annotations whose painted box or area is not what `bbox` or `area` says."""
    found = []
    for annotation, size, (left, top, right, bottom) in zip(annotations, sizes, boxes.tolist(), strict=True):
        box, area = box_of(annotation.bbox), _area_of(annotation.area)
        box_off = area_off = 0.0
        if box is not None:
            x, y, width, height = box
            box_off = max(abs(x - left), abs(y - top), abs(x + width - right), abs(y + height - bottom)) / MOST_BOX_PX
        if area:
            area_off = abs(size - area) / area / MOST_AREA_SHARE
        if box is not None and box_off > 1:
            painted = [left, top, right - left, bottom - top]
            said = f"annotation {annotation.id} says bbox {[round(value, 1) for value in box]}, but paints {painted}"
            found.append(Disagreement("box", box_off, said))
        if area_off > 1:
            said = f"annotation {annotation.id} says area {area:g}, but paints {size}"
            found.append(Disagreement("area", area_off, said))
    return found


def _area_of(area: Raw | UnsetType) -> float:
    """Return an area in pixels; 0 for none that can be read."""
    try:
        return float(msgspec.json.decode(area if area is not UNSET else b"0", type=float))
    except UNREADABLE:
        return 0.0
