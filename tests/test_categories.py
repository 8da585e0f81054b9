"""Which class index a COCO category gets."""

from cocoseg.categories import CategoryMapping, map_categories
from cocoseg.coco import Category

CATEGORIES = [Category(id=17, name="cat"), Category(id=18, name="dog")]


def test_class_indices_follow_the_order_of_the_classes_and_binary_has_one() -> None:
    many: CategoryMapping = map_categories(list(reversed(CATEGORIES)), "multiclass")
    assert many.classes == ("background", "dog", "cat")
    assert {entry.category_id: entry.class_index for entry in many.categories} == {18: 1, 17: 2}
    one = map_categories(CATEGORIES, "binary")
    assert one.classes == ("background", "foreground")
    assert {entry.category_id: entry.class_index for entry in one.categories} == {17: 1, 18: 1}
