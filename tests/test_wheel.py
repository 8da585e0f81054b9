"""The wheel in an environment of its own, without extras."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from clones import Clone, clone
from lacking import lacking

LINE = "torch is not installed; it comes with the extra 'train': pip install 'cocoseg[train]'"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone with an environment that holds the wheel, and nothing that the wheel does not ask for."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        lacking("no wheel: uv is not there to build it")
    repository = clone(tmp_path_factory.mktemp("installed"))
    command = [uv, "sync", "--no-editable", "--no-default-groups", "--python", sys.executable]
    # What `uv sync` has put into its cache suffices, as a rule.
    if run(repository, *command, "--offline").returncode:
        finished = run(repository, *command)
        if finished.returncode:
            lacking(f"no wheel: uv sync failed: {finished.stderr.strip()[-200:]}")
    return repository


def run(repository: Clone, *command: str, folder: Path | None = None) -> "subprocess.CompletedProcess[str]":
    """Run a command where nothing of the tests' own environment is to be seen."""
    programs = repository.folder / ".venv/bin"
    hidden = ("PYTHONPATH", "VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")
    return subprocess.run(
        command,
        cwd=folder or repository.folder,
        env={name: value for name, value in os.environ.items() if name not in hidden}
        | {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_wheel_brings_its_types_and_neither_torch_nor_matplotlib(installed: Clone) -> None:
    asked = """
import importlib.util, pathlib, cocoseg
print(*(name for name in ("cv2", "torch", "matplotlib", "dvclive") if importlib.util.find_spec(name)))
print(pathlib.Path(cocoseg.__file__).with_name("py.typed").exists(), "site-packages" in cocoseg.__file__)
"""
    assert run(installed, "python", "-c", asked).stdout.splitlines() == ["cv2", "True True"]


def test_help_needs_no_extra_and_a_command_that_does_says_so_in_one_line(installed: Clone, tmp_path: Path) -> None:
    assert run(installed, "cocoseg", "--help", folder=tmp_path).stdout.startswith("usage: cocoseg")
    for command in ("predict photo.jpg --out made", "evaluate", "export --format onnx --out made"):
        finished = run(installed, "cocoseg", *command.split(), folder=tmp_path)
        assert finished.returncode == 1
        assert finished.stderr.startswith(f"cocoseg {command.split()[0]}: {LINE}")
        assert finished.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_data_stages_need_no_extra_and_training_says_that_it_does(installed: Clone) -> None:
    made = run(installed, "dvc", "repro", "split")
    assert made.returncode == 0, made.stdout + made.stderr
    assert (installed.folder / "plots/mask/preview.png").exists()
    finished = run(installed, "dvc", "repro", "train")
    assert finished.returncode != 0
    assert f"train: {LINE.replace('torch', 'safetensors')}" in finished.stderr  # which the stage imports first
    assert "Traceback" not in finished.stderr
