"""A trained model on disk: its weights in `model.safetensors`, and all that is needed to use them in `model.json`.

Only safetensors are ever loaded: a pickle could run any code.
"""

import hashlib
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import safetensors
import safetensors.torch
import torch
from msgspec import Meta
from torch import Tensor, nn

from cocoseg.coco.categories import MappedCategory, Task
from cocoseg.coco.file_names import is_plain
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import decoded_json, read_bytes, write_bytes, write_json
from cocoseg.model.architectures import build_model
from cocoseg.model.own_code import MadeWith, own_model
from cocoseg.model.params import is_own
from cocoseg.model.preprocessing import Preprocessing

WEIGHTS = "model.safetensors"
INFO = "model.json"

_WAY_OUT = "restore both with: dvc checkout"
_LIBRARIES = ("torch", "torchvision", "segmentation-models-pytorch", "timm", "lightning-fabric", "numpy",
              "opencv-python-headless", "dvc")  # fmt: skip


class TrainingData(msgspec.Struct, frozen=True, kw_only=True):
    """The data of a model. `fingerprint` is the SHA-256 of the split lists and of the tables of images and masks."""

    train_images: int
    val_images: int
    fingerprint: str


class BestThreshold(msgspec.Struct, frozen=True, kw_only=True):
    """The threshold on the probability of foreground with the highest score in validation, and that score."""

    threshold: Annotated[float, Meta(gt=0, lt=1)]
    val_score: float


class InitialWeights(msgspec.Struct, frozen=True, kw_only=True):
    """The weights of another model that training started from."""

    sha256: str
    tensors: int
    """How many of the model's tensors they gave; the others started anew."""
    pretrained: str
    """What they were pretrained on in turn, `unknown` where nothing says it."""
    data_fingerprint: str = ""
    """Of the data that they were trained on; empty if it is not known."""


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `model.json`: what is needed to use the weights, and how they were made."""

    format: Literal[1] = 1
    arch: str
    encoder: str
    task: Task
    classes: Annotated[tuple[str, ...], Meta(min_length=1, max_length=255)]
    """Names by class index, background first. A `binary` model has one output channel, others one per class."""
    categories: tuple[MappedCategory, ...] = ()
    """The COCO categories of the classes; empty in models of older versions."""
    preprocessing: Preprocessing
    epoch: int
    """The epoch of these weights, counted from 1: the one with the best `val_score`."""
    val_miou: float
    primary_score: str = "miou"
    """The score that chose the epoch."""
    val_score: float | None = None
    """That score in validation, at the threshold 0.5; `None` in models of older versions, which `val_miou` chose."""
    best_threshold: BestThreshold | None = None
    """Only of `binary` models whose validation side shows foreground."""
    params: dict[str, Any]
    initial: InitialWeights | None = None
    """The weights that the parameter `initial_weights` named; `None` if it named none."""
    data: TrainingData
    versions: dict[str, str]
    own_code: dict[str, str] = {}
    """SHA-256 of each file below `src/custom` that the model was made with, by path."""
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        texts = (self.arch, self.encoder or "none", self.primary_score, *self.classes, *self.params)
        for text in (*texts, *self.versions, *self.versions.values(), *self.own_code, *self.own_code.values()):
            if not is_plain(text):
                raise ValueError(f"{ascii(text)[:40]} is not a valid name or version; expected a short line of text")
        for category in self.categories:
            if not 0 < category.class_index < len(self.classes):
                raise ValueError(
                    f"class_index of a category is {category.class_index}; expected 1 to {len(self.classes) - 1}"
                )

    @property
    def pretrained(self) -> str:
        """What the first weights were pretrained on: `none`, `imagenet`, `coco`, or `unknown`."""
        return str(self.params.get("pretrained", "unknown")) if self.initial is None else self.initial.pretrained


def output_channels(task: Task, classes: Sequence[str]) -> int:
    """Return how many channels the logits have: one for `binary`, where above 0 is foreground, else one per class."""
    return 1 if task == "binary" else len(classes)


def save_checkpoint(folder: Path, model: nn.Module, info: ModelInfo) -> str:
    """Write the weights of `model` and its `model.json` with `write_checkpoint`; return the SHA-256 of the weights.

    Raises `CocosegError` for weights that are not finite.
    """
    # No metadata: safetensors writes several keys in a different order each time.
    # Clones: safetensors refuses tensors that share memory, as tied weights do.
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    refuse_impossible(tensors, str(folder / WEIGHTS))
    return write_checkpoint(folder, safetensors.torch.save(tensors), info)


def write_checkpoint(folder: Path, data: bytes, info: ModelInfo) -> str:
    """Write both files, and return the SHA-256 of the weights.

    The weights first, so that `model.json` never describes weights that are not there yet.
    """
    write_bytes(folder / WEIGHTS, data)
    sha256 = hashlib.sha256(data).hexdigest()
    write_json(folder / INFO, msgspec.structs.replace(info, weights_sha256=sha256))
    return sha256


def load_checkpoint(folder: Path) -> tuple[nn.Module, ModelInfo]:
    """Return the model in a folder, in evaluation mode, and the content of its `model.json`.

    Raises `CocosegError` if a file is missing or not valid, if the two do not belong together, or if a weight is not
    finite.
    """
    if folder.is_file():
        raise CocosegError(f"{folder}: is a file; expected the folder with {WEIGHTS} and {INFO}, as {folder.parent}")
    if not (folder / INFO).exists():
        raise CocosegError(
            f"{folder}: no {INFO}; train a model with: dvc repro, or fetch one with: dvc pull, in the root of a clone"
        )
    return decoded_checkpoint(read_bytes(folder / INFO), read_bytes(folder / WEIGHTS), folder.as_posix())


def decoded_checkpoint(
    info_json: bytes, data: bytes, place: str, revision: str = "REVISION"
) -> tuple[nn.Module, ModelInfo]:
    """Return what `load_checkpoint` does, from the bytes of the two files.

    In errors `place` is their folder, and `revision` names the commit that has code of the user's own.
    """
    info = decoded_json(info_json, ModelInfo, f"{place}/{INFO}", f"{_WAY_OUT}, or train it again")
    path = f"{place}/{WEIGHTS}"
    refuse_pickle(data[:9], path)
    if hashlib.sha256(data).hexdigest() != info.weights_sha256:
        raise CocosegError(f"{path}: not the weights that {INFO} describes; {_WAY_OUT}")
    channels = output_channels(info.task, info.classes)
    if is_own(info.arch):
        made_with = MadeWith(info.own_code, place, revision)
        model = own_model(info.arch, channels, info.preprocessing.image_size_px, made_with)
    else:
        model = build_model(info.arch, info.encoder, "none", channels, info.preprocessing.square_px)
    way_out = f"{_WAY_OUT}, or train it again"
    try:
        model.load_state_dict(readable_tensors(data, path, way_out))
    except RuntimeError as error:
        what = f"not the weights of a {info.arch}/{info.encoder} model"
        raise CocosegError(f"{path}: {what} ({_printable(error)}); {way_out}") from None
    refuse_impossible(model.state_dict(), path)
    return model.eval(), info


def readable_tensors(data: bytes, path: str, way_out: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file from its bytes. Raises `CocosegError` if it is none, or corrupt."""
    refuse_pickle(data[:9], path)
    try:
        return safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise CocosegError(f"{path}: corrupt ({_printable(error)}); {way_out}") from None


def refuse_impossible(tensors: Mapping[str, Tensor], place: str) -> None:
    """Raise `CocosegError` if a weight is not finite or a variance is negative: all predictions would be NaN."""
    for name, tensor in tensors.items():
        negative = name.endswith("running_var") & (tensor < 0)
        if bad := int((~torch.isfinite(tensor) | negative).sum()):
            what = "negative" if negative.any() else "not finite"
            raise CocosegError(
                f"{place}: {bad} of the {tensor.numel()} numbers of {name} are {what}, so no prediction has a meaning; "
                "train it again, perhaps with a smaller lr"
            )


def refuse_pickle(start: bytes, place: Path | str) -> None:
    """Raise `CocosegError` unless a file starts like safetensors: 8 bytes for the header's length, then its JSON."""
    if start[8:9] != b"{":
        raise CocosegError(
            f"{place}: not a safetensors file; other formats are refused, since a pickle (.pt, .bin) could run any "
            f"code; expected the folder that dvc repro train writes, with {WEIGHTS} and {INFO}"
        )


def _printable(error: Exception) -> str:
    # The message contains names from the file, which may hold any characters.
    return "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(error).split()))[:200]


def data_fingerprint(files: Sequence[Path]) -> str:
    """Return the SHA-256 of the files' contents, in this order. Raises `CocosegError` if one is missing."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(read_bytes(file)).digest())
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that results depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}
