"""The repository as a user has it: a clone with its own git history and DVC cache, run through `dvc`."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
# Small enough for a test, large enough that each side has every class.
TINY = {
    "max_images": 60,
    "split_rule": "exact",
    "image_size_px": 64,
    "epochs": 1,
    "batch_size": 8,
    "gallery_images": 2,
}


class Clone:
    """A working copy in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, check: bool = True, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the clone, with this environment's `python` and `dvc` first on the path."""
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        finished = subprocess.run(
            command,
            cwd=self.folder,
            env={**os.environ, "PATH": path, "DVC_NO_ANALYTICS": "1", **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if check:
            assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished

    def dvc(self, *arguments: str, check: bool = True, **environment: str) -> str:
        """What `dvc` printed, on both streams."""
        finished = self.run(sys.executable, "-m", "dvc", *arguments, check=check, **environment)
        return finished.stdout + finished.stderr

    def git(self, *arguments: str) -> str:
        """What `git` printed."""
        return self.run("git", *arguments).stdout

    def commit(self, message: str) -> None:
        """Commit everything that is not ignored."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def yaml(self, name: str) -> Any:
        """The content of a YAML file, read as YAML 1.2."""
        return YAML(typ="safe", pure=True).load(self.folder / name)

    def set_params(self, **changes: Any) -> None:
        """Change values in `params.yaml`."""
        params = self.yaml("params.yaml") | changes
        with (self.folder / "params.yaml").open("w") as file:
            YAML(typ="safe", pure=True).dump(params, file)

    def stages_run(self, output: str) -> list[str]:
        """The stages that a `dvc repro` or `dvc exp run` executed, from what it printed."""
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def git_repository(folder: Path) -> None:
    """Make `folder` a repository of git and DVC with one commit, which dvclive asks for."""
    (folder / ".dvc").mkdir(parents=True, exist_ok=True)
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", "init", "--quiet"], check=True, cwd=folder)
    commit = ["git", *identity, "commit", "--quiet", "--allow-empty", "--message", "start"]
    subprocess.run(commit, check=True, cwd=folder)


def clone(folder: Path, params: Mapping[str, Any] = TINY) -> Clone:
    """A clone of the working tree as it is now, with tiny parameters and nothing made yet, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in listed.split("\0"):
        made = name.startswith(("metrics/", "plots/")) or name == "dvc.lock"
        if name and not made and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    made_clone = Clone(folder)
    made_clone.git("init", "--quiet", "--initial-branch=main")
    made_clone.git("config", "user.name", "A. Tester")
    made_clone.git("config", "user.email", "tester@example.org")
    made_clone.set_params(**params)
    made_clone.commit("start")
    return made_clone
