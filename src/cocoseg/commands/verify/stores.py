"""The cache and the remotes, which keep each object under the MD5 of its content."""

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from cocoseg.commands.dvc_adapter import ObjectStore
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import whole_file

State = Literal["right", "missing", "corrupt", "unreadable"]

_NAME = re.compile(r"[0-9a-f]{32}(\.dir)?")
_CHUNK_BYTES = 8 * 2**20
_READ_BYTES = 2**16  # Python sets so many aside for each read
_READ_ONLY = 0o444  # DVC does not hash a cached file of this mode again


class Store:
    """The cache or a remote, read and written through DVC."""

    def __init__(self, name: str, objects: ObjectStore) -> None:
        self.name = name
        self.objects = objects
        self._bytes: dict[str, int] = {}

    @property
    def is_local(self) -> bool:
        """Whether the objects are files of this machine."""
        return self.objects.is_local

    def path(self, name: str) -> str:
        """Return where an object lies, or would."""
        return self.objects.path(name)

    def list_objects(self) -> set[str]:
        """Return the names of all objects here, as far as the store lists them; a web server may not."""
        found = {name: size for name, size in self.objects.sizes().items() if _NAME.fullmatch(name)}
        self._bytes |= {name: size for name, size in found.items() if size is not None}
        return set(found)

    def chunks(self, name: str) -> Iterator[bytes]:
        """Yield the content of an object; raise `FileNotFoundError`, or what the remote's library raises."""
        if self.is_local:
            yield from file_chunks(Path(self.path(name)))
            return
        size = self._bytes.get(name)
        if size is None:
            size = self.objects.size(name)
        for start in range(0, size, _CHUNK_BYTES):
            yield self.objects.read(name, start, min(start + _CHUNK_BYTES, size))

    def state_of(self, name: str) -> State:
        """Read an object and return whether its content matches its name."""
        right = name.removesuffix(".dir")
        try:
            if self.is_local:
                return "right" if file_md5(self.path(name)) == right else "corrupt"
            # A remote is asked twice: the network may have changed a byte.
            if any(md5(self.chunks(name)) == right for _ in range(2)):
                return "right"
        except (FileNotFoundError, NotADirectoryError):
            return "missing"
        except IsADirectoryError:
            return "corrupt"
        except OSError:  # a bad disk, or no permission: the object may be intact
            if not self.is_local:
                raise
            return "unreadable"
        return "corrupt"

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write an object to a store of this machine: whole, durable, read-only and checked, or not at all."""
        path = Path(self.path(name))
        self.objects.make_folder(path.parent)
        digest = _new_md5()
        with whole_file(path, durable=True) as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
            os.fchmod(file.fileno(), _READ_ONLY)
            if digest.hexdigest() != name.removesuffix(".dir"):
                raise CocosegError(f"{self.name}: the content received for {name} does not match its hash; run again")

    def upload(self, name: str, cache: "Store") -> None:
        """Send an object here from the cache, over what was there, and read it back."""
        if self.is_local:
            self.write(name, cache.chunks(name))
            return
        self.objects.upload(name, Path(cache.path(name)))
        self._bytes.pop(name, None)
        if self.state_of(name) != "right":
            raise CocosegError(f"{self.name}: {name} was sent, but came back changed; run again")


def file_chunks(path: Path) -> Iterator[bytes]:
    """Yield the content of a file."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def md5(chunks: Iterable[bytes]) -> str:
    """Return the MD5 of a content, which is the name of its object."""
    digest = _new_md5()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def file_md5(path: str) -> str:
    """Return the MD5 of a file. Reads it without Python's file objects, which take as long as a small file's MD5."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        digest = _new_md5()
        while chunk := os.read(descriptor, _READ_BYTES):
            digest.update(chunk)
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def _new_md5() -> "hashlib._Hash":
    return hashlib.md5(usedforsecurity=False)
