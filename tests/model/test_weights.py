import pickle
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors.torch
import torch

from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_json, write_json
from cocoseg.model.architectures import build_model
from cocoseg.model.preprocessing import Preprocessing
from cocoseg.model.weights import (
    ModelInfo,
    TrainingData,
    data_fingerprint,
    library_versions,
    load_checkpoint,
    output_channels,
    save_checkpoint,
    write_checkpoint,
)

INFO = ModelInfo(
    arch="fastscnn",
    encoder="none",
    task="multiclass",
    classes=("background", "person", "car"),
    preprocessing=Preprocessing(image_size_px=32, resize="letterbox"),
    epoch=3,
    val_miou=0.5,
    params={"lr": 0.001},
    data=TrainingData(train_images=2, val_images=1, fingerprint="f"),
    versions=library_versions(),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(tmp_path, build_model("fastscnn", "none", "none", 3), INFO)
    return tmp_path


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"encoder": "x\n\n## Use"}, "'x.n.n## Use' is not a valid name or version"),
        ({"versions": {"a\nb": "1"}}, "is not a valid name or version"),
        ({"params": {"": 1}}, "'' is not a valid name or version"),
        ({"categories": [{"category_id": 1, "name": "a", "class_index": 99}]}, "class_index of a category is 99"),
        ({"categories": [{"category_id": 1, "name": "a", "class_index": 0}]}, "class_index of a category is 0"),
        ({"preprocessing": {"image_size_px": 32, "resize": "squash", "std": [0, 1, 1]}}, "Expected `float` > 0.0"),
    ],
)  # fmt: skip
def test_a_model_json_that_says_what_cannot_be_is_one_line(folder: Path, change: dict[str, Any], line: str) -> None:
    path = folder / "model.json"
    write_json(path, read_json(path, dict[str, Any]) | change)
    with pytest.raises(CocosegError, match=line):
        load_checkpoint(folder)


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    model = build_model("fastscnn", "none", "none", 3).eval()
    save_checkpoint(tmp_path, model.to(memory_format=torch.channels_last), INFO)
    loaded, info = load_checkpoint(tmp_path)
    images = torch.rand(1, 3, 40, 40)
    with torch.inference_mode():
        assert torch.allclose(loaded(images), model(images), atol=1e-5)
    assert info == msgspec.structs.replace(INFO, weights_sha256=info.weights_sha256)


def test_an_encoder_of_one_size_is_loaded_at_the_size_it_was_trained_at(tmp_path: Path) -> None:
    preprocessing = Preprocessing(image_size_px=96, resize="squash")
    info = msgspec.structs.replace(INFO, arch="fpn", encoder="tu-hiera_tiny_224", preprocessing=preprocessing)
    save_checkpoint(tmp_path, build_model("fpn", info.encoder, "none", 3, 96), info)
    with torch.inference_mode():
        assert load_checkpoint(tmp_path)[0](torch.zeros(1, 3, 96, 96)).shape == (1, 3, 96, 96)


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    model = build_model("fastscnn", "none", "none", 3)
    for name in ("one", "two"):
        save_checkpoint(tmp_path / name, model, INFO)
    for file in ("model.safetensors", "model.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_pickle_is_refused_without_being_opened(folder: Path, tmp_path: Path) -> None:
    trap = tmp_path / "opened"

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (trap,)  # type: ignore[return-value]

    data = pickle.dumps(Trap())
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(CocosegError, match="not a safetensors file; other formats are refused, since a pickle"):
        load_checkpoint(folder)
    assert not trap.exists()


def test_a_missing_file_a_strange_model_json_and_foreign_weights_are_one_line_each(folder: Path) -> None:
    info = read_json(folder / "model.json", ModelInfo)
    write_json(folder / "model.json", msgspec.structs.replace(info, classes=("background", "person")))
    with pytest.raises(CocosegError, match="not the weights of a fastscnn"):
        load_checkpoint(folder)
    write_json(folder / "model.json", {"format": 2})
    with pytest.raises(CocosegError, match=r"model\.json"):
        load_checkpoint(folder)
    write_json(folder / "model.json", info)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CocosegError, match=r"model\.safetensors: not found"):
        load_checkpoint(folder)


@pytest.mark.parametrize(
    ("kind", "value", "line"),
    [
        ("weight", float("nan"), "1 of the 864 numbers of {} are not finite"),
        ("weight", float("inf"), "1 of the 864 numbers of {} are not finite"),
        ("running_var", -0.5, "1 of the 32 numbers of {} are negative"),
        ("running_var", float("nan"), "1 of the 32 numbers of {} are not finite"),
    ],
)
def test_weights_with_which_no_model_predicts_are_refused_when_loaded_and_when_saved(
    folder: Path, kind: str, value: float, line: str
) -> None:
    model = build_model("fastscnn", "none", "none", 3)
    name = next(name for name in model.state_dict() if name.endswith(kind))
    model.state_dict()[name].view(-1)[0] = value
    line = re.escape(line.format(name))
    with pytest.raises(CocosegError, match=line):
        save_checkpoint(folder, model, INFO)
    write_checkpoint(folder, safetensors.torch.save(model.state_dict()), INFO)
    with pytest.raises(CocosegError, match=line):
        load_checkpoint(folder)


def test_binary_needs_one_channel_and_multiclass_one_a_class() -> None:
    assert output_channels("binary", ("background", "foreground")) == 1
    assert output_channels("multiclass", ("background", *"abc")) == 4


def test_a_fingerprint_changes_with_any_file(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.write_bytes(b"x")
    before = data_fingerprint(files)
    assert data_fingerprint(files) == before
    files[1].write_bytes(b"y")
    assert data_fingerprint(files) != before
