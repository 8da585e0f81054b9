"""A model in the layout of the Hugging Face Hub, as smp's `from_pretrained` loads it from a folder or from the Hub."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import nn

from cocoseg.core.errors import CocosegError
from cocoseg.core.files import write_bytes, write_json
from cocoseg.model.architectures import Padded
from cocoseg.model.preprocessing import BORDER_RGB
from cocoseg.model.weights import ModelInfo


def stride_of(model: nn.Module) -> int:
    """What divides the sides of an image that the network takes by itself, without the border that we put on."""
    return model.stride if isinstance(model, Padded) else 1


def write_huggingface(folder: Path, model: nn.Module, info: ModelInfo, readme: str) -> None:
    """Write `config.json` and `model.safetensors`, and beside them what the images and the classes are, and the card.

    Raises `CocosegError` for an architecture that is not smp's.
    """
    from segmentation_models_pytorch.base import SegmentationModel

    network = model.network if isinstance(model, Padded) else model
    if not isinstance(network, SegmentationModel):
        raise CocosegError(
            f"arch {info.arch} is none of smp's, whose from_pretrained this layout is for; use --format onnx"
        )
    write_bytes(folder / "README.md", readme.encode())  # first: smp writes a card of its own where there is none
    try:
        network.save_pretrained(folder)
    except SafetensorError as error:  # a full disk, which it does not call an OSError
        raise CocosegError(f"{folder}: the weights cannot be written ({error}); expected room after --out") from None
    # huggingface_hub leaves the weights to their owner alone.
    (folder / "model.safetensors").chmod((folder / "config.json").stat().st_mode)
    write_json(folder / "preprocessor_config.json", preprocessor(info, stride_of(model)))
    write_json(folder / "id2label.json", {str(index): name for index, name in enumerate(info.classes)})


def preprocessor(info: ModelInfo, stride: int) -> dict[str, Any]:
    """How an image becomes the network's input, in the words of the Hub's image processors, and where those have none,
    in ours.
    """
    size = info.preprocessing.image_size_px
    square = {"pad_size": {"height": size, "width": size}, "pad_rgb": BORDER_RGB, "pad_place": "both sides alike"}
    return {
        "do_resize": True,
        "size": {
            "squash": {"height": size, "width": size},
            "letterbox": {"longest_edge": size},
            "short_side": {"shortest_edge": size},
        }[info.preprocessing.resize],
        "resample": 2,  # bilinear, antialiased
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": info.preprocessing.mean,
        "image_std": info.preprocessing.std,
        "do_pad": stride > 1 or info.preprocessing.resize == "letterbox",
        "size_divisor": stride,
        **(square if info.preprocessing.resize == "letterbox" else {}),
    }
