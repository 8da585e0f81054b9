"""Names of classes, written into their regions."""

import numpy as np
import pytest

from cocoseg.pictures.layout import text_width
from cocoseg.pictures.overlay import overlay, palette

NAMES = ("background", "person", "car")
PERSON = palette()[1]


def labels(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """Labels of 200 × 300 pixels with boxes: class, top, left, height, width."""
    made = np.zeros((200, 300), np.uint8)
    for index, top, left, height, width in boxes:
        made[top : top + height, left : left + width] = index
    return made


def written(made: np.ndarray, names: tuple[str, ...] = NAMES) -> np.ndarray:
    """Where an overlay on white differs from one without names."""
    image = np.full((*made.shape, 3), 255, np.uint8)
    found: np.ndarray = (overlay(image, made, names) != overlay(image, made)).any(axis=2)
    return found


def test_a_name_stands_in_the_middle_of_its_region_on_the_color_of_its_class() -> None:
    made = labels((1, 20, 40, 120, 200))
    places = np.argwhere(written(made))
    assert (made[tuple(places.T)] == 1).all()
    assert np.abs(places.mean(axis=0) - [80, 140]).max() < 3
    image = np.zeros((200, 300, 3), np.uint8)
    sign = overlay(image, made, NAMES)[70:90, 120:160].reshape(-1, 3)
    assert {tuple(PERSON), (0, 0, 0)} <= {tuple(color) for color in sign.tolist()}


def test_each_region_of_a_class_has_its_own_name() -> None:
    found = written(labels((2, 10, 10, 80, 80), (2, 110, 200, 80, 80)))
    assert found[:100, :100].any()
    assert found[100:, 200:].any()


@pytest.mark.parametrize(
    "boxes",
    [
        [(1, 50, 50, 12, 12)],
        [(1, 50, 5, 10, 290)],  # lower than the letters
        [(1, 50, 66, 50, 18), (1, 66, 50, 18, 50)],  # a cross that the name would hide
        [(1, 0, 280, 12, 12), (1, 150, 10, 8, 8)],  # in a corner; the other region is smaller
    ],
)
def test_a_class_without_room_has_its_name_beside_its_largest_region(
    boxes: list[tuple[int, int, int, int, int]],
) -> None:
    made = labels(*boxes)
    rows, columns = np.nonzero(written(made))
    _, top, left, height, width = boxes[0]
    assert not (made[rows, columns] == 1).any()
    assert 10 < np.ptp(rows) < 18
    assert top - 20 < rows.min() < top + height + 20
    assert left - 80 < columns.min() < left + width + 20


def test_a_name_beside_a_region_hides_as_little_as_possible_of_others() -> None:
    crowded = labels((1, 60, 100, 12, 12), (2, 20, 60, 34, 80), (2, 60, 112, 40, 80))
    places = np.argwhere(written(crowded, ("background", "person")))
    assert (crowded[tuple(places.T)] == 0).all()


def test_a_speck_has_no_name_and_names_beside_regions_leave_three_quarters_free() -> None:
    assert not written(labels((1, 50, 50, 6, 6))).any()
    many = np.zeros((200, 300), np.uint8)
    for index in range(60):
        many[20 * (index // 10) + 30 :, 30 * (index % 10) :][:10, :10] = index + 1
    assert 0.2 < written(many, ("background", *["person"] * 60)).mean() < 0.3


def test_a_name_stays_inside_the_image_and_one_that_is_wider_is_left_out() -> None:
    made = labels((1, 0, 260, 200, 40))
    columns = np.flatnonzero(written(made, ("background", "skateboard", "car")).any(axis=0))
    assert columns.max() - columns.min() > 40
    long = "a very long name of a class that no image could hold"
    assert text_width(long) > 300
    assert not written(labels((1, 0, 0, 200, 300)), ("background", long, "car")).any()


def test_names_never_cover_each_other_and_the_larger_region_wins() -> None:
    names = ("background", "skateboard", "skateboard")
    two = labels((1, 0, 100, 200, 40), (2, 20, 140, 160, 40))  # wider than either region, and at the same height
    alone = written(labels((1, 0, 100, 200, 40)), names)
    assert alone.any()
    assert written(labels((2, 20, 140, 160, 40)), names).any()
    both = written(two, names)
    assert (both & alone).sum() == alone.sum()
    assert not both[alone.any(axis=1)][:, 141:].any() or both.sum() > alone.sum()


def test_ignored_pixels_background_and_unknown_classes_have_no_name() -> None:
    assert not written(labels((255, 0, 0, 200, 300))).any()
    assert not written(labels((0, 0, 0, 200, 300))).any()
    assert not written(labels((7, 0, 0, 200, 300))).any()


def test_letters_grow_with_a_gigantic_image() -> None:
    made = np.ones((2000, 3000), np.uint8)
    found = np.flatnonzero(written(made).any(axis=1))
    assert 4 * 18 <= np.ptp(found) + 1 <= 4 * 18 + 4


def test_dark_colors_have_white_letters() -> None:
    names = ("background", *"abcd", "boat")
    shown = overlay(np.zeros((200, 300, 3), np.uint8), labels((5, 0, 0, 200, 300)), names)  # 0072b2
    assert (shown == 255).all(axis=2).any()
