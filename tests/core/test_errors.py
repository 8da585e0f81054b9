"""Errors that lie in the machine, or in what is installed: one line with the way out."""

import subprocess
import sys
from pathlib import Path

import pytest

from cocoseg.core.errors import explained, missing_extra

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
def test_a_python_without_our_modules_is_named(script: tuple[str, ...], tmp_path: Path) -> None:
    finished = run_without("msgspec", *script, folder=tmp_path)
    name = "train" if len(script) == 1 else "cocoseg evaluate"
    said = (
        f"{name}: msgspec is not installed for {sys.executable}; if that is the wrong Python, put the right one first"
    )
    assert (finished.returncode, finished.stderr.count("\n")) == (1, 1)
    assert finished.stderr.startswith(said)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "not enough memory (MemoryError); allow more: ulimit -v"),
        (ImportError("libtorch_cpu.so: failed to map segment from shared object"), "not enough memory (libtorch_cpu"),
        (RuntimeError("can't start new thread"), "no more threads are allowed"),
        (RuntimeError("Could not determine home directory."), "this user has no home folder"),
        (DeprecationWarning("soon"), "PYTHONWARNINGS or -W makes warnings of libraries errors (soon)"),
        (UnicodeEncodeError("ascii", "ß", 0, 1, "ordinal"), "the locale is not UTF-8 ('ascii' codec can't"),
    ],
)
def test_what_the_machine_lacks_is_one_line(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "getfilesystemencoding", lambda: "ascii")
    assert str(explained(error)).startswith(said)


@pytest.mark.parametrize(
    "error",
    [
        *(RuntimeError("x"), KeyError("x"), ValueError("Unable to allocate a name")),
        *(ModuleNotFoundError(name="cocoseg.lost"), ModuleNotFoundError(name="psutil.lost")),
    ],
)
def test_a_bug_shows_where(error: Exception) -> None:
    assert explained(error) is None


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
