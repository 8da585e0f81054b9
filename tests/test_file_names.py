"""File names from a stranger's annotations."""

import pytest

from cocoseg.file_names import is_safe, mask_name


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
        "a.jpg:stream",
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
    ],
)
def test_a_name_that_climbs_is_absolute_names_a_device_or_breaks_a_line_is_not(name: str) -> None:
    assert not is_safe(name)


@pytest.mark.parametrize(("name", "mask"), [("a.jpg", "a.png"), ("b/a.b.jpeg", "b/a.b.png"), ("a", "a.png")])
def test_a_mask_bears_the_name_of_its_image(name: str, mask: str) -> None:
    assert mask_name(name) == mask
