"""Write files whole or not at all, with the same bytes for the same content, and read them."""

import csv
import errno
import io
import mmap
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import msgspec

from cocoseg.core.errors import CocosegError

T = TypeVar("T")
Row = TypeVar("Row", bound=msgspec.Struct)
Mapped = bytes | mmap.mmap

UNFINISHED = ".writing-"  # prefix of a file that is still being written; .dvcignore and .gitignore list it
_MAKE = "make it with: dvc repro"


def write_bytes(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Write `data` to `path` as `whole_file` does."""
    with whole_file(path, durable=durable) as file:
        file.write(data)


@contextmanager
def whole_file(path: Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """Yield a file to write to. `path` keeps its old content until all of the new is written, even after a kill.

    `durable` waits for the disk, so that a power cut leaves no empty file: for files that DVC cannot make again.
    """
    # Not the tempfile module: only the owner could read the file, and an output must be as readable as any new file.
    temporary = path.parent / f"{UNFINISHED}{os.urandom(8).hex()}"
    try:
        with _created(temporary) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(temporary)):
            # Name the file that the caller wants: a full disk names none, and nobody knows the temporary one.
            raise OSError(error.errno, error.strerror, str(path)) from None
        raise


def mapped(path: Path) -> Mapped:
    """Return a memory map of a file that an earlier stage wrote; what is written to it does not reach the file.

    Raises `CocosegError` if it is missing.
    """
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except FileNotFoundError:
        raise CocosegError(f"{path}: not found; {_MAKE}") from None
    except ValueError:  # an empty file cannot be mapped
        return b""


def release(raw: Mapped) -> None:
    """Free the memory of a mapped file; what is used again is read again."""
    if isinstance(raw, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):  # Windows does this by itself
        raw.madvise(mmap.MADV_DONTNEED)


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented UTF-8 JSON and keep the order of its keys. NaN becomes null."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a file that an earlier stage wrote. Raises `CocosegError` if it is missing."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise CocosegError(f"{path}: not found; {_MAKE}") from None


def read_regular(path: Path, most_bytes: int) -> bytes:
    """Return the bytes of the user's own file. Links are followed.

    Raises `OSError`: with `EINVAL` for a pipe or device, which may never end, and with `EFBIG` beyond `most_bytes`.
    """
    info = path.stat()
    if not stat.S_ISREG(info.st_mode) and not stat.S_ISDIR(info.st_mode):
        raise OSError(errno.EINVAL, "is a pipe or device, not a file", str(path))
    if info.st_size > most_bytes:
        raise OSError(errno.EFBIG, f"has {info.st_size:,} bytes, expected at most {most_bytes:,}", str(path))
    return path.read_bytes()


def read_json(path: Path, type_: type[T]) -> T:
    """Return the content of a JSON file of an earlier stage. Raises `CocosegError` if missing or not a `type_`."""
    return decoded_json(read_bytes(path), type_, str(path))


def decoded_json(content: bytes, type_: type[T], place: str, way_out: str = "make it again with: dvc repro -f") -> T:
    """Return the content of the bytes of a JSON file, as `read_json` does; `place` names the file in errors."""
    try:
        return msgspec.json.decode(content, type=type_)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CocosegError(f"{place}: {error}; {way_out}") from None


def write_table(path: Path, rows: Iterable[msgspec.Struct], row_type: type[msgspec.Struct]) -> None:
    """Write records as CSV with their field names as the header. `None` is an empty cell; lines end with LF."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(row_type.__struct_fields__)
    writer.writerows(msgspec.structs.astuple(row) for row in rows)
    write_bytes(path, text.getvalue().encode())


def read_table(path: Path, row_type: type[Row]) -> list[Row]:
    """Return the records of a CSV file of `write_table`. Raises `CocosegError` if missing or not of `row_type`."""
    return decoded_table(read_bytes(path), row_type, str(path))


def decoded_table(content: bytes, row_type: type[Row], place: str) -> list[Row]:
    """Return the records of the bytes of a CSV file, as `read_table` does; `place` names the file in errors."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        raise CocosegError(f"{place}: {error}; make it again with: dvc repro -f") from None
    reader = csv.DictReader(io.StringIO(text, newline=""))
    optional = _optional_fields(row_type)
    try:
        return [
            msgspec.convert(
                {key: None if cell == "" and key in optional else cell for key, cell in row.items()},
                row_type,
                strict=False,  # a CSV cell is text: "12" is the integer 12
            )
            for row in reader
        ]
    except (msgspec.ValidationError, csv.Error) as error:  # csv.Error: a cell of over 128 KiB
        raise CocosegError(f"{place}: {error}; make it again with: dvc repro -f") from None


def read_lines(path: Path, way_out: str = _MAKE) -> list[str]:
    """Return the lines of a text file, without empty ones.

    Raises `CocosegError`, which ends with `way_out`, if the file is missing or not UTF-8. The default `way_out` is for
    a file that an earlier stage wrote.
    """
    try:
        # Not splitlines: it also splits at characters that a file name may hold.
        return [line for line in path.read_text(encoding="utf-8").split("\n") if line]
    except FileNotFoundError:
        raise CocosegError(f"{path}: not found; {way_out}") from None
    except IsADirectoryError:
        raise CocosegError(f"{path}: is a folder; {way_out}") from None
    except UnicodeDecodeError:
        raise CocosegError(f"{path}: not UTF-8 text; {way_out}") from None


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Write one line per entry, each ending with LF."""
    write_bytes(path, "".join(f"{line}\n" for line in lines).encode())


def _created(path: Path) -> BinaryIO:
    try:
        return path.open("xb")
    except FileNotFoundError:  # Only now make the folder: most exist already.
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("xb")


def _optional_fields(row_type: type[msgspec.Struct]) -> set[str]:
    return {
        field.name for field in msgspec.structs.fields(row_type) if type(None) in getattr(field.type, "__args__", ())
    }
