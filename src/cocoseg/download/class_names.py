"""The names of the values of label maps, from the file beside them: `classes.json` or `classes.txt`."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cocoseg.coco.categories import BACKGROUND, IGNORE
from cocoseg.coco.file_names import is_plain
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_regular

CLASSES = ("classes.json", "classes.txt")
_FORM = 'expected {"1": "person", "2": "car"}'
_LINES = "expected lines such as: 1 person"
_MOST_CLASSES_BYTES = 2**20
_BACKGROUNDS = {"background", "bg"}
_IGNORED = {"ignore", "ignored", "void", "unlabeled", "unlabelled", "border", "boundary", "unknown"}
_INDEXED = re.compile(r"\s*(\d{1,3})\s*[:,;=\s]\s*(\S.*)")


def read_classes(folder: Path, held: str) -> tuple[str, dict[int, str]]:
    """Return which file names the classes, and the name of each class index.

    `held`: what the folder is, in words, for the error if it has no such file. Raises `CocosegError`.
    """
    there = [name for name in CLASSES if (folder / name).exists()]
    if not there:
        raise CocosegError(f"{folder}: {held}, without classes.json; {_FORM} in it, or a COCO instances JSON")
    path = folder / there[0]
    if len(there) > 1:
        raise CocosegError(f"{path}: {CLASSES[1]} is there too; keep one of them")
    try:
        text = read_regular(path, _MOST_CLASSES_BYTES).decode("utf-8-sig")
        names = _names_in_json(text) if path.suffix == ".json" else _names_in_lines(text)
    except UnicodeDecodeError:
        raise CocosegError(f"{path}: is not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise CocosegError(f"{path}: {error.strerror}; fix that") from None
    except (ValueError, RecursionError) as error:
        raise CocosegError(f"{path}: {error}") from None
    return path.name, names


def _names_in_json(text: str) -> dict[int, str]:
    try:
        content = json.loads(text, object_pairs_hook=lambda pairs: tuple(pairs))
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}; {_FORM}") from None
    if isinstance(content, list):
        # Objects are tuples of pairs here; those of COCO's own list have an id and a name.
        entries = [dict(one) if isinstance(one, tuple) else {} for one in content]
        if all(type(one.get("id")) is int and "name" in one for one in entries):
            return _checked_names([(one["id"], one["name"]) for one in entries], _FORM)
        return _checked_names(list(enumerate(content)), _FORM)
    if not isinstance(content, tuple):
        raise ValueError(f"is not an object; {_FORM}")
    if all(re.fullmatch(r"\d{1,3}", key) for key, _ in content):
        return _checked_names([(int(key), name) for key, name in content], _FORM)
    if all(type(index) is int for _, index in content):  # the other way round
        return _checked_names([(index, name) for name, index in content], _FORM)
    key, value = next(pair for pair in content if not re.fullmatch(r"\d{1,3}", pair[0]))
    raise ValueError(f"holds {key!r}: {str(value)[:40]!r}; {_FORM}")


def _names_in_lines(text: str) -> dict[int, str]:
    lines = [line.strip() for line in text.rstrip().splitlines()]
    indexed = [_INDEXED.fullmatch(line) for line in lines if line]
    if all(indexed):
        return _checked_names([(int(one[1]), one[2].strip()) for one in indexed if one], _LINES)
    if _plain(lines[0]) not in _BACKGROUNDS:
        # Line 1 may stand for 0 or for 1: a guess would give every pixel another class.
        raise ValueError(f"its first line is {lines[0]!r}; expected 'background', which is 0, or {_LINES[9:]}")
    return _checked_names(list(enumerate(lines)), _LINES)


def _checked_names(pairs: Sequence[tuple[int, Any]], form: str) -> dict[int, str]:
    """Return the names of indices 1 to 254. Raises `ValueError`."""
    names: dict[int, str] = {}
    for index, value in pairs:
        name = f"{value}" if isinstance(value, int) and not isinstance(value, bool) else value
        if not isinstance(name, str) or not is_plain(name):
            raise ValueError(f"the name of {index} is {name!r}; {form}")
        if not BACKGROUND <= index <= IGNORE:
            raise ValueError(f"names the index {index}; expected 1 to 254")
        if index in names:
            raise ValueError(f"names {index} twice, {names[index]!r} and {name!r}; {form}")
        if name in names.values():
            raise ValueError(f"gives two values the name {name!r}; give each a name of its own")
        names[index] = name
    for index, meaning, known in ((BACKGROUND, "background", _BACKGROUNDS), (IGNORE, "ignored", _IGNORED)):
        name = names.pop(index, meaning)
        if _plain(name) not in known:
            raise ValueError(
                f"calls {index} {name!r}, but {index} is {meaning}; give that class another value, 1 to 254, in the "
                f"label maps too, or call {index} {meaning!r}"
            )
    if not names:
        raise ValueError(f"names no class; {form}")
    return names


def _plain(name: str) -> str:
    return name.strip("_ ").casefold()
