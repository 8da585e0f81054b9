"""A module that is not installed: one line if an extra brings it, a traceback if not."""

import subprocess
import sys
from pathlib import Path

import pytest

from cocoseg.core.errors import missing_extra

ROOT = Path(__file__).parents[2]
WAY_OUT = (
    "it comes with the extra '{0}': pip install 'cocoseg[{0}]', or in a clone: uv sync --inexact --no-dev --extra {0}"
)
LINE = f"torch is not installed; {WAY_OUT.format('train')}"
BACK = "(restore the last good outputs with: git checkout HEAD -- dvc.lock metrics plots; dvc checkout --force)"
# Runs a script in which a module cannot be imported.
LACKING = """
import runpy, sys
sys.modules[sys.argv[1]] = None
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run_without(module: str, script: str, *arguments: str, folder: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", LACKING, module, str(ROOT / script), *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [("predict", "photo.jpg", "--out", "made"), ("evaluate",), ("export", "--format", "onnx", "--out", "made")],
)
def test_a_command_that_lacks_an_extra_names_it_in_one_line(command: tuple[str, ...]) -> None:
    finished = run_without("torch", "src/cocoseg/__main__.py", *command)
    assert (finished.returncode, finished.stderr) == (1, f"cocoseg {command[0]}: {LINE}\n")
    assert not (ROOT / "made").exists()


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_a_stage_that_lacks_an_extra_names_it_and_the_way_back_in_one_line(stage: str, tmp_path: Path) -> None:
    (tmp_path / "data/evaluation").mkdir(parents=True)  # there are outputs to go back to
    finished = run_without("torch", f"stages/{stage}.py", folder=tmp_path)
    assert (finished.returncode, finished.stderr) == (1, f"{stage}: {LINE} {BACK}\n")


@pytest.mark.parametrize("script", [("src/cocoseg/__main__.py", "evaluate"), ("stages/train.py",)])
def test_a_missing_module_that_no_extra_brings_is_a_bug_and_shows_where(script: tuple[str, ...]) -> None:
    finished = run_without("msgspec", *script)
    assert finished.returncode == 1
    assert finished.stderr.startswith("Traceback")
    assert finished.stderr.splitlines()[-1].startswith("ModuleNotFoundError: import of msgspec halted")


@pytest.mark.parametrize(
    ("module", "extra"),
    [("lightning_fabric", "train"), ("segmentation_models_pytorch", "train"), ("matplotlib", "train"),
     ("tensorboard", "tensorboard"), ("wandb", "wandb"), ("optuna", "sweep"), ("submitit", "sweep")],
)  # fmt: skip
def test_a_module_belongs_to_the_extra_that_names_its_distribution(module: str, extra: str) -> None:
    line = missing_extra(ModuleNotFoundError(name=module))
    assert line == f"{module} is not installed; {WAY_OUT.format(extra)}"


@pytest.mark.parametrize(
    "error",
    [
        ModuleNotFoundError(name="torch.nothing"),  # torch is there
        ModuleNotFoundError(name="lightning"),  # another distribution than lightning-fabric
        ModuleNotFoundError(name="dvc"),  # installed without any extra
        ImportError(name="torch"),  # there, and broken
        ModuleNotFoundError("without a name"),
    ],
)
def test_any_other_error_is_of_no_extra(error: ImportError) -> None:
    assert missing_extra(error) is None
