"""Runs that differ in nothing but the seed, found among the experiments, and how to make more of them."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cocoseg.commands.compare.claims import LEAST_SEEDS
from cocoseg.commands.compare.runs import MASKS, MODEL, SPLITS, Scored, params_of, scored, seed_of
from cocoseg.commands.revisions import (
    LOCK,
    Revision,
    commits_of_lock,
    experiments,
    hash_in_lock,
    read_blobs,
    stages_of_lock,
    tracked_files_changed,
)
from cocoseg.core.errors import CocosegError

# Which files the runs of a group may differ in: what the seed changes.
_MADE_BY_TRAINING = (MODEL, "metrics/train")


def seed_group(own: Scored) -> tuple[list[Scored], list[str]]:
    """The run and the experiments that differ from it in the seed only, one a seed; and why any were left out."""
    key, seeds = group_key(own.revision.lock), {seed_of(own.revision)}
    group, remarks = [own], []
    masks = own.revision.output_hash("mask", MASKS)
    found = list(experiments())
    locks = read_blobs(f"{one.commit}:{LOCK}" for one in found)
    for one, text in zip(found, locks, strict=True):
        # Parsing takes a fifth of a second, and most experiments of a large table are of other data.
        if text is None or hash_in_lock(text, MASKS) != masks:
            continue
        revision = Revision(one.name, one.commit)
        try:
            revision.lock = stages_of_lock(text, f"{one.name}: {LOCK}")
            if group_key(revision.lock) != key or seed_of(revision) in seeds:
                continue
            group.append(scored(revision))
            seeds.add(seed_of(revision))
        except CocosegError as error:
            remarks.append(f"an experiment is left out: {error}")
    return group, remarks


def group_key(lock: Mapping[str, Any]) -> str:
    """What runs that differ in the seed only have in common: how they were trained, and what scored them on what.

    Not the parameters of `evaluate`, which declare and draw and change no count.
    """
    facts: list[Any] = [{key: value for key, value in params_of(lock.get("train", {})).items() if key != "seed"}]
    for stage in ("train", "evaluate"):
        deps = sorted((dep["path"], dep.get("md5")) for dep in lock.get(stage, {}).get("deps", []))
        facts.append([dep for dep in deps if dep[0] not in _MADE_BY_TRAINING])
    return json.dumps(facts, sort_keys=True, default=str)


def more_seeds(groups: Sequence[Sequence[Scored]]) -> list[str]:
    """The commands that train the runs that these groups lack, each group's own run first in it."""
    commands = []
    for group in groups:
        seeds = {seed_of(run.revision) for run in group}
        lacking = LEAST_SEEDS - len(seeds)
        if lacking > 0:
            missing = [seed for seed in range(len(seeds) + LEAST_SEEDS) if seed not in seeds][:lacking]
            commands.append(_queued_at(group[0].revision.commit, ",".join(map(str, missing))))
    return [*commands, "dvc queue start"] if commands else []


def _queued_at(commit: str | None, seeds: str) -> str:
    """The command that queues these seeds with the code and parameters of a commit, and comes back."""
    queue = f"dvc exp run --queue -S 'seed={seeds}'"
    if commit is None:
        return queue
    there = f"git checkout -q {commit[:12]} && {queue} && git checkout -q -"
    # A changed params.yaml would come along, and its run be of neither side.
    return f"git stash && {there} && git stash pop" if tracked_files_changed() else there


def models_seen(new: Revision) -> int:
    """How many models this test side has judged, as far as this clone knows."""
    side = (new.output_hash("mask", MASKS), new.output_hash("split", SPLITS))
    commits = [*commits_of_lock(), *(one.commit for one in experiments())]
    models = {new.output_hash("train", MODEL)}
    for text in set(read_blobs(f"{commit}:{LOCK}" for commit in commits)):
        if text is not None and (hash_in_lock(text, MASKS), hash_in_lock(text, SPLITS)) == side:
            models.add(hash_in_lock(text, MODEL))
    return len(models - {None})
