"""Let one stage at a time write into a work tree."""

import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cocoseg.core.errors import CocosegError

try:
    import fcntl
except ImportError:  # Windows, where DVC cannot start the stages either: their commands are for a POSIX shell
    fcntl = None  # type: ignore[assignment]

# Which of several processes of one training this is: variables of torchrun, Fabric and SLURM.
_RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
_PATIENCE_S = 10.0  # an orphan that is about to end needs less


def is_first_process() -> bool:
    """Return whether this is the only process of a run, or the first of several: it alone writes."""
    if "LOCAL_WORLD_SIZE" in os.environ:  # torchrun's; its first process may be on any node of a job
        return os.environ.get("RANK") == "0"
    return all(os.environ.get(rank, "0") == "0" for rank in _RANKS)


class InUseError(CocosegError):
    """Another stage holds the work tree."""


@contextmanager
def work_tree_held(lock: Path, stage: str, patience_s: float = _PATIENCE_S) -> Iterator[bool]:
    """Hold the work tree for a stage, and yield whether another one had to end first.

    The system frees it when the process ends, however it ends. Raises `InUseError`, naming the other stage, after
    `patience_s`.
    """
    if not is_first_process():
        yield False
        return
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + patience_s
        waited = False
        while not is_locked(file):
            waited = True
            if time.monotonic() > deadline:
                file.seek(0)
                raise InUseError(
                    f"{Path.cwd()}: in use by {file.read() or 'another stage'}; wait for it or end it, then run "
                    "the same line again"
                )
            time.sleep(0.1)
        file.truncate(0)
        file.write(
            f"{stage}, process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        )
        file.flush()
        yield waited


def is_locked(file: IO[Any] | int) -> bool:
    """Lock a file or folder for this process, until it is closed; return whether no other process holds it."""
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # PermissionError: on SMB
            return False
        except OSError:  # a network disk without locks, such as Lustre mounted without `flock`: as if there were none
            pass
    return True
