"""`cocoseg export`: write a model and its card for other runtimes and the Hugging Face Hub."""

import sys
from pathlib import Path
from typing import Any, Literal

import msgspec
from torch import nn

from cocoseg import paths
from cocoseg.commands.export.hub_card import front_matter
from cocoseg.commands.export.huggingface import stride_of, write_huggingface
from cocoseg.commands.export.onnx import agreement, onnx_bytes
from cocoseg.commands.export.readme import huggingface_use, onnx_use
from cocoseg.commands.model_source import CARD, SCORES, ModelSource
from cocoseg.commands.recount import contradiction
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import decoded_table, write_bytes
from cocoseg.evaluate.cost import multiply_adds
from cocoseg.evaluate.model_card import USE_HEADING, Cost, measured_cost, model_card
from cocoseg.model.architectures import parameter_count
from cocoseg.model.params import Threshold
from cocoseg.model.weights import ModelInfo
from cocoseg.scores.per_image import image_totals
from cocoseg.tables import ClassPixels

FormatName = Literal["onnx", "huggingface"]

LOCK = "dvc.lock"
_TIMINGS = ("metrics/timing/train.json", "metrics/timing/evaluate.json")


def export(source: ModelSource, format_: FormatName, out: Path, threshold: Threshold | None = None) -> str:
    """Write the model of `source` and its card below `out`; return the lines for the user.

    `threshold` as in `ModelSource.threshold`; the code in the card applies it.

    Raises `CocosegError` if the format cannot hold the model, or if its results differ from PyTorch's.
    """
    sys.stderr.write(f"cocoseg export: writing {format_} with PyTorch, which takes seconds to minutes\n")
    model, info = source.load()
    chosen = source.threshold(threshold, info)
    remark = f"{chosen.remark}\n" if chosen.remark else ""
    readme = _readme(source, model, info)
    match format_:
        case "onnx":
            data = onnx_bytes(model, info, chosen.value)
            checked = agreement(data, model, info, chosen.value)
            write_bytes(out / "model.onnx", data)
            write_bytes(out / "README.md", _with_use(readme, onnx_use(info, chosen.value)).encode())
            return f"{remark}{out}/model.onnx: checked with onnxruntime against PyTorch: {checked}"
        case "huggingface":
            front = front_matter(info, source.beside(LOCK), _scores(source, info))
            readme = _with_use(readme, huggingface_use(info, stride_of(model), chosen.value))
            write_huggingface(out, model, info, front + readme)
            load = f"load it with smp.from_pretrained({str(out)!r})"
            return f"{remark}{out}: {load}, upload it with: hf upload USER/NAME {out}"


def _scores(source: ModelSource, info: ModelInfo) -> bytes | None:
    """Return `metrics/evaluate.json` if it is of these weights.

    Raises `CocosegError` if its scores are not those of `per_image.csv`. Where that is not at hand, as after a `dvc
    pull` of the model alone, they are taken as they are.
    """
    scores = source.beside(SCORES) if source.describes(info) else None
    try:
        told = msgspec.json.decode(scores or b"{}", type=dict[str, Any])
        table = source.beside(paths.PER_IMAGE.as_posix()) if told else None
    except (msgspec.DecodeError, CocosegError):  # such as with merge conflicts; neither in the cache nor on the remote
        return scores
    if table is not None:
        place = paths.PER_IMAGE.as_posix()
        totals = image_totals(decoded_table(table, ClassPixels, place), info.classes, place)
        if wrong := contradiction(totals.values(), info.classes, told):
            raise CocosegError(f"{SCORES}: {wrong}; run dvc repro -f evaluate")
    return scores


def _readme(source: ModelSource, model: nn.Module, info: ModelInfo) -> str:
    """Return the card that the pipeline wrote for these weights, with the measured cost, or a new one without scores.

    It lacks the section on use, which each format has its own of.
    """
    if not source.describes(info):
        size = info.preprocessing.image_size_px
        cost = Cost(parameters=parameter_count(model), multiply_adds=multiply_adds(model, size))
        return _before_use(model_card(info, cost, None))
    written = _before_use((source.beside(CARD) or b"").decode(errors="replace"))
    try:
        timings = [msgspec.json.decode(timing) if (timing := source.beside(path)) else None for path in _TIMINGS]
        measured = measured_cost(*timings)
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):  # from another version, or with merge conflicts
        return written
    return f"{written}\n{measured}\n" if measured else written


def _with_use(readme: str, use: str) -> str:
    """Return the card with the section on use as its first: it is what a reader comes for."""
    head, mark, rest = readme.partition("\n## ")
    return f"{head}\n{use}{mark}{rest}"


def _before_use(text: str) -> str:
    return text.partition(f"\n{USE_HEADING}\n")[0]
