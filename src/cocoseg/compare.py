"""Two runs, or two groups of runs that differ in the seed, held against each other: what changed, and does it count."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.claims import Claim, change_claim, checkpoint_claim
from cocoseg.confusion import ScoreName, class_totals, confusion_matrix
from cocoseg.errors import CocosegError
from cocoseg.file_names import mask_name
from cocoseg.files import decoded_table
from cocoseg.per_image import image_iou, image_totals
from cocoseg.revisions import LOCK, Revision, commits_of_lock, experiments, read_blobs, stages_of_lock
from cocoseg.tables import ClassPixels

METRICS = "metrics/evaluate.json"
CURVES = "metrics/train/metrics.json"
TIMING = "metrics/timing/train.json"
PER_IMAGE = "data/evaluation/per_image.csv"
PREDICTIONS = "data/evaluation/predictions"
MASKS = "data/masks"
IMAGES = "data/images"
SPLITS = "data/splits"

# Which files the runs of a group may differ in: what the seed changes.
_MADE_BY_TRAINING = ("data/model", "metrics/train")


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a group, by validation ranked before its test score is looked at."""

    name: str
    seed: int
    val_score: float | None
    test_score: float | None


class ImageChange(msgspec.Struct, frozen=True, kw_only=True):
    """One image's own IoU under both checkpoints."""

    file_name: str
    base: float
    new: float


class DataChange(msgspec.Struct, frozen=True, kw_only=True):
    """How many files of one kind came, went, or have other content."""

    what: str
    entered: int
    left: int
    changed: int


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """All that the report says."""

    base: str
    new: str
    score: ScoreName
    min_effect: float
    remarks: list[str]
    """What must be known before any number is read."""
    refused: str | None
    """Why the scores of the two cannot be held against each other, if so."""
    classes: tuple[str, ...]
    split: str
    images: int
    """Test images that both were scored on."""
    checkpoint: Claim | None
    change: Claim | None
    more_seeds: list[str]
    """The commands that train what the claim about the change still lacks."""
    runs: dict[str, list[Run]]
    """By side, the best in validation first."""
    models_seen: int
    """Distinct models, of all commits and experiments in this clone, that were scored on this test side."""
    images_changed: list[ImageChange]
    """Those that got worse most, then those that got better most."""
    params: dict[str, tuple[Any, Any]]
    data: list[DataChange]
    code: list[str]
    environment: dict[str, tuple[Any, Any]]


class Scored(msgspec.Struct, kw_only=True):
    """A run's scores by image."""

    revision: Revision
    metrics: dict[str, Any]
    totals: dict[str, NDArray[np.int64]]

    @property
    def class_names(self) -> tuple[str, ...]:
        """Background first."""
        return tuple(self.metrics["iou"])

    @property
    def primary_score(self) -> ScoreName:
        """What was declared when the result was made."""
        name: ScoreName = self.metrics["primary_score"]
        return name

    @property
    def min_effect(self) -> float:
        """As `primary_score`."""
        return float(self.metrics["min_effect"])


def compare(base: Revision, new: Revision, samples: int = 10_000, shown: int = 4) -> Comparison:
    """Everything there is to say about `new` against `base`. `shown` images of each kind that changed most.

    Raises `CocosegError` for a revision without results, or results that neither cache nor remote has.
    """
    old, fresh = scored(base), scored(new)
    common = sorted(old.totals.keys() & fresh.totals.keys())
    refused, remarks = _refusal(old, fresh, common), _remarks(old, fresh, common)
    alone = group_key(base.lock) == group_key(new.lock)  # a group of seeds on either side would be the same group
    groups = {side: [run] if alone else _group(run, remarks) for side, run in (("base", old), ("new", fresh))}
    checkpoint = change = None
    changed: list[ImageChange] = []
    if refused is None:
        remarks += _on_one_truth(groups["base"], fresh, common)
        counts = {side: [_stacked(run, common) for run in group] for side, group in groups.items()}
        if not counts["new"][0][:, 1:, 0].any():
            raise CocosegError(f"{new.name}: no test image shows an object of any class: there is nothing to judge")
        settings = (fresh.class_names, fresh.primary_score, fresh.min_effect, samples)
        checkpoint = checkpoint_claim(counts["base"][0], counts["new"][0], *settings)
        change = None if alone else change_claim(counts["base"], counts["new"], *settings)
        changed = _most_changed(old, fresh, common, shown)
    return Comparison(
        base=_title(base),
        new=_title(new),
        score=fresh.primary_score,
        min_effect=fresh.min_effect,
        remarks=remarks,
        refused=refused,
        classes=fresh.class_names,
        split=fresh.metrics["split"],
        images=len(common),
        checkpoint=checkpoint,
        change=change,
        more_seeds=_more_seeds(base, new, groups) if change is not None and change.undetermined_because else [],
        runs={side: _ranked(group) for side, group in groups.items()},
        models_seen=_models_seen(new),
        images_changed=changed,
        params=_params_changed(base, new),
        data=_data_changed(base, new),
        code=_code_changed(base, new),
        environment=_changes(_environment(base), _environment(new)),
    )


def scored(revision: Revision) -> Scored:
    """A revision's scores."""
    metrics = revision.tracked_json(METRICS, dict[str, Any])
    lacking = [key for key in ("iou", "split", "primary_score", "min_effect") if key not in metrics]
    if lacking:
        raise CocosegError(
            f"{revision.name}: {METRICS} has no {lacking[0]}; it was made by older code: run dvc repro there"
        )
    place = f"{revision.name}: {PER_IMAGE}"
    rows = decoded_table(revision.cached(PER_IMAGE), ClassPixels, place)
    return Scored(revision=revision, metrics=metrics, totals=image_totals(rows, tuple(metrics["iou"]), place))


def _title(revision: Revision) -> str:
    return revision.name if revision.commit is None else f"{revision.name} ({revision.commit[:7]})"


def _refusal(old: Scored, fresh: Scored, common: Sequence[str]) -> str | None:
    """Why there is nothing to compare, if so."""
    if old.class_names != fresh.class_names:
        gone = [name for name in old.class_names if name not in fresh.class_names]
        came = [name for name in fresh.class_names if name not in old.class_names]
        parts = [f"{len(names)} {word} ({_listed(names)})" for names, word in ((gone, "left"), (came, "came")) if names]
        how = " and ".join(parts) or "in their order"
        return f"the classes differ, {how}: their scores do not speak of the same thing"
    return None if common else "the two were scored on no common image"


def _remarks(old: Scored, fresh: Scored, common: Sequence[str]) -> list[str]:
    """What must be known before the numbers."""
    remarks = []
    sides = (old.metrics["split"], fresh.metrics["split"])
    if sides[0] != sides[1]:
        remarks.append(f"the two were scored on different sides of the split ({', '.join(sides)}): read with care")
    gone, came = len(old.totals) - len(common), len(fresh.totals) - len(common)
    if gone or came:
        remarks.append(
            f"the test sides differ: {len(common)} images are common, {gone} left, {came} came; "
            "only the common ones are compared"
        )
    models = [run.revision.output_hash("train", "data/model") for run in (old, fresh)]
    if models[0] == models[1]:
        remarks.append("both hold the same model")
    elif group_key(old.revision.lock) == group_key(fresh.revision.lock):
        remarks.append("the two differ in the seed only: there is no change to claim anything about")
    return remarks


def _group(own: Scored, remarks: list[str]) -> list[Scored]:
    """The run, and the experiments that differ from it in the seed only; one a seed."""
    key, seeds = group_key(own.revision.lock), {_seed(own.revision.lock)}
    group = [own]
    masks = own.revision.output_hash("mask", MASKS) or ""
    found = list(experiments())
    for (name, commit), text in zip(found, read_blobs(f"{commit}:{LOCK}" for _, commit in found), strict=True):
        # Parsing takes a tenth of a second, and most experiments of a large table are others.
        if text is None or masks.encode() not in text:
            continue
        revision = Revision(name, commit)
        revision.lock = stages_of_lock(text, f"{name}: {LOCK}")
        if group_key(revision.lock) != key or _seed(revision.lock) in seeds:
            continue
        try:
            group.append(scored(revision))
            seeds.add(_seed(revision.lock))
        except CocosegError as error:
            remarks.append(f"a run of another seed is left out: {error}")
    return group


def group_key(lock: Mapping[str, Any]) -> str:
    """What runs that differ in the seed only have in common: parameters, data and code of training and evaluation."""
    facts = []
    for stage in ("train", "evaluate"):
        entry = lock.get(stage, {})
        params = {key: value for key, value in _params_of(entry).items() if key != "seed"}
        deps = sorted((dep["path"], dep.get("md5")) for dep in entry.get("deps", []))
        facts.append([params, [dep for dep in deps if dep[0] not in _MADE_BY_TRAINING]])
    return json.dumps(facts, sort_keys=True, default=str)


def _params_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    return dict(entry.get("params", {}).get("params.yaml", {}))


def _seed(lock: Mapping[str, Any]) -> int:
    return int(_params_of(lock.get("train", {})).get("seed", 0))


def _more_seeds(base: Revision, new: Revision, groups: Mapping[str, Sequence[Scored]]) -> list[str]:
    commands = []
    for revision, side in ((base, "base"), (new, "new")):
        seeds = {_seed(run.revision.lock) for run in groups[side]}
        missing = [seed for seed in range(len(seeds) + 3) if seed not in seeds][: max(0, 3 - len(seeds))]
        if missing:
            there = "" if revision.commit is None else f"git checkout {revision.name} && "
            listed = ",".join(str(seed) for seed in missing)
            commands.append(f"{there}dvc exp run --queue -S 'seed={listed}' && dvc queue start")
    return commands


def _ranked(group: Sequence[Scored]) -> list[Run]:
    runs = []
    for one in group:
        curves = one.revision.tracked_json(CURVES, dict[str, Any])
        best = curves.get("best", {}).get("val/miou")
        seed = _seed(one.revision.lock)
        runs.append(
            Run(name=_title(one.revision), seed=seed, val_score=best, test_score=one.metrics[one.primary_score])
        )
    return sorted(runs, key=lambda run: (-(run.val_score or 0), run.name))


def _models_seen(new: Revision) -> int:
    """How many models this test side has judged, as far as this clone knows."""
    side = (new.output_hash("mask", MASKS) or "", new.output_hash("split", SPLITS) or "")
    names = [f"{commit}:{LOCK}" for commit in [*commits_of_lock(), *(commit for _, commit in experiments())]]
    models = {new.output_hash("train", "data/model")}
    for text in set(read_blobs(names)):
        if text is not None and all(part.encode() in text for part in side):
            stages = stages_of_lock(text, LOCK)
            models |= {out["md5"] for out in stages.get("train", {}).get("outs", []) if out["path"] == "data/model"}
    return len(models - {None})


def _on_one_truth(group: Sequence[Scored], fresh: Scored, common: Sequence[str]) -> list[str]:
    """Score the runs of a group anew on the masks of `fresh` where those are others; returns what to remark."""
    old = group[0]
    hashes = [run.revision.output_hash("mask", MASKS) for run in (old, fresh)]
    if hashes[0] == hashes[1] and hashes[0] is not None:
        return []
    old_masks, new_masks = old.revision.hashes(MASKS), fresh.revision.hashes(MASKS)
    other = [name for name in common if old_masks.get(mask_name(name)) != new_masks.get(mask_name(name))]
    for name in other:
        truth = _label_map(fresh.revision, f"{MASKS}/{mask_name(name)}")
        for run in group:
            prediction = _label_map(run.revision, f"{PREDICTIONS}/{mask_name(name)}")
            if truth.shape != prediction.shape:
                raise CocosegError(f"{name}: its mask has another size on the two sides: no common truth to score on")
            run.totals[name] = class_totals(confusion_matrix(truth, prediction, len(run.class_names)))
    if not other:
        return []
    return [f"the truth of {len(other)} common images differs: both are scored on that of {fresh.revision.name}"]


def _label_map(revision: Revision, path: str) -> NDArray[np.uint8]:
    labels = cv2.imdecode(np.frombuffer(revision.cached(path), np.uint8), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2 or labels.dtype != np.uint8:
        raise CocosegError(f"{revision.name}: {path}: not a single-channel 8-bit PNG; make it again with: dvc repro -f")
    return labels.astype(np.uint8, copy=False)


def _stacked(run: Scored, names: Sequence[str]) -> NDArray[np.int64]:
    return np.stack([run.totals[name] for name in names])


def _most_changed(old: Scored, fresh: Scored, names: Iterable[str], shown: int) -> list[ImageChange]:
    changes = []
    for name in names:
        before, after = image_iou(old.totals[name]), image_iou(fresh.totals[name])
        if not np.isnan(before) and not np.isnan(after) and before != after:
            changes.append(ImageChange(file_name=name, base=round(before, 4), new=round(after, 4)))
    changes.sort(key=lambda change: (change.new - change.base, change.file_name))
    worse = [change for change in changes if change.new < change.base][:shown]
    better = [change for change in reversed(changes) if change.new > change.base][:shown]
    return worse + better


def _params_changed(base: Revision, new: Revision) -> dict[str, tuple[Any, Any]]:
    before, after = (
        {key: value for entry in run.lock.values() for key, value in _params_of(entry).items()} for run in (base, new)
    )
    return _changes(before, after)


def _code_changed(base: Revision, new: Revision) -> list[str]:
    before, after = (
        {dep["path"]: dep.get("md5") for entry in run.lock.values() for dep in entry.get("deps", [])}
        for run in (base, new)
    )
    return [path for path in _changes(before, after) if path.endswith(".py")]


def _data_changed(base: Revision, new: Revision) -> list[DataChange]:
    changes = []
    for what, stage, folder in (("images", "download_images", IMAGES), ("masks", "mask", MASKS)):
        hashes = [run.output_hash(stage, folder) for run in (base, new)]
        if hashes[0] != hashes[1]:
            before, after = base.hashes(folder), new.hashes(folder)
            changes.append(_data_change(what, before, after))
    if base.output_hash("split", SPLITS) != new.output_hash("split", SPLITS):
        for side in ("train", "val", "test"):
            before, after = (
                dict.fromkeys(run.cached(f"{SPLITS}/{side}.txt").decode().split("\n")[:-1], "") for run in (base, new)
            )
            changes.append(_data_change(f"{side} images", before, after))
    return [change for change in changes if change.entered or change.left or change.changed]


def _data_change(what: str, before: Mapping[str, str], after: Mapping[str, str]) -> DataChange:
    kinds = Counter(
        "entered" if name not in before else "left" if name not in after else "changed"
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    )
    return DataChange(what=what, entered=kinds["entered"], left=kinds["left"], changed=kinds["changed"])


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The values that differ, by key, old and new; `None` where there is none."""
    return {
        key: (before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def _environment(revision: Revision) -> dict[str, Any]:
    try:
        timing = revision.tracked_json(TIMING, dict[str, Any])
    except CocosegError:  # it says nothing about the result, so its lack is no reason to stop
        return {}
    kept = {key: timing.get(key) for key in ("device", "precision", "processes")}
    return kept | dict(timing.get("versions", {}))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
