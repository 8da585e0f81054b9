"""Run a function in a fork of this process as a stage or a command: what it says, how it ends, what it takes."""

import os
import re
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

_SLOW_S, _HANG_S = 2.0, 60.0  # of the processor; on the clock, where other work shares it
_LONGEST_LINE = 1500
_REFUSED, _RAISED = 1, 99
# What a library says to its own developers.
_NOISE = re.compile(r"^\[( WARN|ERROR)|[a-z]Warning: ", re.MULTILINE)
VERDICTS = ("accepted", "refused", "traceback", "wrong", "slow")


class Outcome(NamedTuple):
    """How a case ended."""

    status: int
    said: str
    cpu_s: float
    megabytes: float

    def verdict(self) -> str:
        """Return what it counts as."""
        last = (self.said.strip().splitlines() or [""])[-1]
        if self.cpu_s > _SLOW_S or self.status == -signal.SIGKILL:
            return "slow"
        if _NOISE.search(self.said):
            return "wrong"
        if self.status in (0, 3):  # 3: of `verify`, for a place that was not checked
            return "accepted"
        if self.status == _RAISED and last.startswith("AssertionError: "):
            return "wrong"
        return "refused" if self.status == _REFUSED and last and len(last) < _LONGEST_LINE else "traceback"


def run_case(run: Callable[[], None], folder: Path) -> Outcome:
    """Run a case in a fork of this process, in an empty folder of its own."""
    place = folder / "case"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    deadline = time.monotonic() + _HANG_S
    if (child := os.fork()) == 0:
        _become(run, place, folder / "said")
    while not (ended := os.wait4(child, os.WNOHANG))[0]:
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    said = (folder / "said").read_text(errors="replace")
    used = ended[2]
    return Outcome(os.waitstatus_to_exitcode(ended[1]), said, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def _become(run: Callable[[], None], place: Path, said: Path) -> None:
    status = _RAISED
    try:
        os.chdir(place)
        stream = os.open(said, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(stream, number)
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", closefd=False)  # noqa: SIM115
        os.environ |= {"COCOSEG_CACHE": str(place / "cache"), "COCOSEG_WORKERS": "1", "DVC_NO_ANALYTICS": "1"}
        try:
            run()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0
            if isinstance(end.code, str):
                clean = all(
                    line.isprintable() for line in end.code.split("\n")
                )  # mistakes in parameters have a line each
                sys.stderr.write(f"{end.code}\n" if clean else f"AssertionError: {end.code!r}\n")
                status = _REFUSED if clean else _RAISED
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)
