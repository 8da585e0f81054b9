"""How many things to do at once. It never enters `params.yaml`: a result must not depend on who had more cores."""

import os

from cocoseg.errors import CocosegError


def worker_count() -> int:
    """Processes or threads for parallel work: `COCOSEG_WORKERS`, or the cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return counted_in("COCOSEG_WORKERS") or cores


def counted_in(variable: str) -> int | None:
    """The count that an environment variable asks for, if it is set. Raises `CocosegError` unless it is 1 or more."""
    asked = os.environ.get(variable)
    if asked is None:
        return None
    if not asked.isdecimal() or int(asked) < 1:
        raise CocosegError(f"{variable} is {asked!r}; expected a whole number of at least 1, such as 4")
    return int(asked)
