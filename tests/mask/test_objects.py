"""Lost objects, hidden objects, and objects that paint what nobody said."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import UNSET, Raw

from cocoseg.coco.format import Annotation
from cocoseg.mask.objects import disagreements, ignored_boxes, says_nothing, visibility
from cocoseg.mask.painting import Paint, paint
from cocoseg.mask.params import Overlap
from cocoseg.mask.segmentation import Shape, painted_boxes, shapes_of


def raw(value: Any) -> Raw:
    return Raw(json.dumps(value).encode())


def ignored(height: int, width: int, *boxes: Any, over: Paint | None = None) -> tuple[int, list[list[int]]]:
    """How many boxes are not usable, and the labels of an image with nothing else but what lies over them."""
    found = list(ignored_boxes(boxes, height, width))
    maps = paint([*found, *([over] if over else [])], height, width, "last", instance_map=False)
    return len(boxes) - len(found), maps.labels.tolist()


def test_a_lost_box_is_255_where_nothing_else_paints() -> None:
    other = Paint(borders=np.array([4, 5]), size=1, class_index=1)
    # x from 0.5 to 2.5 touches columns 0 to 2, y from 1 to 2 row 1
    boxes = ignored(3, 4, raw([0.5, 1, 2, 1]), over=other)
    assert boxes == (0, [[0, 0, 0, 0], [255, 1, 255, 0], [0, 0, 0, 0]])


def test_a_box_of_numbers_in_quotes_is_one() -> None:
    boxes = ignored(2, 3, raw(["0", "1", "2.0", "1"]), raw(["0", "1", "two", "1"]))
    assert boxes == (1, [[0, 0, 0], [255, 255, 0]])


def test_a_box_is_cut_at_the_border_of_the_image() -> None:
    assert ignored(2, 3, raw([-5, -5, 6, 6]), raw([2, 1, 90, 90])) == (0, [[255, 0, 0], [0, 0, 255]])


@pytest.mark.parametrize(
    "bbox",
    [UNSET, *map(raw, [None, [], [1, 1, 2], [1, 1, 0, 2], [1, 1, -2, 2], "box", [5, 5, 1, 1], [1, 1, 1e300, 2]])],
)
def test_a_box_that_is_not_usable_in_the_image_is_counted(bbox: Any) -> None:
    assert ignored(4, 4, bbox) == (1, [[0] * 4] * 4)


def shapes(*segmentations: Any) -> list[Shape]:
    found = shapes_of([raw(entry) for entry in segmentations], 20, 20, drop_out_of_bounds=False)
    return [shape for shape in found if isinstance(shape, Shape)]


def square(left: int, top: int, side: int) -> list[list[int]]:
    right, bottom = left + side, top + side
    return [[left, top, right, top, right, bottom, left, bottom]]


def paints(*entries: tuple[list[list[int]], int]) -> list[Paint]:
    found = [(shapes(entry)[0], index) for entry, index in entries]
    return [Paint(borders=shape.borders, size=shape.size, class_index=index) for shape, index in found]


def seen(overlap: Overlap, *entries: tuple[list[list[int]], int]) -> tuple[dict[int, int], dict[int, int]]:
    own = paints(*entries)
    maps = paint(own, 20, 20, overlap, instance_map=False)
    found = visibility(own, maps)
    return found.hidden, found.mostly_hidden


# A pizza of 4 × 4 = 16 pixels under its oven of 10 × 10.
PIZZA, OVEN = (square(3, 3, 4), 1), (square(0, 0, 10), 2)


def test_a_pizza_under_its_oven_is_hidden_by_a_later_or_larger_one_only() -> None:
    assert seen("last", PIZZA, OVEN) == ({1: 1}, {1: 1})
    assert seen("largest", PIZZA, OVEN) == ({1: 1}, {1: 1})
    assert seen("first", OVEN, PIZZA) == ({1: 1}, {1: 1})
    assert seen("smallest", PIZZA, OVEN) == ({}, {})
    assert seen("last", OVEN, PIZZA) == ({}, {})


def test_under_a_tenth_of_its_pixels_is_mostly_hidden_and_a_tenth_is_not() -> None:
    # 100 pixels; 9 or 10 of them stick out
    under = (square(0, 0, 10), 1)
    nine = ([[0, 0, 10, 0, 10, 10, 9, 10, 9, 1, 0, 1]], 2)  # no overlap with the rest of it: the lower left 9 × 9
    rest = ([[0, 1, 9, 1, 9, 10, 0, 10]], 2)
    row = ([[0, 0, 10, 0, 10, 1, 0, 1]], 2)
    column = ([[9, 1, 10, 1, 10, 10, 9, 10]], 2)
    assert seen("last", under, rest, row) == ({}, {1: 1})  # 81 + 10 covered, 9 left
    assert seen("last", under, rest, column) == ({}, {})  # 81 + 9 covered, 10 left
    assert seen("last", under, rest, nine) == ({1: 1}, {1: 1})


def test_several_together_hide_one_and_those_of_its_own_class_never_do() -> None:
    left, right = [[0, 0, 5, 0, 5, 10, 0, 10]], [[5, 0, 10, 0, 10, 10, 5, 10]]
    assert seen("last", (square(0, 0, 10), 1), (left, 2), (right, 3)) == ({1: 1}, {1: 1})
    assert seen("last", (square(0, 0, 10), 1), (left, 1), (right, 1)) == ({}, {})


def test_under_ignore_two_classes_hide_each_other_where_they_meet() -> None:
    assert seen("ignore", PIZZA, OVEN) == ({1: 1}, {1: 1})
    assert seen("ignore", PIZZA, (square(0, 0, 10), 1)) == ({}, {})


def said(segmentation: Any, **fields: Any) -> list[tuple[str, str]]:
    (shape,) = shapes(segmentation)
    entry = {"id": 1, "image_id": 1, "category_id": 1} | fields
    annotation = msgspec.json.decode(json.dumps(entry), type=Annotation)
    boxes = painted_boxes([shape], 20, 20)
    return [(one.kind, one.what()) for one in disagreements([annotation], [shape.size], boxes)]


@pytest.mark.parametrize(
    ("bbox", "area", "nothing"),
    [(None, None, True), ([], 0, True), (None, 0.0, True), ([1, 1, 2, 2], None, False), (None, 4, False)],
)
def test_an_annotation_without_a_box_and_an_area_says_nothing(bbox: Any, area: Any, nothing: bool) -> None:
    assert says_nothing(Annotation(id=1, image_id=1, category_id=1, bbox=raw(bbox), area=raw(area))) is nothing
    assert says_nothing(Annotation(id=1, image_id=1, category_id=1))


def test_a_painted_box_may_lie_two_pixels_from_the_one_that_is_said() -> None:
    assert said(square(4, 4, 10), bbox=[2, 4, 12, 10]) == []
    assert said(square(4, 4, 10), bbox=[1.9, 4, 12.1, 10]) == [
        ("box", "annotation 1 says bbox [1.9, 4.0, 12.1, 10.0], but paints [4, 4, 10, 10]")
    ]


def test_a_painted_area_may_differ_by_a_tenth_of_what_is_said() -> None:
    assert said(square(4, 4, 10), area=91) == []  # 100 are painted: 9.9 % more
    assert said(square(4, 4, 10), area=90) == [("area", "annotation 1 says area 90, but paints 100")]


@pytest.mark.parametrize("fields", [{}, {"bbox": None, "area": None}, {"bbox": [0, 0, 0, 0], "area": 0}, {"area": "x"}])
def test_where_nothing_is_said_nothing_disagrees(fields: dict[str, Any]) -> None:
    assert said(square(4, 4, 10), **fields) == []


def test_row_major_run_lengths_and_swapped_axes_disagree() -> None:
    mask = np.zeros((20, 20), np.uint8)
    mask[2:6, 4:16] = 1
    change = np.flatnonzero(np.diff(mask.ravel())) + 1
    rows = np.diff([0, *change.tolist(), 400]).tolist()
    assert said({"size": [20, 20], "counts": rows}, bbox=[4, 2, 12, 4], area=48)[0][0]
    assert said([[2, 4, 6, 4, 6, 16, 2, 16]], bbox=[4, 2, 12, 4], area=48)[0][0]
    assert said([[4, 2, 16, 2, 16, 6, 4, 6]], bbox=[4, 2, 12, 4], area=48) == []


def test_a_painted_box_reaches_from_the_first_to_the_last_pixel_of_each_shape() -> None:
    segmentations = [
        square(3, 5, 4),
        {"size": [20, 20], "counts": [19, 2, 379]},
        {"size": [20, 20], "counts": [0, 400]},
        {"size": [20, 20], "counts": [19, 0, 1, 1, 0, 1, 378, 0, 0]},  # empty runs are no pixels
    ]
    # the second is the last pixel of column 0 and the first of column 1
    boxes = [[3, 5, 4, 4], [0, 0, 2, 20], [0, 0, 20, 20], [1, 0, 1, 2]]
    assert painted_boxes(shapes(*segmentations), 20, 20).tolist() == boxes


def test_what_shows_at_an_end_of_an_object_counts_as_what_shows_in_its_middle() -> None:
    bar = ([[0, 5, 20, 5, 20, 6, 0, 6]], 1)  # 20 pixels, of which 2 or 1 stick out on the right
    assert seen("last", bar, ([[0, 0, 18, 0, 18, 10, 0, 10]], 2)) == ({}, {})
    assert seen("last", bar, ([[0, 0, 19, 0, 19, 10, 0, 10]], 2)) == ({}, {1: 1})


def test_a_box_in_shares_of_the_image_is_no_box_in_pixels() -> None:
    without, labels = ignored(20, 20, Raw(b"[0.1, 0.1, 0.5, 0.5]"), Raw(b"[0, 0, 1, 1]"))
    assert (without, np.sum(labels)) == (1, 255)
