"""Which class index a COCO category gets in a mask."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from cocoseg.coco import Category

Task = Literal["multiclass", "binary"]

BACKGROUND = 0
IGNORE = 255


class MappedCategory(msgspec.Struct, frozen=True, kw_only=True):
    """One COCO category and the value of its pixels."""

    category_id: int
    name: str
    class_index: int


class CategoryMapping(msgspec.Struct, frozen=True, kw_only=True):
    """`data/category_mapping.json`. `classes[i]` is the name of class index `i`, 0 being the background."""

    task: Task
    classes: tuple[str, ...]
    categories: tuple[MappedCategory, ...]


def map_categories(categories: Sequence[Category], task: Task) -> CategoryMapping:
    """Class indices 1 to K in the order of `categories`; in `binary`, 1 for all of them."""
    binary = task == "binary"
    return CategoryMapping(
        task=task,
        classes=("background", "foreground") if binary else ("background", *(category.name for category in categories)),
        categories=tuple(
            MappedCategory(category_id=category.id, name=category.name, class_index=1 if binary else index)
            for index, category in enumerate(categories, start=1)
        ),
    )
