"""Turn label maps into colors: color maps, overlays, outlines and error maps.

Images are RGB (H, W, 3) uint8, label maps (H, W) uint8 with 255 for ignored pixels. All arithmetic is in integers, so
the same input gives the same picture on every machine.
"""

from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from cocoseg.coco.categories import BACKGROUND, IGNORE
from cocoseg.pictures.layout import Pixels
from cocoseg.pictures.names import write_names

# The first seven class colors are Okabe and Ito 2008 (https://jfly.uni-koeln.de/color/). Each further color is the one
# on a grid that is farthest in CIELAB from all before it, as seen by normal, protan, deutan and tritan eyes (Machado et
# al. 2009). Those after the twentieth are in an order that keeps COCO's classes far apart that are shown together.
# Beyond about twenty, colors are hard to tell apart in any palette: overlays then need their names.
BACKGROUND_RGB = (30, 32, 36)
IGNORE_RGB = (150, 150, 150)
_CLASSES = """
d55e00 f0e442 56b4e9 cc79a7 0072b2 e69f00 009e73 9900ff bbee99 994433
00ffdd 7755dd 884477 ccaa55 ff1166 bb0000 99ff77 8899ff 88cc99 eeccff
dd11aa 88aa33 bb4477 dd7755 226655 ee99ff aaff00 ffbbcc ee66ff 6677cc
558811 77ddcc bb11dd aa0088 11dd66 996655 dd66bb 99aa66 88dd99 ffcc55
ee99cc 7722dd aa2255 ff22cc 336600 5599dd ff6699 777744 bb5599 88ccdd
dd11ff aa4422 cc00bb 559911 66ee77 555599 99eeee 7788ee ff8888 cc2288
ddeebb 778844 bbbbee 885544 ee7733 66dd11 99dd88 aa1199 ffbb66 44ccaa
aa6633 cc0066 9900bb 5577ff 99cc33 dd1111 ff66dd 557799 cc7777 bbbb77
"""


@cache
def palette() -> NDArray[np.uint8]:
    """Return the RGB color of each mask value, (256, 3) uint8: 0 nearly black, 255 gray; after 80 they repeat."""
    classes = np.array([list(bytes.fromhex(word)) for word in _CLASSES.split()], np.uint8)
    colors = classes[(np.arange(256) - 1) % len(classes)]
    colors[0] = BACKGROUND_RGB
    colors[IGNORE] = IGNORE_RGB
    colors.flags.writeable = False
    return colors


_STRIP_PIXELS = 2**22  # of an overlay at a time, which takes some twenty bytes a pixel
_HATCH = (90, 90, 90)
_OUTLINE = 400  # the shorter side of an image over the width of its outlines
# Color-blind people can tell them from each other, from gray, and from the first twenty class colors.
ERRORS = {"missed": (221, 17, 34), "invented": (119, 255, 255), "confused": (204, 0, 255)}
RIGHT = (110, 110, 110)


def color_map(labels: Pixels) -> Pixels:
    """Return labels in their class colors, (H, W, 3), ignored pixels hatched."""
    pixels = palette()[labels]
    pixels[(labels == IGNORE) & _stripes(*labels.shape)] = _HATCH
    return pixels


def overlay(image: Pixels, labels: Pixels, class_names: Sequence[str] = (), size: float = 1) -> Pixels:
    """Return the image with its classes tinted and outlined, ignored pixels hatched.

    `class_names`, background first, are written into their regions. `size` 1: letters of 14 pixels, outlines of one.
    """
    rows = max(8, _STRIP_PIXELS // labels.shape[1] // 8 * 8)  # the hatch starts again every eight rows
    border = round(size) + min(labels.shape) // _OUTLINE
    margin = -(-border // 8) * 8  # an outline sees the rows beside its own
    pixels = np.empty_like(image)
    for top in range(0, len(labels), rows):
        above = max(0, top - margin)
        strip = slice(above, top + rows + border)
        pixels[top : top + rows] = _overlay(image[strip], labels[strip], border)[top - above :][:rows]
    write_names(pixels, labels, class_names, palette(), size)
    return pixels


def _overlay(image: Pixels, labels: Pixels, border: int) -> Pixels:
    pixels = image.copy()
    colors = cv2.LUT(cv2.merge([labels] * 3), palette()[None])
    # Eighths have no rounding errors in floating point.
    cv2.copyTo(cv2.addWeighted(image, 5 / 8, colors, 3 / 8, 0), labels, pixels)  # where the label is not 0
    hatched = labels == IGNORE
    if hatched.any():  # predictions have none
        hatched &= _stripes(*labels.shape)
        pixels[hatched] = (_gray(image[hatched]) * 3 + np.array(_HATCH, np.uint16) * 5) // 8
    cv2.copyTo(colors, outline(labels, border).view(np.uint8), pixels)
    return pixels


def error_map(image: Pixels, truth: Pixels, prediction: Pixels) -> Pixels:
    """Return the image darkened, wrong pixels in the colors of `ERRORS`, right objects gray, ignored pixels hatched.

    missed: an object predicted as background; invented: background predicted as an object; confused: an object
    predicted as another class.
    """
    gray = _gray(image)
    pixels = np.repeat(gray * 3 // 8, 3, axis=2).astype(np.uint8)
    object_there, object_predicted, same = truth != BACKGROUND, prediction != BACKGROUND, truth == prediction
    right = object_there & same
    pixels[right] = ((gray * 3 + np.array(RIGHT, np.uint16) * 5) // 8)[right]
    pixels[object_there & ~object_predicted] = ERRORS["missed"]
    pixels[~object_there & object_predicted] = ERRORS["invented"]
    pixels[object_there & object_predicted & ~same] = ERRORS["confused"]
    ignored = truth == IGNORE
    pixels[ignored] = color_map(truth)[ignored]
    return pixels


def outline(labels: Pixels, width: int = 1) -> NDArray[np.bool_]:
    """Return the pixels of classes with another label at most `width` pixels away, (H, W)."""
    around = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    grown, shrunk = cv2.dilate(labels, around), cv2.erode(labels, around)
    edge: NDArray[np.bool_] = (grown != shrunk) & (labels != BACKGROUND) & (labels != IGNORE)
    return edge


def _gray(image: Pixels) -> NDArray[np.uint16]:
    """Return the brightness of each pixel, (H, W, 1) from 0 to 255; in 16 bits, so that it can be multiplied."""
    red, green, blue = (image[..., channel].astype(np.uint16) for channel in range(3))
    gray: NDArray[np.uint16] = red * np.uint16(77) + green * np.uint16(150) + blue * np.uint16(29) >> np.uint16(8)
    return gray[..., None]


def _stripes(height: int, width: int) -> NDArray[np.bool_]:
    """Return diagonal stripes, (height, width)."""
    # In bytes, not 64-bit numbers: 256 is a multiple of the pattern's 8, so overflow does no harm.
    down, across = (np.arange(size).astype(np.uint8) for size in (height, width))
    stripes: NDArray[np.bool_] = (down[:, None] + across) % np.uint8(8) < 3
    return stripes
