"""What becomes of objects in a mask: the lost ones, those that others hide, and those that paint what nobody said."""

from collections.abc import Iterator, Sequence
from math import ceil, floor

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

from cocoseg.coco.categories import BACKGROUND, IGNORE
from cocoseg.coco.format import UNREADABLE, Annotation
from cocoseg.mask.painting import Overlap, Paint, painting_order

MOST_BOX_PX = 2
"""How far a painted box may lie from `bbox` at an edge."""
MOST_AREA_SHARE = 0.1
"""How far a painted area may lie from `area`."""
_BLOCK = 512  # objects that are held against all others at a time
_MOSTLY = 0.1  # of its pixels: who keeps fewer is mostly hidden
_BOX = msgspec.json.Decoder(tuple[float, float, float, float])


class Visibility(msgspec.Struct, frozen=True):
    """How many objects of each class index keep no pixel, and how many under a tenth."""

    hidden: dict[int, int] = {}
    mostly_hidden: dict[int, int] = {}


class Disagreement(msgspec.Struct, frozen=True):
    """An annotation that paints another box or area than it says. `off` by how many times what is allowed."""

    off: float
    what: str
    box: bool
    area: bool


def box_of(bbox: Raw | UnsetType) -> tuple[float, float, float, float] | None:
    """Return the left, top, width and height of a `bbox`; `None` if it is not a box with an area."""
    if bbox is UNSET:
        return None
    try:
        left, top, width, height = _BOX.decode(bbox)
    except UNREADABLE:
        return None
    usable = width > 0 and height > 0 and max(abs(left), abs(top), width, height) < 1e9
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


def visibility(paints: Sequence[Paint], boxes: NDArray[np.int64], overlap: Overlap) -> Visibility:
    """Return which objects the others hide. `boxes`: what each paints, as `painted_boxes` gives it."""
    order = [index for index in painting_order(paints, overlap) if not paints[index].ignored]
    if len(order) < 2:
        return Visibility()
    hidden: dict[int, int] = {}
    mostly: dict[int, int] = {}
    own_boxes = boxes[order]
    classes = np.array([paints[index].class_index for index in order])
    sizes = np.array([paints[index].span.size for index in order])
    for place, above in _perhaps_hidden(own_boxes, classes, sizes, overlap):
        span = paints[order[place]].span
        rest = span.covered.copy()
        for other in above:
            cover = paints[order[other]].span
            start, stop = max(span.start, cover.start), min(span.stop, cover.stop)
            if start < stop:
                rest[start - span.start : stop - span.start] &= ~cover.covered[start - cover.start : stop - cover.start]
        left_px = int(np.count_nonzero(rest))
        if left_px < _MOSTLY * span.size:
            counted = mostly if left_px else hidden
            counted[int(classes[place])] = counted.get(int(classes[place]), 0) + 1
    return Visibility(hidden, mostly)


def _perhaps_hidden(
    boxes: NDArray[np.int64], classes: NDArray[np.int64], sizes: NDArray[np.int64], overlap: Overlap
) -> Iterator[tuple[int, list[int]]]:
    """Yield who may lose nine tenths of its pixels, and the objects whose boxes meet it from above.

    All are in painting order. Under the default rule that is hardly any object.
    """
    left, top, right, bottom = boxes.T
    for start in range(0, len(boxes), _BLOCK):
        own = slice(start, start + _BLOCK)
        above = (left[own, None] < right) & (left < right[own, None])
        above &= (top[own, None] < bottom) & (top < bottom[own, None])
        # Under `ignore`, objects of two classes take the pixels from each other; else the later takes them.
        above &= classes[own, None] != classes if overlap == "ignore" else _later(start, above.shape)
        for row in (above @ sizes >= (1 - _MOSTLY) * sizes[own]).nonzero()[0].tolist():
            yield start + row, above[row].nonzero()[0].tolist()


def _later(start: int, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    return np.arange(shape[1]) > np.arange(start, start + shape[0])[:, None]


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
        if box_off > 1 or area_off > 1:
            said, painted = f"area {area:g}", f"{size}"
            if box is not None and box_off >= area_off:
                said, painted = (
                    f"bbox {[round(value, 1) for value in box]}",
                    f"{[left, top, right - left, bottom - top]}",
                )
            what = f"annotation {annotation.id} says {said}, but paints {painted}"
            found.append(Disagreement(max(box_off, area_off), what, box_off > 1, area_off > 1))
    return found


def _area_of(area: Raw | UnsetType) -> float:
    """Return an area in pixels; 0 for none that can be read."""
    try:
        return float(msgspec.json.decode(area if area is not UNSET else b"0", type=float))
    except UNREADABLE:
        return 0.0
