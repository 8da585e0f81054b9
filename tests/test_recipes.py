"""The lines of docs/recipes.md: valid as they are written, and run on a few images."""

import importlib.util
import inspect
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import cv2
import numpy as np
import pytest
from released_weights import write_released_weights
from ruamel.yaml import YAML

from cocoseg.cli import main
from cocoseg.commands.released import VOC_CLASSES, released_model
from cocoseg.core.errors import CocosegError
from cocoseg.core.params import load_params

ROOT = Path(__file__).parents[1]
REAL = ROOT / "../shared/data/coco-real"
STAGES = ("download", "filter", "download_images", "mask", "split", "train", "evaluate")
PAGE = (ROOT / "docs/recipes.md").read_text()
BLOCKS = re.findall(r"^## (.+?)$.*?^```sh\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
*_RECIPES, (_, _ORACLE) = [(heading, block.replace("\\\n", " ")) for heading, block in BLOCKS]
RECIPES, ORACLE = dict(_RECIPES), _ORACLE.splitlines()

# What a test cannot have: COCO itself, weights from a hub, and the time.
SMALL: dict[str, Any] = {"pretrained": "none", "epochs": 1, "image_size_px": 64, "max_images": 20, "batch_size": 4}
SMALL |= {"gallery_images": 1, "split_rule": "exact"}  # of few images the hash may leave a side empty


def yaml(text: str) -> Any:
    return YAML(typ="safe", pure=True).load(text)


def assignments(line: str) -> dict[str, str]:
    """What each `-S` of a line sets."""
    words = shlex.split(line)
    return dict(words[position + 1].split("=", 1) for position, word in enumerate(words) if word == "-S")


def params_of(values: dict[str, str]) -> dict[str, Any]:
    """`params.yaml` with these changes."""
    fixed = {key: yaml(value) for key, value in values.items()}
    return dict(yaml((ROOT / "params.yaml").read_text())) | fixed


def settings(recipe: str) -> list[dict[str, Any]]:
    """The parameters of each run of a line; a queued one lists several values of `arch`."""
    values = assignments(recipe)
    architectures = values.pop("arch").split(",")
    assert ("--queue" in recipe) == (len(architectures) > 1)
    return [params_of(values | {"arch": architecture}) for architecture in architectures]


RUNS = {f"{heading[:20]}-{params['arch']}": params for heading, line in RECIPES.items() for params in settings(line)}


def write_params(folder: Path, params: dict[str, Any]) -> None:
    with (folder / "params.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump(params, file)


def test_there_is_a_line_for_each_of_the_eleven_projects() -> None:
    assert len(RECIPES) == 11
    assert all(line.startswith("dvc exp run ") and line.count("\n") == 1 for line in RECIPES.values())


@pytest.mark.parametrize("params", RUNS.values(), ids=RUNS)
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


def run_stages(stages: Sequence[str], folder: Path, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    write_params(folder, params)
    shutil.copy(ROOT / "dvc.yaml", folder)
    shutil.copytree(ROOT / "data/custom/weights", folder / "data/custom/weights", dirs_exist_ok=True)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COCOSEG_WORKERS", "1")
    for stage in stages:
        monkeypatch.setattr(sys, "argv", [f"stages/{stage}.py"])
        runpy.run_path(str(ROOT / "stages" / f"{stage}.py"), run_name="__main__")


@pytest.mark.slow
@pytest.mark.parametrize("params", RUNS.values(), ids=RUNS)
def test_a_recipe_trains_and_evaluates(params: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = params | SMALL | {"dataset": "sample"}
    if REAL.is_dir():
        params |= {"dataset": "custom", "annotations": str(REAL / "instances.json"), "images": str(REAL / "images")}
    if params["encoder"] == "resnet34":
        params["encoder"] = "resnet18"  # the same family, half the time
    for command in (
        ["init", "-q"],
        ["-c", "user.name=A", "-c", "user.email=a@example.org", "commit", "--allow-empty", "-qm", "x"],
    ):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    run_stages(STAGES, tmp_path, params, monkeypatch)
    scores = json.loads((tmp_path / "metrics/evaluate.json").read_text())
    assert scores["split"] == ("test" if params["test_share"] else "val")
    assert 0 <= scores["miou"] <= 1
    cost = json.loads((tmp_path / "metrics/timing/evaluate.json").read_text())
    assert cost["parameters"] > 10**6
    assert cost["multiply_adds"] > 10**6
    assert min(cost[key] for key in ("images_per_second", "milliseconds_per_image", "peak_memory_mb")) > 0
    if params["task"] == "binary":
        assert list(scores["iou"]) == ["background", "foreground"]


def write_val2017(folder: Path) -> dict[str, str]:
    """An image of COCO's val2017 for each of VOC's classes, and the parameters that lead there."""
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for number, _ in enumerate(VOC_CLASSES, 1):
        name = f"{number:012}.jpg"
        pixels = np.random.default_rng(number).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        (folder / "images" / name).write_bytes(cv2.imencode(".jpg", pixels)[1].tobytes())
        url = f"http://images.cocodataset.org/val2017/{name}"
        images.append({"id": number, "file_name": name, "width": 60, "height": 40, "license": 1, "coco_url": url})
        box = [[10, 10, 30, 10, 30, 30, 10, 30]]
        annotations.append({"id": number, "image_id": number, "category_id": number, "iscrowd": 0, "area": 400,
                            "bbox": [10, 10, 20, 20], "segmentation": box})  # fmt: skip
    categories = [{"id": number, "name": name} for number, name in enumerate(VOC_CLASSES, 1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content))
    return {"dataset": "custom", "annotations": str(folder / "instances.json"), "images": str(folder / "images")}


def test_the_lines_of_the_oracle_put_every_image_of_val2017_on_the_test_side_and_score_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make, score = ORACLE
    assert assignments(make)["dataset"] == "coco2017-val"
    data = write_val2017(tmp_path / "val2017")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    write_released_weights(tmp_path)
    run_stages(STAGES[: 1 + STAGES.index(make.split()[-1])], tmp_path, params_of(assignments(make) | data), monkeypatch)
    main(score.split()[1:])
    found = json.loads(capsys.readouterr().out)
    assert (found["split"], found["images"], found["classes_averaged"]) == ("test", 20, 21)
    # Nothing is left to train on, and the next stage says so.
    with pytest.raises(SystemExit, match=r"^train: data/splits/train\.txt: no images; [^\n]*set train_share above 0"):
        run_stages(["train"], tmp_path, params_of(assignments(make) | data), monkeypatch)


def test_who_lacks_the_oracles_classes_is_told_the_oracles_line() -> None:
    with pytest.raises(CocosegError) as caught:
        released_model("deeplabv3_mobilenet", ["background", "person"])
    told = assignments(str(caught.value).split("with: ")[1])
    assert told.items() <= assignments(ORACLE[0]).items()
    assert {"dataset", "classes", "test_share"} <= told.keys()
