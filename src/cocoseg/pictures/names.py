"""Write the names of classes into their regions."""

from collections.abc import Iterator, Sequence
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
    widths = [-(-text_width(name, size * factor) // factor) for name in class_names]
    for region in sorted(_regions(small, [2 * height * width for width in widths]), reverse=True):
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


def _regions(labels: Pixels, least_area: Sequence[int]) -> Iterator[_Region]:
    """Yield the regions of each class that are at least as large as its `least_area`, background first."""
    sizes = np.bincount(labels.ravel(), minlength=len(least_area))
    for label in range(1, len(least_area)):
        if sizes[label] < least_area[label]:
            continue
        own = np.pad((labels == label).astype(np.uint8), 1)  # an object does not go on outside the image
        # City-block distances are whole numbers, the same on every machine.
        depths = cv2.distanceTransform(own, cv2.DIST_L1, 3, dstType=cv2.CV_8U)
        _, regions, boxes, _ = cv2.connectedComponentsWithStats(own, connectivity=4)
        for region, (left, top, width, height, area) in enumerate(boxes.tolist()):
            if region == 0 or area < least_area[label]:  # 0: all that is not of the class
                continue
            box = slice(top, top + height), slice(left, left + width)
            inside = np.where(regions[box] == region, depths[box], 0)
            deepest = np.argwhere(inside == inside.max())
            y, x = deepest[np.abs(deepest - deepest.mean(axis=0)).sum(axis=1).argmin()].tolist()
            yield _Region(area, label, left + x - 1, top + y - 1, int(inside[y, x]))


def _sign(name: str, color: NDArray[np.uint8], shape: tuple[int, ...], size: float) -> Pixels:
    line = text_line(name, shape[1], (0, 0, 0), size)
    paper = line[round(5 * size) :][: shape[0]].astype(np.uint16)  # 0 where there is ink
    ink = np.uint16(0 if int(color @ np.array([77, 150, 29])) > 110 * 256 else 255)
    return ((paper * color + (255 - paper) * ink) // 255).astype(np.uint8)
