"""A trained model on disk: `model.safetensors`, and beside it `model.json`, which says what the numbers are.

Only safetensors are ever read: a pickle could run whatever a stranger put into it.
"""

import hashlib
import platform
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import safetensors
import safetensors.torch
from msgspec import Meta
from torch import nn

from cocoseg.coco.categories import MappedCategory, Task
from cocoseg.coco.file_names import is_plain
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import decoded_json, read_bytes, write_bytes, write_json
from cocoseg.model.architectures import build_model
from cocoseg.model.preprocessing import Preprocessing

WEIGHTS = "model.safetensors"
INFO = "model.json"

_LIBRARIES = ("torch", "torchvision", "segmentation-models-pytorch", "timm", "lightning-fabric", "numpy",
              "opencv-python-headless", "dvc")  # fmt: skip


class TrainingData(msgspec.Struct, frozen=True, kw_only=True):
    """What a model has seen. `fingerprint` is the SHA-256 of the split lists and of the tables of images and masks."""

    train_images: int
    val_images: int
    fingerprint: str


class ModelInfo(msgspec.Struct, frozen=True, kw_only=True):
    """`model.json`: everything that using the weights needs, and where they come from."""

    format: Literal[1] = 1
    arch: str
    encoder: str
    task: Task
    classes: Annotated[tuple[str, ...], Meta(min_length=1, max_length=255)]
    """Names by class index, background first. In `binary` the model has one output channel, else one a class."""
    categories: tuple[MappedCategory, ...] = ()
    """The COCO categories behind the classes; a model made before they were kept has none."""
    preprocessing: Preprocessing
    epoch: int
    """The epoch, from 1, whose weights these are: the best by `val_miou`."""
    val_miou: float
    params: dict[str, Any]
    data: TrainingData
    versions: dict[str, str]
    weights_sha256: str = ""

    def __post_init__(self) -> None:
        texts = (self.arch, self.encoder or "none", *self.classes, *self.params)
        for text in (*texts, *self.versions, *self.versions.values()):
            if not is_plain(text):
                raise ValueError(f"{ascii(text)[:40]} is no name or version; expected a short text in one line")
        for category in self.categories:
            if not 0 < category.class_index < len(self.classes):
                raise ValueError(
                    f"class_index {category.class_index} of a category; expected 1 to {len(self.classes) - 1}"
                )


def output_channels(task: Task, classes: Sequence[str]) -> int:
    """Channels of the logits: `binary` needs one, above 0 being the foreground."""
    return 1 if task == "binary" else len(classes)


def save_checkpoint(folder: Path, model: nn.Module, info: ModelInfo) -> None:
    """Write a model and what `model.json` says of it, as `write_checkpoint` does."""
    # No metadata: with several keys safetensors writes them in another order each time.
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    write_checkpoint(folder, safetensors.torch.save(tensors), info)


def write_checkpoint(folder: Path, data: bytes, info: ModelInfo) -> None:
    """Write both files; the weights first, so that `model.json` never speaks of weights that are not there."""
    write_bytes(folder / WEIGHTS, data)
    write_json(folder / INFO, msgspec.structs.replace(info, weights_sha256=hashlib.sha256(data).hexdigest()))


def load_checkpoint(folder: Path) -> tuple[nn.Module, ModelInfo]:
    """Return the model of a folder, in evaluation mode, and what its `model.json` says of it.

    Raises `CocosegError` if a file is missing or no such file, or if the two do not belong together.
    """
    if not (folder / INFO).exists():
        raise CocosegError(f"{folder}: holds no {INFO}; make a model with: dvc repro, or fetch one with: dvc pull")
    return decoded_checkpoint(read_bytes(folder / INFO), read_bytes(folder / WEIGHTS), folder.as_posix())


def decoded_checkpoint(info_json: bytes, data: bytes, place: str) -> tuple[nn.Module, ModelInfo]:
    """The model of the two files' bytes, as `load_checkpoint` gives it; `place` names their folder in errors."""
    info = decoded_json(info_json, ModelInfo, f"{place}/{INFO}")
    path = f"{place}/{WEIGHTS}"
    refuse_pickle(data[:9], path)
    if hashlib.sha256(data).hexdigest() != info.weights_sha256:
        raise CocosegError(f"{path}: not the weights that {INFO} speaks of; bring both back with: dvc checkout")
    model = build_model(info.arch, info.encoder, "none", output_channels(info.task, info.classes))
    try:
        model.load_state_dict(safetensors.torch.load(data))
    except (safetensors.SafetensorError, RuntimeError) as error:
        # It names tensors as the file does.
        reason = "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(error).split()))[:200]
        raise CocosegError(f"{path}: no weights of {info.arch}/{info.encoder} ({reason}); train it again") from None
    return model.eval(), info


def refuse_pickle(start: bytes, place: Path | str) -> None:
    """Raise `CocosegError` unless a file starts as safetensors do: with the length of its header and the header."""
    if start[8:9] != b"{":
        raise CocosegError(
            f"{place}: not safetensors, and nothing else is opened, since a pickle such as .pt or .bin could run a "
            f"stranger's code; expected the folder that dvc repro train writes, with {WEIGHTS} and {INFO}"
        )


def data_fingerprint(files: Sequence[Path]) -> str:
    """The SHA-256 of the files' contents in the order given; `CocosegError` if one is missing."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(read_bytes(file)).digest())
    return digest.hexdigest()


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    return {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}
