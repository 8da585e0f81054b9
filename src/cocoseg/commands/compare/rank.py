"""Rank several runs, or groups of runs that differ in the seed: which of them can be told apart at all?"""

from collections.abc import Sequence
from itertools import compress
from operator import not_
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.commands.compare.claims import LEAST_SEEDS, few_images
from cocoseg.commands.compare.compare import (
    check_objects,
    check_truth,
    on_one_truth,
    ranked_by_validation,
    refusal_of,
    title,
)
from cocoseg.commands.compare.folds import Counts, about_groups, by_fold, common_images, folds_of, test_per_training
from cocoseg.commands.compare.gate import ClaimName
from cocoseg.commands.compare.ranking import Pair, all_pairs, letters, pairs_over_folds
from cocoseg.commands.compare.runs import SMALL_FILES, Scored, fold_of, params_of, scored, seed_of
from cocoseg.commands.compare.seeds import (
    alike_seeds,
    models_seen,
    more_seeds,
    other_environments,
    seed_groups,
    trained_with,
)
from cocoseg.commands.compare.stale import changed_since_results
from cocoseg.commands.revisions import LOCK, Revision, read_ahead
from cocoseg.core.errors import CocosegError
from cocoseg.scores.bootstrap import LEAST_IMAGES
from cocoseg.scores.confusion import summary_scores
from cocoseg.scores.formats import ScoreName


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One group of runs."""

    name: str
    params: dict[str, Any]
    """Those that not all rows have alike."""
    seeds: list[int]
    letters: str
    """Rows that share one cannot be told apart; empty for a row that is not ranked."""
    val_score: float | None
    """The mean over seeds, as is that of the test side."""
    test_score: float
    test_scores: list[float]
    """Of each seed, on the images and the truth that all are scored on."""
    difference: float | None = None
    """From the first row. `low` and `high` are 95 %, jointly over all pairs."""
    low: float | None = None
    high: float | None = None
    not_ranked_because: str | None = None


class Ranking(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the report says."""

    score: ScoreName
    chosen_by: str | None
    min_effect: float
    claim: ClaimName
    split: str
    images: int
    folds: int = 0
    """Under `split_rule: fold`, how many there are, of which all are ranked; 0 elsewhere."""
    remarks: list[str]
    rows: list[Row]
    """Best first; those that are not ranked last."""
    pairs: list[Pair]
    """Places of the rows that are ranked."""
    more_seeds: list[str]
    models_seen: int


def rank(revisions: Sequence[Revision], claim: ClaimName = "change", samples: int = 2000) -> Ranking:
    """Rank revisions by the primary score and least effect that the first of them declares.

    Raises `CocosegError` where scores cannot be compared, and for what has no results.
    """
    read_ahead(revisions, (LOCK, *SMALL_FILES))
    runs = [scored(one) for one in revisions]
    folds = folds_of(runs[0].revision)
    groups = [[run] for run in runs]
    remarks: list[str] = []
    if claim == "change":
        in_folds = folds is not None and all(folds_of(run.revision) == folds for run in runs)
        groups, remarks = seed_groups(runs, across_folds=in_folds)
        if folds and in_folds:
            shared = _shared_fold(runs, groups, folds[0])
            if shared is None:
                return _over_folds(runs, groups, remarks, folds[0], samples)
            groups = [[run for run in group if fold_of(run.revision) == shared] for group in groups]
            if folds[0] < LEAST_SEEDS:
                remarks.append(_too_few(folds[0]))
        remarks += [remark for group in groups if (remark := other_environments(group))]
    return _on_common_images(runs, groups, remarks, claim, samples)


def _on_common_images(
    runs: Sequence[Scored], groups: Sequence[Sequence[Scored]], about: Sequence[str], claim: ClaimName, samples: int
) -> Ranking:
    """Rank groups on the images that all were scored on."""
    common = _common_to_all(runs)
    remarks = [*_outdated(runs), *_of_sides(runs, common), *_remarks(runs, common), *about]
    for group in groups:
        remarks += on_one_truth(group, runs[0], common)
    check_truth(runs[0], [run for group in groups for run in group], common)
    check_objects(runs[0], runs[0].stacked(common))
    least = LEAST_SEEDS if claim == "change" else 1
    lacks = [len(group) < least or (claim == "change" and alike_seeds([group]) is not None) for group in groups]
    lacking, ranked = list(compress(groups, lacks)), list(compress(groups, map(not_, lacks)))
    stacks = [[run.stacked(common) for run in group] for group in ranked]
    order, pairs = all_pairs(stacks, runs[0].metrics.primary_score, runs[0].metrics.min_effect, samples)
    rows = _rows([ranked[place] for place in order], [(group, _lacks_seeds(group)) for group in lacking], pairs, common)
    commands, waiting = more_seeds(lacking)
    return _ranking(runs[0], claim, len(common), [*remarks, *waiting], rows, pairs, commands)


def _shared_fold(runs: Sequence[Scored], groups: Sequence[Sequence[Scored]], folds: int) -> int | None:
    """Return the one fold to rank on, where that tells more: no two groups have all folds, but two have its seeds."""
    named = {fold_of(run.revision) for run in runs}
    if len(named) > 1 or (sum(not _missing(group, folds) for group in groups) > 1 and folds >= LEAST_SEEDS):
        return None
    seeds = [sum(fold_of(run.revision) in named for run in group) for group in groups]
    return named.pop() if folds < LEAST_SEEDS or sum(count >= LEAST_SEEDS for count in seeds) > 1 else None


def _missing(group: Sequence[Scored], folds: int) -> list[int]:
    there = {fold_of(run.revision) for run in group}
    return [fold for fold in range(folds) if fold not in there]


def _too_few(folds: int) -> str:
    return f"{folds} folds are too few to rank over: {LEAST_SEEDS} are needed"


def _over_folds(
    runs: Sequence[Scored], groups: Sequence[Sequence[Scored]], about: Sequence[str], folds: int, samples: int
) -> Ranking:
    """Rank over all images; runs that differ in the fold are one row. What lacks a fold is listed, but not ranked."""
    remarks = [*_outdated(runs), *_remarks(runs, None), *about]
    remarks += [remark for group in groups if (remark := other_environments(group))]
    lacks = [folds < LEAST_SEEDS or bool(_missing(group, folds)) for group in groups]
    lacking, ranked = list(compress(groups, lacks)), list(compress(groups, map(not_, lacks)))
    sides = [by_fold(group) for group in ranked]
    images = [_common_to_all([side[fold][0] for side in sides]) for fold in range(folds)] if sides else []
    for fold, common in enumerate(images):
        first = sides[0][fold][0]
        remarks += _of_sides([side[fold][0] for side in sides], common)
        for side in sides:
            remarks += on_one_truth(side[fold], first, common)
        check_truth(first, [run for side in sides for run in side[fold]], common)
    stacks = [[[run.stacked(common) for run in side[fold]] for fold, common in enumerate(images)] for side in sides]
    order: list[int] = []
    pairs: list[Pair] = []
    if stacks:
        check_objects(ranked[0][0], np.concatenate([fold[0] for fold in stacks[0]]))
        metrics, ratio = runs[0].metrics, test_per_training(ranked[0][0].revision)
        order, pairs = pairs_over_folds(stacks, metrics.primary_score, metrics.min_effect, samples, ratio)
    names = [name for common in images for name in common]
    why = [(group, _lacks_folds(group, folds)) for group in lacking]
    rows = _rows([ranked[place] for place in order], why, pairs, names)
    commands, waiting = more_seeds(lacking, across_folds=True) if folds >= LEAST_SEEDS else ([], [])
    counted = sum(map(len, images))
    if 0 < counted < LEAST_IMAGES:
        remarks.append(f"nothing can be told apart: {few_images(counted)}")
    return _ranking(runs[0], "change", counted, [*remarks, *waiting], rows, pairs, commands, folds)


def _ranking(
    first: Scored,
    claim: ClaimName,
    images: int,
    remarks: Sequence[str],
    rows: list[Row],
    pairs: list[Pair],
    commands: list[str],
    folds: int = 0,
) -> Ranking:
    declared = first.metrics
    return Ranking(
        score=declared.primary_score,
        chosen_by=ranked_by_validation([first], declared.primary_score)[0].chosen_by,
        min_effect=declared.min_effect,
        claim=claim,
        split=declared.split,
        images=images,
        folds=folds,
        remarks=list(dict.fromkeys(remarks)),
        rows=rows,
        pairs=pairs,
        more_seeds=commands,
        models_seen=models_seen(first.revision),
    )


def _common_to_all(runs: Sequence[Scored]) -> list[str]:
    """Return the images that all were scored on; raise `CocosegError` where scores cannot be compared."""
    first, *others = runs
    common = sorted(first.totals)
    for other in others:
        own = set(common_images(first, other)[0])
        common = [name for name in common if name in own]
        if refused := refusal_of(first, other, common):
            raise CocosegError(f"{first.revision.name} and {other.revision.name}: {refused}")
    return common


def _outdated(runs: Sequence[Scored]) -> list[str]:
    return [remark for run in runs for remark in changed_since_results(run.revision)]


def _of_sides(runs: Sequence[Scored], common: Sequence[str]) -> list[str]:
    """Return what to remark if not all were scored on the same images."""
    if all(len(run.totals) == len(common) for run in runs):
        return []
    return [f"the test sides differ: all are ranked on the {len(common)} images that they have in common"]


def _remarks(runs: Sequence[Scored], common: Sequence[str] | None) -> list[str]:
    """Return what to know before reading the numbers; `common` is `None` where all folds are ranked."""
    remarks = []
    for name in ("split", "primary_score", "min_effect"):
        declared = [getattr(run.metrics, name) for run in runs]
        other = next((run for run, own in zip(runs, declared, strict=True) if own != declared[0]), None)
        if other is not None:
            own = getattr(other.metrics, name)
            remarks.append(f"{name} is {declared[0]} in the first, which decides, and {own} in {other.revision.name}")
    if common is not None and len(common) < LEAST_IMAGES:
        remarks.append(f"nothing can be told apart: {few_images(len(common))}")
    if common is not None and (folds := folds_of(runs[0].revision)):
        remarks.append(f"only fold {fold_of(runs[0].revision)} of {folds[0]} is ranked, on a part of the images")
    if seen := [run.revision.name for run in runs if run.metrics.initial_weights_may_have_seen]:
        remarks.append(f"the initial weights of {', '.join(seen)} may have been trained on images that are scored here")
    return remarks if common is None else [*remarks, *about_groups(runs[0].revision, [])]  # folds keep groups whole


def _rows(
    ranked: Sequence[Sequence[Scored]],
    lacking: Sequence[tuple[Sequence[Scored], str]],
    pairs: Sequence[Pair],
    common: Sequence[str],
) -> list[Row]:
    """Return the rows, best first, then those that are not ranked, with the reason."""
    groups = [*ranked, *(group for group, _ in lacking)]
    score = groups[0][0].metrics.primary_score
    apart = [(pair.first, pair.second) for pair in pairs if pair.verdict in ("better", "worse")]
    settings = _what_differs(groups)
    to_first = {pair.second: pair for pair in pairs if pair.first == 0}
    rows = [_row(group, params, common, score) for group, params in zip(groups, settings, strict=True)]
    for place, own_letters in enumerate(letters(len(ranked), apart)):
        pair = to_first.get(place)
        known = {} if pair is None else {"difference": pair.difference, "low": pair.low, "high": pair.high}
        rows[place] = msgspec.structs.replace(rows[place], letters=own_letters, **known)
    for place, (_, why) in enumerate(lacking, start=len(ranked)):
        rows[place] = msgspec.structs.replace(rows[place], not_ranked_because=why)
    return rows


def _lacks_seeds(group: Sequence[Scored]) -> str:
    """Return why a group is not ranked on the images of all."""
    seeds = "one seed" if len(group) == 1 else f"{len(group)} seeds"
    return alike_seeds([group]) or f"{seeds}, but {LEAST_SEEDS} are needed"


def _lacks_folds(group: Sequence[Scored], folds: int) -> str:
    """Return why a group is not ranked over folds."""
    if folds < LEAST_SEEDS:
        return _too_few(folds)
    missing = _missing(group, folds)
    return f"fold{'s' if len(missing) > 1 else ''} {', '.join(map(str, missing))} of {folds} missing"


def _row(group: Sequence[Scored], params: dict[str, Any], common: Sequence[str], score: ScoreName) -> Row:
    """Return the row of a group before it is ranked."""
    in_validation = [run.val_score for run in ranked_by_validation(group, score)]
    in_test = [float(summary_scores(totals)[score]) for totals in _totals(group, common)]
    known = [value for value in in_validation if value is not None]
    return Row(
        name=title(group[0].revision),
        params=params,
        seeds=sorted({seed_of(run.revision) for run in group}),
        letters="",
        val_score=round(float(np.mean(known)), 6) if len(known) == len(group) else None,
        test_score=round(float(np.mean(in_test)), 6),
        test_scores=[round(value, 6) for value in in_test],
    )


def _totals(group: Sequence[Scored], common: Sequence[str]) -> list[NDArray[Any]]:
    """Return the totals of each run on the images that all are scored on, or of a group of folds those of all images.

    Each image counts once, with the mean of the runs of its fold.
    """
    if common and all(run.totals.keys() >= set(common) for run in group):
        return [run.stacked(common).sum(axis=0) for run in group]
    counted: dict[str, list[Counts]] = {}
    for run in group:
        for name, totals in run.totals.items():
            counted.setdefault(name, []).append(totals)
    names = [name for name in common if name in counted] or counted
    return [np.sum([np.mean(counted[name], axis=0) for name in names], axis=0)]


def _what_differs(groups: Sequence[Sequence[Scored]]) -> list[dict[str, Any]]:
    """Return, of each group, the parameters that are not alike in all, but for the seed."""
    found = [trained_with(group[0].revision) | _threshold(group[0].revision) for group in groups]
    names = sorted({name for params in found for name in params if name != "fold"})
    differing = [name for name in names if any(params.get(name) != found[0].get(name) for params in found)]
    return [{name: params.get(name) for name in differing} for params in found]


def _threshold(revision: Revision) -> dict[str, Any]:
    return {key: value for key, value in params_of(revision.lock.get("evaluate")).items() if key == "threshold"}
