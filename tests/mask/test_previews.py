"""A look at the masks."""

from pathlib import Path

import numpy as np
import pytest

from cocoseg.core.files import write_bytes
from cocoseg.images.png import encode_png
from cocoseg.mask.previews import ClassShare, class_shares, most_defective, preview
from cocoseg.pictures.overlay import palette
from cocoseg.tables import MaskRow


def row(image_id: int, class_index: int, instances: int, pixels: int) -> MaskRow:
    return MaskRow(
        image_id=image_id,
        file_name=f"{image_id}.png",
        class_index=class_index,
        class_name=("background", "cat")[class_index],
        instances=instances,
        pixels=pixels,
    )


def test_shares_are_percent_of_all_pixels_and_a_hidden_object_is_in_no_image() -> None:
    rows = [row(1, 0, 0, 60), row(1, 1, 2, 20), row(2, 0, 0, 120), row(2, 1, 1, 0)]
    assert class_shares(rows) == [
        ClassShare(class_name="background", images=2, instances=0, pixel_share=90.0),
        ClassShare(class_name="cat", images=1, instances=3, pixel_share=10.0),
    ]


def test_a_preview_shows_the_image_and_the_color_of_its_class(tmp_path: Path) -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[10:30, 10:30] = 1
    write_bytes(tmp_path / "images/1.png", encode_png(np.full((40, 40, 3), (200, 10, 10), np.uint8)))
    write_bytes(tmp_path / "masks/1.png", encode_png(mask))
    names = ("background", "cat")
    picture = preview({"1.png": "a cat"}, {"1.png": "1.png"}, tmp_path / "images", tmp_path / "masks", names, "all")
    colors = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
    assert tuple(palette()[1].tolist()) in colors
    assert any(red > 190 and green < 20 for red, green, _ in colors)


def test_the_box_of_a_lost_object_is_drawn_with_its_reason_into_mask_and_overlay(tmp_path: Path) -> None:
    write_bytes(tmp_path / "images/1.png", encode_png(np.full((400, 800, 3), 90, np.uint8)))
    write_bytes(tmp_path / "masks/1.png", encode_png(np.zeros((400, 800), np.uint8)))
    shown = {"1.png": "1.png"}, tmp_path / "images", tmp_path / "masks", ("background", "cat"), "all"
    without = preview({"1.png": ""}, *shown)
    drawn = preview({"1.png": ""}, *shown, boxes={"1.png": [("zero_area", (200.0, 200.0, 400.0, 100.0))]})
    rows, columns = np.nonzero((without != drawn).any(axis=2))
    assert columns.min() >= 6 + 272 + 6  # nothing in the input
    assert len(np.unique(columns[columns < 6 + 2 * 278])) == pytest.approx(400 * 272 / 800 + 2, abs=3)
    assert np.ptp(rows) + 1 == pytest.approx(100 * 272 / 800 + 20, abs=4)  # with the line of the word


def test_the_images_with_most_defects_come_first_and_say_which() -> None:
    defects = {"a.png": {"clipped": 9}, "b.png": {"odd_polygon": 2, "clipped": 1}, "c.png": {"zero_area": 1}}
    assert list(most_defective(defects, 3)) == ["b.png", "c.png", "a.png"]
    assert most_defective(defects, 1) == {"b.png": "b.png: 1 clipped, 2 odd_polygon"}


def test_what_disagrees_or_is_hidden_comes_after_what_was_lost_and_before_what_was_clipped() -> None:
    defects = {
        "a.png": {"clipped": 9},
        "b.png": {"mostly_hidden": 3},
        "c.png": {"box_disagrees": 1, "clipped": 1},
        "d.png": {"zero_area": 1},
    }
    assert list(most_defective(defects, 4)) == ["d.png", "c.png", "b.png", "a.png"]


def test_a_preview_of_nothing_says_so(tmp_path: Path) -> None:
    picture = preview({}, {}, tmp_path, tmp_path, ("background", "cat"), "the images with most defects")
    assert picture.min() < 100  # there is text
