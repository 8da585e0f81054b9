"""The style of all charts, and their rendering to pixels.

matplotlib is imported where it is used: that takes a second, which a stage should not spend before it checks its input.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDTH_PX = 640  # two fit beside each other into a window of 1,400
_DPI = 100
_LONGEST_NAME = 28
INK, FAINT_INK, _GRID = "#202226", "#6e7278", "#e2e4e8"
# Okabe and Ito 2008: color-blind people can tell them apart
BLUE, VERMILION = "#0072b2", "#d55e00"
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT_INK,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10.5,
    "figure.constrained_layout.h_pad": 0.08,  # inches
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.1,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib; the system's fonts are never used
    "font.size": 9.5,
    "grid.color": _GRID,
    "text.color": INK,
    "text.parse_math": False,  # a class may be called $x$
    "xtick.color": FAINT_INK,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT_INK,
    "ytick.labelcolor": INK,
}


def rendered(draw: "Callable[[Figure], None]", height_px: int, width_px: int = WIDTH_PX) -> NDArray[np.uint8]:
    """Return the figure that `draw` fills, in the style of all charts, RGB (H, W, 3).

    The pixels are the same on every machine with the same libraries.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # the user's matplotlibrc must not change the pixels
        matplotlib.rcParams.update(_STYLE)
        # A character that is not in the font is drawn as a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width_px / _DPI, height_px / _DPI), dpi=_DPI)
        canvas: Any = FigureCanvasAgg(figure)  # its methods have no types
        draw(figure)
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def short_name(name: str) -> str:
    """Return the name on one line, cut after 28 characters."""
    name = " ".join(name.split())
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"
