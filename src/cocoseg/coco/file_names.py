"""File names, and names of classes, that come from a stranger's annotations."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import PurePosixPath

# Windows opens a device for these, whatever their extension.
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    f"{port}{number}" for port in ("com", "lpt") for number in "123456789¹²³"
}
# Control characters, lone surrogates, Unicode's own line ends, and what turns the direction of the text after it.
_CONTROLS = "\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_UNREADABLE = re.compile(f"[{_CONTROLS}]")
# What Windows forbids, too; of these a colon, as in a time of day, is common elsewhere.
_FORBIDDEN = re.compile(rf'[\\*?"<>|{":" if os.name == "nt" else ""}{_CONTROLS}]')
_DRIVE = re.compile("[A-Za-z]:")
# As most names are; no device's is as long.
_PLAIN = re.compile(r"[0-9A-Za-z_]{8,120}\.[0-9A-Za-z]{1,8}")
# COCO's own names end in the image's id: 000000000139.jpg, COCO_val2014_000000000042.jpg.
_NUMBERED = re.compile(r"(?:.*[^0-9])?([0-9]{1,15})\.[^.]+")
_LONGEST_BYTES = 1000  # a path may have 4,096 bytes, folders before and temporary names included
_LONGEST_LABEL = 100
_LONGEST_PART_BYTES = 200  # file systems allow 255; the rest is for a temporary name beside it


def is_safe(file_name: str) -> bool:
    """Return whether a `file_name` names a place below the image folder, on every system, in one line of text.

    Sub-folders, spaces and Unicode are fine, and a colon but on Windows; climbing, absolute paths, drives, device names
    and control characters are not.
    """
    if _PLAIN.fullmatch(file_name):
        return True
    parts = file_name.split("/")
    if len(file_name.encode("utf-8", "surrogatepass")) > _LONGEST_BYTES:
        return False
    if _FORBIDDEN.search(file_name) or _DRIVE.match(file_name):
        return False
    return all(
        part not in ("", ".", "..")
        and part[-1] not in ". "
        and part.partition(".")[0].strip().casefold() not in _DEVICES
        and len(part.encode("utf-8", "surrogatepass")) <= _LONGEST_PART_BYTES
        for part in parts
    )


def is_plain(text: str) -> bool:
    """Return whether a text, such as the name of a class, can stand in one line of a table, a picture or a message."""
    return 0 < len(text) <= _LONGEST_LABEL and not _UNREADABLE.search(text)


def same_name(file_name: str) -> str:
    """Return a key that is equal for names that are one file on macOS or Windows: case and code points aside."""
    return (file_name if file_name.isascii() else unicodedata.normalize("NFC", file_name)).casefold()


def mask_name(file_name: str) -> str:
    """Return the mask of an image, relative to the mask folder: the same name with the extension `.png`."""
    folder, slash, name = file_name.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0] or name}.png"


def clashes(
    file_names: Iterable[str], written: Callable[[str], Iterable[str]]
) -> Iterator[tuple[str, str, str | None]]:
    """Yield each image whose files clash with those of another image, that other image, and the file.

    First the images whose mask has the same name as another's; the file is `None`. Then those with a file among
    `written(file_name)` that has the name of a folder that another's mask needs.
    """
    owners: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in file_names:
        mask = mask_name(name)
        if (key := same_name(mask)) in owners:
            yield name, owners[key], None
            continue
        owners[key] = name
        if "/" in mask:
            folders |= {same_name(str(parent)): name for parent in PurePosixPath(mask).parents}
    for name in owners.values() if folders else ():
        file = next((file for file in written(name) if same_name(file) in folders), None)
        if file is not None:
            yield name, folders[same_name(file)], file


def own_numbers(names: Sequence[str]) -> list[int | None]:
    """Return the number that each file name ends in, as COCO's do; `None` for a name without one, or one it shares."""
    found = [_NUMBERED.fullmatch(name) for name in names]
    numbers = [int(number[1]) if number else None for number in found]
    shared = Counter(numbers)
    return [number if shared[number] == 1 else None for number in numbers]
