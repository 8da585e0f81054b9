"""Which images people get to see."""

from cocoseg.showcase import chosen_images

NAMES = [f"{number}.jpg" for number in range(50)]


def test_the_same_images_are_shown_whatever_the_order_and_more_of_them_include_fewer() -> None:
    few, many = chosen_images(NAMES, 4), chosen_images(reversed(NAMES), 9)
    assert (len(few), len(many)) == (4, 9)
    assert set(few) < set(many)
    assert few == sorted(few)
    assert few != NAMES[:4]


def test_fewer_images_than_asked_for_are_all_shown() -> None:
    assert chosen_images(["b", "a"], 5) == ["a", "b"]
    assert chosen_images(NAMES, 0) == []
