"""The user's cache of downloads: what was fetched survives a kill and serves every run.

Deleting it costs time, never a result.
"""

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from cocoseg.core.errors import CocosegError
from cocoseg.core.files import write_bytes

_DIGEST_BYTES = 32


def archive_path(folder: Path, name: str) -> Path:
    """Return the path of an archive in the cache `folder`."""
    return folder / "archives" / name


def image_path(folder: Path, key: str) -> Path:
    """Return the path of an image in the cache `folder`; `key` is its URL, with its version if it may change.

    The 256 subfolders keep each of them small.
    """
    digest = hashlib.sha256(key.encode()).hexdigest()
    return folder / "images" / digest[:2] / digest


def write_entry(path: Path, data: bytes) -> None:
    """Write an image to its place in the cache. Its digest comes last, so that a viewer still shows the file."""
    write_bytes(path, data + _digest(path, data))


def read_entry(path: Path, corrupt: list[Path]) -> bytes | None:
    """Return an image of the cache, or `None` if it is not there, or corrupt: then its path is added to `corrupt`."""
    try:
        entry = path.read_bytes()
    except FileNotFoundError:
        return None
    data = entry[:-_DIGEST_BYTES]
    if entry[-_DIGEST_BYTES:] == _digest(path, data):
        return data
    corrupt.append(path)
    return None


def _digest(path: Path, data: bytes) -> bytes:
    digest = hashlib.sha256(path.name.encode())  # of its key: an entry does not count in another's place
    digest.update(data)
    return digest.digest()


def require_room(needed_bytes: Mapping[Path, int]) -> None:
    """Raise `CocosegError` unless the disk of each folder has room for its bytes. Folders may share a disk."""
    needed_on: dict[int, int] = {}
    folder_on: dict[int, Path] = {}
    for folder, needed in needed_bytes.items():
        existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
        device = existing.stat().st_dev
        needed_on[device] = needed_on.get(device, 0) + needed
        folder_on.setdefault(device, existing)
    for device, needed in needed_on.items():
        folder = folder_on[device]
        free = shutil.disk_usage(folder).free
        if needed > free:
            raise CocosegError(
                f"{folder}: {gigabytes(free)} free on this disk, but about {gigabytes(needed)} are needed; "
                "make room, or move the cache to another disk with COCOSEG_CACHE"
            )


def gigabytes(size_bytes: int) -> str:
    """Return a size in words, such as "1.3 GB"."""
    return f"{size_bytes / 1e9:.1f} GB" if size_bytes >= 1e8 else f"{size_bytes / 1e6:.1f} MB"
