"""Write the names of classes into their regions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cocoseg.pictures.layout import PAGE_PX, Pixels, text_line, text_width

_SIGN_PX = 18
_LONGEST_SIDE = PAGE_PX  # of the labels in which a place is looked for: all of a gigantic image would fill the memory


_Place = tuple[slice, slice]


def write_names(
    pixels: Pixels, labels: Pixels, class_names: Sequence[str], colors: NDArray[np.uint8], size: float
) -> None:
    """Write the name of each class into its regions, on a sign of its color, where there is room: largest first.

    A class with room in none of its regions has its name beside the largest of them, so that similar colors are told
    apart; such signs stay away where signs cover a quarter of the image. `labels`: (H, W) of `pixels`; `size`: of the
    letters in an image of up to 840 pixels. Signs never overlap.
    """
    factor = -(-max(labels.shape) // _LONGEST_SIDE)
    small = labels[factor // 2 :: factor, factor // 2 :: factor]
    taken = np.zeros(small.shape, np.bool_)
    height = round(_SIGN_PX * size)
    present = [label for label in np.unique(small).tolist() if 0 < label < len(class_names)]
    widths = {label: -(-text_width(class_names[label], size * factor) // factor) for label in present}
    regions = sorted(_regions(small, {label: 2 * height * widths[label] for label in present}), reverse=True)
    signed: set[int] = set()

    def sign(label: int, place: _Place) -> None:
        taken[place] = True
        signed.add(label)
        top, left = place[0].start * factor, place[1].start * factor
        corner = pixels[top:, left:][: height * factor, : widths[label] * factor]
        corner[:] = _sign(class_names[label], colors[label], corner.shape, size * factor)

    for region in regions:
        place = _place(
            region.x - widths[region.label] // 2, region.y - height // 2, widths[region.label], height, small
        )
        if place and region.has_room and 2 * region.depth >= height and not taken[place].any():
            sign(region.label, place)
    for region in regions:
        if region.label not in signed and 4 * region.area >= height**2 and 4 * np.count_nonzero(taken) < taken.size:
            places = [place for place in _beside(region, widths[region.label], height, small) if not taken[place].any()]
            if places:  # the one that hides least of other objects
                sign(region.label, min(places, key=lambda place: np.count_nonzero(small[place])))


def _place(left: int, top: int, width: int, height: int, labels: Pixels) -> _Place | None:
    """Return rows and columns of a sign, moved into the image; `None` if it is larger than that."""
    left, top = min(max(0, left), labels.shape[1] - width), min(max(0, top), labels.shape[0] - height)
    return (slice(top, top + height), slice(left, left + width)) if min(left, top) >= 0 else None


def _beside(region: "_Region", width: int, height: int, labels: Pixels) -> Iterator[_Place]:
    """Yield the places of a sign above, below, right and left of a region that hide none of it."""
    x, y = region.left + (region.wide - width) // 2, region.top + (region.tall - height) // 2
    below, right = region.top + region.tall, region.left + region.wide
    for left, top in ((x, region.top - height), (x, below), (right, y), (region.left - width, y)):
        place = _place(left, top, width, height, labels)
        if place and (
            place[0].stop <= region.top
            or place[0].start >= below
            or place[1].start >= right
            or place[1].stop <= region.left
        ):
            yield place


class _Region(NamedTuple):
    """A connected region of a class: its area, the middle of the pixels deepest in it, how deep that is, and its box.

    `has_room`: it is large enough for the name of its class.
    """

    area: int
    label: int
    x: int
    y: int
    depth: int
    left: int
    top: int
    wide: int
    tall: int
    has_room: bool


def _regions(labels: Pixels, least_area: Mapping[int, int]) -> Iterator[_Region]:
    """Yield the regions of each class that are at least as large as its `least_area`, and that with the largest box."""
    for label, least in least_area.items():
        own = np.pad((labels == label).astype(np.uint8), 1)  # an object does not go on outside the image
        # City-block distances are whole numbers, the same on every machine.
        depths = cv2.distanceTransform(own, cv2.DIST_L1, 3, dstType=cv2.CV_8U)
        boxed = [
            (cv2.boundingRect(contour), contour)
            for contour in cv2.findContours(own, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]
        ]
        largest = max(width * height for (_, _, width, height), _ in boxed)
        for (left, top, width, height), contour in boxed:
            if width * height < min(least, largest):
                continue
            blank = np.zeros((height, width), np.uint8)
            filled = cv2.drawContours(blank, [contour], -1, 1, cv2.FILLED, offset=(-left, -top))
            inside = filled * depths[top : top + height, left : left + width]
            area, depth = int(np.count_nonzero(inside)), int(inside.max())
            deepest = np.argwhere(inside == depth)
            y, x = deepest[np.abs(deepest - deepest.mean(axis=0)).sum(axis=1).argmin()].tolist()
            yield _Region(
                area, label, left + x - 1, top + y - 1, depth, left - 1, top - 1, width, height, area >= least
            )


def _sign(name: str, color: NDArray[np.uint8], shape: tuple[int, ...], size: float) -> Pixels:
    line = text_line(name, shape[1], (0, 0, 0), size)
    paper = line[round(5 * size) :][: shape[0]].astype(np.uint16)  # 0 where there is ink
    ink = np.uint16(0 if int(color @ np.array([77, 150, 29])) > 110 * 256 else 255)
    return ((paper * color + (255 - paper) * ink) // 255).astype(np.uint8)
