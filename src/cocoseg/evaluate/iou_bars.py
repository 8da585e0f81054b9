"""A bar chart of the IoU of each class."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cocoseg.scores.charts import BLUE, INK, rendered, short_name
from cocoseg.tables import ClassIoU

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ROW_PX = 20  # of one class


def iou_bars(rows: Sequence[ClassIoU]) -> NDArray[np.uint8]:
    """Return a chart with one bar per row, its interval, and both as numbers: RGB (H, W, 3)."""
    intervals = any(row.low is not None for row in rows)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        places = range(len(rows))
        axes.barh(places, [row.iou for row in rows], height=0.62, color=BLUE)
        for place, row in zip(places, rows, strict=True):
            number = f"{row.iou:.3f}"
            if row.low is not None and row.high is not None:
                axes.plot(
                    [row.low, row.high], [place, place], "|-", color=INK, linewidth=1.6, markersize=6, clip_on=False
                )
                number += f"   {row.low:.3f} – {row.high:.3f}"
            # right of the axes, so that the numbers line up
            axes.text(1.02, place, number, verticalalignment="center", transform=axes.get_yaxis_transform())
        if not rows:
            axes.text(0.5, 0, "no class has a pixel", horizontalalignment="center", verticalalignment="center")
        axes.set(xlim=(0, 1), ylim=(max(1, len(rows)) - 0.5, -0.5))
        axes.set_title(f"IoU of each class{' and its 95 % interval' if intervals else ''}")
        axes.set_yticks(places, [short_name(row.class_name) for row in rows])
        axes.tick_params(axis="y", length=0)
        axes.tick_params(axis="x", top=len(rows) > 30, labeltop=len(rows) > 30)
        axes.grid(visible=False, axis="y")

    return rendered(draw, height_px=82 + _ROW_PX * max(1, len(rows)))
