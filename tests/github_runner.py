"""A stand-in for a GitHub runner: runs the commands of a job in a checkout, with its own Python and pip."""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from clones import ROOT, Clone

ARTIFACT = "https://example.org/artifact"  # URL of an uploaded artifact
# A runner has none of these. With the last two each start of Python compiles, or every module that is installed is.
_NOT_INHERITED = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE", "UV_COMPILE_BYTECODE")


class Finished(NamedTuple):
    """The result of a job."""

    failed: list[str]
    """Names of the steps that failed."""
    output: str
    summary: str
    artifact: list[str]
    """Names of the files in the folder that it uploads."""


class Runner:
    """Runs jobs. `expressions` gives the value of each expression that is not an output of a step."""

    def __init__(self, folder: Path, expressions: Mapping[str, str]) -> None:
        self.folder = folder
        self.expressions = expressions
        if uv := shutil.which("uv"):  # ten times as fast as venv
            seeded = [uv, "venv", "--quiet", "--seed", "--python", sys.executable, str(folder / "python")]
            subprocess.run(seeded, check=True)
        else:
            venv.create(folder / "python", with_pip=True)

    def checkout(self, origin: Path, name: str) -> Clone:
        """Return a clone as actions/checkout makes it: with all branches and nothing else."""
        workspace = Clone(self.folder / name)
        subprocess.run(["git", "clone", "--quiet", str(origin), str(workspace.folder)], check=True)
        if (ROOT / "uv.lock").is_file():  # git ignores it; without it uv looks up the versions again
            shutil.copy2(ROOT / "uv.lock", workspace.folder)
        return workspace

    def run(
        self, workflow: Mapping[str, Any], job: str, workspace: Clone, expressions: Mapping[str, str], **given: str
    ) -> Finished:
        """Run the commands of a job. Actions need GitHub and are skipped; an upload only lists its files."""
        folder = workspace.folder / workflow["defaults"]["run"].get("working-directory", ".")
        known = {**self.expressions, **expressions}
        failed: list[str] = []
        output = ""
        artifact: list[str] = []
        summary, outputs = self.folder / "summary.md", self.folder / "outputs"
        summary.write_text("")
        for step in workflow["jobs"][job]["steps"]:
            if failed and step.get("if") != "${{ !cancelled() }}":
                continue
            outputs.write_text("")
            if step.get("uses", "").startswith("actions/upload-artifact@"):
                artifact = sorted(path.name for path in (workspace.folder / step["with"]["path"]).glob("*"))
                outputs.write_text(f"artifact-url={ARTIFACT if artifact else ''}\n")
            if "run" in step:
                environment = given | {"GITHUB_OUTPUT": str(outputs), "GITHUB_STEP_SUMMARY": str(summary)}
                # One environment for all checkouts: only the link to their code changes.
                environment["UV_PROJECT_ENVIRONMENT"] = str(self.folder / "environment")
                environment |= {name: evaluated(text, known) for name, text in step.get("env", {}).items()}
                finished = bash(step["run"], folder, self.folder / "python/bin", **environment)
                output += finished.stdout + finished.stderr
                if finished.returncode:
                    failed.append(step["name"])
            for line in outputs.read_text().splitlines():
                name, _, value = line.partition("=")
                known[f"steps.{step['id']}.outputs.{name}"] = value
        return Finished(failed, output, summary.read_text(), artifact)


def evaluated(text: str, expressions: Mapping[str, str]) -> str:
    """Return a value of the `env` of a step, with its expressions replaced."""
    return re.sub(r"\$\{\{ (\S+) \}\}", lambda match: expressions[match[1]], text)


def bash(script: str, folder: Path, *first: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a script as `shell: bash` does, with `first` at the start of the path and without this process's Python."""
    ours = str(Path(sys.executable).parent)
    path = [place for place in os.environ["PATH"].split(os.pathsep) if place != ours]
    inherited = {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=folder,
        env={
            **inherited,
            "PATH": os.pathsep.join([*map(str, first), *path]),
            "DVC_NO_ANALYTICS": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(folder),
            "GITHUB_REPOSITORY": "team/cocoseg",
            "GITHUB_SERVER_URL": "https://github.com",
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
