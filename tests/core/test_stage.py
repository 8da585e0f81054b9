"""How a stage script starts and ends."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cocoseg.core.work_tree import work_tree_held

ROOT = Path(__file__).parents[2]
SCRIPT = """
import os
from concurrent.futures import ProcessPoolExecutor
import msgspec
from cocoseg.core.errors import CocosegError
from cocoseg.core.stage import run

class Params(msgspec.Struct, frozen=True, kw_only=True):
    lr: float

def main(params):
    if params.lr == 3:
        with open("/dev/full", "wb") as full:
            full.write(b"more than fits")
    if params.lr == 3.5:
        raise OSError(24, "Too many open files")
    if params.lr == 4:
        with ProcessPoolExecutor(1) as pool:
            pool.submit(os._exit, 1).result()
    if params.lr > 1:
        raise CocosegError("the place: what was found; the way out")
    return {"images_per_second": 3.5}

run(main, Params)
"""


# As `run` is when it has waited its ten seconds.
IMPATIENT = """
import cocoseg.core.stage as stage
from functools import partial
stage.work_tree_held = partial(stage.work_tree_held, patience_s=0.3)
"""
# Says that it waits.
WAITING = """
import time
from pathlib import Path
from types import SimpleNamespace
from cocoseg.core import work_tree
said = lambda seconds: (Path("waits").touch(), time.sleep(seconds))
work_tree.time = SimpleNamespace(monotonic=time.monotonic, strftime=time.strftime, sleep=said)
"""


def run_toy(folder: Path, lr: str, script: str = SCRIPT) -> "subprocess.CompletedProcess[str]":
    (folder / "toy.py").write_text(script)
    (folder / "params.yaml").write_text(f"lr: {lr}\n")
    (folder / "dvc.yaml").write_text("stages: {toy: {cmd: x, params: [lr]}}\n")
    return subprocess.run(
        [sys.executable, "toy.py"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_stage_that_succeeds_is_silent_and_leaves_its_timing(tmp_path: Path) -> None:
    finished = run_toy(tmp_path, "0.5")
    assert (finished.returncode, finished.stderr) == (0, "")
    assert set(json.loads((tmp_path / "metrics/timing/toy.json").read_text())) == {"seconds", "images_per_second"}


@pytest.mark.parametrize(("more", "status", "end"), [("", 0, ""), ("\nsys.exit(3)", 3, "taken apart")])
def test_a_stage_ends_at_once_after_what_libraries_registered_but_never_hides_a_later_failure(
    tmp_path: Path, more: str, status: int, end: str
) -> None:
    before = """
import atexit, os, sys
import cocoseg.core.stage
class Held:
    def __del__(self, write=os.write):
        write(2, b"taken apart")
held = Held()
atexit.register(print, "registered")
"""
    finished = run_toy(tmp_path, "0.5", before + SCRIPT.rstrip() + more)
    assert (finished.returncode, finished.stdout, finished.stderr) == (status, "registered\n", end)


@pytest.mark.parametrize(
    ("lr", "found"),
    [
        ("2", "the place: what was found; the way out"),
        ("fast", "params.yaml: lr is 'fast'; expected a number"),
        ("3", "{folder}: No space left on device; fix that, then: dvc repro"),
        ("3.5", "{folder}: Too many open files; allow more with: ulimit -n 4096, then: dvc repro"),
        (
            "4",
            "a worker process was killed, probably for lack of memory; use fewer of them: COCOSEG_WORKERS=1 dvc repro",
        ),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_1(tmp_path: Path, lr: str, found: str) -> None:
    finished = run_toy(tmp_path, lr)
    line = f"toy: {found.format(folder=tmp_path)}"
    assert (finished.returncode, finished.stderr) == (1, f"{line}\n")
    (tmp_path / "data/model").mkdir(parents=True)
    back = "(restore the last good outputs with: git checkout HEAD -- dvc.lock metrics plots; dvc checkout --force)"
    if "params.yaml" in found:  # which would leave those outputs changed
        back = back.replace("restore the last good outputs", "or go back to the last commit's parameters and outputs")
        back = back.replace("-- dvc.lock", "-- params.yaml dvc.lock")
    assert run_toy(tmp_path, lr).stderr == f"{line} {back}\n"
    assert not (tmp_path / "metrics").exists()


def test_each_mistake_in_params_yaml_is_a_line_of_the_stage(tmp_path: Path) -> None:
    lines = run_toy(tmp_path, "fast\nlrr: 1").stderr.splitlines()
    assert lines == [
        "toy: params.yaml: unknown parameter lrr; did you mean lr?",
        "toy: params.yaml: lr is 'fast'; expected a number",
    ]


def test_arguments_are_refused_since_params_yaml_has_them(tmp_path: Path) -> None:
    run_toy(tmp_path, "0.5")
    finished = subprocess.run(
        [sys.executable, "toy.py", "lr=1"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stderr == "toy: takes no arguments, found lr=1; set parameters in params.yaml\n"


def test_a_second_stage_is_refused_and_no_way_back_is_named_that_would_be_in_the_first_ones_way(
    tmp_path: Path,
) -> None:
    (tmp_path / "data/model").mkdir(parents=True)
    with work_tree_held(tmp_path / "data/.lock", "train"):
        finished = run_toy(tmp_path, "0.5", IMPATIENT + SCRIPT)
    assert finished.returncode == 1
    assert re.fullmatch(
        r"toy: .*: in use by train, process \d+ on .*; wait for it or end it, then run the same line again\n",
        finished.stderr,
    )


def test_a_stage_of_dvc_that_had_to_wait_removes_what_the_other_wrote_meanwhile(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(WAITING + SCRIPT)
    (tmp_path / "params.yaml").write_text("lr: 0.5\n")
    (tmp_path / "dvc.yaml").write_text("stages: {toy: {cmd: x, params: [lr], outs: [made, kept.txt]}}\n")
    (tmp_path / "made").mkdir()
    for name in ("made/old.png", "kept.txt", "other.txt"):
        (tmp_path / name).write_text("of the other run")
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "", "DVC_STAGE": "toy"}
    with work_tree_held(tmp_path / "data/.lock", "toy"):
        started = subprocess.Popen([sys.executable, "toy.py"], cwd=tmp_path, env=environment)
        while not (tmp_path / "waits").exists():
            assert started.poll() is None
            time.sleep(0.01)
    assert started.wait(timeout=30) == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name in ("made", "kept.txt", "other.txt")) == [
        "other.txt"
    ]


@pytest.mark.parametrize(
    ("said", "expected"), [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, "None")]
)
def test_threads_wait_briefly_unless_the_environment_says_how(said: dict[str, str], expected: str) -> None:
    code = "import cocoseg.core.stage, os; print(os.environ.get('GOMP_SPINCOUNT'))"
    environment = {"PYTHONPATH": str(ROOT / "src"), "PATH": "", **said}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"{expected}\n"
