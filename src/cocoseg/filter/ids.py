"""Ids as tools write them: integers, integral floats, numbers in quotes, or any text.

The number that stands for a text depends on nothing but the text, so that selection and split do not change when other
images come or go.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property

import msgspec

from cocoseg.filter.entries import LARGEST_ID, AnnotationEntry, AnnotationKeys, Ledger, Scalar

_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,14}")
# A number that is written in another way, as "001" and pandas' "1.0": a text of its own, unless nothing else is meant.
_OTHER_NUMBER = re.compile(r"[+-]?0*([0-9]{1,15})(?:\.0*)?")

Key = int | str | None
"""An id as it is meant: a number, a text, or none."""


def key_of(id_: Scalar) -> Key:
    """Return the number or text that an id means; `None` for one that is missing or cannot be an id."""
    if type(id_) is int and -LARGEST_ID < id_ < LARGEST_ID:
        return id_
    if isinstance(id_, str):
        text = id_.strip()
        return int(text) if _NUMBER.fullmatch(text) else text or None
    if isinstance(id_, bool) or not isinstance(id_, int | float) or (isinstance(id_, float) and not id_.is_integer()):
        return None
    number = int(id_)
    return number if isinstance(id_, float) and -LARGEST_ID < number < LARGEST_ID else f"{number}"


def value_of(key: Key) -> int | None:
    """Return the number that an id may mean, also where it is written in another way; `None` for any other text."""
    if isinstance(key, str):
        return int(float(key)) if _OTHER_NUMBER.fullmatch(key) else None
    return key


def number_of(key: int | str) -> int:
    """Return the number that stands for an id: itself, or of a text 52 bits of its hash, which JSON keeps exactly."""
    if isinstance(key, int):
        return key
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 12


class Numbers(dict[Key, int]):
    """The number behind each key of a list of images or categories."""

    def of(self, id_: Scalar, noun: str, ledger: Ledger) -> int | None:
        """Return the number behind an id in another form than a whole number; `None` if nothing bears that id.

        "001" and 1 are one id unless the list has both.
        """
        key = key_of(id_)
        found = self.get(key)
        if found is None:
            meant = self._by_value.get(value_of(key), set())
            found = min(meant) if len(meant) == 1 else None
        if found is not None:
            ledger.converted[noun] += 1
        return found

    @cached_property
    def _by_value(self) -> dict[int | None, set[int]]:
        found: dict[int | None, set[int]] = defaultdict(set)
        for key, number in self.items():
            if (value := value_of(key)) is not None:
                found[value].add(number)
        return dict(found)


def duplicate_keys(keys: Iterable[Key]) -> set[Key]:
    """Return the keys that come more than once."""
    seen: set[Key] = set()
    add = seen.add
    return {key for key in keys if key in seen or add(key)}


class AnnotationIds:
    """Give each annotation an id of its own, for a mask needs none; find those that are identical in every field."""

    def __init__(self, annotations: Sequence[AnnotationEntry | AnnotationKeys]) -> None:
        ids = [one.id for one in annotations]
        unique = {*ids}
        self.sound = len(unique) == len(ids) and {*map(type, unique)} <= {int}
        """All are whole numbers, and no two are equal."""
        listed = [] if self.sound else [key_of(id_) for id_ in ids]
        self.shared = duplicate_keys(listed)
        self._following = max((key for key in listed if isinstance(key, int)), default=0)
        self._taken: set[Key] = set()
        self._contents: set[bytes] = set()

    def is_repeated(self, entry: AnnotationEntry) -> bool:
        """Return whether an entry is the same as an earlier one in every field."""
        if key_of(entry.id) not in self.shared:
            return False
        content = hashlib.sha256(msgspec.json.encode(entry)).digest()
        if content in self._contents:
            return True
        self._contents.add(content)
        return False

    def of(self, entry: AnnotationEntry, ledger: Ledger) -> int:
        """Return the id of an annotation: its own, or one that follows all others."""
        key = key_of(entry.id)
        if type(key) is int and key not in self._taken:
            if key in self.shared:
                self._taken.add(key)
            ledger.converted["id"] += type(entry.id) is not int
            return key
        ledger.converted["id_renumbered"] += 1
        self._following += 1
        return self._following
