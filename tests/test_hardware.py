import ctypes
import os
import platform
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from train.test_loop import PARAMS

from cocoseg.core.errors import CocosegError
from cocoseg.train.dataset import _start_worker
from cocoseg.train.devices import (
    deterministic,
    device_count,
    full_precision,
    launched_fabric,
    node_count,
    process_starter,
)
from cocoseg.train.memory import free_memory_bytes, keep_freed_memory
from cocoseg.workers import worker_count

ROOT = Path(__file__).parents[1]
VARIABLES = ("COCOSEG_WORKERS", "COCOSEG_DEVICES", "COCOSEG_NODES", "COCOSEG_PRECISION", "COCOSEG_DETERMINISTIC")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_unasked_it_takes_what_is_there() -> None:
    assert 1 <= worker_count() <= (os.cpu_count() or 1)
    assert (device_count(), node_count(), full_precision(), deterministic()) == ("auto", 1, False, False)


def test_asked_it_takes_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in zip(VARIABLES, ("3", "2", "4", "32", "1"), strict=True):
        monkeypatch.setenv(variable, value)
    assert (worker_count(), device_count(), node_count()) == (3, 2, 4)
    assert (full_precision(), deterministic()) == (True, True)


@pytest.mark.parametrize("value", ["00", "-1", "two", "", "1.5"])
@pytest.mark.parametrize(
    ("variable", "ask"),
    list(zip(VARIABLES, (worker_count, device_count, node_count, full_precision, deterministic), strict=True)),
)
def test_anything_else_is_one_line(monkeypatch: pytest.MonkeyPatch, variable: str, ask: object, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert callable(ask)
    with pytest.raises(CocosegError, match=f"^{variable} is '{value}'; expected"):
        ask()


def as_srun_does(monkeypatch: pytest.MonkeyPatch, tasks: int, nodes: int, per_node: str, **more: str) -> None:
    """Set what srun tells the tasks of a step, and what a job of 8 tasks a node leaves in their environment."""
    step = {"STEP_NUM_TASKS": str(tasks), "STEP_NUM_NODES": str(nodes), "STEP_TASKS_PER_NODE": per_node}
    job = {"JOB_ID": "12", "JOB_NAME": "bash", "NTASKS": "8", "NTASKS_PER_NODE": "8", "NODELIST": "other[1-2]"}
    step["STEP_NODELIST"] = "localhost"
    for name, value in (job | {"STEP_ID": "0", "NNODES": str(nodes)} | step | more).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "")  # so that it is restored
        monkeypatch.delenv(name)


def test_srun_says_how_many_processes_train_and_each_step_of_a_job_has_a_port_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ports = set()
    for step in ("0", "1"):
        as_srun_does(monkeypatch, 4, 2, "2(x2)", STEP_ID=step)
        assert (device_count(), node_count()) == (2, 2)
        starter = process_starter()
        assert isinstance(starter, SLURMEnvironment)
        starter.validate_settings(2, 2)
        assert starter.main_address == "localhost"  # not the first node of the job, which the step may lack
        ports.add(starter.main_port)
    assert len(ports) == 2


def test_a_shell_in_a_job_and_a_single_task_use_what_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    as_srun_does(monkeypatch, 1, 1, "1")  # as in `salloc -n8` and `srun -n1`
    assert (device_count(), node_count()) == ("auto", 1)
    assert isinstance(process_starter(), LightningEnvironment)


def test_what_srun_cannot_start_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    as_srun_does(monkeypatch, 3, 2, "2,1")
    with pytest.raises(CocosegError, match="srun started 2,1 tasks on its nodes; expected as many on each"):
        device_count()
    as_srun_does(monkeypatch, 2, 2, "1(x2)", STEP_NODELIST="node.invalid")
    with pytest.raises(
        CocosegError, match="node.invalid, the first node of the step, is no host name here; set MASTER"
    ):
        process_starter()
    as_srun_does(monkeypatch, 2, 1, "2", PROCID="0", LOCALID="0", NODEID="0", NTASKS="2")
    with socket.create_server(("", 0)) as other:
        monkeypatch.setenv("MASTER_PORT", str(other.getsockname()[1]))
        with pytest.raises(CocosegError, match=r"EADDRINUSE.*; choose another port with MASTER_PORT"):
            launched_fabric(PARAMS)
    monkeypatch.setattr("cocoseg.train.devices.environment_of_dvc", lambda: {"SLURM_STEP_NUM_TASKS": "2"})
    with pytest.raises(CocosegError, match="srun started DVC 2 times; start it once"):
        process_starter()


def test_free_memory_is_some_and_not_absurd() -> None:
    assert 2**20 < free_memory_bytes() < 2**50


@pytest.mark.parametrize(("said", "expected"), [({}, "glibc"), ({"MALLOC_ARENA_MAX": "8"}, "nobody")])
def test_freed_memory_is_kept_for_the_next_step_unless_the_environment_says_how(
    said: dict[str, str], expected: str
) -> None:
    code = """
import resource
from cocoseg.train.memory import keep_freed_memory
keep_freed_memory()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    b"x" * 30_000_000
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "", **said}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (int(done.stdout) < 15) == (platform.libc_ver()[0] == expected)  # pages, of at most 2 MB


@pytest.mark.parametrize(
    ("system", "most", "expected"),
    [
        ("linux", 2**31, [(-3, 2**30), (-1, 2**30)]),
        ("linux", 2**25, [(-3, 2**30), (-3, 2**25), (-1, 2**30)]),  # glibc before 2.35
        ("linux", 0, [(-3, 2**30), (-3, 2**25)]),  # the second setting alone would cost every step all of its pages
        ("win32", 2**31, []),
    ],
)
def test_an_allocator_that_refuses_a_threshold_gets_a_lower_one_or_stays_as_it_is(
    monkeypatch: pytest.MonkeyPatch, system: str, most: int, expected: list[tuple[int, int]]
) -> None:
    asked = []

    def mallopt(parameter: int, value: int) -> int:
        asked.append((parameter, value))
        return int(value <= most)

    for name in [name for name in os.environ if name.startswith("MALLOC_") or name == "GLIBC_TUNABLES"]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(mallopt=mallopt))
    keep_freed_memory()
    assert asked == expected


def test_a_process_that_loads_images_keeps_no_photograph(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr("cocoseg.train.dataset.keep_freed_memory", asked.append)
    monkeypatch.setattr("cocoseg.train.dataset.end_with_parent", lambda: None)
    monkeypatch.setattr("cv2.setNumThreads", lambda threads: None)
    _start_worker(0)
    assert asked == [2**25]


def test_a_container_has_what_it_may_take_less_what_it_uses_but_for_cached_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocoseg.train.memory._CGROUP_MEMORY", ((tmp_path, "max", "current", "inactive_file"),))
    unlimited = free_memory_bytes()
    for name, text in (("max", "1000\n"), ("current", "900\n"), ("memory.stat", "anon 500\ninactive_file 300\n")):
        (tmp_path / name).write_text(text)
    assert free_memory_bytes() == 400
    (tmp_path / "max").write_text("max\n")
    assert free_memory_bytes() == pytest.approx(unlimited, rel=0.2)
