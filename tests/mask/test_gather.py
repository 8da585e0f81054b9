"""What there is to say of all images together."""

from typing import Any, Literal

import pytest

from cocoseg.coco.categories import map_categories
from cocoseg.coco.format import Category, Image
from cocoseg.mask.gather import Masks, PaintedImage, gather
from cocoseg.mask.objects import Disagreement

MAPPING = map_categories([Category(id=1, name="cat")], "multiclass")


def gathered(disagreeing: list[Literal["box", "area"]], annotations: int) -> Masks:
    """One image whose annotations paint another box or area than they say."""
    found = [
        Disagreement(
            kind, float(number + 2), number, *(((1, 2, 3, 4), (1, 2, 2, 2)) if kind == "box" else ((9,), (8,)))
        )
        for number, kind in enumerate(disagreeing)
    ]
    outcome = PaintedImage(dropped=None, dropped_annotations={}, pixels={0: 8, 1: 8}, disagreements=found)
    image = Image(id=1, file_name="1.jpg", width=4, height=4)
    return gather([(image, outcome)], MAPPING, dict.fromkeys(range(annotations), 1), 0.0)


@pytest.mark.parametrize(("kind", "key"), [("box", "box_disagrees"), ("area", "area_disagrees")])
def test_more_disagreements_than_five_percent_are_a_line_and_fewer_are_only_counted(kind: Any, key: str) -> None:
    few, many = gathered([kind] * 5, 100), gathered([kind] * 6, 100)
    assert (few.remarks, few.metrics["annotations"][key]) == ([], 5)
    assert (len(many.remarks), many.metrics["annotations"][key]) == (1, 6)


def test_the_line_names_the_three_worst_and_what_it_often_means() -> None:
    (line,) = gathered(["box"] * 4, 10).remarks
    said = "says bbox [1, 2, 3, 4], but paints [1, 2, 2, 2]"
    assert line == (
        f"4 of 10 annotations paint another box than their bbox says: 1.jpg: annotation 3 {said}; "
        f"1.jpg: annotation 2 {said}; 1.jpg: annotation 1 {said}; often row-major RLE, RLE without its leading 0, "
        "x and y swapped, a bbox of two corners, images scaled but not their polygons, tiles whose boxes reach over "
        "the border, or an orientation that the tool followed"
    )


def test_where_the_boxes_agree_the_line_says_what_another_area_often_is() -> None:
    (line,) = gathered(["area"] * 4, 10).remarks
    assert line.endswith(
        "says area 9, but paints 8; often holes, which COCO fills, corners out of order, outlines of OpenCV, which "
        "lose a row and a column, or the area of the bbox or the image, which min_area_px alone reads"
    )


def remarks(annotations: int, *outcomes: dict[str, Any]) -> list[str]:
    painted = [
        (
            Image(id=number, file_name=f"{number}.jpg", width=4, height=4),
            PaintedImage(dropped=None, dropped_annotations={}, pixels={0: 8, 1: 8}, **outcome),
        )
        for number, outcome in enumerate(outcomes)
    ]
    return gather(painted, MAPPING, dict.fromkeys(range(annotations), 1), 0.0).remarks


def test_annotations_that_all_lie_in_the_upper_left_are_a_line_if_they_are_many() -> None:
    images: list[dict[str, Any]] = [{"extent": (0.01, 0.2, 0.3, 0.4)}, {"extent": (0.1, 0.02, 0.26, 0.5)}, {}]
    (line,) = remarks(20, *images)
    assert line.startswith(
        "all 20 annotations lie in the upper left 30% × 50% of their images; often coordinates in per"
    )
    assert remarks(19, *images) == []
    assert remarks(20, *images, {"extent": (0.0, 0.0, 0.8, 0.5)}) == []  # one reaches to the right
    assert remarks(20, {"extent": (0.3, 0.3, 0.7, 0.7)}) == []  # they lie in the middle


def test_where_most_annotations_say_nothing_that_could_be_compared_one_line_asks_to_look() -> None:
    assert remarks(4, {"unchecked": 1}, {"unchecked": 1}) == []
    (line,) = remarks(4, {"unchecked": 1}, {"unchecked": 2})
    assert line.startswith("3 of 4 annotations have neither bbox nor area to compare what they paint with; look at ")


def test_more_polygons_in_others_than_five_percent_are_a_line() -> None:
    assert remarks(40, {"nested": [7, 8]}) == []
    (line,) = remarks(40, {}, {"nested": [7, 8, 9]})
    assert line.startswith("3 of 40 annotations have a polygon in another of their own, first: annotation 7 of 1.jpg; ")


def test_each_line_names_annotations_that_paint_what_it_speaks_of() -> None:
    box, area = gathered(["box", "area", "area"], 10).remarks
    assert "1 of 10 annotations paint another box than their bbox says: 1.jpg: annotation 0 says" in box
    assert "2 of 10 annotations paint another area than their area says: 1.jpg: annotation 2 says" in area
    assert "annotation 1" not in box
