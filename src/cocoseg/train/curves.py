"""Learning curves: loss and scores by epoch.

In all plots, also those of DVC, training's loss and the Dice are dashed, validation's loss and the IoU solid. Here
training is vermilion and validation blue; in those of DVC each run has its color.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cocoseg.scores.charts import BLUE, FAINT_INK, INK, VERMILION, rendered
from cocoseg.scores.formats import SCORE_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_MARKERS = 40  # with more epochs the points would touch


def learning_curves(epochs: Sequence[Mapping[str, float]], best: Mapping[str, float]) -> NDArray[np.uint8]:
    """Return a picture of the loss, on the left, and the validation scores, on the right, by epoch: RGB (H, W, 3).

    `epochs`: the metrics of each epoch, from the first; `best`: the `epoch` that is kept, and its score by name, such
    as `val/miou`; empty if there is none.
    """

    def draw(figure: "Figure") -> None:
        from matplotlib.ticker import MaxNLocator

        loss, score = figure.subplots(1, 2)
        _curve(loss, epochs, "train/loss", "training", VERMILION, "--")
        _curve(loss, epochs, "val/loss", "validation", BLUE, "-")
        _curve(score, epochs, "val/dice", "mean Dice", BLUE, "--")
        _curve(score, epochs, "val/miou", "mean IoU", BLUE, "-")
        if best:
            name, value = best_score(best)
            color = BLUE if name in ("val/miou", "val/mean_dice") else INK
            if color == INK:  # the other two are drawn already
                _curve(score, epochs, name, SCORE_NAMES[name.removeprefix("val/")], INK, "-.")
            place = (best["epoch"], value)
            score.plot(*place, "o", color=color, markersize=9, markerfacecolor="none", label=f"best: {value:.3f}")
        loss.set(title="loss")
        _spread(loss, [metrics[name] for metrics in epochs for name in ("train/loss", "val/loss") if name in metrics])
        score.set(title="scores in validation", ylim=(0, 1))
        for axes in (loss, score):
            if best:
                number = int(best["epoch"])
                axes.axvline(number, color=FAINT_INK, linewidth=1.2, linestyle=":", label=f"best epoch: {number}")
            axes.set(xlabel="epoch", xlim=(0.5, max(1, len(epochs)) + 0.5))
            axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
            if axes.get_legend_handles_labels()[1]:
                axes.legend(frameon=False)

    return rendered(draw, height_px=300)


def best_score(best: Mapping[str, float]) -> tuple[str, float]:
    """Return the name and value of the score that chose the best epoch, the only key of `best` beside `epoch`."""
    return next((name, value) for name, value in best.items() if name != "epoch")


def _curve(
    axes: "Axes", epochs: Sequence[Mapping[str, float]], name: str, label: str, color: str, line_style: str
) -> None:
    points = [(number, metrics[name]) for number, metrics in enumerate(epochs, 1) if name in metrics]
    if points:
        marker = "o" if len(points) <= _MOST_MARKERS else ""
        axes.plot(*zip(*points, strict=True), line_style, color=color, label=label, marker=marker, markersize=3.5)


def _spread(axes: "Axes", losses: Sequence[float]) -> None:
    """Make the axis logarithmic if the largest loss is over ten times the smallest: it would flatten all others."""
    from matplotlib.ticker import LogLocator, NullLocator

    if losses and 0 < 10 * min(losses) < max(losses):
        axes.set(title="loss, on a logarithmic scale", yscale="log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
