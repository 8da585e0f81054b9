"""Scores as pictures."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from cocoseg.evaluate.iou_bars import iou_bars
from cocoseg.scores.charts import WIDTH_PX
from cocoseg.tables import ClassIoU
from cocoseg.train.curves import learning_curves

BLUE, INK = (0, 114, 178), (32, 34, 38)
EPOCHS = [
    {"train/loss": 2.0, "val/loss": 2.5, "val/miou": 0.25, "val/dice": 0.5, "lr": 0.1},
    {"train/loss": 1.0, "val/loss": 1.5, "val/miou": 0.75, "val/dice": 0.875, "lr": 0.1},
    {"train/loss": 0.5, "val/loss": 2.0, "val/miou": 0.75, "val/dice": 0.75, "lr": 0.1},
]
BEST = {"epoch": 2, "val/miou": 0.75}


def bar(name: str, iou: float, low: float | None = None, high: float | None = None) -> ClassIoU:
    return ClassIoU(class_name=name, iou=iou, low=low, high=high)


def is_color(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (picture == np.array(color, np.uint8)).all(axis=2)
    return found


def bar_lengths(picture: NDArray[np.uint8]) -> list[int]:
    """The blue pixels across the middle of each bar, from the top."""
    blue = is_color(picture, BLUE).sum(axis=1)
    starts = np.flatnonzero((blue > 0) & (np.roll(blue, 1) == 0))
    return [int(blue[start : start + 8].max()) for start in starts]


def test_bars_are_as_long_as_their_iou_from_the_first_row_down() -> None:
    full, half, eighth = bar_lengths(iou_bars([bar("cat", 1.0), bar("dog", 0.5), bar("bird", 0.125)]))
    assert half / full == pytest.approx(1 / 2, abs=0.01)
    assert eighth / full == pytest.approx(1 / 8, abs=0.01)
    assert full > WIDTH_PX / 2


def test_an_interval_is_drawn_and_written_only_where_there_is_one() -> None:
    without, with_one = iou_bars([bar("cat", 0.5)]), iou_bars([bar("cat", 0.5, 0.25, 0.75)])
    # Numbers beside the scale take room, so compare shares: the line spans half of the scale, half of it on the bar.
    dark = is_color(with_one, INK)[20:80].sum(axis=1).max()
    assert dark > WIDTH_PX / 4
    assert is_color(without, INK)[20:80].sum(axis=1).max() < WIDTH_PX / 8


def test_81_classes_have_a_legible_line_each() -> None:
    picture = iou_bars([bar(f"class {number}", 0.5, 0.4, 0.6) for number in range(81)])
    assert picture.shape == (82 + 81 * 20, WIDTH_PX, 3)
    assert picture.dtype == np.uint8
    assert len(bar_lengths(picture)) == 81


def test_names_that_nobody_foresaw_are_drawn_as_they_are() -> None:
    names = ["$x^{$", "a\nb", "犬", "", "a very long name of a class that nobody would read to its end"]
    assert iou_bars([bar(name, 0.5) for name in names]).shape == iou_bars([bar("cat", 0.5)] * 5).shape


def test_no_class_is_a_picture_too() -> None:
    assert (iou_bars([]) < 100).any()


def test_curves_of_no_one_and_many_epochs_have_one_size() -> None:
    many = [{"train/loss": 9.0 / number, "val/loss": 1.0, "val/miou": number / 300} for number in range(1, 300)]
    dice = {"epoch": 1, "val/foreground_dice": 0.25}
    shapes = {learning_curves(epochs, {}).shape for epochs in ([], EPOCHS[:1], many, [{"train/loss": 1.0}])}
    shapes |= {learning_curves(EPOCHS, best).shape for best in (BEST, dice)}
    assert shapes == {(300, WIDTH_PX, 3)}
    assert WIDTH_PX == 640  # two fit beside each other


def test_a_color_and_a_line_style_mean_the_same_on_both_sides() -> None:
    vermilion = (213, 94, 0)
    rising = [{"train/loss": 1 / n, "val/loss": 2 / n, "val/miou": n / 20, "val/dice": n / 10} for n in range(1, 10)]
    picture = learning_curves(rising, {})
    training, validation = is_color(picture, vermilion), is_color(picture, BLUE)
    middle = WIDTH_PX // 2
    assert training[:, :middle].any()
    assert not training[:, middle:].any()  # validation alone, and so blue alone
    assert validation[:, :middle].any()


def test_a_wild_first_epoch_does_not_flatten_the_loss() -> None:
    wild = [{"val/loss": 33.0}, *({"val/loss": 1 - number / 10} for number in range(1, 6))]
    rows = np.flatnonzero(is_color(learning_curves(wild, {}), BLUE)[60:, 100 : WIDTH_PX // 2].any(axis=1))
    last_four = np.flatnonzero(is_color(learning_curves(wild, {}), BLUE)[60:, 220 : WIDTH_PX // 2].any(axis=1))
    assert np.ptp(last_four) > np.ptp(rows) / 8


def test_the_same_scores_give_the_same_pixels_whatever_the_user_has_set() -> None:
    import matplotlib

    plain = learning_curves(EPOCHS, BEST)
    with matplotlib.rc_context({"font.size": 20, "lines.linewidth": 9, "axes.facecolor": "black"}):
        assert np.array_equal(learning_curves(EPOCHS, BEST), plain)
        assert matplotlib.rcParams["font.size"] == 20


def test_matplotlib_is_imported_only_to_draw_and_never_with_a_screen() -> None:
    code = (
        "import sys\n"
        "from cocoseg.train.curves import learning_curves\n"
        "print('matplotlib' in sys.modules)\n"
        "learning_curves([], {})\n"
        "print('matplotlib.figure' in sys.modules, 'matplotlib.pyplot' in sys.modules)\n"
    )
    source = Path(__file__).parents[2] / "src"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=source)
    assert printed.stdout.split() == ["False", "True", "False"]
