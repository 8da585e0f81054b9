"""The command `cocoseg evaluate`: any checkpoint on any side of the data that lies in `data/`."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
from torch import nn

from cocoseg.coco.categories import CategoryMapping
from cocoseg.commands.released import RELEASED, released_checkpoint
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_json, read_lines, read_table
from cocoseg.core.params import load_params
from cocoseg.evaluate.evaluation import EvaluateParams, checked_info, evaluate, evaluation_metrics
from cocoseg.evaluate.pretraining import seen_in_pretraining
from cocoseg.images.pairs import Pair, pairs
from cocoseg.model.weights import (
    INFO,
    ModelInfo,
    data_fingerprint,
    library_versions,
    load_checkpoint,
    refuse_pickle,
)
from cocoseg.tables import ImageRow

DATA = Path("data")
_LIST = "expected a text file with the file name of an image on each line"


def score_model(model: str, side: str | None, split: Path | None, predictions: Path | None) -> str:
    """The scores as JSON, like `metrics/evaluate.json` without its baselines.

    `model` is a folder or `torchvision:ARCH`, `side` one of train, val, test, `split` a list of file names instead.
    Raises `CocosegError` for a checkpoint of other classes; warns on standard error of one made from other data or by
    other versions.
    """
    if side and split:
        raise CocosegError("--side and --split name two sides; expected one of them")
    params = load_params(EvaluateParams)
    mapping = read_json(DATA / "category_mapping.json", CategoryMapping)
    network, info = released_checkpoint(model, mapping) if model.startswith(RELEASED) else _checkpoint(Path(model))
    info = checked_info(info, mapping, model)
    name, scored = _side(side, split)
    images = read_table(DATA / "images.csv", ImageRow)
    seen = seen_in_pretraining(info, [pair.file_name for pair in scored], images)
    for warning in mismatches(info) + (seen.warnings(len(scored)) if seen else []):
        sys.stderr.write(f"cocoseg evaluate: {model}: {warning}\n")
    with tempfile.TemporaryDirectory() as folder:
        result = evaluate(network, info, scored, predictions or Path(folder))
    metrics = evaluation_metrics(result, params, mapping.classes, name, {}, seen)
    del metrics["baselines"]
    about = {"model": model, "arch": info.arch, "weights_sha256": info.weights_sha256}
    return msgspec.json.format(msgspec.json.encode(about | metrics), indent=2).decode() + "\n"


def mismatches(info: ModelInfo) -> list[str]:
    """What sets a model apart from the data and libraries that lie here, in words."""
    found = []
    if info.data.fingerprint:
        here = data_fingerprint(
            [DATA / "images.csv", DATA / "masks.csv", *(DATA / f"splits/{side}.txt" for side in ("train", "val"))]
        )
        if here != info.data.fingerprint:
            found.append("trained on other data or another split: images scored here may be among those it has seen")
    found += _version_changes(info.versions, library_versions())
    return found


def _version_changes(made: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    changes = [
        f"{name} {made[name]} (here {here[name]})"
        for name in sorted(made.keys() & here.keys())
        if made[name] != here[name]
    ]
    return [f"made with {', '.join(changes)}"] if changes else []


def _checkpoint(folder: Path) -> tuple[nn.Module, ModelInfo]:
    if folder.is_file():
        with folder.open("rb") as file:
            refuse_pickle(file.read(9), folder)
    if not (folder / INFO).is_file():
        raise CocosegError(
            f"{folder}: holds no {INFO}; expected a folder that dvc repro train wrote, or {RELEASED}ARCH"
        )
    return load_checkpoint(folder)


def _side(side: str | None, split: Path | None) -> tuple[str, list[Pair]]:
    """What is scored: its name, and its pairs."""
    mask_map = read_json(DATA / "image_mask_map.json", dict[str, str])
    names = (
        [split]
        if split
        else [DATA / f"splits/{side}.txt"]
        if side
        else [DATA / f"splits/{side}.txt" for side in ("test", "val")]
    )
    for file in names:
        listed = read_lines(file, way_out=_LIST) if split else read_lines(file)
        unknown = next((name for name in listed if split and name not in mask_map), None)
        if unknown is not None:
            raise CocosegError(f"{split}: {unknown[:80]!r} is no image that has a mask; {_LIST}")
        found = pairs(listed, mask_map, DATA / "images", DATA / "masks")
        if found:
            return str(split) if split else file.stem, found
    raise CocosegError(f"{names[-1]}: lists no image; there is nothing to score")
