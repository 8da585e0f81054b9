"""COCO's instances format, as it is on disk. https://cocodataset.org/#format-data"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from cocoseg.core.errors import did_you_mean
from cocoseg.core.files import Mapped

REGIONS_KEY = "cocoseg_ignored_regions"
"""Of our own files: a key that no other tool writes, and that a user's file does not have by chance."""
_FIRST_ENTRY_BYTES = 2**16
_READ_KEYS = {
    "images": {"id", "file_name", "width", "height", "license", "coco_url"},
    "annotations": {"image_id", "category_id", "iscrowd", "ignore", "area", "bbox", "segmentation"},
    "categories": {"id", "name"},
}
Box = tuple[float, float, float, float]
"""Left, top, width and height in pixels, as in `bbox`."""
_PIECE = 1_000  # annotations; a piece of megabytes costs fresh memory each time


class Image(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One image; sizes in pixels, `None` where only the image file tells them.

    The optional fields hold what the file has: exporters differ in their types. `original_id` is an id that is a text.
    """

    id: int
    file_name: str
    width: int | None = None
    height: int | None = None
    license: Any = None
    coco_url: Any = None
    flickr_url: Any = None
    date_captured: Any = None
    original_id: str | None = None

    def sides(self) -> tuple[int, int]:
        """Return height and width in pixels, once the image file has told them if the annotations do not."""
        assert self.height is not None
        assert self.width is not None
        return self.height, self.width


class Annotation(msgspec.Struct, kw_only=True, gc=False):
    """One object, or with `iscrowd` 1 a group of them. What `filter` need not read stays as it is in the file."""

    id: int
    image_id: int
    category_id: int
    iscrowd: int = 0
    area: Raw | UnsetType = UNSET
    bbox: Raw | UnsetType = UNSET
    segmentation: Raw | UnsetType = UNSET


class Category(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One category. Ids are not contiguous: COCO's 80 run from 1 to 90."""

    id: int
    name: str
    supercategory: Any = None


class LostObject(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """An object whose annotation is broken: it is there, and nobody can say what it paints.

    `bbox` as in the file; `reason`: what is broken.
    """

    image_id: int
    reason: str
    bbox: Raw | UnsetType = UNSET


class IgnoredRegion(msgspec.Struct, kw_only=True, frozen=True, gc=False):
    """A region of an image where nobody says what there is: 255 where no annotation paints. `segmentation`: RLE."""

    image_id: int
    segmentation: Raw


class Instances(msgspec.Struct, kw_only=True):
    """A whole annotations file, the objects that were lost on the way to it, and regions that are ignored."""

    info: Raw = Raw(b"null")
    licenses: Raw = Raw(b"null")
    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]
    lost: list[LostObject] = []
    ignored_regions: list[IgnoredRegion] = msgspec.field(default_factory=list, name=REGIONS_KEY)


def encoded(instances: Instances) -> Iterator[bytes]:
    """Yield the JSON of an annotations file in pieces: its hundreds of megabytes are never in memory at once."""
    encode = msgspec.json.encode
    yield b'{"info":%b,"licenses":%b,' % (encode(instances.info), encode(instances.licenses))
    yield b'"images":%b,"annotations":[' % encode(instances.images)
    for start in range(0, len(instances.annotations), _PIECE):
        piece = encode(instances.annotations[start : start + _PIECE])
        yield b"," * bool(start) + piece[1:-1]
    yield b'],"categories":%b,"lost":%b,' % (encode(instances.categories), encode(instances.lost))
    yield b'"%b":%b}' % (REGIONS_KEY.encode(), encode(instances.ignored_regions))


def misnamed_keys(lists: Mapping[str, Raw]) -> list[str]:
    """Return, in words, each key in the first entry of a list that is not COCO's but close to one that is not there."""
    found = []
    for name, read in _READ_KEYS.items():
        text = bytes(memoryview(lists.get(name, b""))[:_FIRST_ENTRY_BYTES]).decode("utf-8", "ignore")
        try:
            keys = set(json.JSONDecoder().raw_decode(text, text.index("{"))[0])
        except (ValueError, RecursionError):  # there is none, or it is long
            continue
        hints = ((key, did_you_mean(key, sorted(read - keys), "")) for key in sorted(keys - read))
        found += [f"the first of '{name}' has the key {key!r}: {hint}" for key, hint in hints if hint]
    return found


# What msgspec raises for an entry that is not of its type, or holds bytes that are no text.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
# A string, or a word that Python's json writes for what JSON has no number for. Strings are matched to be passed over,
# also one that the end of a file cuts off: each byte is looked at once, whatever the file holds.
_STRING_OR_NON_FINITE = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\Z)?+|NaN|Infinity', re.DOTALL)


def without_non_finite(raw: Mapped) -> bytes:
    """Return the JSON with a number beyond all floats in place of NaN and Infinity, which Python writes."""

    def finite(match: re.Match[bytes]) -> bytes:
        found = match[0]
        return found if found.startswith(b'"') else b"1e999"

    return _STRING_OR_NON_FINITE.sub(finite, raw)
