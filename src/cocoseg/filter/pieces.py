"""An annotations file whose annotations are read piece by piece, so that most of them are never in memory together.

A piece is read where it lies: the brackets that make a list of it are written over its neighbors for that time. The
places to cut at are guesses, and need no proof: if all pieces are JSON, so is the file, and of the same content.
"""

import mmap
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from cocoseg.coco.format import REGIONS_KEY, UNREADABLE
from cocoseg.core.files import Mapped, release
from cocoseg.filter.entries import AnnotationEntry, CategoryEntry, Entries, ImageEntry, PlainEntry, PlainImage

PIECE_BYTES = 2**17
"""About the size of a piece, which stays in a core's cache until it is judged."""
_RELEASED_PIECES = 256
_START = re.compile(rb'"annotations"\s*+:\s*+\[')
_BORDER = re.compile(rb"\}\s*+(,)\s*+\{")
_REST = "cocoseg_end"
T = TypeVar("T")
AnyImage = TypeVar("AnyImage", PlainImage, ImageEntry)


class NotInPieces(Exception):
    """The file has to be read as a whole."""


class _Ends(msgspec.Struct, Generic[AnyImage]):
    """What comes before and after the annotations, and the last piece of these."""

    rest: list[AnnotationEntry] = msgspec.field(default_factory=list, name=_REST)
    images: list[AnyImage] | UnsetType = UNSET
    annotations: list[Raw] | UnsetType = UNSET
    categories: list[CategoryEntry] | UnsetType = UNSET
    info: Raw | UnsetType = UNSET
    licenses: Raw | UnsetType = UNSET
    ignored_regions: Raw | UnsetType = msgspec.field(default=UNSET, name=REGIONS_KEY)


def entries_in_pieces(raw: Mapped) -> Entries:
    """Return the lists of an annotations file whose ids are whole numbers, no two of them equal.

    Raises `NotInPieces` for any other file, also while the annotations are read.
    """
    start = None if isinstance(raw, bytes) else _START.search(raw)
    if isinstance(raw, bytes) or not start:
        raise NotInPieces
    # The last of them is a part of the list: nothing after it has this key.
    borders = [start.end() - 1, *_borders(raw, start.end(), raw.rfind(b'"category_id"'))]
    before = _end(raw, 0, start.end(), b"", b"]}")
    after = _end(raw, borders[-1] + 1, len(raw), f'{{"{_REST}":['.encode(), b"")
    if after.annotations is not UNSET:
        raise NotInPieces
    ends = {
        name: value
        for end in (before, after)
        for name, value in msgspec.structs.asdict(end).items()
        if name not in ("rest", "annotations") and value is not UNSET
    }
    if not ends.keys() >= {"images", "categories"}:
        raise NotInPieces
    return Entries(annotations=_pieces(raw, borders, after.rest), keys=None, **ends)


def _end(raw: mmap.mmap, start: int, end: int, before: bytes, after: bytes) -> _Ends[Any]:
    try:
        return _read(raw, start, end, before, after, _Ends[PlainImage])
    except NotInPieces:
        return _read(raw, start, end, before, after, _Ends[ImageEntry])


def _borders(raw: mmap.mmap, start: int, end: int) -> Iterator[int]:
    while (found := _BORDER.search(raw, start + PIECE_BYTES)) and found.start() < end:
        start = found.start(1)
        yield start


def _pieces(raw: mmap.mmap, borders: list[int], rest: list[AnnotationEntry]) -> Iterator[list[AnnotationEntry]]:
    ids: set[object] = set()
    entries = 0
    for number, (start, end) in enumerate(pairwise([*borders, 0])):
        piece = _piece(raw, start + 1, end) if end else rest
        own = [entry.id for entry in piece]
        ids.update(own)
        entries += len(own)
        if len(ids) < entries or not ({*map(type, piece[:1])} == {PlainEntry} or {*map(type, own)} <= {int}):
            raise NotInPieces
        yield piece
        if number % _RELEASED_PIECES == 0:
            release(raw)


def _piece(raw: mmap.mmap, start: int, end: int) -> list[Any]:
    try:
        return _read(raw, start, end, b"[", b"]", list[PlainEntry])
    except NotInPieces:
        return _read(raw, start, end, b"[", b"]", list[AnnotationEntry])


def _read(raw: mmap.mmap, start: int, end: int, before: bytes, after: bytes, type_: type[T]) -> T:
    """Return the content of the bytes from `start` to `end` with those of `before` and `after` around them."""
    first, last = start - len(before), end + len(after)
    covered = raw[first:start], raw[end:last]
    try:
        raw[first:start], raw[end:last] = before, after
        return msgspec.json.decode(memoryview(raw)[first:last], type=type_)
    except (*UNREADABLE, IndexError):
        raise NotInPieces from None
    finally:
        raw[first:start], raw[end:last] = covered
