"""One annotation's segmentation, checked before C code sees it, as the pixels that COCO gives it.

Pixels run down the columns, as in COCO's run-length encoding: pixel (row, column) is at `column * height + row`.
"""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from cocoseg.coco.format import UNREADABLE

# pycocotools traces every pixel of an outline, so its time and memory grow with the coordinates.
MOST_ABSURD_PX = 100_000.0
LONGEST_OUTLINE_PX = 1_000_000.0
_MOST_COMPARED = 50  # parts of an object: each is compared with each, and pycocotools fails for more than 255
_SMALLEST_PART = 6  # numbers: three points
_BYTES_LITERAL = re.compile("b'[^']*'")


class SegmentationDefect(Exception):
    """Why an annotation paints nothing; the message is the reason under which it is counted."""


class RunLengths(msgspec.Struct):
    """COCO's RLE: `size` is height and width, `counts` a list of runs or their compressed text.

    `order` is kwimage's: "F" for COCO's, down the columns, "C" for along the rows.
    """

    size: tuple[int, int]
    counts: list[int] | str
    order: object = "F"


class Shape(msgspec.Struct, frozen=True):
    """A checked segmentation as the pixels that it paints, and what was noticed on the way though it stays.

    `borders`: pixels in column order; it paints from each first up to but not including the second of two. `size`: how
    many it paints. `encoded`: its compressed run lengths, without empty ones. `nested`: one of its polygons lies in
    another. `converted`: its form is not COCO's own.
    """

    borders: NDArray[np.int64]
    size: int
    encoded: bytes
    ignored_parts: int = 0
    clipped: bool = False
    nested: bool = False
    converted: bool = False


class Outline(msgspec.Struct, frozen=True):
    """Checked polygons. `encoded`: their compressed run lengths; `size`: height and width of their image."""

    encoded: bytes
    parts: list[list[float]]
    size: tuple[int, int]
    ignored_parts: int
    clipped: bool
    nested: bool
    converted: bool

    def if_empty(self) -> str:
        """Return the reason to name if no pixel is painted."""
        zero_area = all(abs(_twice_area(part)) < 1e-6 for part in self.parts)  # but for rounding
        return (
            "outside_image" if _is_outside(self.parts, *self.size) else "zero_area" if zero_area else "paints_nothing"
        )


class _Runs(msgspec.Struct, frozen=True):
    """Checked run lengths, and their compressed text."""

    counts: NDArray[np.int64]
    encoded: bytes
    converted: bool


_POLYGONS = msgspec.json.Decoder(list[list[float]])
_RUN_LENGTHS = msgspec.json.Decoder(RunLengths)


def shapes_of(
    segmentations: Sequence[Raw], height: int, width: int, *, drop_out_of_bounds: bool
) -> list[Shape | SegmentationDefect]:
    """Return the pixels of each segmentation of one image, equal to pycocotools' `annToMask`, or why it has none.

    A defect is a segmentation that is malformed, lies outside the image or paints nothing, and a polygon that leaves
    the image if `drop_out_of_bounds`. All of an image at once: what numpy costs a call is shared.
    """
    checked = [_checked(segmentation, height, width, drop_out_of_bounds) for segmentation in segmentations]
    decoded = iter(decompress([entry.encoded for entry in checked if isinstance(entry, Outline)]))
    return [
        entry
        if isinstance(entry, SegmentationDefect)
        else _shape(entry, next(decoded))
        if isinstance(entry, Outline)
        else _shape(entry, entry.counts)
        for entry in checked
    ]


def decompress(texts: Sequence[bytes]) -> list[NDArray[np.int64]]:
    """Return the run lengths behind each of COCO's compressed RLE texts.

    Each number is cut into groups of five bits, lowest first, one character of code 48 to 111 a group; bit 5 says that
    more follow, bit 4 of the last is the sign; from the fourth number on it is the difference to the one two before
    (`rleFrString` of pycocotools' maskApi.c). `SegmentationDefect` if one is no such text.
    """
    if not texts:
        return []
    groups = np.frombuffer(b"".join(texts), dtype=np.uint8) - np.uint8(48)  # below 48: wraps to above 63
    text_ends = np.cumsum([len(text) for text in texts])
    if not all(texts) or groups.max() > 63 or (groups[text_ends - 1] & 32).any():
        raise SegmentationDefect("rle_undecodable")
    last = (groups < 32).nonzero()[0]
    first = np.empty_like(last)
    first[0] = 0
    np.add(last[:-1], 1, out=first[1:])
    further = last - first
    if further.max() > 6:  # seven groups hold 35 bits, more than any image has pixels
        raise SegmentationDefect("rle_undecodable")
    bits = (groups & 31).astype(np.int64)
    numbers = bits[first]
    for place in range(1, int(further.max()) + 1):
        longer = (further >= place).nonzero()[0]
        numbers[longer] |= bits[first[longer] + place] << (5 * place)
    negative = (groups[last] & 16).nonzero()[0]
    numbers[negative] -= 32 << (5 * further[negative])
    runs = []
    start = 0
    for stop in (last.searchsorted(text_ends)).tolist():
        counts = numbers[start:stop]
        for differences in (counts[1::2], counts[2::2]):
            differences.cumsum(out=differences)
        runs.append(counts)
        start = stop
    return runs


def _checked(
    segmentation: Raw, height: int, width: int, drop_out_of_bounds: bool
) -> Outline | _Runs | SegmentationDefect:
    try:
        return _strictly_checked(segmentation, height, width, drop_out_of_bounds)
    except SegmentationDefect as defect:
        canonical = _canonical(segmentation) if str(defect) in _OTHER_FORMS else None
        if canonical is None:
            return defect
    try:
        return _strictly_checked(canonical, height, width, drop_out_of_bounds, converted=True)
    except SegmentationDefect as defect:
        return defect


def _strictly_checked(
    segmentation: Raw, height: int, width: int, drop_out_of_bounds: bool, *, converted: bool = False
) -> Outline | _Runs:
    if bytes(segmentation).lstrip()[:1] == b"{":
        return _Runs(*_checked_run_lengths(segmentation, height, width), converted)
    return _outline(_checked_polygons(segmentation), height, width, drop_out_of_bounds, converted)


# The reasons under which another form than COCO's is found.
_OTHER_FORMS = (
    "flat_polygon",
    "polygon_of_non_numbers",
    "segmentation_of_wrong_type",
    "rings_of_points",
    "polygon_under_three_points",
    "rle_malformed",
    "rle_bad_counts",
    "rle_undecodable",
)


def _canonical(segmentation: Raw) -> Raw | None:
    """Return COCO's form of what is unambiguous: one polygon or RLE in lists of lists, points as pairs or as x and y.

    In an RLE, floats that are whole numbers, and what Python writes for `str(counts)` of bytes.
    """
    try:
        content: Any = msgspec.json.decode(segmentation)
    except UNREADABLE:
        return None
    if isinstance(content, dict) and content.keys() >= {"size", "counts"}:
        size, counts = _whole(content.get("size")), _whole(content.get("counts"))
        if isinstance(counts, str) and _BYTES_LITERAL.fullmatch(counts):
            counts = counts[2:-1].replace("\\\\", "\\")  # the one character of RLE texts that Python escapes
        return Raw(msgspec.json.encode(content | {"size": size, "counts": counts}))
    # One ring only: where tools write points as pairs, a second ring is a hole, and COCO has none.
    while isinstance(content, list) and len(content) == 1 and isinstance(content[0], list):
        content = content[0]
    if not isinstance(content, list) or not content:
        return None
    points = [_point(one) for one in content]
    if all(map(_is_number, content)) and len(content) >= _SMALLEST_PART and len(content) % 2 == 0:
        content = [content]
    elif len(content) == 1 and isinstance(content[0], dict) and content[0].keys() >= {"size", "counts"}:
        content = content[0]
    elif len(points) >= 3 and all(map(_is_point, points)):
        content = [[number for point in points for number in point]]
    else:
        return None
    return Raw(msgspec.json.encode(content))


def _whole(value: Any) -> Any:
    """Return a list with its whole numbers as integers; anything else as it is."""
    if not isinstance(value, list):
        return value
    return [int(entry) if isinstance(entry, float) and entry.is_integer() else entry for entry in value]


def _point(value: Any) -> Any:
    """Return the pair in what an OpenCV contour or a web tool has for a point; anything else as it is."""
    if isinstance(value, dict) and value.keys() == {"x", "y"}:
        return [value["x"], value["y"]]
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _is_point(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))


def _outline(parts: list[list[float]], height: int, width: int, drop_out_of_bounds: bool, converted: bool) -> Outline:
    whole = [part for part in parts if len(part) >= _SMALLEST_PART]
    if not whole:
        raise SegmentationDefect("polygon_under_three_points")
    # Of short lists, Python's own minimum is faster than an array's.
    low, high = min(map(min, whole)), max(map(max, whole))
    clipped = low < 0 or (high > min(height, width) and _reaches_beyond(whole, height, width))
    # An object of one pixel, in the corner of the image, has whole numbers.
    if 0 <= low <= high <= 1 and any(value % 1 for part in whole for value in part):
        raise SegmentationDefect("normalized_coordinates")
    if clipped and drop_out_of_bounds:
        raise SegmentationDefect("outside_image" if _is_outside(whole, height, width) else "out_of_bounds")
    encoded = coco_mask.frPyObjects(whole, height, width)
    united = encoded[0] if len(encoded) == 1 else coco_mask.merge(encoded)
    nested = 1 < len(encoded) <= _MOST_COMPARED and _are_nested(encoded, united)
    return Outline(united["counts"], whole, (height, width), len(parts) - len(whole), clipped, nested, converted)


def _are_nested(parts: list[Any], united: Any) -> bool:
    """Return whether a part lies in another that is larger: where a tool draws a hole, which COCO fills."""
    if coco_mask.area(parts).sum() == coco_mask.area(united):  # they do not even meet, as most
        return False
    inside = coco_mask.iou(parts, parts, [1] * len(parts)) == 1
    return bool((inside & ~inside.T).any())


def _reaches_beyond(parts: list[list[float]], height: int, width: int) -> bool:
    return max(max(part[::2]) for part in parts) > width or max(max(part[1::2]) for part in parts) > height


def _is_outside(parts: list[list[float]], height: int, width: int) -> bool:
    x, y = ([value for part in parts for value in part[axis::2]] for axis in (0, 1))
    return max(x) <= 0 or max(y) <= 0 or min(x) >= width or min(y) >= height


def _shape(checked: Outline | _Runs, counts: NDArray[np.int64]) -> Shape | SegmentationDefect:
    """Return the shape of run lengths that alternate between background and foreground, background first."""
    size = int(counts[1::2].sum())
    if size == 0:
        return SegmentationDefect(checked.if_empty() if isinstance(checked, Outline) else "paints_nothing")
    borders = counts[: len(counts) // 2 * 2].cumsum()
    if isinstance(checked, _Runs):
        return Shape(borders, size, checked.encoded, converted=checked.converted)
    ignored, clipped, nested = checked.ignored_parts, checked.clipped, checked.nested
    return Shape(borders, size, checked.encoded, ignored, clipped, nested, checked.converted)


def painted_boxes(shapes: Sequence[Shape], height: int, width: int) -> NDArray[np.float64]:
    """Return the box that each shape paints, (shapes, 4): left, top, width and height."""
    encoded = [{"size": [height, width], "counts": shape.encoded} for shape in shapes]
    boxes: NDArray[np.float64] = coco_mask.toBbox(encoded) if encoded else np.empty((0, 4))
    return boxes


def _checked_polygons(segmentation: Raw) -> list[list[float]]:
    try:
        parts = _POLYGONS.decode(segmentation)
    except UNREADABLE:
        raise SegmentationDefect(_why_no_polygons(segmentation)) from None
    if not parts:
        raise SegmentationDefect("empty_segmentation")
    for part in parts:
        if len(part) % 2:
            raise SegmentationDefect("odd_polygon")
        # not (a <= b): also true for NaN
        low, high = (min(part), max(part)) if part else (0.0, 0.0)
        if not max(high, -low) <= MOST_ABSURD_PX:
            raise SegmentationDefect("absurd_coordinates")
        if len(part) * (high - low) > LONGEST_OUTLINE_PX and _outline_px(part) > LONGEST_OUTLINE_PX:
            raise SegmentationDefect("absurd_coordinates")
    return parts


def _why_no_polygons(segmentation: Raw) -> str:
    try:
        content: Any = msgspec.json.decode(segmentation)
    except UNREADABLE as error:
        # A number beyond all floats, such as 1e999, which is how NaN and Infinity come here too.
        non_finite = "out of range" in str(error) and bytes(segmentation).lstrip().startswith(b"[")
        return "non_finite_coordinates" if non_finite else "segmentation_of_wrong_type"
    if not isinstance(content, list):
        return "segmentation_of_wrong_type"
    if content and all(_is_number(entry) for entry in content):
        return "flat_polygon"
    if any(isinstance(entry, dict) for entry in content):
        return "segmentation_of_wrong_type"
    if content and all(isinstance(part, list) and part and isinstance(part[0], list) for part in content):
        return "rings_of_points"
    whole = all(isinstance(part, list) and all(_is_number(number) for number in part) for part in content)
    return "absurd_coordinates" if whole else "polygon_of_non_numbers"  # such as an integer of 400 digits


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _checked_run_lengths(segmentation: Raw, height: int, width: int) -> tuple[NDArray[np.int64], bytes]:
    try:
        rle = _RUN_LENGTHS.decode(segmentation)
    except UNREADABLE:
        raise SegmentationDefect(_why_no_run_lengths(segmentation)) from None
    if rle.size != (height, width):
        raise SegmentationDefect("rle_of_wrong_size")
    if rle.order == "C":
        raise SegmentationDefect("rle_row_major")
    if isinstance(rle.counts, str):
        if not rle.counts.isascii():
            raise SegmentationDefect("rle_undecodable")
        counts = decompress([rle.counts.encode("ascii")])[0]
    else:
        try:
            counts = np.array(rle.counts, dtype=np.int64)
        except OverflowError:
            raise SegmentationDefect("rle_bad_counts") from None
    pixels = height * width
    if len(counts) and (counts.min() < 0 or counts.max() > pixels):
        raise SegmentationDefect("rle_bad_counts")
    total = int(counts.sum())
    if total != pixels:
        raise SegmentationDefect("rle_counts_short" if total < pixels else "rle_counts_long")
    empty_runs = not counts[1:].all()
    if empty_runs:
        counts = _without_empty_runs(counts)
    if isinstance(rle.counts, str) and not empty_runs:
        return counts, rle.counts.encode("ascii")
    encoded: bytes = coco_mask.frPyObjects({"size": rle.size, "counts": counts.tolist()}, height, width)["counts"]
    return counts, encoded


def _without_empty_runs(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the run lengths of the same pixels; pycocotools gives a run of length 0 a pixel in its boxes."""
    ends = counts.cumsum()
    borders, times = np.unique(ends[:-1], return_counts=True)
    # What ends twice at the same pixel is an empty run between two that are one.
    borders = borders[(times % 2 == 1) & (borders < ends[-1])]
    return np.diff(np.concatenate(([0], borders, ends[-1:])))


def _why_no_run_lengths(segmentation: Raw) -> str:
    try:
        fields = msgspec.json.decode(segmentation, type=dict[str, Raw])
        if not fields:
            return "empty_segmentation"
        if fields.keys().isdisjoint({"size", "counts"}):
            return "segmentation_of_wrong_type"
        msgspec.json.decode(fields["size"], type=tuple[int, int])
        is_list = bytes(fields["counts"]).lstrip().startswith(b"[")
        return "rle_bad_counts" if is_list else "rle_undecodable"
    except (*UNREADABLE, KeyError):
        return "rle_malformed"


def _outline_px(part: Sequence[float]) -> float:
    """Return the length of an outline in pixels, a diagonal counted as one: `rleFrPoly` allocates that much."""
    points = np.asarray(part).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, -1, axis=0)).max(axis=1).sum()) if len(points) else 0.0


def _twice_area(part: Sequence[float]) -> float:
    x, y = np.asarray(part).reshape(-1, 2).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
