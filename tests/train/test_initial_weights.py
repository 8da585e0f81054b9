"""A trained model as the start of another: what is taken, what starts anew, and what is refused."""

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import safetensors.torch
import torch
from model.test_weights import INFO
from small_data import BINARY, MULTICLASS, write_pairs
from torch import Tensor
from train.test_loop import PARAMS, metrics, repository, run

from cocoseg.coco.categories import CategoryMapping
from cocoseg.commands.export.huggingface import write_huggingface
from cocoseg.core.errors import CocosegError
from cocoseg.images.pairs import Pair
from cocoseg.model.architectures import build_model, encoder_of
from cocoseg.model.weights import InitialWeights, load_checkpoint, save_checkpoint
from cocoseg.train.initial_weights import read_initial_model, start_from, start_line
from cocoseg.train.params import TrainParams

__all__ = ["repository"]

ENCODER = "tu-mobilenetv3_small_050"
UNET = msgspec.structs.replace(INFO, arch="unet", encoder=ENCODER, params={"pretrained": "coco"})
OTHER_CLASSES = msgspec.structs.replace(MULTICLASS, classes=("background", "cat", "dog"))
STILL = msgspec.structs.replace(PARAMS, optimizer="sgd", lr=1e-30, epochs=1)
HEAD = {"segmentation_head.0.weight", "segmentation_head.0.bias"}


def building(arch: str, encoder: str) -> Callable[[int], torch.nn.Module]:
    return lambda channels: build_model(arch, encoder, "none", channels)


BUILD_UNET = building("unet", ENCODER)


def tensors(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name.removeprefix("network."): value for name, value in model.state_dict().items()}


def write_ours(folder: Path, info: Any = UNET, classes: int = 3) -> dict[str, Tensor]:
    torch.manual_seed(7)
    model = build_model(info.arch, info.encoder, "none", classes)
    save_checkpoint(folder, model, info)
    return tensors(model)


def write_smp(folder: Path, info: Any = UNET) -> dict[str, Tensor]:
    torch.manual_seed(7)
    model = build_model(info.arch, info.encoder, "none", len(info.classes))
    write_huggingface(folder, model, info, "A card.")
    return tensors(model)


def started(mapping: CategoryMapping, classes: int, arch: str = "unet") -> tuple[set[str], dict[str, Tensor]]:
    """The tensors that start anew, and all of a model that started from those in the folder `weights`."""
    found = read_initial_model("weights")
    assert found is not None
    model = build_model(arch, ENCODER, "none", classes)
    taken, anew = start_from(model, found, arch, ENCODER, mapping, building(arch, ENCODER))
    assert taken.tensors + len(anew) == len(model.state_dict())
    return set(anew), tensors(model)


def test_a_model_of_the_same_classes_is_taken_whole_whichever_layout_it_has(repository: Path) -> None:
    for write, folder in ((write_ours, Path("weights/model")), (write_smp, Path("weights"))):
        given = write(folder)
        anew, now = started(MULTICLASS, 3)
        assert anew == set()
        assert all(torch.equal(value, given[name]) for name, value in now.items())
        for file in folder.iterdir():
            file.unlink()
        if folder.name == "model":
            folder.rmdir()


def test_a_model_that_started_from_other_data_is_not_said_to_have_seen_its_own_alone(repository: Path) -> None:
    data = UNET.data.fingerprint
    for earlier, passed_on in ((None, data), (data, data), ("of other data", "")):
        start = earlier and InitialWeights(sha256="0", tensors=1, pretrained="none", data_fingerprint=earlier)
        write_ours(Path("weights"), msgspec.structs.replace(UNET, initial=start))
        found = read_initial_model("weights")
        assert found is not None
        assert found.origin.data_fingerprint == passed_on


@pytest.mark.parametrize(
    ("mapping", "channels"), [(OTHER_CLASSES, 3), (msgspec.structs.replace(MULTICLASS, classes=tuple("abcde")), 5),
                              (BINARY, 1)],
)  # fmt: skip
def test_with_other_classes_the_head_starts_anew_even_where_their_number_is_the_same(
    repository: Path, mapping: CategoryMapping, channels: int
) -> None:
    given = write_ours(Path("weights"))
    before = torch.get_rng_state()
    anew, now = started(mapping, channels)
    assert anew == HEAD
    assert not torch.equal(now["segmentation_head.0.weight"], given["segmentation_head.0.weight"])
    rest = now.keys() - HEAD
    assert all(torch.equal(now[name], given[name]) for name in rest)
    torch.set_rng_state(before)
    build_model("unet", ENCODER, "none", channels)
    drawn = torch.rand(1)
    torch.set_rng_state(before)
    started(mapping, channels)
    assert torch.equal(torch.rand(1), drawn)  # what the run draws does not depend on how many classes there were


def test_binary_weights_of_another_foreground_give_all_but_the_head(repository: Path) -> None:
    cats = msgspec.structs.replace(BINARY.categories[0], name="cat")
    info = msgspec.structs.replace(UNET, task="binary", classes=BINARY.classes, categories=BINARY.categories)
    write_ours(Path("weights"), info, classes=1)
    assert started(BINARY, 1)[0] == set()
    assert started(msgspec.structs.replace(BINARY, categories=(cats,)), 1)[0] == HEAD


def test_an_own_network_with_a_part_named_network_is_taken_whole_too(repository: Path) -> None:
    def build(classes: int) -> torch.nn.Module:  # has conv.weight, and network.conv.weight of the same shape
        inner = torch.nn.ModuleDict({"conv": torch.nn.Conv2d(classes, classes, 1)})
        return torch.nn.ModuleDict({"network": inner, "conv": torch.nn.Conv2d(classes, classes, 1)})

    given, model = build(3), build(3)
    save_checkpoint(Path("weights"), given, msgspec.structs.replace(UNET, arch="custom/mine.py:net"))
    found = read_initial_model("weights")
    assert found is not None
    taken, anew = start_from(model, found, "custom/mine.py:net", "", MULTICLASS, build)
    assert (taken.tensors, anew) == (4, [])
    assert all(torch.equal(value, given.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("arch", ["fastscnn", "deeplabv3_mobilenet"])
def test_of_a_model_without_a_head_of_that_name_the_last_layers_start_anew(repository: Path, arch: str) -> None:
    write_ours(Path("weights"), msgspec.structs.replace(UNET, arch=arch, encoder="none"))
    anew, _ = started(OTHER_CLASSES, 3, arch)
    ends = {"fastscnn": ("classifier.3",), "deeplabv3_mobilenet": ("classifier.4", "aux_classifier.4")}[arch]
    assert anew == {f"{end}.{part}" for end in ends for part in ("weight", "bias")}


def test_the_line_says_what_came_what_is_overridden_and_which_mean_and_std_are_used(repository: Path) -> None:
    half = msgspec.structs.replace(UNET.preprocessing, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    write_ours(Path("weights"), msgspec.structs.replace(UNET, preprocessing=half))
    found = read_initial_model("weights")
    assert found is not None
    taken, anew = start_from(build_model("unet", ENCODER, "none", 3), found, "unet", ENCODER, OTHER_CLASSES, BUILD_UNET)
    line = start_line(found, taken, anew, "imagenet", INFO.preprocessing)
    count = len(found.tensors)
    assert line == (
        f"weights: gives {count - 2} of the model's {count} tensors; segmentation_head.0.weight, "
        "segmentation_head.0.bias start anew; pretrained: imagenet is not used; its mean (0.5, 0.5, 0.5) and std "
        f"(0.5, 0.5, 0.5) are used, in place of {INFO.preprocessing.mean} and {INFO.preprocessing.std}"
    )


def test_what_the_files_of_a_hub_model_do_not_tell_is_said(repository: Path) -> None:
    write_smp(Path("weights"))
    for name in ("preprocessor_config.json", "id2label.json"):
        (Path("weights") / name).unlink()
    found = read_initial_model("weights")
    assert found is not None
    taken, anew = start_from(build_model("unet", ENCODER, "none", 3), found, "unet", ENCODER, MULTICLASS, BUILD_UNET)
    line = start_line(found, taken, anew, "none", INFO.preprocessing)
    assert set(anew) == HEAD
    assert "its classes are not known, so the head is not taken; its mean and std are not known, so (0.485, " in line


def write_bad(folder: Path, what: str) -> None:
    """A folder with a model that cannot be used."""
    given = write_ours(folder) if what not in ("config", "old smp", "torch.load") else {}
    weights = folder / "model.safetensors"
    match what:
        case "pickle of that name":
            weights.write_bytes(pickle.dumps({"a": 1}))
        case "torch.load":
            folder.joinpath("model.pth").write_bytes(pickle.dumps({"a": 1}))
        case "old smp":
            folder.joinpath("config.json").write_text('{"_model_class": "Unet", "encoder_name": "resnet18"}')
            folder.joinpath("pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))
        case "pointer":
            weights.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
        case "cut":
            folder.joinpath("model.json").unlink()
            folder.joinpath("config.json").write_text('{"_model_class": "Unet", "encoder_name": "resnet18"}')
            weights.write_bytes(weights.read_bytes()[:-100])
        case "changed":
            weights.write_bytes(safetensors.torch.save({name: value + 1 for name, value in given.items()}))
        case "not finite":
            bad = {**given, "segmentation_head.0.bias": given["segmentation_head.0.bias"] * np.nan}
            weights.write_bytes(safetensors.torch.save(bad))
        case "config":
            folder.mkdir(parents=True, exist_ok=True)
            folder.joinpath("config.json").write_text('{"model_type": "segformer", "architectures": ["Segformer"]}')
            weights.write_bytes(safetensors.torch.save({"a": torch.zeros(1)}))
        case "two":
            write_ours(folder.parent / "b")
        case "lone":
            folder.joinpath("model.json").unlink()


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("pickle of that name", "weights/a/model.safetensors: not a safetensors file; other formats are refused"),
        ("torch.load", "weights/a/model.pth: is a pickle, which could run any code and is never loaded; expected"),
        ("old smp", "weights/a/pytorch_model.bin: is a pickle, which could run any code and is never loaded"),
        ("pointer", "weights/a/model.safetensors: is a git-LFS pointer, not the file; in its repository: git lfs pull"),
        ("cut", "weights/a/model.safetensors: corrupt (Error while deserializing"),
        ("changed", "weights/a/model.safetensors: not the weights that model.json describes; fetch both again"),
        ("not finite", "numbers of segmentation_head.0.bias are not finite"),
        (
            "config",
            "weights/a/config.json: Object missing required field `_model_class`; not of smp's layout; expected",
        ),
        ("two", "weights: holds several models; expected one, or name it: weights/a, weights/b"),
        ("lone", "weights: no model in it; expected model.safetensors with model.json, as in data/model, or with"),
    ],
)
def test_a_folder_without_a_usable_model_is_one_line(repository: Path, what: str, message: str) -> None:
    Path("weights/a").mkdir()
    write_bad(Path("weights/a"), what)
    with pytest.raises(CocosegError, match="^[^\n]+$") as caught:
        read_initial_model("weights")
    assert message in str(caught.value)


def test_a_folder_or_file_that_is_none_is_one_line_and_only_a_readme_means_none(repository: Path) -> None:
    assert read_initial_model("weights") is None
    Path("weights/old.dvc").write_text("outs: []")
    assert read_initial_model("weights") is None
    Path("empty").mkdir()
    Path("model.pt").write_bytes(b"x")
    for name, message in (
        ("nowhere", "nowhere: not found"),
        ("weights/README.md", "weights/README.md: is a file; expected its folder, with model.safetensors"),
        ("model.pt", "model.pt: is a pickle"),
        ("empty", "empty: no model in it"),
    ):
        with pytest.raises(CocosegError, match="^[^\n]+$") as caught:
            read_initial_model(name)
        assert message in str(caught.value)
    with pytest.raises(msgspec.ValidationError, match="initial_weights is https://host/x; expected a local folder"):
        msgspec.convert({**msgspec.to_builtins(PARAMS), "initial_weights": "https://u:p@host/x?key=1"}, type(PARAMS))


def test_weights_of_another_architecture_or_of_no_common_tensor_are_one_line(repository: Path) -> None:
    write_ours(Path("weights"))
    found = read_initial_model("weights")
    assert found is not None
    for arch, encoder, expected in (
        ("fpn", ENCODER, f"is a model of arch: unet and encoder: {ENCODER}, but params.yaml has arch: fpn and"),
        ("unet", "resnet18", f"unet and encoder: {ENCODER}, but params.yaml has arch: unet and encoder: resnet18; set"),
        ("fastscnn", ENCODER, "but params.yaml has arch: fastscnn; set the same, or other weights"),
    ):
        with pytest.raises(CocosegError, match="^[^\n]+$") as caught:
            start_from(build_model(arch, encoder, "none", 3), found, arch, encoder, MULTICLASS, building(arch, encoder))
        assert expected in str(caught.value)
    prefixed = {f"model.{name}": value for name, value in found.tensors.items()}
    with pytest.raises(CocosegError, match=r"none of its \d+ tensors fits; they have names such as 'model\."):
        start_from(build_model("unet", ENCODER, "none", 3), msgspec.structs.replace(found, tensors=prefixed), "unet",
                   ENCODER, MULTICLASS, BUILD_UNET)  # fmt: skip


def test_a_copy_of_dvc_that_lacks_the_weights_of_the_clone_does_not_start_without_them(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_ours(Path("weights/model"))
    copy = repository / ".dvc/tmp/exps/tmp1"
    (copy / "weights").mkdir(parents=True)
    (copy / "weights/README.md").write_text("no model")
    monkeypatch.chdir(copy)
    monkeypatch.setenv("DVC_ROOT", str(repository))
    with pytest.raises(CocosegError, match="^weights: holds a model in the clone, but not in the copy [^\n]+ dvc add"):
        read_initial_model("weights")
    assert read_initial_model(str(repository / "weights")) is not None  # the absolute path


def test_training_starts_from_the_weights_records_them_and_another_start_is_another_run(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = write_pairs(repository, 6)
    write_ours(Path("weights"), msgspec.structs.replace(UNET, params={"pretrained": "none"}))
    params = msgspec.structs.replace(STILL, arch="unet", pretrained="imagenet")  # which is not fetched
    model, info = load_checkpoint(run(params, pairs) / "model")
    given, source = load_checkpoint(Path("weights"))
    learned = dict(model.named_parameters())
    torch.testing.assert_close(dict(given.named_parameters()), learned)
    assert info.initial is not None
    assert (info.initial.sha256, info.initial.data_fingerprint) == (source.weights_sha256, "f")
    assert (info.initial.tensors, info.pretrained) == (len(given.state_dict()), "none")
    assert "train: weights: gives " in capsys.readouterr().err


def stop_after_an_epoch(params: TrainParams, pairs: Sequence[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []

    def stop(*_: object) -> None:  # called when an epoch is over, before its state is saved
        saved.append(1)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cocoseg.train.loop.refuse_replaced", stop)
        with pytest.raises(KeyboardInterrupt):
            run(params, pairs)


def test_a_stopped_run_is_not_resumed_with_other_initial_weights(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = write_pairs(repository, 6)
    params = msgspec.structs.replace(PARAMS, epochs=2)
    write_ours(Path("weights"), INFO)
    stop_after_an_epoch(params, pairs, monkeypatch)
    model = build_model("fastscnn", "none", "none", 3)
    save_checkpoint(Path("weights"), model, INFO)
    run(params, pairs)
    assert "resuming" not in capsys.readouterr().err
    write_ours(Path("weights"), INFO)
    run(params, pairs)
    assert "resuming after epoch 1" in capsys.readouterr().err


@pytest.mark.parametrize("ema_decay", [None, 0.5])
def test_a_frozen_encoder_keeps_its_weights_and_statistics_until_it_is_free_also_in_a_resumed_run(
    repository: Path, monkeypatch: pytest.MonkeyPatch, ema_decay: float | None
) -> None:
    pairs = write_pairs(repository, 6)
    given = write_ours(Path("weights"), UNET)
    frozen = msgspec.structs.replace(PARAMS, arch="unet", epochs=2, freeze_encoder_epochs=2, ema_decay=ema_decay)

    def moved(folder: Path) -> set[bool]:
        """Whether tensors of the encoder have changed, and whether others have."""
        now = tensors(load_checkpoint(folder / "model")[0])
        return {name.startswith("encoder.") for name, value in now.items() if not torch.equal(value, given[name])}

    assert moved(run(frozen, pairs, name="frozen")) == {False}
    if ema_decay is not None:
        return
    free = msgspec.structs.replace(frozen, epochs=3, freeze_encoder_epochs=1, encoder_lr_factor=0.5)
    assert moved(run(free, pairs, name="free")) == {False, True}
    stop_after_an_epoch(free, pairs, monkeypatch)
    resumed = run(free, pairs)
    assert metrics(resumed) == metrics(Path("free"))
    name = "model/model.safetensors"
    assert (resumed / name).read_bytes() == (Path("free") / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder_lr_factor": 0.1}, "arch fastscnn has no encoder; expected encoder_lr_factor: 1"),
        ({"freeze_encoder_epochs": 1}, "arch fastscnn has no encoder; expected encoder_lr_factor: 1"),
        ({"arch": "unet", "freeze_encoder_epochs": 1}, "but the encoder starts from random weights; expected 0, or"),
    ],
)
def test_an_encoder_that_is_none_or_random_is_not_treated_apart(
    repository: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(CocosegError, match="^[^\n]+$") as caught:
        run(msgspec.structs.replace(PARAMS, **changes), write_pairs(repository, 6))
    assert message in str(caught.value)


def test_an_encoder_is_that_of_smp_or_the_backbone_of_torchvision() -> None:
    for arch, has in (("unet", True), ("deeplabv3_mobilenet", True), ("fastscnn", False)):
        model = build_model(arch, ENCODER, "none", 3)
        encoder = encoder_of(model)
        assert (encoder is not None) == has
        if encoder is not None:
            inside = sum(value.numel() for value in encoder.parameters())
            assert 0 < inside < sum(value.numel() for value in model.parameters())
