"""`params.yaml` is read strictly, and each mistake is one line that says how to fix it."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from dvc.utils.hydra import apply_overrides
from msgspec import Meta
from ruamel.yaml import YAML

from cocoseg.core.errors import CocosegError
from cocoseg.core.params import declared_outs, declared_params, load_params
from cocoseg.download.params import DownloadParams

ROOT = Path(__file__).parents[2]


class Params(msgspec.Struct, frozen=True, kw_only=True):
    lr: Annotated[float, Meta(gt=0, extra_json_schema={"examples": [0.001]})]
    epochs: Annotated[int, Meta(ge=1)]
    loss: Literal["auto", "ce", "dice"]
    classes: tuple[str, ...]
    limit: Annotated[int, Meta(ge=1)] | None
    share: Annotated[float, Meta(ge=0, le=1)]
    flag: bool


GOOD = {
    "lr": "0.001",
    "epochs": "3",
    "loss": "ce",
    "classes": "[person, no]",
    "limit": "null",
    "share": "0.5",
    "flag": "true",
}


def load(folder: Path, extra: str = "", **changes: str) -> Params:
    (folder / "dvc.yaml").write_text(
        "stages:\n  a:\n    cmd: x\n    params: [lr, epochs, loss]\n"
        "  b:\n    cmd: x\n    params: [classes, limit, share, flag, dataset]\n"
    )
    values = {key: value for key, value in (GOOD | changes).items() if value != "(gone)"}
    text = "".join(f"{key}: {value}\n" for key, value in values.items()) + extra
    (folder / "params.yaml").write_bytes(text.encode(errors="surrogateescape"))
    return load_params(Params, folder / "params.yaml", folder / "dvc.yaml")


def test_values_arrive_typed_and_by_yaml_1_2(tmp_path: Path) -> None:
    params = load(tmp_path, extra="dataset: sample\n")
    assert params == Params(lr=0.001, epochs=3, loss="ce", classes=("person", "no"), limit=None, share=0.5, flag=True)


@pytest.mark.parametrize("written", ["1e-05", "1e-5", "0.00001", "1E-5"])
def test_a_learning_rate_is_a_number_however_it_is_written(tmp_path: Path, written: str) -> None:
    assert load(tmp_path, lr=written).lr == 0.00001


def test_a_whole_number_is_good_for_a_float(tmp_path: Path) -> None:
    assert load(tmp_path, share="1").share == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": "fast"}, "params.yaml: lr is 'fast'; expected a number above 0, such as 0.001"),
        ({"lr": "true"}, "params.yaml: lr is true; expected a number above 0, such as 0.001"),
        ({"lr": "''"}, "params.yaml: lr is ''; expected a number above 0, such as 0.001"),
        ({"lr": ""}, "params.yaml: lr is null; expected a number above 0, such as 0.001"),
        ({"lr": "0"}, "params.yaml: lr is 0; expected a number above 0, such as 0.001"),
        ({"lr": "(gone)"}, "params.yaml: lr is missing; expected a number above 0, such as 0.001"),
        ({"epochs": "2.5"}, "params.yaml: epochs is 2.5; expected a whole number of at least 1"),
        ({"epochs": "-1"}, "params.yaml: epochs is -1; expected a whole number of at least 1"),
        ({"limit": "0"}, "params.yaml: limit is 0; expected a whole number of at least 1 or null"),
        ({"share": "1.5"}, "params.yaml: share is 1.5; expected a number of at least 0 and at most 1"),
        ({"loss": "dcie"}, "params.yaml: loss is 'dcie'; expected one of auto, ce, dice; did you mean dice?"),
        ({"classes": "person"}, "params.yaml: classes is 'person'; expected a list, each entry a string"),
        (
            {"classes": "[1e3, cat]"},
            "params.yaml: classes is [1000.0, 'cat']; expected a list, each entry a string; put its entries in quotes",
        ),
        ({"classes": "[[cat]]"}, "params.yaml: classes is [['cat']]; expected a list, each entry a string"),
        ({"flag": "yes"}, "params.yaml: flag is 'yes'; expected true or false; did you mean true?"),
        ({"flag": "maybe"}, "params.yaml: flag is 'maybe'; expected true or false"),
        ({"lr": "0,01"}, "params.yaml: lr is '0,01'; expected a number above 0, such as 0.001; did you mean 0.01?"),
        ({"lr": "'0.01'"}, "params.yaml: lr is '0.01'; expected a number above 0, such as 0.001; did you mean 0.01?"),
        ({"lr": "1e-4x"}, "params.yaml: lr is '1e-4x'; expected a number above 0, such as 0.001"),
        ({"share": "None"}, "params.yaml: share is 'None'; expected a number of at least 0 and at most 1"),
        (
            {"limit": "None"},
            "params.yaml: limit is 'None'; expected a whole number of at least 1 or null; did you mean null?",
        ),
        ({"loss": "DICE"}, "params.yaml: loss is 'DICE'; expected one of auto, ce, dice; did you mean dice?"),
    ],
)
def test_a_wrong_value_is_one_line_with_what_is_allowed(tmp_path: Path, changes: dict[str, str], message: str) -> None:
    with pytest.raises(CocosegError) as caught:
        load(tmp_path, **changes)
    assert str(caught.value) == f"{tmp_path}/{message}"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("datset: sample\n", "unknown parameter datset; did you mean dataset?"),
        ("zzz: 1\n", "unknown parameter zzz; a key of your own belongs under params of its stage in dvc.yaml"),
        ('"": 1\n', "unknown parameter ''; a key of your own "),
        ('"a\\nb": 1\n', r"unknown parameter 'a\\nb'; a key of your own "),
        ("lr: 0.1\n", "params.yaml:8: found duplicate key"),
        ("lr\n", "params.yaml:8: could not find expected ':'; expected lines of 'key: value'"),
        ("lr:0.1\ndataset: sample\n", "params.yaml:8: could not find expected ':'; expected lines of 'key: value'"),
        ("dataset:\tsample\n", "params.yaml:8: found character"),
        ("# gr\udcf6\udcdfe\n", "params.yaml:8: is not UTF-8 text; save the file as UTF-8"),
    ],
)
def test_an_unknown_or_repeated_key_is_refused(tmp_path: Path, extra: str, message: str) -> None:
    with pytest.raises(CocosegError, match=message) as caught:
        load(tmp_path, extra=extra)
    assert "\n" not in str(caught.value)


def ours(folder: Path, **changes: str) -> list[str]:
    """Return what `download` says of our params.yaml with other values, line by line."""
    path, text = folder / "params.yaml", (ROOT / "params.yaml").read_text(encoding="utf-8")
    for key, value in changes.items():
        text = re.sub(rf"^{key}:.*", f"{key}: {value}", text, flags=re.MULTILINE)
    path.write_text(text)
    try:
        load_params(DownloadParams, path, ROOT / "dvc.yaml")
    except CocosegError as error:
        return [line.removeprefix(f"{path}: ") for line in str(error).splitlines()]
    return []


def test_the_first_stage_names_all_mistakes_of_all_stages_at_once(tmp_path: Path) -> None:
    assert ours(tmp_path) == []
    found = ours(tmp_path, lr="0,01", image_size_px="0", loss="auto\nlosss: ce", train_share="0.9", min_effect="2")
    assert found == [
        "unknown parameter losss; did you mean loss?",
        "train_share + val_share + test_share is 1.2; expected 1",
        "image_size_px is 0; expected a whole number of at least 16 and at most 4096, such as 128",
        "lr is '0,01'; expected a number above 0 and at most 1000, such as 0.001; did you mean 0.01?",
        "min_effect is 2; expected a number of at least 0 and at most 1, such as 0.01",
    ]


def test_a_misspelled_key_is_not_missing_besides(tmp_path: Path) -> None:
    with pytest.raises(CocosegError) as caught:
        load(tmp_path, loss="(gone)", lr="(gone)", extra="losss: ce\n")
    assert [line.partition(": ")[2] for line in str(caught.value).splitlines()] == [
        "unknown parameter losss; did you mean loss?",
        "lr is missing; expected a number above 0, such as 0.001",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"pretrained": "coco"},
            "pretrained is coco, but unet has no COCO weights; expected none or ",
        ),
        (
            {"arch": "fastscnn", "pretrained": "imagenet"},
            "pretrained is imagenet, but fastscnn has no published",
        ),
        ({"arch": "Unet"}, "arch is 'Unet'; did you mean unet?"),
        ({"classes": "\n- person"}, "classes names 'person' twice; name it once"),
        ({"warmup_epochs": "9"}, "warmup_epochs is 9; expected at most epochs, 8"),
        (
            {"overlap": "priority", "priority": "[persn]"},
            "priority names 'persn', which is not among the classes",
        ),
        ({"threshold": 0.3}, "threshold is 0.3, which is for task: binary; expected 0.5 with task: multiclass"),
        ({"split_rule": "official"}, "split_rule is official, but the images of dataset sample are not of both COCO's"),
    ],
)
def test_values_that_do_not_go_together_are_found_before_the_first_stage(
    tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    (found,) = ours(tmp_path, **changes)
    assert found.startswith(message)


def test_values_that_only_the_data_can_refuse_go_on(tmp_path: Path) -> None:
    assert ours(tmp_path, overlap="priority", priority="[car, person]", dataset="coco2017", split_rule="official") == []


def test_a_team_has_sections_of_its_own_if_a_stage_declares_them(tmp_path: Path) -> None:
    load(tmp_path)
    with (tmp_path / "params.yaml").open("a") as file:
        file.write("report: {title: x}\nteam: 1\npages: 2\n")
    pipeline = tmp_path / "dvc.yaml"
    with pipeline.open("a") as file:  # a stage of their own with the name of one of ours, too
        file.write("  train:\n    cmd: x\n    params: [lr, report.title, {params.yaml: [team]}, {b.yaml: }]\n")
    with pytest.raises(CocosegError, match=r"params.yaml: unknown parameter pages; a key .*dvc.yaml$"):
        load_params(Params, tmp_path / "params.yaml", pipeline)
    with pipeline.open("a") as file:
        file.write("  pages:\n    foreach: [1]\n    do: {cmd: x, params: [pages]}\n")
    assert load_params(Params, tmp_path / "params.yaml", pipeline).lr == 0.001


def test_the_parameters_of_all_stages_are_checked_without_numpy_or_torch_and_leave_no_module_behind() -> None:
    script = (
        "import sys; from cocoseg.core.params import load_params; from cocoseg.download.params import DownloadParams; "
        "before = set(sys.modules); load_params(DownloadParams); "
        "print([name for name in sys.modules if name.split('.')[0] in ('numpy', 'cv2', 'torch')], "
        "[name for name in set(sys.modules) - before if name.startswith('cocoseg')])"
    )
    line, environment = [sys.executable, "-c", script], {"PYTHONPATH": str(ROOT / "src"), "PATH": ""}
    said = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert said == "[] []\n"


@pytest.mark.parametrize(
    "stages", [7, [], {"a": 7}, {"a": {"params": "lr"}}, {"a": {"outs": [7]}}, {"a": {"plots": [{"b": 1}]}}]
)
def test_a_dvc_yaml_of_another_form_is_one_line(tmp_path: Path, stages: Any) -> None:
    pipeline = tmp_path / "dvc.yaml"
    pipeline.write_bytes(msgspec.json.encode({"stages": stages}))
    with pytest.raises(
        CocosegError, match=r"dvc\.yaml: Expected .* - at `\$\.stages.*; restore it with: git checkout --"
    ):
        declared_params(pipeline)
    with pytest.raises(CocosegError, match="Expected"):
        declared_outs("a", pipeline)


def test_a_missing_file_says_where_to_stand(tmp_path: Path) -> None:
    with pytest.raises(CocosegError, match="params.yaml: not found; run from the root of the repository"):
        load_params(Params, tmp_path / "params.yaml", tmp_path / "dvc.yaml")


def test_params_yaml_survives_one_override_after_the_other(tmp_path: Path) -> None:
    """DVC writes the file anew for each `-S`; ruamel glued keys together where a list had its comment beside it."""
    hydra = pytest.importorskip("dvc.utils.hydra")
    path = tmp_path / "params.yaml"
    path.write_bytes((Path(__file__).parents[2] / "params.yaml").read_bytes())
    lists = [
        ["lr=0.0001"],
        ["classes=[]"],
        ["priority=[person]"],
        ["priority=[]"],
        ["classes=[dog,cat]"],
        ["licenses=[4]"],
    ]
    for overrides in [*lists, ["licenses=null"], *lists]:
        hydra.apply_overrides(path, overrides)
    values = YAML(typ="safe", pure=True).load(path)
    assert (values["classes"], values["priority"], values["val_share"], values["seed"]) == (["dog", "cat"], [], 0.1, 0)


def test_what_dvc_writes_for_one_key_changes_no_other_line(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    shutil.copy(ROOT / "params.yaml", path)
    apply_overrides(path, ["lr=0.5"])
    before, after = (ROOT / "params.yaml").read_text().splitlines(), path.read_text().splitlines()
    assert [(old.split()[:2], new.split()[:2]) for old, new in zip(before, after, strict=True) if old != new] == [
        (["lr:", "0.01"], ["lr:", "0.5"])
    ]
