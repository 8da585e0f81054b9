"""What becomes of objects in a mask: the lost ones, those that others hide, and those that paint what nobody said."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from math import ceil, floor
from typing import Literal, TypeVar

import msgspec
import numpy as np
from msgspec import UNSET, Raw, UnsetType
from numpy.typing import NDArray

from cocoseg.coco.categories import IGNORE
from cocoseg.coco.format import UNREADABLE, Annotation, Box
from cocoseg.mask.painting import Maps, Paint

MOST_BOX_PX = 2
"""How far a painted box may lie from `bbox` at an edge."""
MOST_AREA_SHARE = 0.1
"""How far a painted area may lie from `area`."""
_MOSTLY = 0.1  # of its pixels: who keeps fewer is mostly hidden
_BOX = msgspec.json.Decoder(tuple[float, float, float, float])
_TEXTS = msgspec.json.Decoder(tuple[str, str, str, str])  # numbers in quotes
_BOXES = msgspec.json.Decoder(list[tuple[float, float, float, float]])
_AREAS = msgspec.json.Decoder(list[float])
_NOTHING = (UNSET, *map(Raw, (b"null", b"[]", b"0", b"0.0")))
_Said = TypeVar("_Said")
_Read = TypeVar("_Read")


class Visibility(msgspec.Struct, frozen=True, gc=False):
    """How many objects of each class index keep no pixel of their class, and how many under a tenth or none."""

    hidden: dict[int, int] = {}
    mostly_hidden: dict[int, int] = {}


class Disagreement(msgspec.Struct, frozen=True, gc=False):
    """What one annotation says of itself, its `bbox` or `area`, and does not paint.

    `off`: by how many times what is allowed.
    """

    kind: Literal["box", "area"]
    off: float
    annotation_id: int
    said: tuple[float, ...]
    painted: tuple[int, ...]

    def said_box(self) -> Box:
        """Return what `bbox` says, of a disagreement of boxes."""
        left, top, width, height = self.said
        return left, top, width, height

    def what(self) -> str:
        """Return the disagreement in words."""
        if self.kind == "area":
            return f"annotation {self.annotation_id} says area {self.said[0]:g}, but paints {self.painted[0]}"
        said = [round(value, 1) for value in self.said]
        return f"annotation {self.annotation_id} says bbox {said}, but paints {list(self.painted)}"


def box_of(bbox: Raw | UnsetType) -> Box | None:
    """Return the left, top, width and height of a `bbox`; `None` if it is not a box with an area."""
    if bbox is UNSET:
        return None
    try:
        return _usable(_BOX.decode(bbox))
    except UNREADABLE:
        try:
            left, top, width, height = map(float, _TEXTS.decode(bbox))
        except (*UNREADABLE, ValueError):
            return None
        return _usable((left, top, width, height))


def _usable(box: Box) -> Box | None:
    left, top, width, height = box
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


def ignored_boxes(boxes: Iterable[Raw | UnsetType], height: int, width: int) -> Iterator[Paint]:
    """Yield what makes 255 of what nothing paints in each box that is usable in this image."""
    for bbox in boxes:
        if pixels := pixels_of(bbox, height, width):
            rows, columns = pixels
            tops = np.arange(columns.start, columns.stop) * height
            borders = np.stack((tops + rows.start, tops + rows.stop), axis=1).ravel()
            yield Paint(
                borders=borders, size=int(borders[1::2].sum() - borders[::2].sum()), class_index=IGNORE, ignored=True
            )


def visibility(paints: Sequence[Paint], maps: Maps) -> Visibility:
    """Return which objects others hide: those of whose pixels few or none bear their class. `maps`: of `paint`."""
    hidden: Counter[int] = Counter()
    mostly: Counter[int] = Counter()
    owned = maps.pieces.owned()
    for index, entry in enumerate(paints):
        # Most objects keep enough pixels of their own, and need no look at those that others of their class give them.
        if entry.ignored or owned[index] >= _MOSTLY * entry.size:
            continue
        left = maps.pieces.visible(index, entry)
        if left < _MOSTLY * entry.size:
            mostly[entry.class_index] += 1
            hidden[entry.class_index] += not left
    return Visibility({index: count for index, count in hidden.items() if count}, dict(mostly))


def says_nothing(annotation: Annotation) -> bool:
    """Return whether an annotation has neither a `bbox` nor an `area` to hold what it paints against."""
    return annotation.bbox in _NOTHING and annotation.area in _NOTHING


def extent_of(boxes: NDArray[np.float64], height: int, width: int) -> tuple[float, float, float, float] | None:
    """Return the left, top, right and lower edge of all boxes together, in shares of their image."""
    if not len(boxes):
        return None
    (left, top), (right, lower) = boxes[:, :2].min(0).tolist(), (boxes[:, :2] + boxes[:, 2:]).max(0).tolist()
    return left / width, top / height, right / width, lower / height


def disagreements(
    annotations: Sequence[Annotation], sizes: Sequence[int], boxes: NDArray[np.float64]
) -> list[Disagreement]:
    """Return the annotations whose painted box or area is not what `bbox` or `area` says.

    `sizes`: how many pixels each paints. `boxes`: as `painted_boxes` gives them.
    """
    said_boxes = _all_decoded(_BOXES, box_of, [annotation.bbox for annotation in annotations])
    said_areas = _all_decoded(_AREAS, _area_of, [annotation.area for annotation in annotations])
    found = []
    for annotation, size, painted, box, area in zip(
        annotations, sizes, boxes.tolist(), said_boxes, said_areas, strict=True
    ):
        if box is not None:
            (x, y, width, height), (left, top, wide, tall) = box, painted
            right, lower = x + width - left - wide, y + height - top - tall
            off = max(abs(x - left), abs(y - top), abs(right), abs(lower)) / MOST_BOX_PX
            if off > 1 and _usable(box):
                found.append(Disagreement("box", off, annotation.id, box, tuple(map(int, painted))))
        if area and (off := abs(size - area) / area / MOST_AREA_SHARE) > 1:
            found.append(Disagreement("area", off, annotation.id, (area,), (size,)))
    return found


def _all_decoded(
    decoder: msgspec.json.Decoder[list[_Said]],
    one: Callable[[Raw | UnsetType], _Read],
    values: Sequence[Raw | UnsetType],
) -> Sequence[_Said | _Read]:
    """Return what all values say: in one call where all of them can be read, which is several times as fast."""
    try:
        return decoder.decode(b"[%b]" % b",".join(values))  # type: ignore[arg-type]
    except (TypeError, *UNREADABLE):  # TypeError: one is missing
        return [one(value) for value in values]


def _area_of(area: Raw | UnsetType) -> float:
    """Return an area in pixels; 0 for none that can be read."""
    try:
        return float(msgspec.json.decode(area if area is not UNSET else b"0", type=float))
    except UNREADABLE:
        return 0.0
