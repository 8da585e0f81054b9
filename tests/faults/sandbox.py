"""A clone with its caches in one folder, in which commands run that are killed, and the state that they leave."""

import compileall
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from clones import PATH, Clone, clone
from ruamel.yaml import YAML

# Small enough to run hundreds of times, large enough that every stage writes every kind of output.
PARAMS = {
    "max_images": 8,
    "instance_masks": True,
    "gallery_images": 1,
    "split_rule": "exact",
    "train_share": 0.5,
    "val_share": 0.25,
    "test_share": 0.25,
    "image_size_px": 32,
    "batch_size": 2,
    "epochs": 2,
    "bootstrap_samples": 100,
}
STAGES = ("download", "filter", "download_images", "mask", "split", "train", "evaluate")

_LONGEST_RUN_S = 300
_LIBRARY = Path(__file__).with_name("kill_at.c")

# Forked from a process that has imported DVC: to import it takes longer than most of what it does here.
_FORKS = multiprocessing.get_context("forkserver")
_PRELOADED = ["dvc.cli", "dvc.commands.repro", "dvc.repo", "dvc.repo.reproduce", "dvc.output", "dvc.ignore"]


class Ended(NamedTuple):
    """How a command ended, and what it said on both streams."""

    status: int  # negative: killed by this signal
    said: str


class Sandbox:
    """A folder with a clone, its remote beside it, the user's cache and DVC's own notes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clone = Clone(folder / "work")
        self.killed_below: tuple[str, ...] = ("work", "cache", "store")

    @property
    def count(self) -> Path:
        """The file whose size is the number of operations so far."""
        return self.folder / "count"

    def environment(self) -> dict[str, str]:
        """What commands run with."""
        return {
            "PATH": PATH,
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.folder / "site"),
            "COCOSEG_CACHE": str(self.folder / "cache"),
            "COCOSEG_WORKERS": "2",
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # Python's own files are no operations of a run
            "KILL_BELOW": ":".join(str(self.folder / name) for name in self.killed_below),
        }

    def dvc(self, *arguments: str, kill_after_s: float | None = None, **environment: str) -> Ended:
        """Run `dvc` in a process group of its own, with time left to the group or without end."""
        log = self.folder / "said"
        process = _FORKS.Process(
            target=_run_dvc, args=(self.clone.folder, self.environment() | environment, log, arguments)
        )
        process.start()
        process.join(_LONGEST_RUN_S if kill_after_s is None else kill_after_s)
        if process.exitcode is None:
            assert kill_after_s is not None, f"dvc {' '.join(arguments)} did not end: {log.read_text()}"
            with suppress(ProcessLookupError):
                os.killpg(process.pid or 0, signal.SIGKILL)
            process.join()
        _wait_for_group(process.pid or 0)
        status = process.exitcode
        assert status is not None
        return Ended(status, log.read_text(errors="replace"))

    def operations(self, *arguments: str) -> int:
        """How many operations the command makes that is not disturbed."""
        self.count.unlink(missing_ok=True)
        ended = self.dvc(*arguments, KILL_COUNT=str(self.count))
        assert ended.status == 0, ended.said
        return self.count.stat().st_size

    def killed_at(self, operation: int, *arguments: str) -> Ended:
        """Run the command, and kill it in front of one of its operations."""
        self.count.unlink(missing_ok=True)
        return self.dvc(*arguments, KILL_COUNT=str(self.count), KILL_AT=str(operation))

    def become(self, other: Path) -> None:
        """Be a copy of another sandbox's folder."""
        shutil.rmtree(self.folder, ignore_errors=True)
        subprocess.run(["cp", "-a", str(other), str(self.folder)], check=True)

    def content(self) -> dict[str, str]:
        """The digest of every file of the working tree but of what DVC and git keep for themselves, and of timings."""
        found = {}
        for path in sorted(self.clone.folder.rglob("*")):
            name = path.relative_to(self.clone.folder).as_posix()
            hidden = name.startswith((".git/", ".dvc/cache/", ".dvc/tmp/", "metrics/timing/"))
            if path.is_file() and not hidden and "__pycache__" not in name:
                found[name] = hashlib.sha256(_comparable(path)).hexdigest()
        return found

    def broken_objects(self) -> list[str]:
        """The objects in cache and remote whose content is not what their name says."""
        broken = []
        for place in ("work/.dvc/cache/files/md5", "store/files/md5"):
            for path in (self.folder / place).glob("??/*"):
                name = f"{path.parent.name}{path.name}"
                digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
                # DVC leaves what it was about to write under a name of its own, which it never reads.
                if not path.name.endswith(".tmp") and digest != name.removesuffix(".dir"):
                    broken.append(f"{place}/{name}")
        return broken


def _comparable(path: Path) -> bytes:
    if path.name != "dvc.lock":
        return path.read_bytes()
    lock = YAML(typ="safe", pure=True).load(path)
    for entry in lock["stages"].values():
        entry["outs"] = [out for out in entry["outs"] if not out["path"].startswith("metrics/timing/")]
    return json.dumps(lock, sort_keys=True).encode()


def _run_dvc(folder: Path, environment: dict[str, str], log: Path, arguments: Sequence[str]) -> None:
    os.setsid()
    os.chdir(folder)
    os.environ.update(environment)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from dvc.cli import main

    status = main(list(arguments))
    sys.stdout.flush()
    sys.exit(status)


def _wait_for_group(group: int) -> None:
    """Workers that were killed with the run may take a moment to die."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.01)
    raise AssertionError("processes of a killed run are still there")


def start_forks(folder: Path) -> None:
    """Start the process that the others are forked from, with `kill_at.c` compiled and loaded."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler (cc), which builds what counts and kills")
    library = folder / "kill_at.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_LIBRARY), "-ldl"], check=True)
    _FORKS.set_forkserver_preload(_PRELOADED)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LD_PRELOAD", str(library))
        environment.setenv("DVC_NO_ANALYTICS", "1")
        from multiprocessing import forkserver

        forkserver.ensure_running()


def fresh_sandbox(folder: Path) -> Sandbox:
    """A clone in which nothing was made yet."""
    sandbox = Sandbox(folder)
    clone(sandbox.clone.folder, PARAMS)
    compileall.compile_dir(sandbox.clone.folder / "src", quiet=1)
    for name in ("cache", "site", "store"):
        (folder / name).mkdir()
    (sandbox.clone.folder / ".dvc/config.local").write_text(
        "[core]\n    remote = store\n['remote \"store\"']\n    url = ../../store\n"
    )
    return sandbox


def as_json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True)
