"""A pipeline whose remote is on an S3 server."""

import hashlib
import shutil
from pathlib import Path

from clones import Clone
from s3_server import KEY, REGION, SECRET, S3Server


def make_bucket(clone: Clone, server: S3Server, name: str) -> None:
    # In its own process: s3fs leaves connections open, and warnings are errors.
    options = f"key={KEY!r}, secret={SECRET!r}, endpoint_url={server.url!r}"
    clone.run("python", "-c", f"import s3fs; s3fs.S3FileSystem({options}).mkdir({name!r})")


def set_remote(clone: Clone, endpoint: str, url: str, **settings: str) -> None:
    """Configure the remote as the commands in docs/remotes.md do."""
    settings = {"url": url, "endpointurl": endpoint, "region": REGION, "verify": "true"} | settings
    lines = "".join(f"    {name} = {value}\n" for name, value in settings.items())
    (clone.folder / ".dvc/config").write_text(f"[core]\n    remote = store\n['remote \"store\"']\n{lines}")


def copied(made: Clone, folder: Path, endpoint: str, url: str) -> Clone:
    """Return a copy of a clone in `folder`, with its own remote."""
    shutil.copytree(made.folder, folder, symlinks=True)
    copy = Clone(folder)
    set_remote(copy, endpoint, url)
    copy.commit("a remote of its own")
    return copy


def another(clone: Clone, name: str = "another") -> Clone:
    """Return a fresh clone of a clone, with an empty cache."""
    clone.git("clone", "--quiet", ".", f"../{name}")
    return Clone(clone.folder.parent / name)


def has_no_faults(clone: Clone) -> bool:
    """Return whether `cocoseg verify` finds no fault in workspace, cache and remote."""
    finished = clone.run("cocoseg", "verify", check=False)
    return finished.returncode == 0 and finished.stdout.endswith("\n\nno faults\n")


def objects_of(clone: Clone) -> set[str]:
    """Return the names of the objects in the cache, after checking that each matches its content."""
    found = set()
    for path in (clone.folder / ".dvc/cache/files/md5").glob("??/*"):
        if path.suffix != ".tmp":  # unfinished, and never read by DVC
            digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
            assert path.parent.name + path.name.removesuffix(".dir") == digest, "a corrupt object in the cache"
            found.add(path.parent.name + path.name)
    return found


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the files of an output by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
