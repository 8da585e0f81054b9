"""Write the names of classes into their regions."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from cocoseg.pictures.layout import Pixels, text_line, text_width

_SIGN_PX = 18
_LONGEST_SIDE = 640  # of the labels in which a place is looked for: all of a gigantic image would fill the memory


def write_names(
    pixels: Pixels, labels: Pixels, class_names: Sequence[str], colors: NDArray[np.uint8], size: float
) -> None:
    """Write the name of each class into its regions, on a sign of its color, where there is room: largest first.

    `labels`: (H, W) of `pixels`; `size`: of the letters in an image of up to 640 pixels. Signs never overlap.
    """
    factor = -(-max(labels.shape) // _LONGEST_SIDE)
    small = labels[factor // 2 :: factor, factor // 2 :: factor]
    taken = np.zeros(small.shape, np.bool_)
    height = round(_SIGN_PX * size)
    present = [label for label in np.unique(small).tolist() if 0 < label < len(class_names)]
    widths = {label: -(-text_width(class_names[label], size * factor) // factor) for label in present}
    for region in sorted(_regions(small, {label: 2 * height * widths[label] for label in present}), reverse=True):
        width = widths[region.label]
        left = min(max(0, region.x - width // 2), small.shape[1] - width)
        top = min(max(0, region.y - height // 2), small.shape[0] - height)
        place = slice(top, top + height), slice(left, left + width)
        if min(left, top) < 0 or 2 * region.depth < height or taken[place].any():
            continue
        taken[place] = True
        corner = pixels[top * factor :, left * factor :][: height * factor, : width * factor]
        corner[:] = _sign(class_names[region.label], colors[region.label], corner.shape, size * factor)


class _Region(NamedTuple):
    """A connected region of a class: its area, the middle of the pixels deepest in it, and how deep that is."""

    area: int
    label: int
    x: int
    y: int
    depth: int


def _regions(labels: Pixels, least_area: Mapping[int, int]) -> Iterator[_Region]:
    """Yield the regions of each class that are at least as large as its `least_area`."""
    for label, least in least_area.items():
        own = np.pad((labels == label).astype(np.uint8), 1)  # an object does not go on outside the image
        # City-block distances are whole numbers, the same on every machine.
        depths = cv2.distanceTransform(own, cv2.DIST_L1, 3, dstType=cv2.CV_8U)
        for contour in cv2.findContours(own, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)[0]:
            left, top, width, height = cv2.boundingRect(contour)
            if width * height < least:
                continue
            blank = np.zeros((height, width), np.uint8)
            filled = cv2.drawContours(blank, [contour], -1, 1, cv2.FILLED, offset=(-left, -top))
            inside = filled * depths[top : top + height, left : left + width]
            area, depth = int(np.count_nonzero(inside)), int(inside.max())
            if area >= least:
                deepest = np.argwhere(inside == depth)
                y, x = deepest[np.abs(deepest - deepest.mean(axis=0)).sum(axis=1).argmin()].tolist()
                yield _Region(area, label, left + x - 1, top + y - 1, depth)


def _sign(name: str, color: NDArray[np.uint8], shape: tuple[int, ...], size: float) -> Pixels:
    line = text_line(name, shape[1], (0, 0, 0), size)
    paper = line[round(5 * size) :][: shape[0]].astype(np.uint16)  # 0 where there is ink
    ink = np.uint16(0 if int(color @ np.array([77, 150, 29])) > 110 * 256 else 255)
    return ((paper * color + (255 - paper) * ink) // 255).astype(np.uint8)
