"""A picture of the confusion matrix: which class is predicted as which."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cocoseg.scores.charts import WIDTH_PX, rendered, short_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDE_PX = 840  # for as many columns as COCO has classes
_MOST_WITH_NUMBERS = 20  # with more classes a cell is too narrow for a number


def confusion_picture(confusion: NDArray[np.int64], classes: Sequence[str]) -> NDArray[np.uint8]:
    """Return a picture of the matrix with each row in percent, RGB (H, W, 3).

    `confusion` as in `cocoseg.scores.confusion`. The row of a class without a target pixel is gray.
    """
    target = confusion.sum(axis=1, keepdims=True)
    percent = np.divide(100 * confusion, target, out=np.full(confusion.shape, np.nan), where=target > 0)
    names = [short_name(name) for name in classes]
    numbers = len(names) <= _MOST_WITH_NUMBERS
    row_px, points, width_px = (26, 9.5, WIDTH_PX) if numbers else (13, 6.5, _WIDE_PX)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        shades = axes.imshow(percent, "Blues", aspect="auto", interpolation="nearest", vmin=0, vmax=100)
        axes.set(facecolor="#ebebeb", title="Percent of the target's pixels", xlabel="prediction", ylabel="target")
        axes.xaxis.set(ticks_position="top", label_position="top")
        axes.set_xticks(
            range(len(names)), names, fontsize=points if numbers else 6, rotation=90
        )  # columns are narrower
        axes.set_yticks(range(len(names)), names, fontsize=points)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(np.arange(1, len(names)) - 0.5, minor=True)
        axes.tick_params(which="both", length=0)
        axes.grid(visible=False)
        axes.grid(which="minor")
        if not numbers:
            figure.colorbar(shades, aspect=80, location="bottom", pad=0.01)
        for row, column in np.argwhere(confusion) if numbers else ():
            value = percent[row, column]
            color = "white" if value > 50 else None
            text = "<1" if value < 0.5 else f"{value:.0f}"
            axes.text(column, row, text, color=color, horizontalalignment="center", verticalalignment="center")

    return rendered(draw, 80 + 7 * max(map(len, names)) + row_px * len(names), width_px)
