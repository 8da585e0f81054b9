"""Map COCO categories to the class indices of masks."""

from collections.abc import Sequence
from typing import Literal

import msgspec

from cocoseg.coco.format import Category

Task = Literal["multiclass", "binary"]

BACKGROUND = 0
IGNORE = 255

_NAMED = 5  # classes, in one line


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


def class_difference(before: Sequence[str], after: Sequence[str], gone: str, came: str) -> str:
    """Return how two unequal lists of classes differ: "1 left (dog) and 2 came (car, bus)", or "in their order".

    `gone` and `came` are the words for those in one list alone, here "left" and "came". At most five of each are named.
    """
    only_before = [name for name in before if name not in after]
    only_after = [name for name in after if name not in before]
    parts = [
        f"{len(names)} {word} ({', '.join(names[:_NAMED])}{', …' if len(names) > _NAMED else ''})"
        for names, word in ((only_before, gone), (only_after, came))
        if names
    ]
    return " and ".join(parts) or "in their order"


def map_categories(categories: Sequence[Category], task: Task) -> CategoryMapping:
    """Return class indices 1 to K in the order of `categories`; in `binary`, 1 for all of them."""
    binary = task == "binary"
    return CategoryMapping(
        task=task,
        classes=("background", "foreground") if binary else ("background", *(category.name for category in categories)),
        categories=tuple(
            MappedCategory(category_id=category.id, name=category.name, class_index=1 if binary else index)
            for index, category in enumerate(categories, start=1)
        ),
    )
