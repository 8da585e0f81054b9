"""Where DVC keeps objects, each under the MD5 of its content: the cache, and each remote."""

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
_READ_ONLY = 0o444  # DVC takes a cached file of this mode for checked


class Store:
    """The cache or a remote, read and written through DVC's own file systems."""

    def __init__(self, name: str, objects: ObjectStore) -> None:
        self.name = name
        self.objects = objects
        self._bytes: dict[str, int] = {}

    @property
    def is_local(self) -> bool:
        """Whether the objects are files of this machine."""
        return self.objects.is_local

    def path(self, name: str) -> str:
        """Where an object lies, or would."""
        return self.objects.path(name)

    def list_objects(self) -> set[str]:
        """The names of all objects that lie here; none where a server keeps no list, as those of the web."""
        found = {name: size for name, size in self.objects.sizes().items() if _NAME.fullmatch(name)}
        self._bytes |= {name: size for name, size in found.items() if size is not None}
        return set(found)

    def chunks(self, name: str) -> Iterator[bytes]:
        """The content of an object. Raises `FileNotFoundError`, or what the remote's library raises."""
        if self.is_local:
            yield from file_chunks(Path(self.path(name)))
            return
        size = self._bytes.get(name)
        if size is None:
            size = self.objects.size(name)
        for start in range(0, size, _CHUNK_BYTES):
            yield self.objects.read(name, start, min(start + _CHUNK_BYTES, size))

    def state_of(self, name: str) -> State:
        """Whether the content of an object is what its name says, from reading all of it."""
        try:
            # Of a remote twice: a line that lost a byte is no broken object.
            if any(md5(self.chunks(name)) == name.removesuffix(".dir") for _ in range(1 if self.is_local else 2)):
                return "right"
        except (FileNotFoundError, NotADirectoryError):
            return "missing"
        except IsADirectoryError:
            return "corrupt"
        except OSError:  # a disk that cannot read it back, or a mode that forbids to: it may be right all the same
            if not self.is_local:
                raise
            return "unreadable"
        return "corrupt"

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Make the object anew in a store of this machine: whole, durable, read-only and checked, or not at all."""
        path = Path(self.path(name))
        self.objects.make_folder(path.parent)
        digest = _new_md5()
        with whole_file(path, durable=True) as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
            os.fchmod(file.fileno(), _READ_ONLY)
            if digest.hexdigest() != name.removesuffix(".dir"):
                raise CocosegError(f"{self.name}: what came for {name} is not what its name says; run again")

    def upload(self, name: str, cache: "Store") -> None:
        """Put the object here from the cache, over what was there, and read it back."""
        if self.is_local:
            self.write(name, cache.chunks(name))
            return
        self.objects.upload(name, Path(cache.path(name)))
        self._bytes.pop(name, None)
        if self.state_of(name) != "right":
            raise CocosegError(f"{self.name}: {name} was sent, but does not come back as it was; run again")


def file_chunks(path: Path) -> Iterator[bytes]:
    """The content of a file."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def md5(chunks: Iterable[bytes]) -> str:
    """The MD5 of a content, as DVC names objects."""
    digest = _new_md5()
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()


def _new_md5() -> "hashlib._Hash":
    return hashlib.md5(usedforsecurity=False)
