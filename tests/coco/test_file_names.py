"""File names from a stranger's annotations."""

import os

import pytest

from cocoseg.coco.file_names import clashes, is_plain, is_safe, mask_name, own_numbers, same_name


@pytest.mark.parametrize(
    "name",
    [
        "000000000139.jpg",
        "sub/folder/a.png",
        "mon chat été.jpg",
        "写真.jpg",
        "Screenshot\u202fPM.png",
        ".hidden",
        "a..b",
        "cam0_2023-05-04T10:01:00.jpg" if os.name != "nt" else "cam0.jpg",
    ],
)
def test_a_plain_name_is_safe(name: str) -> None:
    assert is_safe(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/etc/passwd",
        "../a.jpg",
        "a/../../b.jpg",
        "a//b.jpg",
        "./a.jpg",
        "a/.",
        "a\\b.jpg",
        "C:a.jpg",
        "c:/a.jpg",
        "con",
        "AUX.jpg",
        "sub/nul.tar.gz",
        "COM1.png",
        "a\nb.jpg",
        "a\0b.jpg",
        "a\u2028b.jpg",
        "\ud800.jpg",
        "what?.jpg",
        "a.jpg.",
        "a.jpg ",
        "x" * 201,
        "a/" * 500 + "x.jpg",
        "a\u202egpj.exe",
        "COM².png",
        "conin$",
    ],
)
def test_a_name_that_climbs_is_absolute_names_a_device_or_breaks_a_line_is_not(name: str) -> None:
    assert not is_safe(name)


@pytest.mark.parametrize(("name", "mask"), [("a.jpg", "a.png"), ("b/a.b.jpeg", "b/a.b.png"), ("a", "a.png")])
def test_a_mask_bears_the_name_of_its_image(name: str, mask: str) -> None:
    assert mask_name(name) == mask


@pytest.mark.parametrize("name", ["cat", "traffic light", "un été: 100 %", "猫/犬", "x" * 100])
def test_a_class_may_bear_any_name_of_one_line(name: str) -> None:
    assert is_plain(name)


@pytest.mark.parametrize("name", ["", "a\nb", "\x1b[31mred", "a\u2066b", "\ud800", "x" * 101])
def test_a_class_bears_no_name_that_would_break_or_turn_its_line(name: str) -> None:
    assert not is_plain(name)


def test_names_in_other_case_or_code_points_are_one_file_somewhere() -> None:
    assert same_name("A.PNG") == same_name("a.png")
    assert same_name("\u00e9.png") == same_name("e\u0301.png")
    assert same_name("a.png") != same_name("b.png")


def test_images_clash_whose_masks_have_one_name_or_whose_file_would_be_where_a_folder_is_needed() -> None:
    def found(*names: str) -> list[tuple[str, str, str | None]]:
        return list(clashes(names, lambda name: (name, mask_name(name))))

    assert found("a.jpg", "b.jpg", "c/a.jpg", "c/b.jpg") == []
    assert found("a.jpg", "a.jpg", "A.png") == [("a.jpg", "a.jpg", None), ("A.png", "a.jpg", None)]
    assert found("x.jpg", "x.png/1.jpg") == [("x.jpg", "x.png/1.jpg", "x.png")]
    assert found("Y.JPG", "y.jpg/z/1.jpg", "y.png") == [
        ("y.png", "Y.JPG", None),
        ("Y.JPG", "y.jpg/z/1.jpg", "Y.JPG"),
    ]


def test_a_file_name_has_the_number_that_ends_it_unless_another_has_it_too() -> None:
    assert own_numbers(["000000000139.jpg", "COCO_val2014_000000000042.jpg"]) == [139, 42]
    assert own_numbers(["a/7.jpg", "b/07.png", "cat.jpg", "8_x.jpg", "9.jpg"]) == [None, None, None, None, 9]
