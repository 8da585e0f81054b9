"""How the images of each class are shared among the sides, as bars."""

import numpy as np

from cocoseg.split.side_shares import side_shares

COLORS = ((0, 114, 178), (213, 94, 0), (0, 158, 115))


def sides(names: list[str], *images: int) -> dict[str, dict[str, object]]:
    classes = [{name: {"images": count} for name in names} for count in images]
    return {side: {"images": 2, "classes": own} for side, own in zip(("train", "val", "test"), classes, strict=True)}


def test_a_bar_of_a_class_has_the_shares_of_its_sides_and_that_of_all_images_those_of_all() -> None:
    picture = side_shares(sides(["dog"], 5, 0, 5))
    widths = [(picture == color).all(axis=2).sum(axis=1) for color in COLORS]
    bars = [row for row in zip(*(one.tolist() for one in widths), strict=True) if sum(row) == 290]
    # of 290 pixels: a third each, then half and half
    assert list(dict.fromkeys(bars)) == [(96, 97, 97), (145, 0, 145)]


def test_eighty_classes_and_a_long_name_stay_on_a_page_and_a_side_may_be_empty() -> None:
    picture = side_shares(sides([f"{number} a name that is read by nobody" for number in range(80)], 0, 0, 0))
    assert picture.shape[1] <= 840
    assert picture.shape[0] < 2_300
    assert np.array_equal(np.unique(picture[60:], axis=None)[-1:], [255])
