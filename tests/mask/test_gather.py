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
        f"1.jpg: annotation 2 {said}; 1.jpg: annotation 1 {said}; often row-major RLE, "
        "x and y swapped, a bbox of two corners, images scaled but not their polygons, tiles whose boxes reach over "
        "the border, an orientation that the tool followed, or holes, which COCO fills"
    )


def test_each_line_names_annotations_that_paint_what_it_speaks_of() -> None:
    box, area = gathered(["box", "area", "area"], 10).remarks
    assert "1 of 10 annotations paint another box than their bbox says: 1.jpg: annotation 0 says" in box
    assert "2 of 10 annotations paint another area than their area says: 1.jpg: annotation 2 says" in area
    assert "annotation 1" not in box
