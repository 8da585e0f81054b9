"""Change trees of values, bytes and image files a little, as damage, tools and strangers do."""

import copy
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import suppress
from random import Random
from typing import Any

Path = tuple[Any, ...]

_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 2, 7, 255, 2**31, 2**53 + 1, 2**63, 10**30, -(2**63), 0.5, -0.0, 1e300, math.nan),
    *(math.inf, "", " ", "0", "1", "1.0", "001", "x", "cat", "a/b.png", "../x", "/etc/passwd", "a\nb", "\0", "é"),
    *("e\u0301", "x" * 300, "NaN", "b'abc'", "2026-11-29", [], [None], [[]], [[[]]], {}, {"a": 1}, [1] * 500),
    *([[0, 0, 4, 0, 4, 4, 0, 4]], [0, 0, 4, 0, 4, 4], {"size": [16, 24], "counts": [384]}),
    *({"size": [16, 24], "counts": "PPYo0"}, {"size": [4, 4], "counts": [8, 8]}),
]


def places(tree: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of every value in a tree of objects and lists."""
    yield path
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        yield from places(value, (*path, key))


def value_at(tree: Any, path: Path) -> Any:
    """Return the value at a path in a tree."""
    for key in path:
        tree = tree[key]
    return tree


def mutated_tree(tree: Any, chance: Random, within: Path = ()) -> tuple[Any, str]:
    """Return a copy of a tree with one to three of the values `within` a path changed, and where."""
    tree, changed = copy.deepcopy(tree), []
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        inside = [path for path in places(tree) if len(path) > len(within) and path[: len(within)] == within]
        if not inside:
            break
        # Most places lie deep, and each of the few near the top should have its turn.
        path = min(chance.sample(inside, min(2, len(inside))), key=len)
        _mutate(value_at(tree, path[:-1]), path[-1], value_at(tree, chance.choice(inside)), chance)
        changed.append(".".join(map(str, path)))
    return tree, " ".join(changed)


def _mutate(holder: Any, key: Any, other: Any, chance: Random) -> None:
    match chance.randrange(8):
        case 0:
            del holder[key]
        case 1 if isinstance(holder, list):
            holder.insert(chance.randrange(len(holder) + 1), copy.deepcopy(holder[key]))
        case 2 if isinstance(holder, dict):
            holder[chance.choice(("", "a", "id", f"{key}x"))] = holder.pop(key)
        case 3:
            holder[key] = [holder[key]]
        case 4:
            holder[key] = copy.deepcopy(other)
        case 5 | 6:
            holder[key] = _near(holder[key], chance)
        case _:
            holder[key] = copy.deepcopy(chance.choice(_VALUES))


def _near(value: Any, chance: Random) -> Any:
    """Return a value that somebody could have written in place of this one."""
    if isinstance(value, str):
        return chance.choice((value.upper(), f"{value} ", value[: len(value) // 2], value * 2, value[::-1]))
    if isinstance(value, int | float):
        with suppress(OverflowError):
            near = (value + 1, value - 1, -value, value * 1000, float(value), str(value), value + 0.5, value / 3)
            return chance.choice(near)
    return str(value)


def mutated_bytes(data: bytes, chance: Random) -> tuple[bytes, str]:
    """Return bytes that are cut off, or a part of them in another way changed, and how."""
    start = chance.randrange(len(data)) if data else 0
    stop = min(len(data), start + chance.choice((1, 2, 8, 100)))
    part = data[start:stop]
    new = {
        "cut": b"",
        "flipped": bytes([part[0] ^ 1 << chance.randrange(8)]) + part[1:] if part else b"\0",
        "removed": b"",
        "repeated": part * chance.choice((2, 50)),
        "inserted": part + chance.randbytes(chance.choice((1, 4, 50))),
        "zeroed": bytes(len(part)),
    }
    kind = chance.choice(list(new))
    return data[:start] + new[kind] + (b"" if kind == "cut" else data[stop:]), kind


def mutated_image(data: bytes, chance: Random) -> tuple[bytes, str]:
    """Return an image file with a part changed, removed, repeated, moved or added, and which of these.

    A part is a chunk of PNG, a segment of JPEG, a header; the checksums of PNG are mostly right afterwards.
    """
    kind = chance.choice(("bytes", "changed", "changed", "removed", "repeated", "moved", "exif"))
    if kind == "bytes":
        return mutated_bytes(data, chance)
    parts = _parts(data)
    at = chance.randrange(len(parts))
    match kind:
        case "changed":
            parts[at], _ = mutated_bytes(parts[at], chance)
        case "removed":
            del parts[at]
        case "repeated":
            parts[at] *= chance.choice((2, 200))
        case "moved":
            parts.insert(chance.randrange(len(parts)), parts.pop(at))
        case _:
            parts.insert(min(2, len(parts)), _exif(data, chance))
    if data.startswith(b"\x89PNG") and chance.random() < 0.8:
        parts = [parts[0], *(part[:-4] + struct.pack(">I", zlib.crc32(part[4:-4])) for part in parts[1:])]
    return b"".join(parts), f"part {kind}"


def _exif(data: bytes, chance: Random) -> bytes:
    entry = struct.pack(">HHHHI", 1, 0x0112, 3, 1, chance.choice((0, 1, 3, 6, 8, 9, 65_535)) << 16)
    exif, _ = mutated_bytes(b"MM\0*" + struct.pack(">I", 8) + entry, chance)
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xe1" + struct.pack(">H", 8 + len(exif)) + b"Exif\0\0" + exif
    return struct.pack(">I", len(exif)) + b"eXIf" + exif + bytes(4)


def _parts(data: bytes) -> list[bytes]:
    ends = [10, 18, 26, 54, len(data)]  # of the headers of WebP, BMP and TIFF
    if data.startswith(b"\x89PNG"):
        ends = [8]
        while ends[-1] < len(data):
            ends.append(ends[-1] + 12 + int.from_bytes(data[ends[-1] : ends[-1] + 4]))
    elif data.startswith(b"\xff\xd8"):
        ends = [2]
        while data[ends[-1] + 1] != 0xDA:
            ends.append(ends[-1] + 2 + int.from_bytes(data[ends[-1] + 2 : ends[-1] + 4]))
        ends += [len(data) - 2, len(data)]
    return [data[start:stop] for start, stop in zip([0, *ends], ends, strict=False)]
