"""What is unambiguous in an entry is brought into COCO's form, and counted as converted; nothing is guessed.

Ids may be integers, integral floats, numbers in quotes, or any text. A text becomes a number that depends on nothing
but the text, so that selection and split do not change when other images come or go.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, cast
from urllib.parse import unquote, urlsplit

import msgspec

from cocoseg.coco.file_names import is_plain, is_safe
from cocoseg.coco.format import Category, Image
from cocoseg.core.errors import CocosegError
from cocoseg.filter.entries import AnnotationEntry, AnnotationKeys, CategoryEntry, ImageEntry, Ledger, Scalar

LONGEST_SIDE_PX = 65_500  # JPEG's own limit
_LARGEST_ID = 2**62  # a larger number is taken as a text: the file that is written holds 64 bits
_WHOLE = re.compile(r"-?\d{1,15}")
_CROWD: dict[Scalar, int] = {0: 0, 1: 1, None: 0, "0": 0, "1": 1}  # False, True, 0.0 and 1.0 are equal to 0 and 1

Key = int | str | None
"""An id as it is meant: a number, a text, or none."""


def key_of(id_: Scalar) -> Key:
    """Return the number or text that an id means; `None` for one that is missing or cannot be an id."""
    if type(id_) is int and -_LARGEST_ID < id_ < _LARGEST_ID:
        return id_
    if isinstance(id_, str):
        text = id_.strip()
        return int(text) if _WHOLE.fullmatch(text) else text or None
    if isinstance(id_, bool) or id_ is None or (isinstance(id_, float) and not id_.is_integer()):
        return None
    number = int(id_)
    return number if isinstance(id_, float) and -_LARGEST_ID < number < _LARGEST_ID else f"{number}"


def number_of(key: int | str) -> int:
    """Return the number that stands for an id: itself, or of a text 52 bits of its hash, which JSON keeps exactly."""
    if isinstance(key, int):
        return key
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 12


class Numbers(dict[Key, int]):
    """The number behind each key of a list of images or categories."""

    def of(self, id_: Scalar, noun: str, ledger: Ledger) -> int | None:
        """Return the number behind an id in another form than a whole number; `None` if nothing bears that id."""
        found = self.get(key_of(id_))
        if found is not None:
            ledger.converted[noun] += 1
        return found


class TidyImages(NamedTuple):
    """The images that can be used, and the number behind each id of the file."""

    images: list[Image]
    numbers: Numbers
    defective: dict[Key, str]
    """Why the image of an id went."""


def tidy_images(entries: Iterable[tuple[int, ImageEntry]], prefix: str, ledger: Ledger, place: Path) -> TidyImages:
    """Return the images in COCO's form. `prefix`: the folder or URL that file names may begin with.

    An image that is listed twice is one. Raises `CocosegError` for one id with two files.
    """
    names = FileNames(prefix)
    images: dict[str, Image] = {}
    found = TidyImages([], Numbers(), {})
    name_of_key: dict[Key, str] = {}
    for position, entry in entries:
        key = key_of(entry.id)
        image, reason = _tidy_image(entry, key, names, ledger)
        if image is None:
            ledger.count_defect(reason, f"at position {position}", _shown(entry, reason))
            if key is not None:
                found.defective.setdefault(key, reason)
            continue
        first = images.get(image.file_name)
        if name_of_key.setdefault(key, image.file_name) != image.file_name:
            raise CocosegError(
                f"{place}: two images have the id {entry.id!r}: {name_of_key[key]} and {image.file_name}; give each an "
                "id of its own, in the annotations too"
            )
        if first is not None:
            if (first.width, first.height) != (image.width, image.height):
                raise CocosegError(
                    f"{place}: two images have the file_name {image.file_name!r}, of {first.width}×{first.height} and "
                    f"{image.width}×{image.height} pixels; give each a name of its own, such as with its folder"
                )
            ledger.dropped["listed_twice"] += 1
            found.numbers[key] = first.id
            continue
        images[image.file_name] = image
        found.numbers[key] = image.id
        found.images.append(image)
    _refuse_shared_numbers(found.images, place)
    return found


class FileNames:
    """How file names of the annotations lead to names below the image folder."""

    def __init__(self, prefix: str) -> None:
        folder = prefix.removeprefix("file://").removeprefix("local://")
        is_url = "://" in folder
        self._prefix = f"{(folder if is_url else Path(folder).expanduser().absolute().as_posix()).rstrip('/')}/"
        self._folder = self._prefix[:-1].rpartition("/")[2]

    def tidy(self, name: str) -> str:
        """Return a file name relative to the image folder; one that leads elsewhere is no safe name afterwards."""
        name = name.replace("\\", "/")
        if name.startswith("file:///"):
            name = unquote(name.removeprefix("file://"))
        if name.startswith(self._prefix):
            rest = name.removeprefix(self._prefix)
            name = unquote(rest) if "://" in name else rest
        elif "://" in name or name.startswith("/"):
            return name
        return "/".join(part for part in name.split("/") if part not in ("", "."))

    def from_url(self, url: str) -> str:
        """Return the name of an image that only `coco_url` tells, as in LVIS: below the folder of its split.

        The split's folder is left out where it is the image folder itself.
        """
        folder, _, name = unquote(urlsplit(url).path).strip("/").rpartition("/")
        split = folder.rpartition("/")[2]
        return name if not split or split == self._folder else f"{split}/{name}"


def _tidy_image(entry: ImageEntry, key: Key, names: FileNames, ledger: Ledger) -> tuple[Image | None, str]:
    """Return the image, or why there is none."""
    if key is None:
        return None, "bad_id"
    name = entry.file_name if isinstance(entry.file_name, str) else ""
    if not name and isinstance(entry.coco_url, str):
        try:
            name = names.from_url(entry.coco_url)
        except ValueError:  # such as http://[
            name = ""
        ledger.converted["name_from_coco_url"] += bool(name)
    if not name:
        return None, "bad_file_name"
    tidy = name
    if not is_safe(name):
        tidy = names.tidy(name)
        if not is_safe(tidy):
            return None, "unsafe_file_name"
    width, height = _side(entry.width), _side(entry.height)
    if width == -1 or height == -1:
        return None, "bad_size"
    if width is None or height is None:
        width = height = None
        ledger.converted["size_from_image"] += 1
    elif type(entry.width) is not int or type(entry.height) is not int:
        ledger.converted["size"] += 1
    if type(entry.id) is not int:
        ledger.converted["id"] += 1
    if tidy != name:
        ledger.converted["file_name"] += 1
    image = Image(
        id=number_of(key),
        file_name=tidy,
        width=width,
        height=height,
        license=entry.license,
        coco_url=entry.coco_url,
        flickr_url=entry.flickr_url,
        date_captured=entry.date_captured,
    )
    if isinstance(key, str):
        image.original_id = key
    return image, ""


def _side(value: Scalar) -> int | None:
    """Return a side in pixels; `None` where the image has to tell it, and -1 for what no image has."""
    if type(value) is int:
        return value if 0 < value <= LONGEST_SIDE_PX else -1
    if value is None:
        return None
    if isinstance(value, str):
        value = int(value) if _WHOLE.fullmatch(value.strip()) else -1
    if isinstance(value, bool) or not 0 < value <= LONGEST_SIDE_PX:
        return -1
    return int(value) if value == int(value) else None


def _refuse_shared_numbers(images: Sequence[Image], place: Path) -> None:
    if len({image.id for image in images}) == len(images):
        return
    seen: dict[int, Image] = {}
    for image in images:
        other = seen.setdefault(image.id, image)
        if other is not image:  # the hash of a text is another image's number: once in many billions
            raise CocosegError(f"{place}: ids {other.original_id!r} and {image.original_id!r} meet; rename one of them")


def _shown(entry: ImageEntry, reason: str) -> str:
    """Return the first offending value of an image, in words."""
    match reason:
        case "bad_id":
            return f"id is {entry.id!r}"
        case "bad_size":
            return f"width is {entry.width!r}, height is {entry.height!r}"
        case "unsafe_file_name":
            return f"file_name {entry.file_name!r} leaves the folder images or is not a valid name"
        case _:
            return f"file_name is {entry.file_name!r}"


class UsedCategories:
    """The categories that annotations name, looked for only where it matters."""

    def __init__(self, annotations: Iterable[AnnotationEntry | AnnotationKeys]) -> None:
        self._annotations = annotations
        self._keys: set[Key] | None = None

    def __contains__(self, key: object) -> bool:
        if self._keys is None:
            self._keys = {key_of(id_) for id_ in {one.category_id for one in self._annotations}}
        return key in self._keys


def tidy_categories(
    entries: Iterable[tuple[int, CategoryEntry]], used: Container[Key], ledger: Ledger, place: Path
) -> tuple[list[Category], Numbers, dict[Key, str]]:
    """Return the categories in COCO's form, the number behind each id, and why the category of an id went.

    `used`: the ids that annotations name. A category that nothing uses goes where it shares its name with another.
    Raises `CocosegError` for two categories of one id, or two used ones of one name.
    """
    numbers, defective = Numbers(), dict[Key, str]()
    listed: dict[Key, Category] = {}
    for position, entry in entries:
        key = key_of(entry.id)
        name = entry.name if isinstance(entry.name, str) else "" if entry.name is None else f"{entry.name}"
        if key is None or isinstance(entry.name, bool) or not is_plain(name):
            reason = "bad_id" if key is None else "bad_name"
            ledger.count_defect(reason, f"at position {position}", f"id is {entry.id!r}, name is {entry.name!r}"[:200])
            if key is not None:
                defective.setdefault(key, reason)
            continue
        known = listed.setdefault(key, Category(id=0, name=name, supercategory=entry.supercategory))
        if known.name != name or known.supercategory != entry.supercategory:
            raise CocosegError(f"{place}: two categories have the id {entry.id}; give each an id of its own")
        if key in numbers:  # the same one twice is harmless
            ledger.dropped["listed_twice"] += 1
            continue
        numbers[key] = 0
        ledger.converted["id"] += type(entry.id) is not int
        ledger.converted["name"] += not isinstance(entry.name, str)
    _number(listed, numbers)
    return _of_distinct_names(listed, numbers, used, ledger, place), numbers, defective


def _number(listed: dict[Key, Category], numbers: Numbers) -> None:
    """Give each category its number: its own, or after all of those, in the order of the file, for a text."""
    following = max([key for key in listed if isinstance(key, int)], default=0)
    for key, category in listed.items():
        if not isinstance(key, int):
            following += 1
        category.id = numbers[key] = key if isinstance(key, int) else following


def _of_distinct_names(
    listed: dict[Key, Category], numbers: Numbers, used: Container[Key], ledger: Ledger, place: Path
) -> list[Category]:
    shared = Counter(category.name for category in listed.values())
    kept: dict[str, Category] = {}
    for key, category in listed.items():
        if shared[category.name] > 1 and key not in used:
            shared[category.name] -= 1
            ledger.dropped["unused_of_shared_name"] += 1
            del numbers[key]
        elif category.name in kept:
            raise CocosegError(f"{place}: two categories are named {category.name!r}; give each a name of its own")
        else:
            kept[category.name] = category
    return list(kept.values())


def tidy_crowd(value: Scalar) -> int | None:
    """Return 0 or 1; `None` for what is neither. A boolean, null, a float and a number in quotes are clear."""
    return _CROWD.get(value)


def duplicate_keys(keys: Iterable[Key]) -> set[Key]:
    """Return the keys that come more than once."""
    seen: set[Key] = set()
    add = seen.add
    return {key for key in keys if key in seen or add(key)}


class AnnotationIds:
    """Give each annotation an id of its own, for a mask needs none; find those that are identical in every field."""

    def __init__(self, ids: Sequence[Scalar]) -> None:
        unique = {*ids}
        largest = max(cast(set[int], unique)) if {*map(type, unique)} == {int} else _LARGEST_ID
        self.sound = len(unique) == len(ids) and largest < _LARGEST_ID
        """All are whole numbers that can be written, and no two are equal."""
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
