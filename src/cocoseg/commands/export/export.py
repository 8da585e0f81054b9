"""`cocoseg export`: write a model and its card for other runtimes and the Hugging Face Hub."""

from pathlib import Path
from typing import Literal

import msgspec
from torch import nn

from cocoseg.commands.export.huggingface import stride_of, write_huggingface
from cocoseg.commands.export.onnx import agreement, onnx_bytes
from cocoseg.commands.export.readme import huggingface_use, onnx_use
from cocoseg.commands.model_source import ModelSource
from cocoseg.core.files import write_bytes
from cocoseg.evaluate.cost import multiply_adds
from cocoseg.evaluate.model_card import USE_HEADING, Cost, measured_cost, model_card
from cocoseg.model.architectures import parameter_count
from cocoseg.model.weights import ModelInfo

FormatName = Literal["onnx", "huggingface"]

CARD = "metrics/model_card.md"
_TIMINGS = ("metrics/timing/train.json", "metrics/timing/evaluate.json")

_FRONT_MATTER = """---
library_name: segmentation-models-pytorch
pipeline_tag: image-segmentation
tags: [semantic-segmentation, segmentation-models-pytorch, cocoseg]
---

"""


def export(source: ModelSource, format_: FormatName, out: Path) -> str:
    """Write the model of `source` and its card below `out`; return the line for the user.

    Raises `CocosegError` if the format cannot hold the model, or if its results differ from PyTorch's.
    """
    model, info = source.load()
    readme = _readme(source, model, info)
    match format_:
        case "onnx":
            data = onnx_bytes(model, info)
            checked = agreement(data, model, info)
            write_bytes(out / "model.onnx", data)
            write_bytes(out / "README.md", f"{readme}\n{onnx_use(info)}".encode())
            return f"{out}/model.onnx: checked with onnxruntime against PyTorch: {checked}"
        case "huggingface":
            write_huggingface(out, model, info, f"{_FRONT_MATTER}{readme}\n{huggingface_use(info, stride_of(model))}")
            return f"{out}: load it with smp.from_pretrained({str(out)!r}), upload it with: hf upload USER/NAME {out}"


def _readme(source: ModelSource, model: nn.Module, info: ModelInfo) -> str:
    """Return the card that the pipeline wrote for these weights, with the measured cost, or a new one without scores.

    It ends before the section on use, which each format has its own of.
    """
    written = (source.beside(CARD) or b"").decode(errors="replace")
    if info.weights_sha256[:12] not in written:
        size = info.preprocessing.image_size_px
        cost = Cost(parameters=parameter_count(model), multiply_adds=multiply_adds(model, size))
        return _before_use(model_card(info, cost, None))
    written = _before_use(written)
    try:
        timings = [msgspec.json.decode(timing) if (timing := source.beside(path)) else None for path in _TIMINGS]
        measured = measured_cost(*timings)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):  # from another version, or with merge conflicts
        return written
    return f"{written}\n{measured}\n" if measured else written


def _before_use(text: str) -> str:
    return text.partition(f"\n{USE_HEADING}\n")[0]
