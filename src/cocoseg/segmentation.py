"""One annotation's segmentation, checked before C code sees it, as the pixels that COCO gives it.

Pixels run down the columns, as in COCO's run-length encoding: pixel (row, column) is at `column * height + row`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from msgspec import Raw
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

# pycocotools traces every pixel of an outline, so its time and memory grow with the coordinates.
MOST_ABSURD_PX = 100_000.0
LONGEST_OUTLINE_PX = 1_000_000.0
_SMALLEST_PART = 6  # numbers: three points


class SegmentationDefect(Exception):
    """Why an annotation paints nothing; the message is the reason under which it is counted."""


class Span(msgspec.Struct, frozen=True):
    """The painted pixels of one annotation: `covered[i]` is pixel `start + i` in column order."""

    start: int
    covered: NDArray[np.bool_]
    size: int

    @property
    def stop(self) -> int:
        """The first pixel after the span."""
        return self.start + len(self.covered)


class RunLengths(msgspec.Struct):
    """COCO's RLE: `size` is height and width, `counts` a list of runs or their compressed text."""

    size: tuple[int, int]
    counts: list[int] | str


class Shape(msgspec.Struct, frozen=True):
    """A checked segmentation: its span, and what was noticed on the way though it stays."""

    span: Span
    ignored_parts: int = 0
    clipped: bool = False


_POLYGONS = msgspec.json.Decoder(list[list[float]])
_RUN_LENGTHS = msgspec.json.Decoder(RunLengths)


def shape_of(segmentation: Raw, height: int, width: int, *, drop_out_of_bounds: bool) -> Shape:
    """The pixels of a segmentation, equal to pycocotools' `annToMask`.

    Raises `SegmentationDefect` for one that is malformed, lies outside the image or paints nothing, and for a polygon
    that leaves the image if `drop_out_of_bounds`.
    """
    if bytes(segmentation).lstrip()[:1] == b"{":
        return Shape(span=span_of(_checked_run_lengths(segmentation, height, width)))
    parts = _checked_polygons(segmentation)
    whole = [part for part in parts if len(part) >= _SMALLEST_PART]
    if not whole:
        raise SegmentationDefect("polygon_under_three_points")
    points = np.concatenate([np.asarray(part) for part in whole]).reshape(-1, 2)
    low, high = points.min(axis=0), points.max(axis=0)
    clipped = bool((low < 0).any() or high[0] > width or high[1] > height)
    outside = bool((high <= 0).any() or low[0] >= width or low[1] >= height)
    if clipped and drop_out_of_bounds:
        raise SegmentationDefect("outside_image" if outside else "out_of_bounds")
    try:
        span = span_of(_polygon_counts(whole, height, width))
    except SegmentationDefect:
        zero_area = all(_twice_area(part) == 0 for part in whole)
        reason = "outside_image" if outside else "zero_area" if zero_area else "paints_nothing"
        raise SegmentationDefect(reason) from None
    return Shape(span=span, ignored_parts=len(parts) - len(whole), clipped=clipped)


def span_of(counts: NDArray[np.int64]) -> Span:
    """The span of run lengths that alternate between background and foreground, background first.

    `SegmentationDefect("paints_nothing")` if no run is foreground.
    """
    ends = np.cumsum(counts)
    foreground = np.flatnonzero(counts[1::2]) * 2 + 1
    if len(foreground) == 0:
        raise SegmentationDefect("paints_nothing")
    first, last = foreground[0], foreground[-1]
    runs = counts[first : last + 1]
    covered = np.repeat(np.arange(len(runs)) % 2 == 0, runs)
    return Span(start=int(ends[first - 1]), covered=covered, size=int(counts[1::2].sum()))


def decompress(text: bytes) -> NDArray[np.int64]:
    """The run lengths behind COCO's compressed RLE text.

    Each number is cut into groups of five bits, lowest first, one character of code 48 to 111 a group; bit 5 says that
    more follow, bit 4 of the last is the sign; from the fourth number on it is the difference to the one two before
    (`rleFrString` of pycocotools' maskApi.c). `SegmentationDefect` for a text that is none.
    """
    groups = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    if len(groups) == 0 or groups.min() < 0 or groups.max() > 63 or groups[-1] & 32:
        raise SegmentationDefect("rle_undecodable")
    last = np.flatnonzero((groups & 32) == 0)
    first = np.concatenate(([0], last[:-1] + 1))
    place = np.arange(len(groups)) - np.repeat(first, last - first + 1)
    if place.max() > 6:  # seven groups hold 35 bits, more than any image has pixels
        raise SegmentationDefect("rle_undecodable")
    numbers = np.add.reduceat((groups & 31) << (5 * place), first)
    numbers -= ((groups[last] & 16) >> 4) << (5 * (place[last] + 1))
    for offset in (1, 2):
        numbers[offset::2] = np.cumsum(numbers[offset::2])
    return numbers


def _checked_polygons(segmentation: Raw) -> list[list[float]]:
    try:
        parts = _POLYGONS.decode(segmentation)
    except msgspec.DecodeError:
        raise SegmentationDefect(_why_no_polygons(segmentation)) from None
    for part in parts:
        if len(part) % 2:
            raise SegmentationDefect("odd_polygon")
        # not (a <= b): also true for NaN
        if part and not max(max(part), -min(part)) <= MOST_ABSURD_PX:
            raise SegmentationDefect("absurd_coordinates")
        if len(part) * MOST_ABSURD_PX > LONGEST_OUTLINE_PX and _outline_px(part) > LONGEST_OUTLINE_PX:
            raise SegmentationDefect("absurd_coordinates")
    return parts


def _why_no_polygons(segmentation: Raw) -> str:
    try:
        content: Any = msgspec.json.decode(segmentation)
    except msgspec.DecodeError:  # such as 1e999
        return "absurd_coordinates"
    except RecursionError:
        return "segmentation_of_wrong_type"
    if not isinstance(content, list):
        return "segmentation_of_wrong_type"
    return "flat_polygon" if all(isinstance(entry, int | float) for entry in content) else "polygon_of_non_numbers"


def _checked_run_lengths(segmentation: Raw, height: int, width: int) -> NDArray[np.int64]:
    try:
        rle = _RUN_LENGTHS.decode(segmentation)
    except msgspec.DecodeError:
        raise SegmentationDefect("rle_malformed") from None
    if rle.size != (height, width):
        raise SegmentationDefect("rle_of_wrong_size")
    if isinstance(rle.counts, str):
        if not rle.counts.isascii():
            raise SegmentationDefect("rle_undecodable")
        counts = decompress(rle.counts.encode("ascii"))
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
    return counts


def _polygon_counts(parts: Sequence[Sequence[float]], height: int, width: int) -> NDArray[np.int64]:
    encoded = coco_mask.frPyObjects(parts, height, width)
    whole = encoded[0] if len(encoded) == 1 else coco_mask.merge(encoded)
    return decompress(whole["counts"])


def _outline_px(part: Sequence[float]) -> float:
    """The length of an outline in pixels, diagonals counted as one: what `rleFrPoly` takes memory for."""
    points = np.asarray(part).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, -1, axis=0)).max(axis=1).sum()) if len(points) else 0.0


def _twice_area(part: Sequence[float]) -> float:
    x, y = np.asarray(part).reshape(-1, 2).T
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))
