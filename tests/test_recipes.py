"""The lines of the README that stand in for other projects: valid as they are written, and run on a few images."""

import importlib.util
import inspect
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest
from ruamel.yaml import YAML

from cocoseg.params import load_params

ROOT = Path(__file__).parents[1]
REAL = ROOT / "../shared/data/coco-real"
STAGES = ("download", "filter", "download_images", "mask", "split", "train", "evaluate")
RECIPES = dict(re.findall(r"^\| \((\w)\) .*\| `(dvc exp run .*)` \|$", (ROOT / "README.md").read_text(), re.MULTILINE))

# What a test cannot have: COCO itself, weights from a hub, and the time.
SMALL: dict[str, Any] = {"pretrained": "none", "epochs": 1, "image_size_px": 64, "max_images": 20, "batch_size": 4}
SMALL["gallery_images"] = 1


def yaml(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def settings(recipe: str) -> list[dict[str, Any]]:
    """The parameters of each run of a line; a queued one lists several values of `arch`."""
    words = shlex.split(recipe)
    pairs = [words[position + 1].split("=", 1) for position, word in enumerate(words) if word == "-S"]
    values = dict(pairs)
    architectures = values.pop("arch").split(",")
    assert ("--queue" in words) == (len(architectures) > 1)
    base = yaml((ROOT / "params.yaml").read_text())
    fixed = {key: yaml(value) for key, value in values.items()}
    return [base | fixed | {"arch": architecture} for architecture in architectures]


RUNS = [
    pytest.param(params, id=f"{letter}-{params['arch']}")
    for letter, line in RECIPES.items()
    for params in settings(line)
]


def write_params(folder: Path, params: dict[str, Any]) -> None:
    with (folder / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(params, file)


def test_there_is_a_line_for_each_of_the_five_projects() -> None:
    assert list(RECIPES) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize("params", RUNS)
def test_a_recipe_holds_known_parameters_in_their_ranges(params: dict[str, Any], tmp_path: Path) -> None:
    write_params(tmp_path, params)
    for stage in STAGES:
        spec = importlib.util.spec_from_file_location(f"recipe_{stage}", ROOT / "stages" / f"{stage}.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        params_type = get_type_hints(module.main)[next(iter(inspect.signature(module.main).parameters))]
        load_params(params_type, tmp_path / "params.yaml", ROOT / "dvc.yaml")


@pytest.mark.parametrize("params", RUNS)
def test_a_recipe_trains_and_evaluates(params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = params | SMALL | {"dataset": "sample"}
    if REAL.is_dir():
        params |= {"dataset": "custom", "annotations": str(REAL / "instances.json"), "images": str(REAL / "images")}
    if params["encoder"] == "resnet34":
        params["encoder"] = "resnet18"  # the same family, half the time
    write_params(tmp_path, params)
    shutil.copy(ROOT / "dvc.yaml", tmp_path)
    for command in (
        ["init", "-q"],
        ["-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--allow-empty", "-qm", "x"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COCOSEG_WORKERS", "1")
    for stage in STAGES:
        monkeypatch.setattr(sys, "argv", [f"stages/{stage}.py"])
        runpy.run_path(str(ROOT / "stages" / f"{stage}.py"), run_name="__main__")
    scores = json.loads((tmp_path / "metrics/evaluate.json").read_text())
    assert scores["split"] == ("test" if params["test_share"] else "val")
    assert 0 <= scores["miou"] <= 1
    if params["task"] == "binary":
        assert list(scores["iou"]) == ["background", "foreground"]
