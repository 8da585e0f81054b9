"""The entries of an annotations file that nobody has checked: the sound ones, and why each of the others is none.

A bad entry costs itself and nothing else of the file.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import msgspec
from msgspec import Raw

from cocoseg.accounts import account
from cocoseg.coco.file_names import is_plain, is_safe
from cocoseg.coco.format import UNREADABLE, Annotation, Category, Image, without_non_finite
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import Mapped, release

Entry = TypeVar("Entry", Image, Annotation, Category)
AnnotationEntry = TypeVar("AnnotationEntry", Annotation, Raw)
OnDefect = Literal["count", "fail"]

LONGEST_SIDE_PX = 65_500  # JPEG's own limit


class Entries(msgspec.Struct, Generic[AnnotationEntry]):
    """An annotations file. Its annotations are read at once, as by far the most of it, where all are of their type."""

    images: list[Raw]
    annotations: list[AnnotationEntry]
    categories: list[Raw]
    info: Raw = Raw(b"null")
    licenses: Raw = Raw(b"null")


class Ledger:
    """What came in, and why some of it went: each entry is counted once, under its first reason."""

    def __init__(self, place: Path, noun: str, entries: int, on_defect: OnDefect) -> None:
        self.input = entries
        self.dropped: Counter[str] = Counter()
        self.dropped_ids: dict[int, str] = {}
        self.images_of_dropped: set[int | None] = set()
        self._on_defect = on_defect
        self._place = place
        self._noun = noun

    def account(self) -> dict[str, Any]:
        """Return the counts for the metrics: input = kept + dropped."""
        return account(self.input, self.dropped)

    def count_defect(self, name: str, reason: str, entry_id: int | None = None) -> None:
        """Count a broken entry. Raises `CocosegError`, which calls it by its `name`, if `on_defect` is «fail»."""
        self.dropped[reason] += 1
        if entry_id is not None:
            self.dropped_ids.setdefault(entry_id, reason)
        if self._on_defect == "fail":
            raise CocosegError(f"{self._place}: {self._noun} {name}: {reason}; fix it, or set on_defect: count")


def read_entries(raw: Mapped, place: Path) -> Entries[Annotation] | Entries[Raw]:
    """The lists of an annotations file. Raises `CocosegError` if it is no JSON of that form.

    An entry that holds NaN or Infinity is judged like any other, see `without_non_finite`.
    """
    try:
        try:
            return _decoded(raw)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:
            return _decoded(without_non_finite(raw))
    except UNREADABLE as error:
        raise CocosegError(f"{place}: {error}; expected a COCO instances file; run: dvc repro -f download") from None
    finally:
        release(raw)


def _decoded(raw: Mapped) -> Entries[Annotation] | Entries[Raw]:
    try:
        return msgspec.json.decode(raw, type=Entries[Annotation])
    except (msgspec.ValidationError, UnicodeDecodeError):
        return msgspec.json.decode(raw, type=Entries[Raw])


def readable_or_null(raw: Raw) -> Raw:
    """A part of the file that nobody judges, or null if it cannot be read: later readers must not stumble over it."""
    return raw if _is(raw, Any) else Raw(b"null")


def sound_entries(entries: list[Entry] | list[Raw], type_: type[Entry], ledger: Ledger) -> Iterator[Entry]:
    """The entries that are of their type and bear an id of their own; the others are named in the ledger.

    `entries` is empty afterwards: what nobody keeps makes room as it goes.
    """
    decode = msgspec.json.Decoder(type_).decode
    seen: set[int] = set()
    entries.reverse()
    while entries:
        popped = entries.pop()
        try:
            entry = decode(popped) if isinstance(popped, Raw) else popped
        except UNREADABLE:
            defect, fields = _defect_of(popped, type_)
            ledger.count_defect(_position(entries, ledger), defect, _whole_number(fields.get("id")))
            ledger.images_of_dropped.add(_whole_number(fields.get("image_id")))
            continue
        reason = None if isinstance(entry, Annotation) else _content_defect(entry)
        if reason is None and entry.id not in seen:
            seen.add(entry.id)
            yield entry
        else:
            ledger.count_defect(_position(entries, ledger), reason or "duplicate_id", entry.id)
            if isinstance(entry, Annotation):
                ledger.images_of_dropped.add(entry.image_id)


def _position(rest: Sequence[Any], ledger: Ledger) -> str:
    return f"at position {ledger.input - len(rest) - 1}"


def _content_defect(entry: Image | Category) -> str | None:
    if isinstance(entry, Category):
        return None if is_plain(entry.name) else "bad_name"
    if not is_safe(entry.file_name):
        return "unsafe_file_name"
    return None if 1 <= entry.width <= LONGEST_SIDE_PX and 1 <= entry.height <= LONGEST_SIDE_PX else "bad_size"


# The fields that an entry is judged by, and the reason that a wrong or missing one is counted under.
_FIELDS: dict[type, dict[str, tuple[type, str]]] = {
    Image: {
        "id": (int, "bad_id"),
        "file_name": (str, "bad_file_name"),
        "width": (int, "bad_size"),
        "height": (int, "bad_size"),
    },
    Annotation: {key: (int, f"bad_{key}") for key in ("id", "image_id", "category_id", "iscrowd")},
    Category: {"id": (int, "bad_id"), "name": (str, "bad_name")},
}


def _defect_of(raw: Any, type_: type[Entry]) -> tuple[str, dict[str, Raw]]:
    """Why an entry is not of its type, and what fields it has."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Raw])
    except UNREADABLE:
        return "not_an_object", {}
    bad = [reason for key, (kind, reason) in _FIELDS[type_].items() if not _is(fields.get(key), kind)]
    return bad[0] if bad else "bad_entry", fields


def _is(raw: Raw | None, type_: Any) -> bool:
    try:
        msgspec.json.decode(raw if raw is not None else b"null", type=type_)
    except UNREADABLE:
        return False
    return True


def _whole_number(raw: Raw | None) -> int | None:
    return msgspec.json.decode(raw, type=int) if raw is not None and _is(raw, int) else None
