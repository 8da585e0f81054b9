"""Models from strangers: only safetensors are opened, and only as what their `model.json` says that they are."""

import hashlib
import json
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors.torch
import torch
import torchvision
from model.test_weights import INFO
from sandbox import Sandbox
from small_data import MULTICLASS
from stage_runs import ROOT

from cocoseg.core.errors import CocosegError
from cocoseg.core.files import write_json
from cocoseg.model.architectures import build_model
from cocoseg.model.weights import save_checkpoint

EVALUATE = {"bootstrap_samples": 100, "gallery_images": 0, "min_effect": 0.01, "primary_score": "auto",
            "threshold": 0.5}  # fmt: skip


class Trap:
    """What runs when its pickle is opened."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.place,)


@pytest.fixture(autouse=True)
def model(sandbox: Sandbox) -> None:
    """A good one, as `evaluate` finds it."""
    write_json(sandbox.work / "data/category_mapping.json", MULTICLASS)
    save_checkpoint(sandbox.work / "data/model", build_model("fastscnn", "none", "none", 3), INFO)


def safetensor(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def one(**fields: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | fields}


def pickled(place: Path) -> bytes:
    return pickle.dumps(Trap(place))


def zipped_pickle(place: Path) -> bytes:
    torch.save(Trap(place), place.with_name("made.pt"))
    return place.with_name("made.pt").read_bytes()


NOT_OPENED = "not a safetensors file; other formats are refused, since a pickle (.pt, .bin) could run any code"
CORRUPT = "model.safetensors: corrupt (Error while deserializing"
NONE_OF = "not the weights of a fastscnn/none model ("
WEIGHTS: dict[str, tuple[bytes | Callable[[Path], bytes], str]] = {
    "a pickle": (pickled, NOT_OPENED),
    "what torch.save writes": (zipped_pickle, NOT_OPENED),
    "a pickle of the oldest protocol": (lambda place: pickle.dumps(Trap(place), protocol=0), NOT_OPENED),
    "nothing": (b"", NOT_OPENED),
    "a header longer than the file": (struct.pack("<Q", 2**63) + b"{}", CORRUPT),
    "a header of 200 MB": (struct.pack("<Q", 200_000_000) + b"{" + bytes(100), CORRUPT),
    "a header 100,000 lists deep": (safetensor(b'{"a":' + b"[" * 100_000), CORRUPT),
    "tensors that overlap": (
        safetensor(one() | {"b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]}}, bytes(12)), CORRUPT
    ),
    "a tensor beyond the end": (safetensor(one(data_offsets=[0, 2**40]), bytes(8)), CORRUPT),
    "a shape of 2^62 numbers": (safetensor(one(shape=[2**31, 2**31]), bytes(8)), CORRUPT),
    "a kind of number that nobody has": (safetensor(one(dtype="F1024"), bytes(8)), CORRUPT),
    "bytes that no tensor owns": (safetensor(one(), bytes(800)), CORRUPT),
    "tensors of another model": (safetensor(one(), bytes(8)), NONE_OF),
    "tensors of another shape": (
        safetensors.torch.save({n: torch.zeros(1) for n in build_model("fastscnn", "none", "none", 3).state_dict()}),
        NONE_OF,
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("what", "content", "line"), [(key, *value) for key, value in WEIGHTS.items()], ids=list(WEIGHTS)
)
def test_weights_that_are_none_are_one_line(
    sandbox: Sandbox, what: str, content: bytes | Callable[[Path], bytes], line: str
) -> None:
    trap = sandbox.folder / "opened"
    data = content if isinstance(content, bytes) else content(trap)
    (sandbox.work / "data/model/model.safetensors").write_bytes(data)
    info = msgspec.structs.replace(INFO, weights_sha256=hashlib.sha256(data).hexdigest())  # a stranger can count, too
    write_json(sandbox.work / "data/model/model.json", info)

    status, seen = sandbox.stage("evaluate", EVALUATE, process=what == "what torch.save writes")

    assert status == 1
    assert seen.startswith("data/model/model.safetensors: ")
    assert line in seen
    assert len(seen) < 400
    assert not trap.exists()
    sandbox.tell("weights", what, seen)


def test_weights_that_model_json_does_not_mean_are_one_line(sandbox: Sandbox) -> None:
    save_checkpoint(sandbox.strange, build_model("fastscnn", "none", "none", 3), INFO)
    data = (sandbox.strange / "model.safetensors").read_bytes()
    (sandbox.work / "data/model/model.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    status, seen = sandbox.stage("evaluate", EVALUATE)

    assert (status, seen) == (1, "data/model/model.safetensors: not the weights that model.json describes; restore "
                                 "both with: dvc checkout")  # fmt: skip
    sandbox.tell("weights", "weights with one bit changed", seen)


INFOS: dict[str, tuple[dict[str, Any] | bytes, str]] = {
    "lists 100,000 deep": (b'{"params":{"a":' + b"[" * 100_000, "maximum recursion depth exceeded"),
    "no JSON": (b"\x80\x04.", "JSON is malformed"),
    "a million classes": ({"classes": ["a"] * 1_000_000}, "Expected `array` of length <= 255"),
    "a class named with codes for the terminal": ({"classes": ["\x1b[2J", "b", "c"]}, "is not a valid name or version"),
    "a version over two lines": ({"versions": {"torch": "2\nrun this"}}, "is not a valid name or version; expected"),
    "an input of a million pixels a side": ({"preprocessing": {"image_size_px": 10**6, "resize": "squash"}}, "<= 4096"),
    "another format": ({"format": 2}, "Invalid enum value 2"),
    "an architecture that nobody has": ({"arch": "os.system"}, "arch is 'os.system'; expected one of"),
    "an encoder from a stranger's repository": (
        {"arch": "unet", "encoder": "tu-hf-hub:stranger/model"}, "encoder is 'tu-hf-hub:stranger/model'; see the enc"
    ),
    "an encoder from a folder": (
        {"arch": "unet", "encoder": "tu-local-dir:/strange"}, "encoder is 'tu-local-dir:/strange'; see the encoders of"
    ),
}  # fmt: skip


@pytest.mark.parametrize(("what", "change", "line"), [(key, *value) for key, value in INFOS.items()], ids=list(INFOS))
def test_a_model_json_that_is_none_is_one_line(
    sandbox: Sandbox, what: str, change: dict[str, Any] | bytes, line: str
) -> None:
    place = sandbox.work / "data/model/model.json"
    content = change if isinstance(change, bytes) else msgspec.json.encode(json.loads(place.read_bytes()) | change)
    place.write_bytes(content)

    status, seen = sandbox.stage("evaluate", EVALUATE)

    assert status == 1
    assert line in seen
    assert len(seen) < 600
    sandbox.tell("model.json", what, seen)


@pytest.mark.parametrize("name", ["model.pt", "pytorch_model.bin"])
def test_a_pickle_as_the_model_of_the_command_is_refused_with_the_reason(sandbox: Sandbox, name: str) -> None:
    trap = sandbox.folder / "opened"
    (sandbox.strange / name).write_bytes(pickled(trap))
    for file in ("params.yaml", "dvc.yaml"):
        (sandbox.work / file).write_bytes((ROOT / file).read_bytes())

    status, seen = sandbox.command("evaluate", "--model", str(sandbox.strange / name))

    assert status == 1
    assert seen.startswith(f"{sandbox.strange / name}: {NOT_OPENED}")
    assert not trap.exists()
    sandbox.tell("weights", f"{name} as --model", seen)


def test_of_a_pickle_in_torchs_own_cache_nothing_is_run(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = sandbox.folder / "opened"
    monkeypatch.setenv("TORCH_HOME", str(sandbox.strange))
    file = Path(torchvision.models.segmentation.DeepLabV3_MobileNet_V3_Large_Weights.DEFAULT.url).name
    (sandbox.strange / "hub/checkpoints").mkdir(parents=True)
    torch.save(Trap(trap), sandbox.strange / "hub/checkpoints" / file)

    with pytest.raises(CocosegError, match="^pretrained weights contain more than tensors, and code in them") as caught:
        build_model("deeplabv3_mobilenet", "", "coco", 3)

    assert not trap.exists()
    assert "\n" not in str(caught.value)
    sandbox.tell("weights", "a pickle in torch's own cache", str(caught.value))
