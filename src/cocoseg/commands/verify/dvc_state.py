"""What DVC keeps for itself beside the data: its run cache, who reads and writes what at the moment, and `dvc.lock`.

All are written in more than one step. A kill, or a disk that is full, between two of them leaves what every later
`dvc repro` fails on, DVC 3.67 at least.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cocoseg.core.files import write_bytes

_LOCK = "dvc.lock"
_READS_AND_WRITES = "rwlock"


def all_notes(repository: Any) -> list[Path]:
    """The entries of the run cache, the file of reads and writes, and `dvc.lock`."""
    return [*_runs(repository), _reads_and_writes(repository), _lock(repository)]


def broken_notes(repository: Any) -> list[Path]:
    """Those on which DVC fails."""
    broken = [run for run in _runs(repository) if not any(run.iterdir())]  # a TypeError
    if _is_no_json(_reads_and_writes(repository)):
        broken.append(_reads_and_writes(repository))
    if _is_cut_off(repository):
        broken.append(_lock(repository))
    return broken


def hides_the_data(broken: Iterable[Path]) -> bool:
    """Whether `dvc.lock` is among the broken notes, so that nobody can tell what there should be."""
    return any(note.name == _LOCK for note in broken)


def hides_what_runs(broken: Iterable[Path]) -> bool:
    """Whether it is unknown who reads and writes at the moment."""
    return any(note.name == _READS_AND_WRITES for note in broken)


def mend_note(repository: Any, note: Path, set_aside: Callable[[str], None]) -> None:
    """Take a broken note out of the way; DVC makes another. In the place of `dvc.lock` comes what git has of it, staged
    or else committed: of what ran since, the run cache knows, from which `dvc repro` takes it.
    """
    if note.is_dir():
        note.rmdir()
        return
    set_aside(os.path.relpath(note, repository.root_dir))
    if note == _lock(repository):
        for revision in ("", "HEAD"):  # the index first
            command = ["git", "show", f"{revision}:./{note.name}"]
            kept = subprocess.run(command, cwd=note.parent, capture_output=True, check=False)
            if kept.returncode == 0:
                write_bytes(note, kept.stdout)
                if not _is_cut_off(repository):
                    return
        note.unlink(missing_ok=True)


@contextmanager
def no_stage_running(repository: Any) -> Iterator[None]:
    """Keep DVC from starting a stage; `LockError` if it runs one. DVC's lock of the repository does not tell: while a
    stage runs, DVC lets it go. Of stages that were started by hand nobody knows.
    """
    from dvc.rwlock import rwlock

    hard = repository.config["core"].get("hardlink_lock", False)
    everything = [str(repository.root_dir)]
    with rwlock(repository.tmp_dir, repository.fs, "cocoseg verify --repair", [], everything, hard):
        yield


def _runs(repository: Any) -> list[Path]:
    return sorted(Path(repository.stage_cache.cache_dir).glob("??/*/"))


def _reads_and_writes(repository: Any) -> Path:
    return Path(repository.tmp_dir, _READS_AND_WRITES)


def _lock(repository: Any) -> Path:
    return Path(repository.root_dir, _LOCK)


def _is_no_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False


def _is_cut_off(repository: Any) -> bool:
    from dvc.dvcfile import Lockfile
    from dvc.exceptions import DvcException

    lock = _lock(repository)
    try:
        Lockfile(repository, str(lock)).load()
    except DvcException:
        return b"<<<<<<<" not in lock.read_bytes()  # else a merge, which is the user's to end
    return False
