"""Which class index a COCO category gets."""

from cocoseg.coco.categories import CategoryMapping, class_difference, map_categories
from cocoseg.coco.format import Category

CATEGORIES = [Category(id=17, name="cat"), Category(id=18, name="dog")]


def test_class_indices_follow_the_order_of_the_classes_and_binary_has_one() -> None:
    many: CategoryMapping = map_categories(list(reversed(CATEGORIES)), "multiclass")
    assert many.classes == ("background", "dog", "cat")
    assert {entry.category_id: entry.class_index for entry in many.categories} == {18: 1, 17: 2}
    one = map_categories(CATEGORIES, "binary")
    assert one.classes == ("background", "foreground")
    assert {entry.category_id: entry.class_index for entry in one.categories} == {17: 1, 18: 1}


def test_two_lists_of_classes_differ_in_what_only_one_holds_or_in_their_order() -> None:
    words = ("left", "came")
    assert class_difference(["person", "dog"], ["person", "car", "bus"], *words) == "1 left (dog) and 2 came (car, bus)"
    assert class_difference(["person"], ["person", "car"], *words) == "1 came (car)"
    assert class_difference(["person", "car"], ["car", "person"], *words) == "in their order"
    # What two long lists have in common says nothing.
    many = [*"abcdefgh"]
    assert class_difference([*many, "x"], [*many, "y"], *words) == "1 left (x) and 1 came (y)"
    assert class_difference(many, ["x"], *words) == "8 left (a, b, c, d, e, …) and 1 came (x)"
