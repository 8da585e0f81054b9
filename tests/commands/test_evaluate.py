"""`cocoseg evaluate`: another checkpoint, side or split, and torchvision's released models."""

import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
import torch
import torchvision
from released_weights import write_released_weights
from small_data import MULTICLASS, write_pairs

from cocoseg.cli import main
from cocoseg.coco.categories import CategoryMapping, MappedCategory
from cocoseg.commands.evaluate import score_model
from cocoseg.commands.released import VOC_CLASSES
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import write_json, write_lines, write_table
from cocoseg.model.architectures import build_model
from cocoseg.model.preprocessing import Preprocessing
from cocoseg.model.weights import (
    InitialWeights,
    ModelInfo,
    TrainingData,
    data_fingerprint,
    library_versions,
    save_checkpoint,
)
from cocoseg.tables import ImageRow

ROOT = Path(__file__).parents[2]
# In the order of COCO's category ids, which is not VOC's.
VOC_IN_COCO_ORDER = (
    "background", "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "boat", "bird", "cat", "dog",
    "horse", "sheep", "cow", "bottle", "chair", "couch", "potted plant", "dining table", "tv",
)  # fmt: skip


def lay_out(folder: Path, mapping: CategoryMapping, size: int = 32) -> None:
    """Four images as the data stages leave them: one to train on, one to validate, two to test."""
    names = [pair.file_name for pair in write_pairs(folder / "data", 4, mapping, size)]
    write_json(folder / "data/category_mapping.json", mapping)
    write_json(folder / "data/image_mask_map.json", {name: name for name in names})
    for side, chosen in (("train", names[:1]), ("val", names[1:2]), ("test", names[2:])):
        write_lines(folder / f"data/splits/{side}.txt", chosen)
    # The third was among those that COCO's weights come from, and the fourth perhaps.
    origins = (None, None, "train2017", "val2014")
    rows = [
        ImageRow(image_id=number, file_name=name, status="ok", origin=origin)
        for number, (name, origin) in enumerate(zip(names, origins, strict=True))
    ]
    write_table(folder / "data/images.csv", rows, ImageRow)
    write_lines(folder / "data/masks.csv", ["header"])
    for file in ("params.yaml", "dvc.yaml"):
        (folder / file).write_bytes((ROOT / file).read_bytes())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lay_out(tmp_path, MULTICLASS)
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    sides = [
        Path("data/images.csv"),
        Path("data/masks.csv"),
        Path("data/splits/train.txt"),
        Path("data/splits/val.txt"),
    ]
    info = ModelInfo(
        arch="fastscnn",
        encoder="",
        task="multiclass",
        classes=MULTICLASS.classes,
        preprocessing=Preprocessing(image_size_px=32, resize="squash"),
        epoch=1,
        val_miou=0.5,
        params={},
        data=TrainingData(train_images=1, val_images=1, fingerprint=data_fingerprint(sides)),
        versions=library_versions(),
    )
    start = InitialWeights(sha256="0", tensors=1, pretrained="none", data_fingerprint="f" * 64)
    for name, changed in (
        ("model", info),
        ("other_classes", msgspec.structs.replace(info, classes=("background", "person", "dog"))),
        (
            "other_data",
            msgspec.structs.replace(info, data=TrainingData(train_images=9, val_images=9, fingerprint="f" * 64)),
        ),
        ("pretrained", msgspec.structs.replace(info, params={"pretrained": "coco"})),
        ("started", msgspec.structs.replace(info, initial=start)),
        ("other_torch", msgspec.structs.replace(info, versions=library_versions() | {"torch": "1.0"})),
    ):
        save_checkpoint(Path("data") / name, build_model("fastscnn", "", "none", 3), changed)
    return tmp_path


def test_each_side_and_a_list_of_names_can_be_scored(folder: Path) -> None:
    found = {side: json.loads(score_model("data/model", side, None, None)) for side in (None, "train", "val")}
    assert [(one["split"], one["images"]) for one in found.values()] == [("test", 2), ("train", 1), ("val", 1)]
    write_lines(folder / "mine.txt", ["001.png", "002.png", "003.png"])
    mine = json.loads(score_model("data/model", None, Path("mine.txt"), Path("predicted")))
    assert (mine["split"], mine["images"]) == ("mine.txt", 3)
    assert sorted(path.name for path in Path("predicted").iterdir()) == ["001.png", "002.png", "003.png"]
    support = {name: mine["support"][name] for name in ("person", "car")}
    masks = [cv2.imread(f"data/masks/{name}", cv2.IMREAD_UNCHANGED) for name in ("001.png", "002.png", "003.png")]
    assert support == {
        name: sum(int((np.asarray(mask) == index).sum()) for mask in masks)
        for name, index in (("person", 1), ("car", 2))
    }


def test_a_side_whose_masks_are_all_ignored_is_one_line(folder: Path) -> None:
    for name in ("002.png", "003.png"):
        cv2.imwrite(f"data/masks/{name}", np.full((32, 32), 255, np.uint8))
    with pytest.raises(CocosegError) as caught:
        score_model("data/model", None, None, None)
    assert str(caught.value) == (
        "test: every pixel in the masks of these 2 images is ignored (255); choose more images or a larger test_share"
    )


def test_a_checkpoint_of_other_classes_is_refused(folder: Path) -> None:
    with pytest.raises(CocosegError) as caught:
        score_model("data/other_classes", None, None, None)
    assert str(caught.value) == (
        "data/other_classes: the model's classes differ from those of the masks: 1 only in the model (dog) and 1 only "
        "in the masks (car); expected a model trained on these masks, as by dvc repro train"
    )


def test_a_checkpoint_of_other_data_or_versions_is_scored_with_a_warning_that_names_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score_model("data/model", None, None, None)
    assert "trained on other data" not in capsys.readouterr().err
    score_model("data/other_data", None, None, None)
    assert "data/other_data: trained on other data or another split" in capsys.readouterr().err
    score_model("data/other_torch", None, None, None)
    assert f"made with torch 1.0 (here {library_versions()['torch']})" in capsys.readouterr().err


def test_a_model_that_has_seen_the_images_in_pretraining_says_so_as_the_stage_does(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = json.loads(score_model("data/pretrained", None, None, None))
    assert scores["seen_in_pretraining"] == {"images": 1, "images_perhaps": 1}
    warned = capsys.readouterr().err
    assert "data/pretrained: 1 of the 2 scored images were used to train the COCO weights" in warned
    assert "seen_in_pretraining" not in json.loads(score_model("data/model", None, None, None))


def test_a_model_whose_initial_weights_come_from_other_data_says_what_they_may_have_seen(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scores = [json.loads(score_model(f"data/{name}", None, None, None)) for name in ("started", "model")]
    assert [one.get("initial_weights_may_have_seen") for one in scores] == [True, None]
    assert capsys.readouterr().err.splitlines() == [
        "cocoseg evaluate: data/started: the initial weights may have been trained on images that are scored here; "
        "then the scores are too good"
    ]


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line of a command that exits with 1."""
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments])
    assert capsys.readouterr().out == ""
    assert isinstance(ended.value.code, str)  # printed, and exit 1
    return ended.value.code.removeprefix("cocoseg evaluate: ")


LIST = "expected a text file with the file name of an image on each line"
NOT_OPENED = (
    "not a safetensors file; other formats are refused, since a pickle (.pt, .bin) could run any code; "
    "expected the folder that dvc repro train writes, with model.safetensors and model.json"
)
FOLDER = "model.json not found; expected a folder that dvc repro train wrote, or torchvision:ARCH"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--model", "nowhere"], f"nowhere: {FOLDER}"),
        (["--model", "data/model/model.safetensors"], f"data/model/model.safetensors: {FOLDER}"),
        (["--model", "data/model/model.json"], f"data/model/model.json: {NOT_OPENED}"),
        (["--split", "nonexist.txt"], f"nonexist.txt: not found; {LIST}"),
        (["--split", "data"], f"data: is a folder; {LIST}"),
        (["--split", "data/images/000.png"], f"data/images/000.png: not UTF-8 text; {LIST}"),
        (["--split", "data/masks.csv"], f"data/masks.csv: 'header' is not an image with a mask; {LIST}"),
        (["--predictions", "params.yaml"], "params.yaml/002.png: Not a directory"),
    ],
)
def test_a_path_that_is_something_else_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert refused(capsys, *arguments) == line


@pytest.mark.parametrize("lost", ["images.csv", "masks.csv", "splits/train.txt"])
def test_data_that_a_stage_should_have_left_is_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], lost: str
) -> None:
    (folder / "data" / lost).unlink()
    assert refused(capsys, "--side", "val") == f"data/{lost}: not found; make it with: dvc repro"


def test_a_model_json_of_an_impossible_size_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "data/model/model.json"
    path.write_text(path.read_text().replace('"image_size_px": 32', '"image_size_px": 0'))
    found = "Expected `int` >= 16 - at `$.preprocessing.image_size_px`"
    assert refused(capsys) == f"data/model/model.json: {found}; restore both with: dvc checkout, or train it again"


def test_a_bad_parameter_shows_before_the_side_is_predicted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = folder / "params.yaml"
    params.write_text(params.read_text().replace("min_effect: 0.01", "min_effect: 2"))
    assert refused(capsys, "--predictions", "predicted").startswith("params.yaml: min_effect is 2; expected a number")
    assert not (folder / "predicted").exists()


def test_a_side_and_a_list_at_once_or_an_empty_side_are_one_line(folder: Path) -> None:
    with pytest.raises(CocosegError, match="cannot be combined"):
        score_model("data/model", "val", Path("mine.txt"), None)
    write_lines(folder / "data/splits/train.txt", [])
    with pytest.raises(CocosegError, match="train.txt: lists no image"):
        score_model("data/model", "train", None, None)


def test_torchvisions_released_model_predicts_as_torchvision_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transforms = torchvision.models.segmentation.DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT.transforms()
    network = write_released_weights(tmp_path)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    categories = tuple(
        MappedCategory(category_id=index, name=name, class_index=index)
        for index, name in enumerate(VOC_IN_COCO_ORDER)
        if index
    )
    lay_out(tmp_path, CategoryMapping(task="multiclass", classes=VOC_IN_COCO_ORDER, categories=categories), size=48)

    found = json.loads(score_model("torchvision:deeplabv3_mobilenet", None, None, Path("predicted")))
    assert found["images"] == 2
    network.eval()
    names = ("background", *VOC_CLASSES)
    for file_name in ("002.png", "003.png"):
        pixels = np.asarray(cv2.imread(f"data/images/{file_name}"))[..., ::-1].copy()
        with torch.inference_mode():
            logits = network(transforms(torch.from_numpy(pixels).permute(2, 0, 1))[None])["out"]
            full = torch.nn.functional.interpolate(logits, (48, 48), mode="bilinear", align_corners=False)
        expected = np.array([VOC_IN_COCO_ORDER.index(name) for name in names])[full.argmax(1)[0].numpy()]
        predicted = np.asarray(cv2.imread(f"predicted/{file_name}", cv2.IMREAD_UNCHANGED))
        # the last bit of a float decides here and there
        assert (predicted == expected).mean() > 0.99
        assert len(np.unique(expected)) > 1


def test_released_models_of_other_names_or_for_other_classes_are_refused_with_the_way_out(folder: Path) -> None:
    with pytest.raises(
        CocosegError, match="expected torchvision:deeplabv3_mobilenet or torchvision:deeplabv3_resnet50"
    ):
        score_model("torchvision:fcn", None, None, None)
    with pytest.raises(CocosegError, match=r"make them with: dvc exp run .* -S 'classes=\[airplane,bicycle,bird"):
        score_model("torchvision:deeplabv3_resnet50", None, None, None)
