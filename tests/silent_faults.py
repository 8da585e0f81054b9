"""Faults in the data of a `counting_pipeline`, most of which DVC does not notice.

`dvc status` runs before each, so that DVC has seen every file and trusts its notes about them.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from clones import Clone
from dvc.repo import Repo

from cocoseg.commands.dvc_adapter import ObjectStore
from cocoseg.commands.verify.stores import Store


def md5_of(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


FIRST, SECOND, REPORT = md5_of("drawn 0"), md5_of("drawn 1"), md5_of("drawn 0drawn 0")
LIST = (
    md5_of(json.dumps([{"md5": md5_of(f"drawn {number}"), "relpath": f"{number}.txt"} for number in range(3)])) + ".dir"
)


def flip(path: Path) -> None:
    """Change a byte of a file in place, but not its size, time and mode."""
    before = path.stat()
    path.chmod(0o644)
    content = path.read_bytes()
    with path.open("r+b") as file:
        file.write(bytes([content[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    path.chmod(before.st_mode & 0o777)


def cached(clone: Clone, name: str) -> Path:
    """Return the path of an object in the cache."""
    return clone.folder / ".dvc/cache/files/md5" / name[:2] / name[2:]


def flip_on_remote(clone: Clone, name: str) -> None:
    """Change a byte of an object on the default remote, of any kind."""
    with Repo(str(clone.folder)) as repository:
        remote = repository.cloud.get_remote_odb()
        store = Store("store", ObjectStore(lambda: remote))
        content = b"".join(store.chunks(name))
        if store.is_local:
            Path(store.path(name)).chmod(0o644)
        remote.fs.fs.pipe_file(store.path(name), bytes([content[0] ^ 1]) + content[1:])


def delete_on_remote(clone: Clone, name: str) -> None:
    """Remove an object from the default remote."""
    with Repo(str(clone.folder)) as repository:
        remote = repository.cloud.get_remote_odb()
        remote.fs.remove(remote.oid_to_path(name))


class SilentFault(NamedTuple):
    """A fault, what `cocoseg verify` must report, and whether DVC sees it."""

    name: str
    happens: Callable[[Clone], None]
    says: tuple[str, ...]
    dvc_sees_it: bool


def _in_both(clone: Clone) -> None:
    """Change a file that is one inode in workspace and cache, as with hard links."""
    clone.folder.joinpath("raw/1.txt").unlink()
    os.link(cached(clone, SECOND), clone.folder / "raw/1.txt")
    clone.dvc("status")
    flip(cached(clone, SECOND))


FAULTS = (
    SilentFault(
        "a byte of a workspace file",
        lambda clone: flip(clone.folder / "raw/1.txt"),
        ("corrupt in workspace: raw/1.txt",),
        dvc_sees_it=False,
    ),
    SilentFault(
        "a workspace file deleted",
        lambda clone: (clone.folder / "raw/1.txt").unlink(),
        ("missing in workspace: raw/1.txt",),
        dvc_sees_it=True,
    ),
    SilentFault(
        "a byte of a cached object",
        lambda clone: flip(cached(clone, SECOND)),
        ("corrupt in cache: raw/1.txt",),
        dvc_sees_it=False,
    ),
    SilentFault(
        "a cached object deleted",
        lambda clone: cached(clone, SECOND).unlink(),
        ("missing in cache: raw/1.txt",),
        dvc_sees_it=True,
    ),
    SilentFault(
        "a byte of the list of a folder in the cache",
        lambda clone: flip(cached(clone, LIST)),
        ("corrupt in cache: raw",),
        dvc_sees_it=True,
    ),
    SilentFault(
        "a byte of a file that is one inode with its cached object",
        _in_both,
        ("corrupt in workspace: raw/1.txt", "corrupt in cache: raw/1.txt"),
        dvc_sees_it=False,
    ),
    SilentFault(
        "a byte of an object on the remote",
        lambda clone: flip_on_remote(clone, SECOND),
        ("corrupt in remote 'store': raw/1.txt",),
        dvc_sees_it=False,
    ),
    SilentFault(
        "an object of a folder deleted on the remote",
        lambda clone: delete_on_remote(clone, SECOND),
        ("missing in remote 'store': raw/1.txt",),
        dvc_sees_it=False,
    ),
    SilentFault(
        "an object of its own deleted on the remote",
        lambda clone: delete_on_remote(clone, REPORT),
        ("missing in remote 'store': report.txt",),
        dvc_sees_it=True,
    ),
    SilentFault(
        "the list of a folder deleted on the remote",
        lambda clone: delete_on_remote(clone, LIST),
        ("missing in remote 'store': raw",),
        dvc_sees_it=True,
    ),
)


def dvc_says(clone: Clone) -> str:
    """Return the reports of `dvc status` and `dvc status --cloud` on one line, or "clean" if they see nothing."""
    both = "from dvc.cli import main; main(['status']); main(['status', '--cloud'])"  # one start of DVC
    finished = clone.run(sys.executable, "-c", both)
    said = f"{finished.stdout}{finished.stderr}"
    if "Data and pipelines are up to date." in said and "Cache and remote 'store' are in sync." in said:
        return "clean"
    return " ".join(said.split())
