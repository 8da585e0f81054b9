"""The tables that stages hand on."""

import pytest

from cocoseg.core.errors import CocosegError
from cocoseg.core.files import decoded_table
from cocoseg.tables import ClassPixels

HEADER = "file_name,class_index,class_name,target,prediction,hit\n"


@pytest.mark.parametrize("pixels", ["-1", "12345678901234567890", "1099511627777"])
def test_a_count_of_pixels_that_no_image_can_have_is_one_line(pixels: str) -> None:
    with pytest.raises(CocosegError, match=r"^HEAD: per_image\.csv: Expected `int` .*at `\$\.target`; make it again"):
        decoded_table(f"{HEADER}a.jpg,0,background,{pixels},0,0\n".encode(), ClassPixels, "HEAD: per_image.csv")
