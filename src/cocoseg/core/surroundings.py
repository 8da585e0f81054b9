"""Keep what surrounds a process of ours from spoiling it: its streams, and variables that are meant for other programs.

Only the standard library is imported, for a Python that lacks our dependencies, too.
"""

import io
import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

# Where git looks for a repository, other than in this folder. Hooks of git set them, and managers of dotfiles. DVC does
# not look at them, so a command would mix two repositories; a sweep would check out its commit in the wrong one.
_OF_GIT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_PREFIX")
# Notebooks name a backend that matplotlib refuses at its import where IPython is not installed. We open no window.
_OF_OTHERS = (*_OF_GIT, "MPLBACKEND")


def settle() -> None:
    """Make this process independent of its surroundings. To be called before anything is opened."""
    if sys.flags.optimize > 1:
        sys.exit("PYTHONOPTIMIZE is 2, without docstrings, which libraries need; expected 0 or 1")
    _open_streams()
    for name in _OF_OTHERS:
        os.environ.pop(name, None)
    sys.excepthook = _end


def drop_unwritable_output() -> OSError | None:
    """Flush standard output; if that fails, drop it and return the error."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _to_nowhere(1)  # else Python would try again at its end
        return error
    return None


class _Heedless(io.FileIO):
    """A stream that drops what it cannot write."""

    def write(self, data: Any) -> int:
        """Write `data`, or drop it: no training ends because nobody reads its lines, or because the disk is full."""
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _open_streams() -> None:
    for stream in range(3):
        try:
            os.fstat(stream)
        except OSError:  # closed, so that the next file would be opened in its place, and get what libraries print
            _to_nowhere(stream)
    if sys.stdout is None:
        sys.stdout = io.TextIOWrapper(io.FileIO(1, "wb"))
    # UTF-8 whatever the locale says, as git and DVC write: an ASCII one has no ±, and a report for GitHub is UTF-8.
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
    if sys.stderr is None or isinstance(sys.stderr, io.TextIOWrapper):  # else a notebook's, which shows what is written
        raw = _Heedless(2, "wb", closefd=False)
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(raw), "utf-8", "backslashreplace", line_buffering=True)


def _to_nowhere(stream: int) -> None:
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, stream)
    if nowhere != stream:
        os.close(nowhere)


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write one line for what lies in the machine, or show the traceback of any other error."""
    from cocoseg.core.errors import explained

    if (line := explained(error)) is None:
        sys.__excepthook__(kind, error, trace)
    else:
        sys.stderr.write(f"{Path(sys.argv[0]).stem}: {line}\n")
