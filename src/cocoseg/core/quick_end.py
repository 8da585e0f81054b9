"""Spare a command or stage what its imports cost besides: searches for cycles, and being taken apart at the end."""

import atexit
import gc
import os
import sys

from cocoseg.core.surroundings import drop_unwritable_output

_statuses: list[int] = []  # the exit status of this process, once it is through


def spare_imports() -> None:
    """Search a tenth as often for cycles, and let this process end at once after `through`.

    To be called before other modules register what they do at the end, because that comes first.
    """
    gc.set_threshold(10_000, 10, 10)  # imports of DVC or torch make half a million objects, hardly any in a cycle
    atexit.register(_end_at_once)


def through(status: int) -> None:
    """Note that nothing is left to do but what modules have registered for the end."""
    _statuses.append(status)


def _end_at_once() -> None:
    if (error := drop_unwritable_output()) is not None:
        if not isinstance(error, BrokenPipeError):  # else `| head` has ended
            sys.stderr.write(f"cocoseg: standard output: {error.strerror}\n")
        through(1)
    if _statuses:
        sys.stderr.flush()
        os._exit(_statuses[-1])
