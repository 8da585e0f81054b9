"""The table of scored images."""

import math

import msgspec
import numpy as np
import pytest

from cocoseg.core.errors import CocosegError
from cocoseg.scores.per_image import class_pixels, image_iou, image_totals
from cocoseg.tables import ClassPixels

NAMES = ("background", "cat", "dog")
MATRIX = np.array([[5, 1, 0], [2, 4, 0], [0, 0, 0]])


def test_rows_and_totals_are_the_same_numbers() -> None:
    rows = class_pixels("a.png", MATRIX, NAMES)
    assert [(row.class_name, row.target, row.prediction, row.hit) for row in rows] == [
        ("background", 6, 7, 5),
        ("cat", 6, 5, 4),
    ]
    totals = image_totals([*class_pixels("b.png", MATRIX, NAMES), *rows], NAMES, "table")
    assert list(totals) == ["a.png", "b.png"]
    assert totals["a.png"].tolist() == [[6, 7, 5], [6, 5, 4], [0, 0, 0]]


def test_an_image_of_nothing_but_ignored_pixels_is_still_in_the_table() -> None:
    assert [row.class_name for row in class_pixels("a.png", np.zeros((3, 3), np.int64), NAMES)] == ["background"]


@pytest.mark.parametrize(
    "change",
    [
        {"class_index": 3},
        {"class_index": -1},
        {"class_name": "dog"},
        {"hit": 6},
        {"hit": -1},
        {"target": 3},
    ],
)
def test_a_row_that_no_evaluation_writes_is_named(change: dict[str, object]) -> None:
    row = msgspec.structs.replace(class_pixels("a.png", MATRIX, NAMES)[1], **change)
    with pytest.raises(CocosegError, match=r"table: the row of a.png, class .*; make it again with: dvc repro -f"):
        image_totals([row], NAMES, "table")


def test_a_row_that_stands_twice_and_a_table_without_rows_are_refused() -> None:
    rows: list[ClassPixels] = class_pixels("a.png", MATRIX, NAMES)
    with pytest.raises(CocosegError, match="the row of a.png, class 1 cat"):
        image_totals([*rows, rows[1]], NAMES, "table")
    with pytest.raises(CocosegError, match="table: no images"):
        image_totals([], NAMES, "table")


def test_an_image_whose_rows_do_not_add_up_is_named() -> None:
    background, cat = class_pixels("a.png", MATRIX, NAMES)
    with pytest.raises(CocosegError, match="the rows of a.png have 6 target and 7 predicted pixels; expected the same"):
        image_totals([background], NAMES, "table")
    assert image_totals([background, cat], NAMES, "table")["a.png"].sum(axis=0).tolist() == [12, 12, 9]


def test_an_images_own_iou_is_that_of_its_objects_and_an_invented_class_counts_as_zero() -> None:
    assert image_iou(np.array([[6, 7, 5], [6, 5, 4], [0, 0, 0]])) == pytest.approx(4 / 7)
    assert image_iou(np.array([[6, 7, 5], [6, 5, 4], [0, 2, 0]])) == pytest.approx(2 / 7)
    assert math.isnan(image_iou(np.array([[6, 6, 6], [0, 0, 0], [0, 0, 0]])))
