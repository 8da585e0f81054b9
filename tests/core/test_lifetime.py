"""A stage that DVC started ends with DVC; one that was started by hand does not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from cocoseg.core.lifetime import _up_to_dvc

# A stage with a worker, which says the ids of both and has nothing to do.
STAGE = """\
import os, time
import cocoseg.core.stage
from cocoseg.workers import process_pool

if __name__ == "__main__":
    with process_pool(1) as pool:
        print(os.getpid(), pool.submit(os.getpid).result(), flush=True)
        time.sleep(300)
"""
# Starts it as DVC does: through a shell, with its name in the environment, and waits.
STARTER = """\
import os, subprocess, sys
subprocess.run(sys.argv[1:], env=os.environ | {"DVC_STAGE": "toy"} if os.environ["AS"] == "DVC" else None)
"""
SHELLS = {
    "python": [sys.executable, "toy.py"],
    "a shell that waits": ["sh", "-c", f"{sys.executable} toy.py; true"],
    "two shells": ["sh", "-c", f"sh -c '{sys.executable} toy.py; true'; true"],
}


def start(folder: Path, command: list[str], starter: str) -> tuple["subprocess.Popen[str]", list[int]]:
    (folder / "toy.py").write_text(STAGE)
    environment = {name: value for name, value in os.environ.items() if name != "DVC_STAGE"} | {"AS": starter}
    started = subprocess.Popen(
        [sys.executable, "-c", STARTER, *command], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert started.stdout is not None
    return started, [int(pid) for pid in started.stdout.readline().split()]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("command", SHELLS.values(), ids=SHELLS.keys())
def test_a_stage_and_its_workers_end_with_dvc_through_shells_too(
    command: list[str], end: signal.Signals, tmp_path: Path
) -> None:
    dvc, pids = start(tmp_path, command, "DVC")
    with dvc:
        assert all(map(alive, pids))
        dvc.send_signal(end)  # and nobody waits for it yet: it stays a zombie
        deadline = time.monotonic() + 60
        while any(map(alive, pids)):
            assert time.monotonic() < deadline, "the stage outlives DVC"
            time.sleep(0.05)


@pytest.mark.parametrize("looked_at", ["parent", "_init"])  # without /proc, there is not even this process
def test_parents_that_may_not_be_looked_into_are_no_fault(looked_at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> psutil.Process:
        raise psutil.AccessDenied(1)  # as where /proc is mounted with hidepid=1

    monkeypatch.setenv("DVC_STAGE", "toy")
    monkeypatch.setattr(psutil.Process, looked_at, refuse)
    assert list(_up_to_dvc()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_stage_that_was_started_by_hand_outlives_the_shell(tmp_path: Path) -> None:
    shell, pids = start(tmp_path, SHELLS["a shell that waits"], "hand")
    with shell:
        shell.kill()
        time.sleep(1)
        assert all(map(alive, pids))
        os.kill(pids[0], signal.SIGKILL)
