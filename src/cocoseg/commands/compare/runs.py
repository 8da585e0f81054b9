"""The scores of one run by image, as the stage `evaluate` left them, and the paths of its other files."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from ruamel.yaml.error import YAMLError

from cocoseg import paths
from cocoseg.commands.lock_yaml import loaded
from cocoseg.commands.recount import contradiction
from cocoseg.commands.revisions import LOCK, LockedStage, Revision
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import decoded_table
from cocoseg.scores.confusion import iou
from cocoseg.scores.formats import ScoreName
from cocoseg.scores.per_image import image_totals
from cocoseg.tables import ClassPixels

# As git and DVC name them in a revision.
PIPELINE = "dvc.yaml"
METRICS = paths.EVALUATE_METRICS.as_posix()
HEADLINE = paths.HEADLINE_SCORES.as_posix()
PER_IMAGE = paths.PER_IMAGE.as_posix()
PREDICTIONS = paths.PREDICTIONS.as_posix()
EVALUATED = paths.EVALUATION.as_posix()
CURVES = (paths.TRAIN_METRICS / "metrics.json").as_posix()
MODEL = paths.MODEL.as_posix()
MASKS = paths.MASKS.as_posix()
IMAGES = paths.IMAGES.as_posix()
IMAGE_TABLE = paths.IMAGE_TABLE.as_posix()
SPLITS = paths.SPLITS.as_posix()
SPLIT_METRICS = paths.SPLIT_METRICS.as_posix()
TRAINING = "metrics/timing/train.json"
EVALUATION = "metrics/timing/evaluate.json"
SMALL_FILES = (PIPELINE, METRICS, HEADLINE, CURVES, TRAINING, EVALUATION)
"""Those that git has."""


class RunMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """What a comparison needs from `metrics/evaluate.json`."""

    split: str
    images: int
    primary_score: ScoreName
    min_effect: float
    threshold: float = 0.5
    """Of binary models; results of older versions do not name it."""
    iou: dict[str, float | None]
    """By class, background first."""
    baselines: dict[str, dict[str, float | None]] = {}
    """The scores of each baseline, by its name."""
    initial_weights_may_have_seen: bool = False
    """Images of the side, as they come from other data."""


class Curves(msgspec.Struct, frozen=True):
    """What a comparison needs from `metrics/train/metrics.json`."""

    best: dict[str, float] = {}
    """The `epoch` that was kept, and the score that chose it by name, such as `val/miou`."""

    @property
    def chosen_by(self) -> tuple[str | None, float | None]:
        """The name of that score and its value in validation."""
        return next(((name[4:], value) for name, value in self.best.items() if name.startswith("val/")), (None, None))


class Scored(msgspec.Struct, kw_only=True):
    """A run's scores by image; `totals: (classes, 3)` of each, as in `cocoseg.scores.confusion`."""

    revision: Revision
    metrics: RunMetrics
    totals: dict[str, NDArray[np.int64]]
    """On the truth that a comparison scores both sides on."""
    own_totals: dict[str, NDArray[np.int64]]
    """On the run's own truth."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Background first."""
        return tuple(self.metrics.iou)

    def stacked(self, names: Sequence[str]) -> NDArray[np.int64]:
        """Return the totals of these images, (images, classes, 3)."""
        return np.stack([self.totals[name] for name in names])


def scored(revision: Revision) -> Scored:
    """Return the scores of a revision; raise `CocosegError` if it has none, or if they are of different runs.

    `metrics/scores.json` is checked too, where a run has one: its numbers are those that people read first.
    """
    metrics = revision.tracked_json(METRICS, RunMetrics)
    if mixed := mixed_results(revision):
        raise CocosegError(f"{revision.name}: {LOCK}: {mixed}; run dvc repro there and commit the results")
    place = f"{revision.name}: {PER_IMAGE}"
    rows = decoded_table(revision.cached(PER_IMAGE), ClassPixels, place)
    totals = image_totals(rows, tuple(metrics.iou), place)
    counted = iou(np.stack(list(totals.values())).sum(axis=0))
    told = np.array([np.nan if value is None else value for value in metrics.iou.values()])
    if len(totals) != metrics.images or not np.allclose(counted, told, atol=2e-6, equal_nan=True):
        raise CocosegError(f"{place} and {METRICS} are of different runs; run dvc checkout, or dvc repro")
    for path in (METRICS, HEADLINE):
        if path == METRICS or revision.output_hash("evaluate", path) is not None:
            told_otherwise = contradiction(
                totals.values(), tuple(metrics.iou), revision.tracked_json(path, dict[str, Any])
            )
            if told_otherwise:
                raise CocosegError(
                    f"{revision.name}: {path}: {told_otherwise}; run dvc repro -f evaluate there and commit the results"
                )
    return Scored(revision=revision, metrics=metrics, totals=dict(totals), own_totals=totals)


def mixed_results(revision: Revision) -> str | None:
    """Return, in words, which stage read what another has since made anew; `None` if none did.

    So it is where a stage failed, or was not asked for: its last results stay, beside newer ones of earlier stages.
    """
    stages = stages_of_results(revision)
    made = {out.path: (stage, out.md5) for stage, entry in stages.items() for out in entry.outs}
    for stage, entry in stages.items():
        for dep in entry.deps:
            maker, md5 = made.get(dep.path, (stage, dep.md5))
            if md5 != dep.md5:
                return f"{stage} ran on another {dep.path} than {maker} has made since"
    return None


def stages_of_results(revision: Revision) -> dict[str, LockedStage]:
    """Return `evaluate` and the stages that it follows from, as `dvc.lock` has them; others made no score.

    Those that `dvc.yaml` no longer has are left out: `dvc.lock` keeps their entries.
    """
    try:
        pipeline = loaded(revision.tracked(PIPELINE).decode())["stages"]
        stages = {name: entry for name, entry in revision.lock.items() if name.partition("@")[0] in pipeline}
    except (CocosegError, YAMLError, ValueError, RecursionError, TypeError, KeyError):
        return {}
    found: dict[str, LockedStage] = {}
    waiting = ["evaluate"] if "evaluate" in stages else []
    while waiting:
        name = waiting.pop()
        entry = found[name] = stages[name]
        needed = [f"{dep.path}/" for dep in entry.deps]
        waiting += [
            other
            for other, maker in stages.items()
            if other not in found and any(_overlap(f"{out.path}/", path) for out in maker.outs for path in needed)
        ]
    return found


def _overlap(one: str, other: str) -> bool:
    """Return whether two paths that end in a slash are one, or one lies in the other."""
    return one.startswith(other) or other.startswith(one)


def hash_scored_on(revision: Revision, path: str) -> str | None:
    """Return the hash of a file or folder as `evaluate` read it, whether a stage made it or `dvc add` tracks it."""
    deps = revision.lock.get("evaluate", LockedStage()).deps
    return next((dep.md5 for dep in deps if dep.path == path), None)


def params_of(stage: LockedStage | None) -> dict[str, Any]:
    """Return the parameters of a stage of `dvc.lock`; none if it has no such stage."""
    return {} if stage is None else stage.params.get("params.yaml", {})


def seed_of(revision: Revision) -> int:
    """Return the seed that a run was trained with."""
    seed = params_of(revision.lock.get("train")).get("seed", 0)
    if not isinstance(seed, int):
        raise CocosegError(f"{revision.name}: dvc.lock: seed is {seed!r}; expected a whole number; run dvc repro there")
    return seed


def fold_of(revision: Revision) -> int | None:
    """Return the fold that tested a run; `None` under another `split_rule`."""
    params = params_of(revision.lock.get("split"))
    return params.get("fold", 0) if params.get("split_rule") == "fold" else None


def place_of(revision: Revision) -> tuple[int | None, int]:
    """Return what the runs of a group differ in: fold and seed."""
    return fold_of(revision), seed_of(revision)
