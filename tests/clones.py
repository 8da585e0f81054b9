"""Clones of the repository as a user has them, with their own git history and DVC cache."""

import io
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import pytest
from forked_python import forked_python
from forks import MAIN, Meanwhile, nothing, run_fork
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
# This environment's `python` and `dvc` come first.
PATH = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
# Small enough for a test, large enough that each side has every class.
TINY = {
    "max_images": 60,
    "split_rule": "exact",
    "image_size_px": 64,
    "epochs": 1,
    "batch_size": 8,
    "gallery_images": 2,
}
# The environment of a user without credentials, as on GitHub if secrets are not set.
NOBODY = {
    "AWS_ACCESS_KEY_ID": "",
    "AWS_SECRET_ACCESS_KEY": "",
    "AWS_DEFAULT_REGION": "eu-west-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_SHARED_CREDENTIALS_FILE": "",
    "AWS_CONFIG_FILE": "",
}


class Clone:
    """A clone in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *command: str, check: bool = True, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run a command in the clone, with this environment's `python` and `dvc` first on the path."""
        if command[0] in MAIN:
            finished = self.disturbed(nothing, *command, **environment)
        else:
            finished = subprocess.run(
                command,
                cwd=self.folder,
                env=_environment(environment),
                capture_output=True,
                text=True,
                timeout=300,
                check=False,
            )
        if check:
            assert finished.returncode == 0, finished.stdout + finished.stderr
        return finished

    def disturbed(self, meanwhile: Meanwhile, *command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run `dvc` or `cocoseg`. While it runs, call `meanwhile` repeatedly with its process group."""
        return run_fork(self.folder, command, _environment(environment), meanwhile=meanwhile)

    def dvc(self, *arguments: str, check: bool = True, **environment: str) -> str:
        """Run `dvc`. Return its output on both streams."""
        finished = self.run("dvc", *arguments, check=check, **environment)
        return finished.stdout + finished.stderr

    def dvc_here(self, *arguments: str) -> str:
        """Run `dvc` in this process, which is often faster than to start one. Return its output."""
        from dvc.cli import main

        said = io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(said), catch_warnings():
            simplefilter("ignore")  # warnings of DVC, which its own process does not show either
            patch.chdir(self.folder)
            patch.setenv("PATH", forked_path())
            patch.setenv("DVC_NO_ANALYTICS", "1")
            # Made when DVC was first imported, they write to the output of that moment, perhaps of another test.
            for handler in logging.getLogger("dvc").handlers:
                patch.setattr(handler, "stream", said)
            status = main(arguments)
        assert status == 0, said.getvalue()
        return said.getvalue()

    def git(self, *arguments: str) -> str:
        """Run `git`. Return its output."""
        return self.run("git", *arguments).stdout

    def commit(self, message: str) -> None:
        """Commit everything that is not ignored."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)

    def pack(self) -> None:
        """Pack what git has, whose hundreds of files are most of what a copy of this folder takes."""
        self.git("repack", "-adq")

    def yaml(self, name: str) -> Any:
        """Return the content of a YAML file, read as YAML 1.2."""
        return YAML(typ="safe", pure=True).load(self.folder / name)

    def set_params(self, **changes: Any) -> None:
        """Change values in `params.yaml`."""
        params = self.yaml("params.yaml") | changes
        with (self.folder / "params.yaml").open("w") as file:
            YAML(typ="safe", pure=True).dump(params, file)

    def set_remote(self, url: str, **settings: str) -> None:
        """Set the address of the remote `store`, for this clone only."""
        lines = "".join(f"    {name} = {value}\n" for name, value in {"url": url, **settings}.items())
        (self.folder / ".dvc/config.local").write_text(f"['remote \"store\"']\n{lines}")

    def stages_run(self, output: str) -> list[str]:
        """Return the stages that `dvc repro` or `dvc exp run` executed, from its output."""
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    return {**os.environ, "PATH": forked_path(), "DVC_NO_ANALYTICS": "1", **more}


def forked_path() -> str:
    """Return the path with a `python` that forks scripts from a process that has imported the libraries."""
    return f"{forked_python()}{os.pathsep}{PATH}"


def git_repository(folder: Path) -> None:
    """Make `folder` a repository of git and DVC with one commit, which dvclive requires."""
    (folder / ".dvc").mkdir(parents=True, exist_ok=True)
    (folder / ".dvc" / "config").write_text("[core]\n    analytics = false\n")
    identity = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    subprocess.run(["git", "init", "--quiet"], check=True, cwd=folder)
    commit = ["git", *identity, "commit", "--quiet", "--allow-empty", "--message", "start"]
    subprocess.run(commit, check=True, cwd=folder)


def clone(folder: Path, params: Mapping[str, Any] = TINY) -> Clone:
    """Return a committed clone of the current working tree, with small parameters and without outputs."""
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
