"""Runs that differ only in the seed, found among the experiments, and how to train more."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cocoseg.commands.compare.claims import LEAST_SEEDS
from cocoseg.commands.compare.differences import environment
from cocoseg.commands.compare.history import kept_commit
from cocoseg.commands.compare.runs import (
    EVALUATED,
    MASKS,
    MODEL,
    SMALL_FILES,
    SPLIT_METRICS,
    SPLITS,
    Scored,
    fold_of,
    hash_scored_on,
    params_of,
    place_of,
    scored,
    seed_of,
)
from cocoseg.commands.dvc_adapter import queued_runs
from cocoseg.commands.revisions import (
    LOCK,
    PARAMS,
    LockedStage,
    Revision,
    commits_of_lock,
    experiments,
    hash_in_lock,
    read_ahead,
    read_blobs,
    stages_of_lock,
    tracked_files_changed,
)
from cocoseg.core.errors import CocosegError

# The files that the runs of a group may differ in, because the seed changes them.
_MADE_BY_TRAINING = (MODEL, "metrics/train")
_MADE_BY_SPLIT = (SPLITS, SPLIT_METRICS)  # in which two folds differ
_THRESHOLD = re.compile(rb"^ +threshold: (\S+)$", re.MULTILINE)


def seed_groups(
    own_runs: Sequence[Scored], among: Collection[str] | None = None, *, across_folds: bool = False
) -> tuple[list[list[Scored]], list[str]]:
    """Return these runs with the experiments that differ from one only in the seed, one per seed, by group.

    The second is why any were left out. Runs of one group are together, where the first of them stands. With
    `across_folds`, runs of other folds are of the group too.
    """
    groups: dict[str, dict[tuple[int | None, int], Scored]] = {}
    remarks = []
    for run in own_runs:
        group = groups.setdefault(group_key(run.revision.lock, across_folds), {})
        if group.setdefault(place_of(run.revision), run) is not run:
            first = group[place_of(run.revision)].revision.name
            remarks.append(f"{run.revision.name} has the settings and the seed of {first}: it counts once")
    masks = {hash_scored_on(run.revision, MASKS) for run in own_runs}
    found = [one for one in experiments() if among is None or one.name in among]
    locks = read_blobs(f"{one.commit}:{LOCK}" for one in found)
    alike = []
    for one, text in zip(found, locks, strict=True):
        # Most experiments of a large table have other data, and parsing takes a while.
        if text is None or hash_in_lock(text, MASKS) not in masks:
            continue
        revision = Revision(one.name, one.commit)
        try:
            revision.lock = stages_of_lock(text, f"{one.name}: {LOCK}")
            key = group_key(revision.lock, across_folds)
            if key in groups and place_of(revision) not in groups[key]:
                alike.append((revision, groups[key]))
        except CocosegError as error:
            remarks.append(f"an experiment is left out: {error}")
    read_ahead((revision for revision, _ in alike), SMALL_FILES)
    for revision, group in alike:
        try:
            if place_of(revision) not in group:
                group[place_of(revision)] = scored(revision)
        except CocosegError as error:
            remarks.append(f"an experiment is left out: {error}")
    return [list(group.values()) for group in groups.values()], remarks


def group_key(lock: Mapping[str, LockedStage], across_folds: bool = False) -> str:
    """Return what runs that differ only in the seed share: how they were trained and scored, and on what data.

    The parameters of `evaluate` are left out, because they change no count, but for the threshold. `across_folds` is
    for runs that differ in the fold too: how images are dealt to folds stands for the files of each side.
    """
    threshold = params_of(lock.get("evaluate")).get("threshold", 0.5)  # older versions had none
    facts: list[Any] = [
        sorted((key, value) for key, value in params_of(lock.get("train")).items() if key != "seed"),
        threshold,
    ]
    split = sorted((key, value) for key, value in params_of(lock.get("split")).items() if key != "fold")
    in_folds = across_folds and ("split_rule", "fold") in split
    facts += [split] if in_folds else []
    made = (*_MADE_BY_TRAINING, *(_MADE_BY_SPLIT if in_folds else ()))
    for stage in ("split", "train", "evaluate") if in_folds else ("train", "evaluate"):
        deps = {dep.path: dep.md5 for dep in lock.get(stage, LockedStage()).deps if dep.path not in made}
        facts.append(sorted(deps.items()))
    return repr(facts)


def other_environments(group: Sequence[Scored]) -> str | None:
    """Return in what the environments of a group's runs differ, in words; `None` if they are the same."""
    found: dict[str, dict[str, None]] = {}
    for run in group:
        for key, value in environment(run.revision).items():
            found.setdefault(key, {})[str(value)] = None
    differing = [f"{key} {' or '.join(values)}" for key, values in found.items() if len(values) > 1]
    if not differing:
        return None
    return (
        f"the seeds of {group[0].revision.name} were trained in different environments, which moves scores too: "
        + ", ".join(differing)
    )


def alike_seeds(groups: Iterable[Sequence[Scored]]) -> str | None:
    """Return of which groups several seeds predict every pixel alike, in words; `None` if of none.

    Their spread is not that of independent runs: the training does not use its seed, or has learned nothing.
    """
    alike = []
    for group in groups:
        hashes = [run.revision.output_hash("evaluate", EVALUATED) for run in group]
        if None not in hashes and len(set(hashes)) < len(hashes):
            alike.append(group[0].revision.name)
    return f"seeds of {' and of '.join(alike)} predict every pixel alike; does train use seed?" if alike else None


def more_seeds(groups: Sequence[Sequence[Scored]], *, across_folds: bool = False) -> tuple[list[str], list[str]]:
    """Return the commands that train the seeds that these groups lack, and a remark on those that are queued.

    With `across_folds`, those that train the missing folds. A group starts with its own run.
    """
    wanted = [(group[0].revision, *_wanted(group, across_folds)) for group in groups]
    lacking_groups = [entry for entry in wanted if len(entry[2]) < entry[3]]
    if not lacking_groups:
        return [], []
    waiting_runs = (f"{one.commit}:{PARAMS}" for one in queued_runs() if one.state != "failed")
    waiting = [params for text in read_blobs(waiting_runs) if (params := _params(text))]
    commands, remarks = [], []
    for revision, name, there, needed in lacking_groups:
        own = trained_with(revision, name)
        queued = {one.get(name) for one in waiting if own == {key: one.get(key) for key in own}} - there
        if queued:
            several = len(queued) > 1
            remarks.append(
                f"{len(queued)} runs of {revision.name} with other {name}s are queued or running; they count once they "
                "are done"
                if several
                else f"1 run of {revision.name} with another {name} is queued or running; it counts once it is done"
            )
        lacking = needed - len(there | queued)
        if lacking > 0:
            tried = there | queued
            missing = [value for value in range(len(tried) + needed) if value not in tried][:lacking]
            commands.append(_queued_at(revision, f"{name}={','.join(map(str, missing))}"))
    return [*commands, "dvc queue start"], remarks


def _wanted(group: Sequence[Scored], across_folds: bool) -> tuple[str, set[Any], int]:
    """Return the parameter that runs of a group should differ in, its values there, and how many are needed."""
    folds = params_of(group[0].revision.lock.get("split")).get("folds")
    if across_folds and fold_of(group[0].revision) is not None and folds is not None:
        return "fold", {fold_of(run.revision) for run in group}, folds
    return "seed", {seed_of(run.revision) for run in group}, LEAST_SEEDS


def trained_with(revision: Revision, but: str = "seed") -> dict[str, Any]:
    """Return all parameters of a run but this one and those of `evaluate`, which change no count."""
    stages = (stage for name, stage in revision.lock.items() if name != "evaluate")
    return {key: value for stage in stages for key, value in params_of(stage).items() if key != but}


def _params(text: bytes | None) -> dict[str, Any] | None:
    """Return the parameters of a `params.yaml`; `None` if it is not valid."""
    try:
        found = YAML(typ="safe", pure=True).load((text or b"").decode())
    except (YAMLError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _queued_at(revision: Revision, setting: str) -> str:
    """Return the command that queues runs of a setting at a revision and returns to the branch that is checked out."""
    params = params_of(revision.lock.get("download"))
    sources = (str(params.get(name, ".")) for name in ("annotations", "images"))
    # Else `download` would run, and fail: the data was made on another machine.
    elsewhere = any("://" not in path and not Path(path).exists() for path in sources)
    queue = f"dvc exp run --queue {'--allow-missing ' if elsewhere else ''}-S '{setting}'"
    if revision.commit is None:
        return queue
    there = f"git checkout -q {kept_commit(revision.commit)[:12]} && {queue} && git checkout -q -"
    # Else the runs would take a changed params.yaml along, and belong to neither side.
    return f"git stash && {there} && git stash pop" if tracked_files_changed() else there


def models_seen(new: Revision) -> int:
    """Return how many models were scored on this test side, as far as this clone knows.

    One model at two thresholds is two: the better of them was chosen by these images.
    """
    side = (hash_scored_on(new, MASKS), hash_scored_on(new, SPLITS))
    commits = [*commits_of_lock(), *(one.commit for one in experiments())]
    models = {(new.output_hash("train", MODEL), str(params_of(new.lock.get("evaluate")).get("threshold", 0.5)))}
    for text in set(read_blobs(f"{commit}:{LOCK}" for commit in commits)):
        if text is not None and (hash_in_lock(text, MASKS), hash_in_lock(text, SPLITS)) == side:
            threshold = _THRESHOLD.search(text)
            models.add((hash_in_lock(text, MODEL), threshold[1].decode() if threshold else "0.5"))
    return len([model for model, _ in models if model is not None])
