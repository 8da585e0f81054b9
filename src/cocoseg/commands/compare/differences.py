"""What else differs between two runs: parameters, data, code, environment and cost."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import msgspec

from cocoseg.commands.compare.history import changed_files
from cocoseg.commands.compare.runs import EVALUATION, IMAGES, MASKS, SPLITS, TRAINING, hash_scored_on, params_of
from cocoseg.commands.revisions import CODE, LockedStage, Revision
from cocoseg.core.errors import CocosegError

_ENVIRONMENT = ("device", "precision", "processes")
_COST = ("parameters", "multiply_adds", "milliseconds_per_image", "peak_memory_mb")


class DataChange(msgspec.Struct, frozen=True, kw_only=True):
    """How many files of one kind were added (entered), were removed (left), or have other content."""

    what: str
    entered: int
    left: int
    changed: int


class Differences(msgspec.Struct, frozen=True, kw_only=True):
    """Values of both sides by name, the base's first; `None` where a side has none."""

    params: dict[str, tuple[Any, Any]]
    data: list[DataChange]
    code: list[str]
    environment: dict[str, tuple[Any, Any]]
    cost: dict[str, tuple[Any, Any]]
    """Of evaluation, also where both sides are equal."""


def differences(base: Revision, new: Revision) -> Differences:
    """Return all differences that git, `dvc.lock` and the timing metrics show."""
    sides = (base, new)
    params = (
        {key: value for entry in run.lock.values() for key, value in params_of(entry).items()} | start_of(run)
        for run in sides
    )
    environments = (environment(run) for run in sides)
    costs = [{key: _timing(run, EVALUATION).get(key) for key in _COST} for run in sides]
    return Differences(
        params=_changes(*params),
        data=_data_changes(base, new),
        code=_changed_code(base, new),
        environment=_changes(*environments),
        cost={key: (costs[0][key], costs[1][key]) for key in _COST if any(own[key] is not None for own in costs)},
    )


def start_of(revision: Revision) -> dict[str, str | None]:
    """Return the hash of what `initial_weights` named: one path may have held several models."""
    stage = revision.lock.get("train", LockedStage())
    named = params_of(stage).get("initial_weights")
    contents = {dep.path: dep.md5 for dep in stage.deps}
    return {"initial_weights (content)": contents[named]} if named in contents else {}


def _changed_code(base: Revision, new: Revision) -> list[str]:
    """Return the Python files that differ and can affect a result.

    Git says which. Where git shows no difference but `dvc.lock` does, as for files that git does not track, it is the
    file or folder that `dvc.lock` names.
    """
    changed = changed_files(base, new, [f"{folder}/*.py" for folder in CODE])
    locked = _changes(_code_in_lock(base), _code_in_lock(new))
    # Not what only one side has: dvc.yaml may now name a folder in place of its files.
    untold = (
        dep for dep, hashes in locked.items() if all(hashes) and not any(path.startswith(dep) for path in changed)
    )
    return sorted([*changed, *untold])


def _code_in_lock(revision: Revision) -> dict[str, str]:
    """Return the hash of each Python file and folder that made the results, by path."""
    deps = {dep.path: dep.md5 or "" for stage in revision.lock.values() for dep in stage.deps}
    ours = {path: md5 for path, md5 in deps.items() if path.split("/")[0] in CODE}
    files = {path: md5 for path, md5 in ours.items() if path.endswith(".py")}
    return files | {f"{path.rstrip('/')}/": md5 for path, md5 in ours.items() if md5.endswith(".dir")}


def _data_changes(base: Revision, new: Revision) -> list[DataChange]:
    changes = []
    for what, folder in (("images", IMAGES), ("masks", MASKS)):
        if hash_scored_on(base, folder) != hash_scored_on(new, folder):
            changes.append(_data_change(what, base.hashes(folder), new.hashes(folder)))
    if hash_scored_on(base, SPLITS) != hash_scored_on(new, SPLITS):
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
    return {
        key: (before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key)
    }


def environment(revision: Revision) -> dict[str, Any]:
    """Return the device, precision, processes and library versions that a run was trained with."""
    timing = _timing(revision, TRAINING)
    return {key: timing.get(key) for key in _ENVIRONMENT} | dict(timing.get("versions", {}))


def _timing(revision: Revision, path: str) -> dict[str, Any]:
    try:
        return revision.tracked_json(path, dict[str, Any])
    except CocosegError:  # the comparison does without it
        return {}
