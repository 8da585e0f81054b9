"""A model in the layout that smp's `from_pretrained` loads, from a folder or the Hugging Face Hub."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from cocoseg.core.errors import CocosegError
from cocoseg.core.files import write_bytes, write_json
from cocoseg.model.architectures import Padded
from cocoseg.model.preprocessing import BORDER_RGB
from cocoseg.model.weights import ModelInfo
from cocoseg.model.windows import window_step


def stride_of(model: nn.Module) -> int:
    """Return the number that must divide the sides of an image, unless `Padded` pads it first."""
    return model.stride if isinstance(model, Padded) else 1


def write_huggingface(folder: Path, model: nn.Module, info: ModelInfo, readme: str) -> None:
    """Write `config.json`, `model.safetensors`, the preprocessing, the class names and the card.

    Raises `CocosegError` for an architecture that is not smp's.
    """
    from segmentation_models_pytorch.base import SegmentationModel

    network = model.network if isinstance(model, Padded) else model
    if not isinstance(network, SegmentationModel):
        raise CocosegError(f"arch {info.arch} is not one of smp's, which this layout is for; use --format onnx")
    write_bytes(folder / "README.md", readme.encode())  # first: smp writes its own card if there is none
    try:
        network.save_pretrained(folder)
    except SafetensorError as error:  # a full disk; it is no OSError
        raise CocosegError(f"{folder}: the weights cannot be written ({error}); expected free disk space") from None
    # huggingface_hub makes the weights readable by their owner only.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)
    write_json(folder / "preprocessor_config.json", preprocessor(info, stride_of(model)))
    write_json(folder / "id2label.json", {str(index): name for index, name in enumerate(info.classes)})


def preprocessor(info: ModelInfo, stride: int) -> dict[str, Any]:
    """Return how an image becomes the network's input, with the keys of the Hub's image processors where they exist."""
    size = info.preprocessing.image_size_px
    square = {"pad_size": {"height": size, "width": size}, "pad_rgb": BORDER_RGB, "pad_place": "both sides alike"}
    windows = info.preprocessing.resize == "crop"
    return {
        "do_resize": not windows,
        "size": {
            "squash": {"height": size, "width": size},
            "letterbox": {"longest_edge": size},
            "short_side": {"shortest_edge": size},
            "crop": {"height": size, "width": size},  # of overlapping windows
        }[info.preprocessing.resize],
        "resample": 2,  # bilinear, antialiased
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": info.preprocessing.mean,
        "image_std": info.preprocessing.std,
        "do_pad": stride > 1 or info.preprocessing.resize == "letterbox",
        "size_divisor": stride,
        **({"window_step": window_step(size)} if windows else {}),
        **(square if info.preprocessing.resize == "letterbox" else {}),
    }
