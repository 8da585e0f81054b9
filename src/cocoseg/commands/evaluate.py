"""`cocoseg evaluate`: score any checkpoint on any side of the data in `data/`."""

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec
from torch import nn

from cocoseg import paths
from cocoseg.coco.categories import CategoryMapping
from cocoseg.commands.released import RELEASED, released_checkpoint
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_json, read_lines, read_table
from cocoseg.core.params import load_params
from cocoseg.evaluate.evaluation import check_task_and_classes
from cocoseg.evaluate.params import EvaluateParams
from cocoseg.evaluate.scored_side import SideToScore, score_side, side_to_score
from cocoseg.images.pairs import SplitFiles
from cocoseg.model.weights import (
    INFO,
    ModelInfo,
    data_fingerprint,
    library_versions,
    load_checkpoint,
    refuse_pickle,
)
from cocoseg.tables import ImageRow

_LIST = "expected a text file with the file name of an image on each line"


def score_model(model: str, side: str | None, split: Path | None, predictions: Path | None) -> str:
    """Return the scores as JSON, like `metrics/evaluate.json` without its baselines.

    `model` is a folder or `torchvision:ARCH`, `side` one of train, val, test; `split` is a list of file names instead.
    Raises `CocosegError` for a checkpoint of other classes. Warns on standard error of one made from other data or with
    other versions.
    """
    if side and split:
        raise CocosegError("--side and --split cannot be combined; expected one of them")
    params = load_params(EvaluateParams)
    mapping = read_json(paths.CATEGORY_MAPPING, CategoryMapping)
    network, info = released_checkpoint(model, mapping) if model.startswith(RELEASED) else _checkpoint(Path(model))
    check_task_and_classes(info, mapping, model)
    scored = _side(side, split)
    images = read_table(paths.IMAGE_TABLE, ImageRow)
    with tempfile.TemporaryDirectory() as folder:
        result = score_side(params, (network, info), scored, images, predictions or Path(folder), {})
    for warning in mismatches(info) + result.warnings:
        sys.stderr.write(f"cocoseg evaluate: {model}: {warning}\n")
    metrics = {key: value for key, value in result.metrics.items() if key != "baselines"}
    about = {"model": model, "arch": info.arch, "weights_sha256": info.weights_sha256}
    return msgspec.json.format(msgspec.json.encode(about | metrics), indent=2).decode() + "\n"


def mismatches(info: ModelInfo) -> list[str]:
    """Return how the data and libraries that a model was made with differ from those here, a line each."""
    found = []
    if info.data.fingerprint:
        lists = [paths.SPLITS / f"{side}.txt" for side in ("train", "val")]
        here = data_fingerprint([paths.IMAGE_TABLE, paths.MASK_TABLE, *lists])
        if here != info.data.fingerprint:
            found.append("trained on other data or another split: it may have seen images that are scored here")
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
            f"{folder}: {INFO} not found; expected a folder that dvc repro train wrote, or {RELEASED}ARCH"
        )
    return load_checkpoint(folder)


def _side(side: str | None, split: Path | None) -> SideToScore:
    """Return what is to be scored. Raises `CocosegError` for a list that names no image."""
    sides = SplitFiles(
        splits=paths.SPLITS,
        mask_map=paths.IMAGE_MASK_MAP,
        images=paths.IMAGES,
        image_table=paths.IMAGE_TABLE,
        masks=paths.MASKS,
    )
    if split is None:
        found = SideToScore(side, sides.pairs(side)) if side else side_to_score(sides)
        place = sides.splits / f"{found.name}.txt"
    else:
        listed, known = read_lines(split, way_out=_LIST), read_json(sides.mask_map, dict[str, str])
        unknown = next((name for name in listed if name not in known), None)
        if unknown is not None:
            raise CocosegError(f"{split}: {unknown[:80]!r} is not an image with a mask; {_LIST}")
        found, place = SideToScore(str(split), sides.pairs_of(listed)), split
    if not found.pairs:
        raise CocosegError(f"{place}: lists no image; there is nothing to score")
    return found
