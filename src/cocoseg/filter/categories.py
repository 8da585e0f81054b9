"""The categories of an annotations file: which there are, which are chosen, and the number behind each id."""

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from unicodedata import normalize

from cocoseg.accounts import leading_defect
from cocoseg.coco.file_names import is_plain
from cocoseg.coco.format import Category
from cocoseg.core.errors import CocosegError, did_you_mean
from cocoseg.filter.entries import AnnotationEntry, AnnotationKeys, CategoryEntry, Ledger, Scalar, found
from cocoseg.filter.ids import Key, Numbers, key_of, value_of
from cocoseg.filter.pieces import NotInPieces

_LISTED = 254  # names in a line
_SHOWN = 200  # letters of an entry
RESERVED_NAMES = ("background", "ignore")  # of pixel values 0 and 255 in metrics and tables


class Categories(NamedTuple):
    """The chosen categories, their ids, the numbers behind all ids of the file, and why the category of an id went."""

    chosen: list[Category]
    ids: set[int]
    numbers: Numbers
    defective: dict[Key, str]


class UsedCategories:
    """The categories that annotations name, looked for only where it matters."""

    def __init__(self, annotations: Iterable[AnnotationEntry | AnnotationKeys] | None) -> None:
        self._annotations = annotations
        self._keys: set[Key] | None = None

    def __contains__(self, key: object) -> bool:
        if self._annotations is None:
            raise NotInPieces
        if self._keys is None:
            keys = {key_of(id_) for id_ in {one.category_id for one in self._annotations}}
            self._keys = (keys | {value_of(key) for key in keys}) - {None}
        return isinstance(key, int | str) and not self._keys.isdisjoint({key, value_of(key)})


def choose_categories(
    entries: Iterable[tuple[int, CategoryEntry]],
    used: Container[Key],
    classes: Sequence[str],
    ledger: Ledger,
    place: Path,
) -> Categories:
    """Return the categories that `classes` names, in that order; for an empty list all of them, in id order.

    `used`: the ids that annotations name. A category that nothing uses goes where it shares its name or id with
    another. Raises `CocosegError` for an unknown class, and for two categories of one id or name if they are used.
    """
    listed, numbers, defective = _listed_categories(entries, used, ledger, place)
    distinct = _of_distinct_names(listed, numbers, used, ledger, place)
    # Many tools write a category "background", labelme "_background_" and "__ignore__", that no annotation names.
    named = {
        category.name: category
        for key, category in distinct
        if category.name.strip("_").casefold() not in RESERVED_NAMES or category.name in classes or key in used
    }
    if not named:
        first = f"; {leading_defect(ledger)}" if ledger.first else ""
        raise CocosegError(f"{place}: none of {ledger.input} categories can be a class{first}; expected id and name")
    chosen = _chosen(named, [normalize("NFC", name) for name in classes], place)
    return Categories(chosen, {one.id for one in chosen}, numbers, defective)


def _listed_categories(
    entries: Iterable[tuple[int, CategoryEntry]], used: Container[Key], ledger: Ledger, place: Path
) -> tuple[dict[Key, Category], Numbers, dict[Key, str]]:
    """Return the categories in COCO's form by their ids, the number behind each id, and why that of an id went."""
    defective: dict[Key, str] = {}
    listed: dict[Key, Category] = {}
    for position, entry in entries:
        key, name = key_of(entry.id), _name(entry.name)
        if key is None or not is_plain(name):
            reason = "bad_id" if key is None else "bad_name"
            shown = f"{found('id', entry.id)}, {found('name', entry.name)}"[:_SHOWN]
            ledger.count_defect(reason, f"at position {position}", shown)
            if key is not None:
                defective.setdefault(key, reason)
            continue
        known = listed.get(key)
        if known is None:
            listed[key] = Category(id=0, name=name, supercategory=entry.supercategory)
            ledger.converted["id"] += type(entry.id) is not int
            ledger.converted["name"] += entry.name != name
        elif known.name == name:  # the same one twice is harmless, and no mask shows a supercategory
            ledger.dropped["listed_twice"] += 1
        elif key in used:
            raise CocosegError(
                f"{place}: two categories have the id {entry.id}: {known.name!r} and {name!r}; give each an id of its "
                "own, in the annotations too"
            )
        else:
            ledger.dropped["unused_of_shared_id"] += 1
    return listed, _numbered(listed), defective


def _name(name: Scalar) -> str:
    """Return the name that is meant, in one form of Unicode; nothing if there is none."""
    if isinstance(name, bool) or not isinstance(name, str | int | float):
        return ""
    return normalize("NFC", f"{name}".strip())


def _numbered(listed: dict[Key, Category]) -> Numbers:
    """Give each category its number: its own, or after all of those, in the order of the file, for a text."""
    numbers = Numbers()
    following = max([key for key in listed if isinstance(key, int)], default=0)
    for key, category in listed.items():
        if not isinstance(key, int):
            following += 1
        category.id = numbers[key] = key if isinstance(key, int) else following
    return numbers


def _of_distinct_names(
    listed: dict[Key, Category], numbers: Numbers, used: Container[Key], ledger: Ledger, place: Path
) -> list[tuple[Key, Category]]:
    shared = Counter(category.name for category in listed.values())
    kept: dict[str, tuple[Key, Category]] = {}
    for key, category in listed.items():
        if shared[category.name] > 1 and key not in used:
            shared[category.name] -= 1
            ledger.dropped["unused_of_shared_name"] += 1
            del numbers[key]
        elif category.name in kept:
            raise CocosegError(f"{place}: two categories are named {category.name!r}; give each a name of its own")
        else:
            kept[category.name] = key, category
    return list(kept.values())


def _chosen(by_name: dict[str, Category], classes: Sequence[str], place: Path) -> list[Category]:
    for name in classes:
        if name not in by_name:
            hint = did_you_mean(name, by_name, f"it has: {_in_words(sorted(by_name))}")
            raise CocosegError(f"params.yaml: classes names {name!r}, which is no category of {place}; {hint}")
    chosen = [by_name[name] for name in classes] or sorted(by_name.values(), key=lambda category: category.id)
    for category in chosen:
        if category.name in RESERVED_NAMES:
            raise CocosegError(
                f"{place}: a category is named {category.name!r}, as are the pixels of no class; rename it, or "
                "leave it out of classes in params.yaml"
            )
    if len(chosen) > 254:
        raise CocosegError(
            f"{place}: {len(chosen)} categories; a mask holds 1 to 254 beside background and 255; name some in classes"
        )
    return chosen


def _in_words(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", …" if len(names) > _LISTED else "")
