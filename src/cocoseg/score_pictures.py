"""Scores as pictures: the IoU of each class with its interval, and the curves of a training run.

matplotlib is imported where it is used: that takes a second, which a stage should not pay before it checks its input.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cocoseg.tables import ClassIoU

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_PX = 800
_DPI = 100
_ROW_PX = 20  # of one class
_MOST_MARKERS = 40  # above so many epochs their points touch
_LONGEST_NAME = 28
_INK, _FAINT_INK, _GRID = "#202226", "#6e7278", "#e2e4e8"
# Okabe and Ito 2008: told apart by color-blind people too
_BLUE, _VERMILION = "#0072b2", "#d55e00"
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": _FAINT_INK,
    "axes.grid": True,
    "axes.labelcolor": _INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10.5,
    "figure.constrained_layout.h_pad": 0.08,  # inches
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.w_pad": 0.1,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib; for no character one of the system's instead
    "font.size": 9.5,
    "grid.color": _GRID,
    "text.color": _INK,
    "text.parse_math": False,  # a class may be called $x$
    "xtick.color": _FAINT_INK,
    "xtick.labelcolor": _INK,
    "ytick.color": _FAINT_INK,
    "ytick.labelcolor": _INK,
}


def iou_bars(rows: Sequence[ClassIoU]) -> NDArray[np.uint8]:
    """A bar a class, in the order of `rows`, with its interval, both also in numbers: RGB (H, W, 3)."""
    intervals = any(row.low is not None for row in rows)

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        places = range(len(rows))
        axes.barh(places, [row.iou for row in rows], height=0.62, color=_BLUE)
        for place, row in zip(places, rows, strict=True):
            number = f"{row.iou:.3f}"
            if row.low is not None and row.high is not None:
                axes.plot(
                    [row.low, row.high], [place, place], "|-", color=_INK, linewidth=1.6, markersize=6, clip_on=False
                )
                number += f"   {row.low:.3f} – {row.high:.3f}"
            # in a column of their own, right of the scale
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


def learning_curves(epochs: Sequence[Mapping[str, float]]) -> NDArray[np.uint8]:
    """Loss on the left, scores of the validation side on the right, an epoch a point: RGB (H, W, 3).

    `epochs`: the metrics of each epoch, from the first.
    """
    best = best_epoch(epochs)

    def draw(figure: "Figure") -> None:
        from matplotlib.ticker import MaxNLocator

        loss, score = figure.subplots(1, 2)
        _curve(loss, epochs, "train/loss", "training", _VERMILION, "--")
        _curve(loss, epochs, "val/loss", "validation", _BLUE, "-")
        _curve(score, epochs, "val/dice", "mean Dice", _VERMILION, "--")
        _curve(score, epochs, "val/miou", "mean IoU", _BLUE, "-")
        if best is not None:
            value = epochs[best - 1]["val/miou"]
            score.plot(best, value, "o", color=_BLUE, markersize=9, markerfacecolor="none", label=f"best: {value:.3f}")
        loss.set(title="loss")
        _spread(loss, [metrics[name] for metrics in epochs for name in ("train/loss", "val/loss") if name in metrics])
        score.set(title="scores in validation", ylim=(0, 1))
        for axes in (loss, score):
            if best is not None:
                axes.axvline(best, color=_FAINT_INK, linewidth=1.2, linestyle=":", label=f"best epoch: {best}")
            axes.set(xlabel="epoch", xlim=(0.5, max(1, len(epochs)) + 0.5))
            axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
            if axes.get_legend_handles_labels()[1]:
                axes.legend(frameon=False)

    return rendered(draw, height_px=340)


def best_epoch(epochs: Sequence[Mapping[str, float]]) -> int | None:
    """The number, from 1, of the first epoch with the highest `val/miou`; `None` if no epoch has one."""
    scored = [number for number, metrics in enumerate(epochs, 1) if "val/miou" in metrics]
    return max(scored, key=lambda number: epochs[number - 1]["val/miou"], default=None)


def _curve(
    axes: "Axes", epochs: Sequence[Mapping[str, float]], name: str, label: str, color: str, line_style: str
) -> None:
    points = [(number, metrics[name]) for number, metrics in enumerate(epochs, 1) if name in metrics]
    if points:
        marker = "o" if len(points) <= _MOST_MARKERS else ""
        axes.plot(*zip(*points, strict=True), line_style, color=color, label=label, marker=marker, markersize=3.5)


def _spread(axes: "Axes", losses: Sequence[float]) -> None:
    """A logarithmic scale where the largest is over ten times the smallest: a wild epoch would flatten all others."""
    from matplotlib.ticker import LogLocator, NullLocator

    if losses and 0 < 10 * min(losses) < max(losses):
        axes.set(title="loss, on a logarithmic scale", yscale="log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())


def rendered(draw: "Callable[[Figure], None]", height_px: int, width_px: int = WIDTH_PX) -> NDArray[np.uint8]:
    """Return what `draw` puts on a figure in the style of all charts, RGB (H, W, 3).

    The pixels are the same on every machine with the same libraries.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()  # whatever a matplotlibrc of the user's says
        matplotlib.rcParams.update(_STYLE)
        # A character that the font does not have is drawn as a box.
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
