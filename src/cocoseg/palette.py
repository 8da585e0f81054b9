"""One color per class index, the same in every picture, told apart by color-blind people too.

The first seven are Okabe and Ito 2008 (https://jfly.uni-koeln.de/color/). Each further one is, of a grid of colors,
the farthest in CIELAB from all before it as seen by normal and by protan, deutan and tritan eyes (Machado et al. 2009).
After some twenty no palette can keep that up: pictures with more classes need their legend.
"""

import numpy as np
from numpy.typing import NDArray

from cocoseg.categories import IGNORE

BACKGROUND_RGB = (30, 32, 36)
IGNORE_RGB = (150, 150, 150)

_CLASSES = """
d55e00 f0e442 56b4e9 cc79a7 0072b2 e69f00 009e73 9900ff bbee99 994433
00ffdd 7755dd 884477 ccaa55 ff1166 bb0000 99ff77 8899ff 88cc99 eeccff
aa1199 aa2255 bbbb77 ff22cc aa6633 ddeebb ee99cc dd11ff 99cc33 996655
dd7755 bb5599 559911 336600 cc00bb 44ccaa 9900bb 5577ff 7722dd 5599dd
ffcc55 cc7777 66ee77 ee99ff bb4477 ee7733 555599 aaff00 dd66bb 88ccdd
99eeee ff8888 226655 bb11dd 778844 ffbb66 dd11aa ee66ff 6677cc bbbbee
77ddcc ff6699 88aa33 ffbbcc 88dd99 aa0088 777744 dd1111 cc2288 aa4422
885544 cc0066 99aa66 66dd11 ff66dd 11dd66 557799 7788ee 99dd88 558811
"""


def palette() -> NDArray[np.uint8]:
    """RGB of each mask value, (256, 3) uint8: 0 nearly black, 255 gray, classes beyond the 80th start again."""
    classes = np.array([list(bytes.fromhex(word)) for word in _CLASSES.split()], np.uint8)
    colors = classes[(np.arange(256) - 1) % len(classes)]
    colors[0] = BACKGROUND_RGB
    colors[IGNORE] = IGNORE_RGB
    return colors
