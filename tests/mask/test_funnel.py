"""From annotations in the file to annotations painted, as bars."""

import numpy as np

from cocoseg.mask.funnel import funnel


def test_each_bar_takes_its_share_from_what_was_left() -> None:
    accounts = [
        ("filter", {"input": 8, "dropped": {"crowd": 2}}),
        ("mask", {"input": 6, "dropped": {"zero_area": 4}}),
    ]
    picture = funnel("annotations", accounts)
    kept = (picture == (0, 114, 178)).all(axis=2).sum(axis=1)
    dropped = (picture == (213, 94, 0)).all(axis=2).sum(axis=1)
    # of 320 pixels: all 8, then 2 of 8 go, then 4 of 8, and 2 of 8 are left
    assert [int(width) for width in dict.fromkeys(kept[kept > 0])] == [320, 80]
    assert [int(width) for width in dict.fromkeys(dropped[dropped > 0])] == [80, 160]
    columns = np.flatnonzero((picture == (213, 94, 0)).all(axis=2).any(axis=0))
    assert columns[-1] - columns[0] + 1 == 240  # they follow each other: from 8 down to 2


def test_a_reason_too_rare_for_a_pixel_still_shows() -> None:
    picture = funnel("images", [("filter", {"input": 100_000, "dropped": {"license": 1}})])
    assert (picture == (213, 94, 0)).all(axis=2).any()


def test_a_long_class_name_makes_nothing_wider_than_a_page() -> None:
    hidden = {"hidden": {"a name that nobody would read to its end " * 9: 4}}
    assert funnel("annotations", [("mask", {"input": 16, "dropped": {}})], hidden).shape[1] == 840


def test_hidden_objects_go_on_down_from_the_kept_and_rare_classes_share_a_bar() -> None:
    account = ("mask", {"input": 16, "dropped": {}})
    hidden = {"hidden": {"pizza": 4}, "mostly": dict.fromkeys("abcdef", 1) | {"g": 2}}
    picture = funnel("annotations", [account], hidden)
    bars = (picture == (230, 159, 0)).all(axis=2)
    widths = [int(width) for width in bars.sum(axis=1) if width]
    # of 320 pixels for 16: 4 pizzas, 2 of g, four classes with 1 each, and the two others together; each bar 24 rows
    assert widths == [*[80] * 24, *[40] * 24, *[20] * 96, *[40] * 24]
    columns = np.flatnonzero(bars.any(axis=0))
    assert columns[-1] - columns[0] + 1 == 240  # 4 + 8 of 16 follow each other
    assert (funnel("annotations", [account], {"hidden": {}}) == funnel("annotations", [account])).all()
