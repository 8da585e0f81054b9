"""Fetch or draw the annotations of a dataset, and verify the parts of COCO's format that later stages rely on."""

import codecs
import json
import re
import sys
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw
from tqdm import tqdm

from cocoseg.coco.file_names import is_plain
from cocoseg.coco.format import REGIONS_KEY, UNREADABLE, misnamed_keys, without_non_finite
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_regular
from cocoseg.core.redaction import without_secrets
from cocoseg.download.label_maps import instances_of_maps
from cocoseg.download.params import DownloadParams
from cocoseg.download.remote.cache import archive_path, gigabytes, require_room
from cocoseg.download.remote.catalog import NAMED, NamedDataset, coco_url
from cocoseg.download.remote.source import MOST_BYTES, Source, local_path
from cocoseg.download.sample.scenes import draw_annotations
from cocoseg.user_cache import cache_folder

_LISTS = ("images", "annotations", "categories")
_OTHER_KEYS = {"info", "licenses", "type", REGIONS_KEY}  # "type": of COCO's first files
_LISTED = 5  # keys, in one line
_TEXT_CHUNK_BYTES = 16 * 2**20
_SMALL_BYTES = 2**20
_LEFT_BYTES = 32  # a key: quotation marks, a colon, a comma, a new line and its indentation
_FIRST_ENTRY_BYTES = 2**16
_LISTED_KEYS = 8
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")  # characters that no JSON has

_WAY_OUT = (
    "put a COCO instances JSON there, or: "
    "dvc exp run -S dataset=custom -S annotations=/path/instances.json -S images=/path/images"
)


def instances_json(params: DownloadParams) -> bytes:
    """Return the bytes of the annotations file. Raises `CocosegError` if it cannot be fetched or is not COCO."""
    match params.dataset:
        case "sample":
            return draw_annotations()
        case "custom":
            folder = local_path(params.annotations)
            if folder is not None and folder.is_dir():
                return instances_of_maps(folder, _local_images(params.images))
            return custom_instances(params.annotations)
        case name:
            return named_instances(NAMED[name])


def _local_images(location: str) -> Path:
    """Return the folder of the images of label maps."""
    folder = local_path(location)
    if folder is None:
        raise CocosegError(
            f"params.yaml: images is {without_secrets(location)}; expected a local folder, as annotations names label "
            "maps, and file names say which is of which image; download the images, and name their folder"
        )
    return folder


def custom_instances(location: str) -> bytes:
    """Return the annotations file at a local path or a URL, verified.

    It is unchanged, but for a byte order mark, and for an object of entries by their ids where COCO has a list.
    """
    path = local_path(location)
    if path is None:
        if location.endswith("/"):
            raise CocosegError(
                f"{without_secrets(location)}: a folder of another machine; expected a COCO instances JSON, or a local "
                "folder of label maps; download it, and name the local folder"
            )
        with Source(location) as source:
            raw = source.fetch()
    else:
        try:
            raw = read_regular(path, MOST_BYTES)
        except FileNotFoundError:
            raise CocosegError(
                f"{location}: not found; on pulled data: dvc repro --allow-missing; else {_WAY_OUT}"
            ) from None
        except OSError as error:
            raise CocosegError(f"{location}: {error.strerror}; {_WAY_OUT}") from None
    raw = raw.removeprefix(b"\xef\xbb\xbf")  # the byte order mark of some editors on Windows
    keyed: list[str] = []
    content = verify_instances(raw, location, keyed)
    if keyed:
        raw = msgspec.json.encode(content)
        _say(location, f"{', '.join(keyed)}: an object, as LIVECell has; its values are taken for the list")
    if re.fullmatch(rb"\[\s*\]", content["images"]):
        raise CocosegError(f"{location}: contains no images; {_WAY_OUT}")
    for line in _remarks(content):
        _say(location, line)
    return raw


def _remarks(content: Mapping[str, Raw]) -> Iterator[str]:
    """Yield what of a file is not read, or means another thing than it seems to, a line each."""
    unread = [key if is_plain(key) else repr(key)[:40] for key in content if key not in {*_LISTS, *_OTHER_KEYS}]
    if unread:
        listed = ", ".join(unread[:_LISTED]) + (", …" if len(unread) > _LISTED else "")
        hint = "; to ignore a region, write an annotation with iscrowd: 1" if "ignore" in listed else ""
        yield f"not COCO's, and not read: {listed}{hint}"
    yield from misnamed_keys(content)
    if b'"not_exhaustive_category_ids"' in bytes(memoryview(content["images"])[:_FIRST_ENTRY_BYTES]):
        yield "as LVIS, not every object of a class is annotated in every image: what is not is background"


def _say(location: str, line: str) -> None:
    tqdm.write(f"download: {without_secrets(location)}: {line}", file=sys.stderr)


def named_instances(dataset: NamedDataset) -> bytes:
    """Return the annotations of one or two of COCO's splits, from an archive that is fetched into the cache once."""
    archive = dataset.annotations
    cache = cache_folder()
    target = archive_path(cache, Path(archive.path).name)
    if not target.exists():
        tqdm.write(
            f"download: {archive.path}, {gigabytes(archive.bytes)}, from {without_secrets(coco_url())}", file=sys.stderr
        )
        require_room({cache: archive.bytes})
    try:
        with Source(coco_url()) as source:
            source.download(archive.path, target, archive.bytes, archive.sha256)
    except OSError as error:  # such as a full disk
        raise CocosegError(f"{target}: {error.strerror}; fix that, or name another cache with COCOSEG_CACHE") from None
    parts = [read_member(target, member) for member in dataset.members()]
    if len(parts) > 1:
        return merge_instances(parts, dataset.members())
    verify_instances(parts[0], dataset.members()[0])
    return parts[0]


def read_member(archive: Path, member: str) -> bytes:
    """Return one file of a zip archive without unpacking the others. Raises `CocosegError`."""
    try:
        with zipfile.ZipFile(archive) as file:
            if file.namelist().count(member) > 1:
                raise zipfile.BadZipFile(f"contains {member} twice")
            info = file.getinfo(member)
            if info.file_size > MOST_BYTES:
                raise zipfile.BadZipFile(f"{member} has {info.file_size:,} bytes, expected at most {MOST_BYTES:,}")
            return file.read(info)  # no more than it declares, and nothing is unpacked to a path that it names
    except KeyError:
        raise CocosegError(f"{archive}: contains no {member}; delete it and run: dvc repro download") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError) as error:
        raise CocosegError(f"{archive}: {error}; delete it and run: dvc repro download") from None


def merge_instances(parts: Sequence[bytes], places: Sequence[str]) -> bytes:
    """Merge annotations files: append images and annotations, require equal categories. COCO's ids are unique."""
    contents = [verify_instances(part, place) for part, place in zip(parts, places, strict=True)]
    merged: dict[str, Raw | list[Raw]] = {**contents[0]}
    for content, place in zip(contents[1:], places[1:], strict=True):
        if msgspec.json.decode(content["categories"]) != msgspec.json.decode(contents[0]["categories"]):
            raise CocosegError(
                f"{place}: its categories differ from those of {places[0]}; these files do not belong together"
            )
    for key in ("images", "annotations"):
        merged[key] = [entry for content in contents for entry in msgspec.json.decode(content[key], type=list[Raw])]
    return msgspec.json.encode(merged)


class _WithId(msgspec.Struct, gc=False):
    id: Raw


def verify_instances(raw: bytes, place: str, keyed: list[str] | None = None) -> dict[str, Raw]:
    """Return the top level of an annotations file, its lists not decoded: `filter` deals with single bad entries.

    `place` names the file in errors. With `keyed`, an object whose values are objects with an id is returned as the
    list of these, and its key added to `keyed`. Raises `CocosegError`.
    """
    _refuse_other_formats(raw, place)
    _refuse_other_encodings(raw, place)
    try:
        content = _top_level(raw, place)
    except RecursionError:
        raise CocosegError(f"{place}: is nested too deeply; expected a COCO instances JSON") from None
    except msgspec.ValidationError:
        keys = f" of objects with {keys}" if (keys := _first_keys(raw)) else ""
        raise CocosegError(
            f"{place}: is {_kind(raw)}{keys}, not COCO's instances format; expected one object with {', '.join(_LISTS)}"
        ) from None
    except msgspec.DecodeError as error:
        raise CocosegError(_not_json(raw, str(error), place)) from None
    for key in _LISTS:
        if key not in content:
            found = ", ".join(list(content)[:_LISTED_KEYS]) or "nothing"
            raise CocosegError(
                f"{place}: has no '{key}', found {found}; expected COCO's instances format: {', '.join(_LISTS)}"
            )
        if keyed is not None and _first_byte(content[key]) == b"{":
            with suppress(*UNREADABLE):
                msgspec.json.decode(content[key], type=dict[str, _WithId])  # else only the keys may be the ids
                if entries := msgspec.json.decode(content[key], type=dict[str, Raw]).values():
                    content[key] = Raw(msgspec.json.encode([*entries]))
                    keyed.append(key)
        if _first_byte(content[key]) != b"[":
            raise CocosegError(f"{place}: '{key}' is {_kind(content[key])}; expected a list")
    if b'"segments_info"' in bytes(memoryview(content["annotations"])[:_FIRST_ENTRY_BYTES]):
        raise CocosegError(
            f"{place}: is COCO's panoptic format, whose shapes lie in PNG files; expected its instances format; "
            "convert it with panopticapi's panoptic2detection_coco_format.py"
        )
    return content


def _top_level(raw: bytes, place: str) -> dict[str, Raw]:
    try:
        content = msgspec.json.decode(raw, type=dict[str, Raw])
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError as error:
        try:
            raw = without_non_finite(raw)
            content = msgspec.json.decode(raw, type=dict[str, Raw])
        except msgspec.DecodeError:
            raise error from None
    _refuse_repeated_lists(content, raw, place)
    return content


def _refuse_repeated_lists(content: Mapping[str, Raw], raw: bytes, place: str) -> None:
    """Raise `CocosegError` if a list is there twice, as in files that were joined by hand: the last alone is read."""
    # Python's own reader tells, but is slow: not for a large file whose bytes are all in the values that were read.
    left = len(raw) - sum(memoryview(value).nbytes + 6 * len(key) + _LEFT_BYTES for key, value in content.items())
    if len(raw) > _SMALL_BYTES and left <= 0:
        return
    as_text: dict[str, Any] = {"parse_int": str, "parse_float": str}  # a number may have a million digits
    keys = Counter(json.loads(raw, object_pairs_hook=lambda pairs: [key for key, _ in pairs], **as_text))
    repeated = [key for key in _LISTS if keys[key] > 1]
    if repeated:
        raise CocosegError(
            f"{place}: has {keys[repeated[0]]} lists '{repeated[0]}', of which only the last would be read; join them"
        )


def _refuse_other_formats(raw: bytes, place: str) -> None:
    start = raw[:200].lstrip()
    if not start:
        raise CocosegError(f"{place}: is empty ({len(raw)} bytes); copy or download it again")
    if start.startswith(b"version https://git-lfs"):
        raise CocosegError(f"{place}: is a git-LFS pointer, not the file; in its repository run: git lfs pull")
    for magic, kind in ((b"\x1f\x8b", "gzip"), (b"PK\x03\x04", "zip")):
        if raw.startswith(magic):
            raise CocosegError(f"{place}: is a {kind} archive; unpack it and name the JSON inside")
    if _CONTROL.search(start):
        raise CocosegError(
            f"{place}: is not text, or not in UTF-8; unpack it if it is packed, save it as UTF-8 if it is UTF-16; "
            "expected a COCO instances JSON"
        )
    if start.startswith(b"<"):
        raise CocosegError(f"{place}: is a web page or XML, not JSON; check the address, and whether it needs a login")


def _refuse_other_encodings(raw: bytes, place: str) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")()
    for start in range(0, len(raw), _TEXT_CHUNK_BYTES):  # in chunks: the whole text would double the memory
        chunk = raw[start : start + _TEXT_CHUNK_BYTES]
        try:
            decoder.decode(chunk, final=start + len(chunk) == len(raw))
        except UnicodeDecodeError as error:
            raise CocosegError(
                f"{place}: byte {start + error.start} is not UTF-8, the encoding of JSON; save the file as UTF-8"
            ) from None


def _not_json(raw: bytes, error: str, place: str) -> str:
    if "truncated" in error:
        return f"{place}: is truncated: the JSON ends early, after {len(raw)} bytes; copy or download it again"
    lines = "; join the objects of JSON Lines into one" if "trailing" in error else ""
    return f"{place}: is not JSON: {error}; expected a COCO instances JSON{lines}"


def _first_keys(raw: bytes) -> str:
    """Return the keys of the first entry of a list of objects; nothing for anything else, or a long one."""
    with suppress(ValueError, RecursionError):
        first = json.JSONDecoder().raw_decode(raw[:_FIRST_ENTRY_BYTES].decode(errors="ignore").lstrip("[ \t\r\n"))[0]
        return ", ".join(list(first)[:_LISTED_KEYS]) if isinstance(first, dict) else ""
    return ""


def _kind(raw: bytes | Raw) -> str:
    names = {b"[": "a list", b"{": "an object", b'"': "a string", b"n": "null", b"t": "true", b"f": "false"}
    return names.get(_first_byte(raw), "a number")


def _first_byte(raw: bytes | Raw) -> bytes:
    return bytes(memoryview(raw)[:100]).lstrip()[:1]  # a view: some of these are hundreds of megabytes
