"""Run `dvc` and `cocoseg` in processes that are forked from one that has imported them and the S3 library.

The imports take longer than most commands in a test.
"""

import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

IMPORTED = [
    *(
        "cocoseg.cli",
        "cocoseg.commands.verify.verify",
        "dvc.cli.parser",
        "dvc.cachemgr",
        "dvc.data_cloud",
        "dvc.ignore",
        "dvc.lock",
    ),
    *("dvc.output", "dvc.parsing.context", "dvc.repo", "dvc.repo.artifacts", "dvc.repo.metrics", "dvc.repo.plots"),
    *("dvc.repo.reproduce", "dvc.repo.stage", "dvc.schema", "dvc_data.index", "dvc_s3", "s3fs", "scmrepo.git"),
]
# What a command needs besides, imported before the first of its kind.
IMPORTED_FOR = {"exp": "dvc.repo.experiments.run", "sweep": "cocoseg.commands.sweep.driver"}
Meanwhile = Callable[[int], None]

MAIN = {"dvc": "dvc.cli", "cocoseg": "cocoseg.cli"}
_LONGEST_RUN_S = 300


def nothing(group: int) -> None:
    """Do nothing while a command runs."""


def run_fork(
    folder: Path,
    command: Sequence[str],
    environment: Mapping[str, str],
    *,
    meanwhile: Meanwhile = nothing,
    preload: str = "",
    alone: bool = False,
) -> "subprocess.CompletedProcess[str]":
    """Run `dvc` or `cocoseg` with arguments, in this environment.

    While it runs, `meanwhile` is called repeatedly with its process group. `preload` is a library that it and its
    children load. If it is to be killed `alone`, nobody waits for what it has started.
    """
    with tempfile.TemporaryDirectory() as said:
        forks = _forks(preload)
        assert forks.stdin is not None
        assert forks.stdout is not None
        forks.stdin.write(
            json.dumps([list(command), str(folder), said, {**environment, "LD_PRELOAD": preload}]).encode() + b"\n"
        )
        group = int(forks.stdout.readline())
        deadline = time.monotonic() + _LONGEST_RUN_S
        while not select.select([forks.stdout], [], [], 0.01)[0]:
            meanwhile(group)
            if time.monotonic() > deadline:
                kill(group)
                raise AssertionError(f"{' '.join(command)} did not end")
        status = int(forks.stdout.readline())
        if status < 0 and not alone:
            _wait_until_gone(group)
        out, err = (Path(said, name).read_text(errors="replace") for name in ("out", "err"))
    return subprocess.CompletedProcess(command, status, out, err)


def kill(group: int, *, alone: bool = False) -> None:
    """Kill a command and all processes that it started, or the command `alone`."""
    with suppress(ProcessLookupError):
        (os.kill if alone else os.killpg)(group, signal.SIGKILL)


def _wait_until_gone(group: int) -> None:
    """Wait until all killed processes of a command are gone, which may take a moment."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.01)
    raise AssertionError("processes of a killed run are still there")


@cache
def _forks(preload: str) -> "subprocess.Popen[bytes]":
    """Start the process that the others are forked from; it ends with this one."""
    path = os.pathsep.join([str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)])
    return subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,  # `select` would miss a line that was read ahead
        env={**os.environ, "PYTHONPATH": path, "DVC_NO_ANALYTICS": "1", "LD_PRELOAD": preload},
    )


def _serve() -> None:
    """Fork for each line of input; print the id of the process and its exit status."""
    for name in IMPORTED:
        importlib.import_module(name)
    for line in iter(sys.stdin.readline, ""):
        command, folder, said, environment = json.loads(line)
        if (needed := IMPORTED_FOR.get(command[1])) is not None:
            importlib.import_module(needed)
        if (child := os.fork()) == 0:
            _become(command, folder, Path(said), environment)
            return
        os.write(1, f"{child}\n".encode())
        os.write(1, f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n".encode())


def _become(command: Sequence[str], folder: str, said: Path, environment: Mapping[str, str]) -> None:
    with suppress(PermissionError):
        os.setsid()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    for stream, name in enumerate((Path(os.devnull), said / "out", said / "err")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), stream)
    sys.argv = list(command)
    sys.exit(importlib.import_module(MAIN[command[0]]).main(list(command[1:])))


if __name__ == "__main__":
    _serve()
