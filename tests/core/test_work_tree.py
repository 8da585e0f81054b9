"""One stage at a time in a work tree."""

import errno
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from cocoseg.core.work_tree import InUseError, work_tree_held

HOLDER = """\
import sys
from pathlib import Path
from cocoseg.core.work_tree import work_tree_held

with work_tree_held(Path("data/.lock"), "train"):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(folder: Path) -> "subprocess.Popen[str]":
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_second_stage_says_who_runs_and_starts_once_that_has_ended_however(tmp_path: Path) -> None:
    with start_holder(tmp_path) as holder:
        said = rf"{Path.cwd()}: in use by train, process {holder.pid} on .*, since 20.*; wait for it or end it"
        with pytest.raises(InUseError, match=said), work_tree_held(tmp_path / "data/.lock", "mask", patience_s=0):
            pass
        holder.kill()
        holder.wait()
        with work_tree_held(tmp_path / "data/.lock", "mask", patience_s=0) as waited:
            assert not waited


def test_a_stage_that_had_to_wait_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with start_holder(tmp_path) as holder:

        def end_holder(_: float) -> None:
            holder.kill()
            holder.wait()

        monkeypatch.setattr("time.sleep", end_holder)
        with work_tree_held(tmp_path / "data/.lock", "mask") as waited:
            assert waited


@pytest.mark.parametrize("rank", ["RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"])
def test_the_processes_of_one_training_share_what_the_first_holds(
    rank: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with start_holder(tmp_path) as holder:
        monkeypatch.setenv(rank, "1")
        with work_tree_held(tmp_path / "data/.lock", "train", patience_s=0):
            pass
        if rank != "RANK":  # clusters set it for the containers of a job, and Fabric does not read it
            monkeypatch.setenv("RANK", "0")
            with work_tree_held(tmp_path / "data/.lock", "train", patience_s=0):
                pass
        monkeypatch.setenv("RANK", "0")
        monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # of torchrun, whose first process may be on any node
        with pytest.raises(InUseError), work_tree_held(tmp_path / "data/.lock", "train", patience_s=0):
            pass
        holder.kill()


def test_a_lock_of_an_smb_share_that_another_holds_is_no_disk_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: IO[str], operation: int) -> None:
        raise OSError(errno.EACCES, "held elsewhere")  # Linux locks ranges of bytes there

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(InUseError, match="in use by"), work_tree_held(tmp_path / "data/.lock", "train", patience_s=0):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_keeps_no_stage_from_running(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: IO[str], operation: int) -> None:
        raise OSError(number, "no locks here")

    monkeypatch.setattr("fcntl.flock", refuse)
    with work_tree_held(tmp_path / "data/.lock", "train", patience_s=0) as waited:
        assert not waited
