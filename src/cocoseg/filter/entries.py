"""The entries of an annotations file that nobody has checked, read as leniently as JSON allows.

A bad entry costs itself and nothing else of the file.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat, starmap
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from cocoseg.accounts import account
from cocoseg.coco.format import REGIONS_KEY, UNREADABLE, misnamed_keys, without_non_finite
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import Mapped, release
from cocoseg.filter.params import OnDefect

_START_BYTES = 40
_LONGEST_EXAMPLE = 200  # letters: a stranger's file may hold names of thousands
Scalar = int | float | str | bool | None
LARGEST_ID = 2**62  # a larger number is taken as a text: the file that is written holds 64 bits
LONGEST_SIDE_PX = 65_500  # JPEG's own limit
_OwnId = Annotated[int, Meta(gt=-LARGEST_ID, lt=LARGEST_ID)]
_Side = Annotated[int, Meta(ge=1, le=LONGEST_SIDE_PX)]
_AnnotationId = _OwnId | float | str | bool | None


class Unreadable(msgspec.Struct, frozen=True, gc=False):
    """What stands in a field where none of its types does; a message shows it as it is in the file."""

    text: str

    def __repr__(self) -> str:
        return self.text


NON_FINITE = Unreadable("NaN or Infinity")


def found(field: str, value: Any) -> str:
    """Return what a field holds, in words."""
    return f"{field} is missing" if value is None else f"{field} is {value!r}"


class ImageEntry(msgspec.Struct, kw_only=True, gc=False):
    """One image as tools write it."""

    id: Scalar = None
    file_name: Scalar = None
    width: Scalar = None
    height: Scalar = None
    license: Any = None
    coco_url: Any = None
    flickr_url: Any = None
    date_captured: Any = None


class PlainImage(ImageEntry, kw_only=True, omit_defaults=True, gc=False):
    """One image in COCO's own form, as most are; it is written as it is."""

    id: _OwnId
    file_name: str
    width: _Side
    height: _Side
    license: int | None = None


class AnnotationEntry(msgspec.Struct, kw_only=True, gc=False):
    """One annotation as tools write it; its fields are in the order of `Annotation`, as which it is written.

    `ignore` is a flag beside `iscrowd` that some tools write. It is unset once it has been read.
    """

    id: _AnnotationId = None
    image_id: Scalar = None
    category_id: Scalar = None
    iscrowd: Scalar = 0
    area: Raw | UnsetType = UNSET
    bbox: Raw | UnsetType = UNSET
    segmentation: Raw | UnsetType = UNSET
    ignore: Scalar | UnsetType = UNSET


class PlainEntry(AnnotationEntry, kw_only=True, gc=False):
    """An annotation in COCO's own form, as most are: nothing of it has to be converted."""

    id: _OwnId
    image_id: int
    category_id: int
    iscrowd: Literal[0, 1] = 0
    segmentation: Raw
    ignore: UnsetType = UNSET


class CategoryEntry(msgspec.Struct, kw_only=True):
    """One category as tools write it."""

    id: Scalar = None
    name: Scalar = None
    supercategory: Any = None


Entry = TypeVar("Entry", ImageEntry, AnnotationEntry, CategoryEntry)


class Entries(msgspec.Struct):
    """An annotations file: each list of its type where all of it is, which reads far faster, else entry by entry.

    `annotations`: the list in one or more pieces. `keys`: their ids as `annotation_keys` gives them; `None` if all are
    whole numbers, no two of them equal.
    """

    images: list[ImageEntry] | list[Raw]
    annotations: Iterable[list[AnnotationEntry] | list[Raw]]
    categories: list[CategoryEntry] | list[Raw]
    keys: "Sequence[AnnotationEntry | AnnotationKeys] | None"
    info: Raw = Raw(b"null")
    licenses: Raw = Raw(b"null")
    ignored_regions: Raw = Raw(b"[]")


class _Typed(msgspec.Struct):
    images: list[ImageEntry]
    annotations: list[AnnotationEntry]
    categories: list[CategoryEntry]
    info: Raw = Raw(b"null")
    licenses: Raw = Raw(b"null")
    ignored_regions: Raw = msgspec.field(default=Raw(b"[]"), name=REGIONS_KEY)


class _Untyped(msgspec.Struct):
    images: list[Raw]
    annotations: list[Raw]
    categories: list[Raw]
    info: Raw = Raw(b"null")
    licenses: Raw = Raw(b"null")
    ignored_regions: Raw = msgspec.field(default=Raw(b"[]"), name=REGIONS_KEY)


class Ledger:
    """What came in, and why some of it went: each entry is counted once, under its first reason.

    `defects` counts those of `dropped` that are broken, `converted` what was accepted in another form than COCO's.
    `first` is the first entry of each reason, in words.
    """

    def __init__(self, place: Path, noun: str, entries: int, on_defect: OnDefect) -> None:
        self.input = entries
        self.dropped: Counter[str] = Counter()
        self.converted: Counter[str] = Counter()
        self.first: dict[str, str] = {}
        self.defects = 0
        self._on_defect = on_defect
        self._place = place
        self._noun = noun

    def account(self) -> dict[str, Any]:
        """Return the counts for the metrics: input = kept + dropped."""
        converted = {what: count for what, count in sorted(self.converted.items()) if count}
        return {**account(self.input, self.dropped), "converted": converted, "first": dict(sorted(self.first.items()))}

    def count_defect(self, reason: str, name: str, found: str) -> None:
        """Count a broken entry. Raises `CocosegError`, which calls it by its `name`, if `on_defect` is "fail"."""
        self.dropped[reason] += 1
        self.defects += 1
        example = (f"{self._noun} {name}, {found}" if found else f"{self._noun} {name}")[:_LONGEST_EXAMPLE]
        self.first.setdefault(reason, example)
        if self._on_defect == "fail":
            raise CocosegError(f"{self._place}: {example}: {reason}; fix it, or set on_defect: count")


def read_entries(raw: Mapped, place: Path) -> Entries:
    """Return the lists of an annotations file. Raises `CocosegError` if it is not JSON of that form.

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


def _decoded(raw: Mapped | bytes) -> Entries:
    found: _Typed | _Untyped
    try:
        found = msgspec.json.decode(raw, type=_Typed)
    except (msgspec.ValidationError, UnicodeDecodeError):
        found = msgspec.json.decode(raw, type=_Untyped)
    fields = msgspec.structs.asdict(found)
    return Entries(**fields | {"annotations": [found.annotations], "keys": annotation_keys(found.annotations)})


def likely_keys(raw: Mapped) -> list[str]:
    """Return what `misnamed_keys` says of a file that is refused; nothing if the file cannot be read at all."""
    try:
        return misnamed_keys(msgspec.json.decode(raw, type=dict[str, Raw]))
    except UNREADABLE:
        return []


def entries_of(
    list_: list[Entry] | list[Raw], type_: type[Entry], ledger: Ledger, first: int = 0
) -> Iterator[tuple[int, Entry]]:
    """Yield the position, from `first` on, and the entry of each that is an object; the ledger counts the others.

    A field that is not of its type is `Unreadable`. The list is empty afterwards: what nobody keeps makes room as it
    goes.
    """
    list_.reverse()
    entries = starmap(list_.pop, repeat((), len(list_)))
    if not list_ or not isinstance(list_[0], Raw):  # then none of them is
        yield from enumerate(cast(Iterator[Entry], entries), first)
        return
    decode = msgspec.json.Decoder(type_).decode
    for position, raw in enumerate(cast(Iterator[Raw], entries), first):
        try:
            yield position, decode(raw)
        except UNREADABLE:
            entry = _salvaged(raw, type_)
            if entry is None:
                ledger.count_defect("not_an_object", f"at position {position}", f"found {_start(raw)}")
            else:
                yield position, entry


def _unreadable(raw: Raw) -> Unreadable:
    text = _start(raw)
    return NON_FINITE if text.strip("-") == "1e999" else Unreadable(text)  # as `without_non_finite` writes them


def _start(raw: Raw) -> str:
    return bytes(memoryview(raw)[:_START_BYTES]).decode("utf-8", "replace")


class AnnotationKeys(msgspec.Struct):
    """The ids of an annotation and of its category."""

    id: _AnnotationId = None
    category_id: Scalar = None


def annotation_keys(list_: list[AnnotationEntry] | list[Raw]) -> Sequence[AnnotationEntry | AnnotationKeys]:
    """Return the ids of each annotation and of its category; `None` for one that cannot be read."""
    decode = msgspec.json.Decoder(AnnotationKeys).decode
    keys: list[Any] = []
    for entry in list_:
        if not isinstance(entry, Raw):  # then none of them is
            return [*list_]
        try:
            keys.append(decode(entry))
        except UNREADABLE:
            keys.append(_salvaged(entry, AnnotationEntry) or AnnotationKeys())
    return keys


def _salvaged(raw: Raw, type_: type[Entry]) -> Entry | None:
    """Return an entry of those fields that can be read; `None` for what is not an object."""
    try:
        fields = msgspec.json.decode(raw, type=dict[str, Raw])
    except UNREADABLE:
        return None
    entry: Any = type_()
    for field in msgspec.structs.fields(type_):
        if field.name in fields:
            try:
                value = msgspec.json.decode(fields[field.name], type=field.type)
            except UNREADABLE:
                is_scalar = field.type in (Scalar, Scalar | UnsetType)
                value = _unreadable(fields[field.name]) if is_scalar else field.default
            setattr(entry, field.name, value)
    found: Entry = entry
    return found


class _Region(msgspec.Struct, gc=False):
    image_id: int | str
    segmentation: Raw


def region_entries(raw: Raw, place: Path) -> list[tuple[int | str, Raw]]:
    """Return the image id and the segmentation of each ignored region, which the stage `download` wrote."""
    try:
        return [(one.image_id, one.segmentation) for one in msgspec.json.decode(raw, type=list[_Region])]
    except UNREADABLE as error:
        raise CocosegError(f"{place}: {REGIONS_KEY}: {error}; expected a list of image_id and segmentation") from None


def readable_or_null(raw: Raw) -> Raw:
    """Return a part of the file that nobody judges, or null if it cannot be read: later readers must not stumble."""
    try:
        msgspec.json.decode(raw)
    except UNREADABLE:
        return Raw(b"null")
    return raw
