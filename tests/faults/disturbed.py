"""A clone with its caches in one folder, in which commands are killed, and the state that they leave."""

import compileall
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from clones import PATH, ROOT, Clone, clone, forked_path
from forks import kill, run_fork
from lacking import lacking
from own_environment import at_end
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
DATA_STAGES = ("download", "filter", "download_images", "mask", "split")
KILLED = -9
STAGES = (*DATA_STAGES, "train", "evaluate")
ALL = os.environ.get("COCOSEG_TEST_FAULTS") == "all"  # else only a few of each kind

NOTHING: Mapping[str, str] = {}
_KILL_AT = Path(__file__).with_name("kill_at.c")
# Names of files that DVC writes to test the links of a disk, and that a stage writes before it renames them.
_UNFINISHED = (".tmp", ".writing-")


class Ended(NamedTuple):
    """The exit status of a command, and its output on both streams."""

    status: int  # negative: killed by this signal
    said: str


class Sandbox:
    """A folder with a clone, its remote, the user's cache and the state of DVC."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clone = Clone(folder / "work")
        self._count = folder / "count"  # one byte per operation

    def dvc(
        self,
        *arguments: str,
        environment: Mapping[str, str] = NOTHING,
        kill_after_s: float | None = None,
        alone: bool = False,
    ) -> Ended:
        """Run `dvc` in its own process group, which is killed after `kill_after_s` or must end by itself.

        `alone`: only DVC is killed, and nobody waits for what it has started.
        """
        return self._run("dvc", *arguments, environment=environment, kill_after_s=kill_after_s, alone=alone)

    def cocoseg(self, *arguments: str, environment: Mapping[str, str] = NOTHING) -> Ended:
        """Run `cocoseg` in its own process group."""
        return self._run("cocoseg", *arguments, environment=environment)

    def _run(
        self,
        *command: str,
        environment: Mapping[str, str],
        kill_after_s: float | None = None,
        alone: bool = False,
    ) -> Ended:
        end = None if kill_after_s is None else time.monotonic() + kill_after_s

        def kill_late(group: int) -> None:
            if end is not None and time.monotonic() > end:
                kill(group, alone=alone)

        finished = run_fork(
            self.clone.folder,
            command,
            # A fork's operations are not counted, and it does not end at the very moment when it is killed.
            {**os.environ, **self.environment(), **environment}
            | ({} if end is not None or "KILL_BELOW" in environment else {"PATH": forked_path()}),
            meanwhile=kill_late,
            preload=str(kill_at()),
            alone=alone,
        )
        return Ended(finished.returncode, finished.stdout + finished.stderr)

    def stage(self, name: str, environment: Mapping[str, str] = NOTHING) -> Ended:
        """Run the script of a stage as DVC would."""
        finished = self.clone.run(
            *(sys.executable, f"stages/{name}.py"),
            check=False,
            **self.environment(),
            PYTHONPATH="src",
            LD_PRELOAD=str(kill_at()),
            **environment,
        )
        return Ended(finished.returncode, finished.stdout + finished.stderr)

    def environment(self) -> dict[str, str]:
        """Return the environment of commands."""
        return {
            "PATH": PATH,
            "DVC_NO_ANALYTICS": "1",
            "DVC_SITE_CACHE_DIR": str(self.folder / "site"),
            "COCOSEG_CACHE": str(self.folder / "cache"),
            "COCOSEG_WORKERS": "2",
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # else Python's files count as operations
        }

    def counted(self, below: Sequence[str], at: int | None = None, *, whom: str = "run") -> dict[str, str]:
        """Return the environment that counts operations below these folders, and kills at the operation `at`."""
        self._count.unlink(missing_ok=True)
        found = {"KILL_BELOW": ":".join(str(self.folder / name) for name in below), "KILL_COUNT": str(self._count)}
        return found if at is None else found | {"KILL_AT": str(at), "KILL_WHOM": whom}

    @property
    def operations(self) -> int:
        """The number of operations of the last counted command."""
        return self._count.stat().st_size

    def become(self, other: Path) -> None:
        """Become a copy of another sandbox."""
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(other, self.folder, symlinks=True)

    def content(self) -> dict[str, str]:
        """Return the digest of every file of the working tree.

        Without the files of DVC and git, timings, and unfinished files of a kill that git ignores.
        """
        found = {}
        for path in sorted(self.clone.folder.rglob("*")):
            name = path.relative_to(self.clone.folder).as_posix()
            own = name.startswith((".git/", ".dvc/cache/", ".dvc/tmp/", "metrics/timing/")) or "__pycache__" in name
            own = own or name == "data/.lock"  # it says who holds the work tree, or held it last
            if path.is_file() and not own and not self._is_left(path):
                found[name] = hashlib.sha256(_comparable(path)).hexdigest()
        return found

    def _is_left(self, path: Path) -> bool:
        if not (path.name.startswith(".") and any(mark in path.name for mark in _UNFINISHED)):
            return False
        # An output folder is removed before its stage runs again, so a leftover in it would be part of the result.
        outputs = ("data/images/", "data/masks/", "data/instance_masks/", "data/splits/", "data/model/", "plots/")
        name = path.relative_to(self.clone.folder).as_posix()
        if name.startswith(outputs):
            return False
        # Ask git in the original repository: it cannot reach a clone on the small disk.
        return subprocess.run(["git", "check-ignore", "--quiet", name], cwd=ROOT, check=False).returncode == 0

    def objects(self) -> set[str]:
        """Return the objects on the remote."""
        return {path.relative_to(self.folder).as_posix() for path in (self.folder / "store/files/md5").glob("??/*")}

    def broken_objects(self) -> list[str]:
        """Return the objects in cache and remote whose content does not match their name."""
        broken = []
        for place in ("work/.dvc/cache/files/md5", "store/files/md5"):
            for path in (self.folder / place).glob("??/*"):
                name = f"{path.parent.name}{path.name}"
                digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()
                # DVC and we write under a temporary name first, which nobody reads again. A cache may be shared, so
                # nobody knows whether the writer is gone.
                unfinished = any(mark in path.name for mark in _UNFINISHED)
                if not unfinished and digest != name.removesuffix(".dir"):
                    broken.append(f"{place}/{name}")
        return broken

    def half_folders(self) -> list[str]:
        """Return the lists of incomplete folders in the cache. DVC treats a folder as complete if its list is there."""
        cache = self.folder / "work/.dvc/cache/files/md5"
        return [
            path.name
            for path in sorted(cache.glob("??/*.dir"))
            if not all((cache / md5[:2] / md5[2:]).exists() for md5 in _listed(path))
        ]


@cache
def kill_at() -> Path:
    """Build `kill_at.c` and return the library; skip the test if that is impossible."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        lacking("no C compiler (cc) on Linux to build the library that counts operations and kills")
    library = Path(tempfile.mkdtemp(), "kill_at.so")
    at_end.callback(shutil.rmtree, library.parent)
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(_KILL_AT), "-ldl"], check=True)
    return library


def fresh_sandbox(folder: Path) -> Sandbox:
    """Return a sandbox with a clone without outputs."""
    sandbox = Sandbox(folder)
    clone(sandbox.clone.folder, PARAMS).pack()
    compileall.compile_dir(sandbox.clone.folder / "src", quiet=1)
    for name in ("cache", "site", "store"):
        (folder / name).mkdir()
    sandbox.clone.set_remote("../../store")
    with (sandbox.clone.folder / ".dvc/config.local").open("a") as config:
        config.write("[core]\n    remote = store\n")
    return sandbox


def _listed(path: Path) -> list[str]:
    return [entry["md5"] for entry in json.loads(path.read_bytes())]


def _comparable(path: Path) -> bytes:
    if path.name != "dvc.lock":
        return path.read_bytes()
    lock = YAML(typ="safe", pure=True).load(path)
    for entry in lock["stages"].values():
        entry["outs"] = [out for out in entry["outs"] if not out["path"].startswith("metrics/timing/")]
    return json.dumps(lock, sort_keys=True).encode()
