"""Which images people get to see."""

from cocoseg.evaluate.galleries import Ranked, ranked_images
from cocoseg.pictures.gallery import chosen_images

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


def test_images_are_ranked_by_hand_and_ties_by_name() -> None:
    scores = {"d": 0.5, "a": 0.5, "c": 0.9, "b": 0.1, "e": 0.5, "f": 0.1}
    # falling: c a d e b f
    assert ranked_images(scores, 2) == Ranked(best=["c", "a"], median=["d", "e"], worst=["b", "f"])
    assert ranked_images(scores, 3) == Ranked(best=["c", "a", "d"], median=["a", "d", "e"], worst=["b", "f", "a"])


def test_the_middle_of_an_odd_number_is_the_median_itself() -> None:
    assert ranked_images({"a": 0.1, "b": 0.7, "c": 0.4}, 1).median == ["c"]


def test_of_few_images_all_are_in_each_kind_and_of_none_none() -> None:
    assert ranked_images({"a": 0.2, "b": 0.7}, 8) == Ranked(best=["b", "a"], median=["b", "a"], worst=["a", "b"])
    assert ranked_images({}, 8) == Ranked(best=[], median=[], worst=[])
