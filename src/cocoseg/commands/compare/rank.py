"""Rank several runs, or groups of runs that differ in the seed: which of them can be told apart at all?"""

from collections.abc import Sequence
from itertools import compress
from operator import not_
from typing import Any

import msgspec
import numpy as np

from cocoseg.commands.compare.claims import LEAST_SEEDS, few_images
from cocoseg.commands.compare.compare import (
    check_objects,
    check_truth,
    on_one_truth,
    ranked_by_validation,
    refusal_of,
    title,
)
from cocoseg.commands.compare.folds import about_groups, common_images, folds_of
from cocoseg.commands.compare.gate import ClaimName
from cocoseg.commands.compare.ranking import Pair, all_pairs, letters
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
    common = _common_to_all(runs)
    remarks = _remarks(runs, common)
    groups = [[run] for run in runs]
    if claim == "change":
        groups, left_out = seed_groups(runs)
        remarks += [*left_out, *(remark for group in groups if (remark := other_environments(group)))]
    for group in groups:
        remarks += on_one_truth(group, runs[0], common)
    check_truth(runs[0], [run for group in groups for run in group], common)
    check_objects(runs[0], runs[0].stacked(common))
    least = LEAST_SEEDS if claim == "change" else 1
    lacks = [len(group) < least or (claim == "change" and alike_seeds([group]) is not None) for group in groups]
    lacking = list(compress(groups, lacks))
    rows, pairs = _rows(list(compress(groups, map(not_, lacks))), lacking, common, samples)
    commands, waiting = more_seeds(lacking)
    declared = runs[0].metrics
    return Ranking(
        score=declared.primary_score,
        chosen_by=ranked_by_validation(runs[:1], declared.primary_score)[0].chosen_by,
        min_effect=declared.min_effect,
        claim=claim,
        split=declared.split,
        images=len(common),
        remarks=list(dict.fromkeys([*remarks, *waiting])),
        rows=rows,
        pairs=pairs,
        more_seeds=commands,
        models_seen=models_seen(runs[0].revision),
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


def _remarks(runs: Sequence[Scored], common: Sequence[str]) -> list[str]:
    """Return what to know before reading the numbers."""
    remarks = [remark for run in runs for remark in changed_since_results(run.revision)]
    if any(len(run.totals) != len(common) for run in runs):
        remarks.append(f"the test sides differ: all are ranked on the {len(common)} images that they have in common")
    for name in ("split", "primary_score", "min_effect"):
        declared = [getattr(run.metrics, name) for run in runs]
        other = next((run for run, own in zip(runs, declared, strict=True) if own != declared[0]), None)
        if other is not None:
            own = getattr(other.metrics, name)
            remarks.append(f"{name} is {declared[0]} in the first, which decides, and {own} in {other.revision.name}")
    if len(common) < LEAST_IMAGES:
        remarks.append(f"nothing can be told apart: {few_images(len(common))}")
    if folds := folds_of(runs[0].revision):
        remarks.append(f"only fold {fold_of(runs[0].revision)} of {folds[0]} is ranked, on a part of the images; "
                       "cocoseg compare judges two models over all folds")  # fmt: skip
    if seen := [run.revision.name for run in runs if run.metrics.initial_weights_may_have_seen]:
        remarks.append(f"the initial weights of {', '.join(seen)} may have been trained on images that are scored here")
    return [*remarks, *about_groups(runs[0].revision, [])]


def _rows(
    ranked: Sequence[Sequence[Scored]], lacking: Sequence[Sequence[Scored]], common: Sequence[str], samples: int
) -> tuple[list[Row], list[Pair]]:
    """Return the rows, best first, and every pair of those that are ranked."""
    declared = [*ranked, *lacking][0][0].metrics
    stacks = [[run.stacked(common) for run in group] for group in ranked]
    order, pairs = all_pairs(stacks, declared.primary_score, declared.min_effect, samples)
    apart = [(pair.first, pair.second) for pair in pairs if pair.verdict in ("better", "worse")]
    settings = _what_differs([*(ranked[place] for place in order), *lacking])
    to_first = {pair.second: pair for pair in pairs if pair.first == 0}
    rows = []
    for group, params in zip([*(ranked[place] for place in order), *lacking], settings, strict=True):
        rows.append(_row(group, params, common, declared.primary_score))
    for place, own_letters in enumerate(letters(len(order), apart)):
        pair = to_first.get(place)
        known = {} if pair is None else {"difference": pair.difference, "low": pair.low, "high": pair.high}
        rows[place] = msgspec.structs.replace(rows[place], letters=own_letters, **known)
    for place in range(len(order), len(rows)):
        seeds = "one seed" if len(rows[place].seeds) == 1 else f"{len(rows[place].seeds)} seeds"
        why = alike_seeds([lacking[place - len(order)]]) or f"{seeds}, but {LEAST_SEEDS} are needed"
        rows[place] = msgspec.structs.replace(rows[place], not_ranked_because=why)
    return rows, pairs


def _row(group: Sequence[Scored], params: dict[str, Any], common: Sequence[str], score: ScoreName) -> Row:
    """Return the row of a group before it is ranked."""
    in_validation = [run.val_score for run in ranked_by_validation(group, score)]
    in_test = [float(summary_scores(run.stacked(common).sum(axis=0))[score]) for run in group]
    known = [value for value in in_validation if value is not None]
    return Row(
        name=title(group[0].revision),
        params=params,
        seeds=[seed_of(run.revision) for run in group],
        letters="",
        val_score=round(float(np.mean(known)), 6) if len(known) == len(group) else None,
        test_score=round(float(np.mean(in_test)), 6),
        test_scores=[round(value, 6) for value in in_test],
    )


def _what_differs(groups: Sequence[Sequence[Scored]]) -> list[dict[str, Any]]:
    """Return, of each group, the parameters that are not alike in all, but for the seed."""
    found = [trained_with(group[0].revision) | _threshold(group[0].revision) for group in groups]
    names = sorted({name for params in found for name in params})
    differing = [name for name in names if any(params.get(name) != found[0].get(name) for params in found)]
    return [{name: params.get(name) for name in differing} for params in found]


def _threshold(revision: Revision) -> dict[str, Any]:
    return {key: value for key, value in params_of(revision.lock.get("evaluate")).items() if key == "threshold"}
