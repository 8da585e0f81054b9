"""What DVC keeps beside the data: its run cache, the list of what is being read and written, and `dvc.lock`.

DVC 3.67 writes each in several steps. After a kill or a full disk between two of them, every later `dvc repro` fails.
"""

import json
import os
import subprocess
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil

from cocoseg.commands.dvc_adapter import Output, Repository
from cocoseg.core.files import write_bytes
from cocoseg.core.work_tree import is_locked
from cocoseg.paths import LOCK


def all_notes(repository: Repository) -> list[Path]:
    """Return the entries of the run cache, the list of reads and writes, and `dvc.lock`."""
    return [*_runs(repository), repository.running_file, repository.lock_file]


def broken_notes(repository: Repository) -> list[Path]:
    """Return those that DVC fails on."""
    broken = [run for run in _runs(repository) if not any(run.iterdir())]  # a TypeError
    if _is_no_json(repository.running_file):
        broken.append(repository.running_file)
    if _is_cut_off(repository):
        broken.append(repository.lock_file)
    return broken


def mend_note(repository: Repository, note: Path, set_aside: Callable[[str], None]) -> None:
    """Set a broken note aside; DVC makes another.

    `dvc.lock` is replaced by the version that is staged in git, or else committed. Later runs are in the run cache,
    from which `dvc repro` takes them.
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


def writers(repository: Repository, outputs: Iterable[Output]) -> dict[str, str]:
    """Return, by path, the outputs that a stage writes at this moment, and who: half of it is no fault.

    DVC notes what its stages write until it has entered them in `dvc.lock`. A stage that was started by hand holds the
    work tree.
    """
    found = {}
    with suppress(FileNotFoundError), (repository.root / LOCK).open(encoding="utf-8") as lock:
        if not is_locked(lock):
            holder = lock.read()  # as the stage has written it: "train, process 1 on …"
            found = {out.path: holder for out in outputs if out.stage == holder.partition(",")[0]}
    with suppress(OSError, ValueError, msgspec.DecodeError):
        noted = msgspec.json.decode(repository.running_file.read_bytes(), type=_Running).write
        for path, writer in noted.items():
            if _runs_still(writer, repository.running_file.stat().st_mtime):
                found[os.path.relpath(path, repository.root)] = f"{writer.cmd}, process {writer.pid}"
    return found


class _Writer(msgspec.Struct):
    pid: int
    cmd: str


class _Running(msgspec.Struct):
    write: dict[str, _Writer] = {}


def _runs_still(writer: _Writer, noted_at: float) -> bool:
    """Return whether the process that wrote a note still runs. After a kill, another may have its number."""
    try:
        process = psutil.Process(writer.pid)
        # The clock of the start of a process is a little off. DVC notes `sys.argv`; the name of the program may differ.
        return process.create_time() <= noted_at + 2 and " ".join(process.cmdline()).endswith(
            writer.cmd.partition(" ")[2]
        )
    except psutil.AccessDenied:
        return True
    except (psutil.NoSuchProcess, ValueError):
        return False


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
    return b"<<<<<<<" not in repository.lock_file.read_bytes()  # else a merge, which the user resolves
