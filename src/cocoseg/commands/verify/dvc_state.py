"""What DVC keeps for itself beside the data: its run cache, who reads and writes what at the moment, and `dvc.lock`.

All are written in more than one step. A kill, or a disk that is full, between two of them leaves what every later
`dvc repro` fails on, DVC 3.67 at least.
"""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from cocoseg.commands.dvc_adapter import Repository
from cocoseg.core.files import write_bytes


def all_notes(repository: Repository) -> list[Path]:
    """The entries of the run cache, the file of reads and writes, and `dvc.lock`."""
    return [*_runs(repository), repository.running_file, repository.lock_file]


def broken_notes(repository: Repository) -> list[Path]:
    """Those on which DVC fails."""
    broken = [run for run in _runs(repository) if not any(run.iterdir())]  # a TypeError
    if _is_no_json(repository.running_file):
        broken.append(repository.running_file)
    if _is_cut_off(repository):
        broken.append(repository.lock_file)
    return broken


def mend_note(repository: Repository, note: Path, set_aside: Callable[[str], None]) -> None:
    """Take a broken note out of the way; DVC makes another. In the place of `dvc.lock` comes what git has of it, staged
    or else committed: of what ran since, the run cache knows, from which `dvc repro` takes it.
    """
    if note.is_dir():
        note.rmdir()
        return
    set_aside(os.path.relpath(note, repository.root))
    if note == repository.lock_file:
        for revision in ("", "HEAD"):  # the index first
            command = ["git", "show", f"{revision}:./{note.name}"]
            kept = subprocess.run(command, cwd=note.parent, capture_output=True, check=False)
            if kept.returncode == 0:
                write_bytes(note, kept.stdout)
                if not _is_cut_off(repository):
                    return
        note.unlink(missing_ok=True)


def _runs(repository: Repository) -> list[Path]:
    return sorted(repository.run_cache.glob("??/*/"))


def _is_no_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        return True
    return False


def _is_cut_off(repository: Repository) -> bool:
    if repository.lock_is_valid():
        return False
    return b"<<<<<<<" not in repository.lock_file.read_bytes()  # else a merge, which is the user's to end
