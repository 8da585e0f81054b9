"""What is unambiguous in an entry is brought into COCO's form, and counted as converted; nothing is guessed."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PureWindowsPath
from typing import NamedTuple, cast
from urllib.parse import unquote, urlsplit

from cocoseg.coco.file_names import is_safe
from cocoseg.coco.format import Image
from cocoseg.core.errors import CocosegError
from cocoseg.core.redaction import without_secrets
from cocoseg.filter.entries import LONGEST_SIDE_PX, NON_FINITE, ImageEntry, Ledger, PlainImage, Scalar, found
from cocoseg.filter.ids import Key, Numbers, key_of, number_of

_DECIMAL = re.compile(r"[0-9]{1,15}(\.[0-9]*)?")
# False, True, 0.0 and 1.0 are equal to 0 and 1.
_CROWD: dict[Scalar, int] = {0: 0, 1: 1, None: 0, "0": 0, "1": 1, "0.0": 0, "1.0": 1, "false": 0, "true": 1}


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
            ledger.count_defect(reason, _named(entry, position), _shown(entry, reason))
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
            if first.width is None:
                first.width, first.height = image.width, image.height
            elif image.width is not None and (first.width, first.height) != (image.width, image.height):
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


def plain_images(images: Sequence[object]) -> TidyImages | None:
    """Return images as `tidy_images` does if nothing has to be converted or refused, else `None`."""
    plain = [image for image in images if isinstance(image, PlainImage)]
    names, ids = [image.file_name for image in plain], [image.id for image in plain]
    if len({*names}) < len(images) or len({*ids}) < len(images) or not all(map(is_safe, names)):
        return None
    return TidyImages(cast(list[Image], plain), Numbers(zip(ids, ids, strict=True)), {})


class FileNames:
    """How file names of the annotations lead to names below the image folder."""

    def __init__(self, prefix: str) -> None:
        folder = prefix.removeprefix("file://").removeprefix("local://")
        if "://" not in folder:
            folder = Path(folder).expanduser().as_posix()
        # Not resolved against the current folder, which is another one in a queued run and in a colleague's clone.
        self._is_relative = "://" not in folder and not PurePath(folder).is_absolute()
        if self._is_relative:
            folder = "".join(f"/{part}" for part in folder.split("/") if part not in ("", ".", ".."))
        self._prefix = f"{folder.rstrip('/')}/"
        self._folder = self._prefix[:-1].rpartition("/")[2]

    def tidy(self, name: str) -> str:
        """Return a file name relative to the image folder; one that leads elsewhere is no safe name afterwards."""
        name = name.strip("\r\n").replace("\\", "/")
        if name.startswith("file:///"):
            name = unquote(name.removeprefix("file://"))
        rest = self._rest(name)
        if rest is not None:
            name = unquote(rest) if "://" in name else rest
        elif "://" in name or name.startswith("/"):
            return name
        return "/".join(part for part in name.split("/") if part not in ("", "."))

    def _rest(self, name: str) -> str | None:
        """Return what follows the image folder in a name; `None` where it is not there, or may begin twice."""
        if not self._is_relative:
            return name.removeprefix(self._prefix) if name.startswith(self._prefix) else None
        rest = name.partition(self._prefix)[2]
        is_absolute = name.startswith("/") or PureWindowsPath(name).is_absolute()
        return rest if is_absolute and rest and self._prefix not in f"/{rest}" else None

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
    name = _name_of(entry, names, ledger)
    if not name:
        return None, "bad_file_name"
    tidy = name
    if not is_safe(name) and not is_safe(tidy := names.tidy(name)):
        return None, "unsafe_file_name"
    size = _size_of(entry, ledger)
    if size is None:
        return None, "bad_size"
    if type(entry.id) is not int:
        ledger.converted["id"] += 1
    if tidy != name:
        ledger.converted["file_name"] += 1
    license_ = entry.license
    if type(license_) is not int and isinstance(number := key_of(license_), int):
        license_ = number
        ledger.converted["license"] += 1
    image = Image(
        id=number_of(key),
        file_name=tidy,
        width=size[0],
        height=size[1],
        license=license_,
        coco_url=entry.coco_url,
        flickr_url=entry.flickr_url,
        date_captured=entry.date_captured,
    )
    if isinstance(key, str):
        image.original_id = key
    return image, ""


def _name_of(entry: ImageEntry, names: FileNames, ledger: Ledger) -> str:
    """Return the file name as the file has it, or of `coco_url`; nothing if there is none."""
    name = entry.file_name if isinstance(entry.file_name, str) else ""
    if not name and isinstance(entry.coco_url, str) and "://" in entry.coco_url:  # V7 writes n/a
        try:
            name = names.from_url(entry.coco_url)
        except ValueError:  # such as http://[
            name = ""
        ledger.converted["name_from_coco_url"] += bool(name)
    return name


def _size_of(entry: ImageEntry, ledger: Ledger) -> tuple[int | None, int | None] | None:
    """Return width and height, both `None` where the image has to tell them; `None` for what no image has."""
    width, height = entry.width, entry.height
    if type(width) is int and type(height) is int:
        return (width, height) if 0 < width <= LONGEST_SIDE_PX and 0 < height <= LONGEST_SIDE_PX else None
    sides = _side(width), _side(height)
    if -1 in sides:
        return None
    if None in sides:
        ledger.converted["size_from_image"] += 1
        return None, None
    ledger.converted["size"] += 1
    return sides


def _side(value: Scalar) -> int | None:
    """Return a side in pixels; `None` where the image has to tell it, and -1 for what no image has."""
    if type(value) is int:
        return value if 0 < value <= LONGEST_SIDE_PX else -1
    if value in (None, "", NON_FINITE):  # as pandas and CSV say that there is none
        return None
    if isinstance(value, str) and _DECIMAL.fullmatch(value.strip()):
        value = float(value)
    if not isinstance(value, float) or not 0 < value <= LONGEST_SIDE_PX:
        return -1
    return int(value) if value.is_integer() else None


def _refuse_shared_numbers(images: Sequence[Image], place: Path) -> None:
    if len({image.id for image in images}) == len(images):
        return
    seen: dict[int, Image] = {}
    for image in images:
        other = seen.setdefault(image.id, image)
        if other is not image:  # the hash of a text is another image's number: once in many billions
            raise CocosegError(f"{place}: ids {other.original_id!r} and {image.original_id!r} meet; rename one of them")


def _named(entry: ImageEntry, position: int) -> str:
    name = entry.file_name
    return name if isinstance(name, str) and is_safe(name) else f"at position {position}"


def _shown(entry: ImageEntry, reason: str) -> str:
    """Return the first offending value of an image, in words."""
    name = entry.file_name
    if isinstance(name, str) and "://" in name:
        name = without_secrets(name)
    match reason:
        case "bad_id":
            return found("id", entry.id)
        case "bad_size":
            return f"{found('width', entry.width)}, {found('height', entry.height)}"
        case "unsafe_file_name":
            return f"file_name {name!r} leaves the folder images or is not a valid name"
        case _:
            return found("file_name", name)


def tidy_crowd(value: Scalar) -> int | None:
    """Return 0 or 1; `None` for what is neither. A boolean, null, a float and one of these in quotes are clear."""
    found = _CROWD.get(value)
    return _CROWD.get(value.strip().lower()) if found is None and isinstance(value, str) else found
