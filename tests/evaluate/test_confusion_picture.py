import matplotlib
import numpy as np
from numpy.typing import NDArray

from cocoseg.evaluate.confusion_picture import confusion_picture

FULL, NOTHING = (8, 48, 107), (235, 235, 235)


def is_color(picture: NDArray[np.uint8], color: tuple[int, int, int]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (picture == np.array(color, np.uint8)).all(axis=2)
    return found


def runs(places: NDArray[np.intp]) -> int:
    """Return how many stretches without a gap the places form."""
    return 1 + int((np.diff(np.unique(places)) > 1).sum())


def test_a_right_row_is_dark_and_a_row_without_target_below_it_is_gray() -> None:
    picture = confusion_picture(np.array([[4, 0], [0, 0]]), ["background", "cat"])
    dark, gray = np.argwhere(is_color(picture, FULL)), np.argwhere(is_color(picture, NOTHING))
    assert dark[:, 0].max() < gray[:, 0].min()
    assert dark[:, 1].max() < gray[:, 1].max()
    assert len(gray) > 1.5 * len(dark)


def test_a_row_is_the_target_and_a_column_the_prediction() -> None:
    dark = np.argwhere(is_color(confusion_picture(np.array([[1, 1], [2, 0]]), ["background", "cat"]), FULL))
    other = np.argwhere(is_color(confusion_picture(np.array([[1, 1], [0, 2]]), ["background", "cat"]), FULL))
    assert dark[:, 0].min() == other[:, 0].min()
    assert dark[:, 1].max() < other[:, 1].min()


def test_a_row_counts_by_its_shares_not_by_its_pixels() -> None:
    names = ["background", "cat"]
    few, many = np.array([[1, 3], [2, 2]]), np.array([[1, 3], [20_000, 20_000]])
    assert np.array_equal(confusion_picture(few, names), confusion_picture(many, names))


def test_the_least_share_is_written_where_classes_are_few_and_left_out_where_they_are_many() -> None:
    for classes, written in ((20, True), (21, False)):
        names = [f"class {number}" for number in range(classes)]
        without = np.diag(np.full(classes, 1_000_000))
        with_one = without.copy()
        with_one[0, 1] = 1
        assert np.array_equal(confusion_picture(with_one, names), confusion_picture(without, names)) is not written


def test_81_classes_have_a_legible_line_and_column_each() -> None:
    names = ["background", *(f"class {index}" for index in range(80))]
    picture = confusion_picture(np.eye(81, dtype=np.int64), names)
    assert picture.shape[1] == 840
    assert picture.shape[0] < 1600
    diagonal = is_color(picture, FULL)[:-45]  # without the scale below
    rows, columns = np.nonzero(diagonal)
    assert runs(rows) == runs(columns) == 81
    assert np.ptp(columns) > 81 * 8.5  # wide enough for letters of 6.5 points
    assert np.ptp(rows) > 81 * 12


def test_names_that_nobody_foresaw_are_drawn_as_they_are_and_long_ones_are_cut() -> None:
    names = ["$x^{$", "a\nb", "犬", "", "a very long name of a class that nobody would read to its end"]
    longest = ["background", "cat", "dog", "bird", 28 * "x"]
    matrix = np.eye(5, dtype=np.int64)
    assert confusion_picture(matrix, names).shape == confusion_picture(matrix, longest).shape


def test_the_same_matrix_gives_the_same_pixels_whatever_the_user_has_set() -> None:
    matrix, names = np.array([[7, 2], [1, 3]]), ["background", "cat"]
    plain = confusion_picture(matrix, names)
    with matplotlib.rc_context({"font.size": 20, "image.cmap": "jet", "axes.facecolor": "black"}):
        assert np.array_equal(confusion_picture(matrix, names), plain)
