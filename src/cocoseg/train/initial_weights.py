"""The trained model that training starts from, in the folder that the parameter `initial_weights` names.

It has the layout of `data/model`, or that of smp's `save_pretrained` and the Hugging Face Hub.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec
import torch
from msgspec import Meta
from torch import Tensor, nn

from cocoseg.coco.categories import CategoryMapping
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import decoded_json
from cocoseg.model.params import TORCHVISION_ARCHITECTURES, is_own
from cocoseg.model.preprocessing import Preprocessing
from cocoseg.model.weights import (
    INFO,
    WEIGHTS,
    InitialWeights,
    ModelInfo,
    output_channels,
    readable_tensors,
    refuse_impossible,
)
from cocoseg.user_cache import kept_folder

CONFIG = "config.json"
_EXPECTED = (
    f"expected {WEIGHTS} with {INFO}, as in data/model, or with {CONFIG}, as smp's save_pretrained and "
    "cocoseg export --format huggingface write them"
)
_WAY_OUT = f"fetch it again; {_EXPECTED}"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_NAMED = 3  # tensors, in one line
_WITHOUT_ENCODER = (*TORCHVISION_ARCHITECTURES, "fastscnn")  # that `encoder` could choose

_Struct = TypeVar("_Struct")
_Three = tuple[float, float, float]
_Positive = Annotated[float, Meta(gt=0)]


class InitialModel(msgspec.Struct, frozen=True, kw_only=True):
    """A model to start from. `None` is what its files do not tell."""

    place: str
    arch: str
    encoder: str
    classes: tuple[str, ...] | None
    """As `labels` returns them."""
    normalization: tuple[_Three, _Three] | None
    """Mean and std of the channels."""
    origin: InitialWeights
    tensors: dict[str, Tensor]


class _SmpConfig(msgspec.Struct, frozen=True):
    model_class: str = msgspec.field(name="_model_class")
    encoder_name: str


class _SmpPreprocessor(msgspec.Struct, frozen=True):
    image_mean: _Three
    image_std: tuple[_Positive, _Positive, _Positive]


def read_initial_model(location: str) -> InitialModel | None:
    """Return the model in a folder, or in the one folder in it that holds a model.

    Returns `None` for a folder that holds nothing but a README, as the one in the repository. Raises `CocosegError` for
    any other content, such as a pickle.
    """
    folder = _model_folder(Path(location))
    if folder is None:
        clone = kept_folder(location)
        if clone.is_dir() and _model_folder(clone) is not None:
            raise CocosegError(
                f"{location}: holds a model in the clone, but not in the copy that this run has, since neither git nor "
                f"DVC tracks it; queue it again after: dvc add {location}/FOLDER and git add, or with the absolute path"
            )
        return None
    data = _content(folder, WEIGHTS)
    if data.startswith(b"version https://git-lfs"):
        raise CocosegError(f"{folder / WEIGHTS}: is a git-LFS pointer, not the file; in its repository: git lfs pull")
    tensors = readable_tensors(data, str(folder / WEIGHTS), _WAY_OUT)
    refuse_impossible(tensors, str(folder / WEIGHTS))
    sha256 = hashlib.sha256(data).hexdigest()
    return (_ours if (folder / INFO).is_file() else _of_smp)(folder, tensors, sha256)


def start_from(
    model: nn.Module,
    initial: InitialModel,
    arch: str,
    encoder: str,
    mapping: CategoryMapping,
    build: Callable[[int], nn.Module],
) -> tuple[InitialWeights, list[str]]:
    """Give `model` every tensor of `initial` that fits; return how many those were, and the names of the others.

    The head starts anew unless both models have the same classes. `build` makes such a model of
    other channels. Raises `CocosegError` if the models have different architectures or no tensor in common.
    """
    if (found := _named(initial.arch, initial.encoder)) != (expected := _named(arch, encoder)):
        raise CocosegError(
            f"{initial.place}: is a model of {found}, but params.yaml has {expected}; set the same, or other weights"
        )
    own, given = _plain_names(model.state_dict()), _plain_names(initial.tensors)
    channels = output_channels(mapping.task, mapping.classes)
    head = set() if initial.classes == labels(mapping) else _head(own, build, channels)
    taken = [name for name in own if name in given and name not in head and _fits(own[name], given[name])]
    if not taken:
        raise CocosegError(
            f"{initial.place}: none of its {len(given)} tensors fits; they have names such as {_some(given)}, those of "
            f"{expected} such as {_some(own)}"
        )
    with torch.no_grad():
        for name in taken:
            own[name].copy_(given[name])
    return msgspec.structs.replace(initial.origin, tensors=len(taken)), [name for name in own if name not in taken]


def start_line(
    initial: InitialModel, taken: InitialWeights, anew: Sequence[str], pretrained: str, own: Preprocessing
) -> str:
    """Return what training starts from, and which other choices that overrides, in one line."""
    said = [f"{initial.place}: gives {taken.tensors} of the model's {taken.tensors + len(anew)} tensors"]
    if anew:
        more = f" and {len(anew) - _NAMED} more" if len(anew) > _NAMED else ""
        said.append(f"{', '.join(anew[:_NAMED])}{more} start{'s' if len(anew) == 1 else ''} anew")
    if initial.classes is None:
        said.append("its classes are not known, so the head is not taken")
    if pretrained != "none":
        said.append(f"pretrained: {pretrained} is not used")
    if initial.normalization is None:
        said.append(f"its mean and std are not known, so {own.mean} and {own.std} are used")
    elif initial.normalization != (own.mean, own.std):
        said.append(
            "its mean {} and std {} are used, in place of {} and {}".format(*initial.normalization, own.mean, own.std)
        )
    return "; ".join(said)


def labels(mapping: CategoryMapping | ModelInfo) -> tuple[str, ...]:
    """Return what the channels of the logits stand for. Of `binary` it is the categories that are foreground."""
    return (*mapping.classes, *(one.name for one in mapping.categories if mapping.task == "binary"))


def _model_folder(named: Path) -> Path | None:
    try:
        entries = sorted(named.iterdir())
    except NotADirectoryError:
        _refuse_pickles([named])
        raise CocosegError(f"initial_weights: {named}: is a file; expected its folder, with {_EXPECTED[9:]}") from None
    except FileNotFoundError:
        raise CocosegError(f"initial_weights: {named}: not found; {_EXPECTED}") from None
    inside = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    candidates = [named] if _has_model(named) else [folder for folder in inside if _has_model(folder)]
    if len(candidates) > 1:
        names = ", ".join(map(str, candidates))
        raise CocosegError(f"initial_weights: {named}: holds several models; expected one, or name it: {names}")
    if candidates:
        return candidates[0]
    ours = ("README.md", ".gitignore")
    others = [
        entry for entry in entries if entry.name not in ours and entry.suffix != ".dvc" and entry.name != ".cache"
    ]
    if others or not (named / "README.md").exists():
        _refuse_pickles([*others, *(file for folder in inside for file in sorted(folder.iterdir()))])
        raise CocosegError(f"initial_weights: {named}: no model in it; {_EXPECTED}")
    return None


def _has_model(folder: Path) -> bool:
    return any((folder / name).exists() for name in (INFO, CONFIG))


def _refuse_pickles(files: Iterable[Path]) -> None:
    for file in files:
        if file.suffix in _PICKLES:
            raise CocosegError(f"{file}: is a pickle, which could run any code and is never loaded; {_EXPECTED}")


def _content(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        _refuse_pickles(sorted(folder.iterdir()))
        raise CocosegError(f"{folder}: no {name}; {_EXPECTED}") from None


def _ours(folder: Path, tensors: dict[str, Tensor], sha256: str) -> InitialModel:
    info = decoded_json(_content(folder, INFO), ModelInfo, str(folder / INFO), _WAY_OUT)
    if info.weights_sha256 != sha256:
        raise CocosegError(f"{folder / WEIGHTS}: not the weights that {INFO} describes; fetch both again")
    return InitialModel(
        place=str(folder),
        arch=info.arch,
        encoder=info.encoder,
        classes=labels(info),
        normalization=(info.preprocessing.mean, info.preprocessing.std),
        origin=InitialWeights(sha256=sha256, tensors=0, pretrained=info.pretrained, data_fingerprint=_only_data(info)),
        tensors=tensors,
    )


def _only_data(info: ModelInfo) -> str:
    """Return the fingerprint of the data that a model has seen, or nothing if its own start had seen other data."""
    own = info.data.fingerprint
    return own if info.initial is None or info.initial.data_fingerprint == own else ""


def _of_smp(folder: Path, tensors: dict[str, Tensor], sha256: str) -> InitialModel:
    import segmentation_models_pytorch as smp

    config = decoded_json(
        _content(folder, CONFIG), _SmpConfig, str(folder / CONFIG), f"not of smp's layout; {_EXPECTED}"
    )
    architectures = {kind.__name__: name for name, kind in smp.MODEL_ARCHITECTURES_MAPPING.items()}
    if config.model_class not in architectures:
        raise CocosegError(f"{folder / CONFIG}: {config.model_class[:40]!r} is not an architecture of smp; {_EXPECTED}")
    preprocessor = _decoded_if_there(folder / "preprocessor_config.json", _SmpPreprocessor)
    names = _decoded_if_there(folder / "id2label.json", dict[int, str])
    return InitialModel(
        place=str(folder),
        arch=architectures[config.model_class],
        encoder=config.encoder_name,
        classes=None if names is None else tuple(names[index] for index in sorted(names)),
        normalization=None if preprocessor is None else (preprocessor.image_mean, preprocessor.image_std),
        origin=InitialWeights(sha256=sha256, tensors=0, pretrained="unknown"),
        tensors=tensors,
    )


def _decoded_if_there(path: Path, type_: type[_Struct]) -> _Struct | None:
    return decoded_json(path.read_bytes(), type_, str(path), _WAY_OUT) if path.exists() else None


def _named(arch: str, encoder: str) -> str:
    return f"arch: {arch}" + (f" and encoder: {encoder}" if arch not in _WITHOUT_ENCODER and not is_own(arch) else "")


def _plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors by their names in the network itself, without the wrapper that pads its input."""
    wrapped = all(name.startswith("network.") for name in tensors)  # else a part of the user's own of that name
    return {name.removeprefix("network.") if wrapped else name: tensor for name, tensor in tensors.items()}


def _fits(own: Tensor, given: Tensor) -> bool:
    return own.shape == given.shape and own.is_floating_point() == given.is_floating_point()


def _head(own: Mapping[str, Tensor], build: Callable[[int], nn.Module], channels: int) -> set[str]:
    """Return the names of the tensors whose shape depends on the number of classes."""
    with torch.random.fork_rng(devices=[]):  # what the run draws must not depend on it
        other = _plain_names(build(channels + 1).state_dict())
    return {name for name, tensor in own.items() if name not in other or tensor.shape != other[name].shape}


def _some(names: Iterable[str]) -> str:
    """Return a name as an example, without odd characters, which a stranger's file may hold."""
    return ascii(next(iter(names), "nothing")[:80])
