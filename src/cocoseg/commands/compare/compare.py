"""Compare two runs, or two groups of runs that differ in the seed: what changed, and is it more than noise?"""

from collections.abc import Collection, Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.coco.categories import class_difference
from cocoseg.coco.file_names import mask_name
from cocoseg.commands.compare.claims import Claim, change_claim, checkpoint_claim, fold_claim, undetermined
from cocoseg.commands.compare.differences import Differences, differences
from cocoseg.commands.compare.folds import Counts, Fold, about_groups, paired, test_per_training
from cocoseg.commands.compare.gate import Gate
from cocoseg.commands.compare.history import kept_commit, other_results_since_parted
from cocoseg.commands.compare.runs import (
    CURVES,
    MASKS,
    MODEL,
    PREDICTIONS,
    SMALL_FILES,
    Curves,
    Scored,
    fold_of,
    hash_scored_on,
    scored,
    seed_of,
)
from cocoseg.commands.compare.seeds import (
    alike_seeds,
    group_key,
    models_seen,
    more_seeds,
    other_environments,
    seed_groups,
)
from cocoseg.commands.compare.stale import changed_since_results
from cocoseg.commands.revisions import LOCK, Revision, read_ahead
from cocoseg.core.errors import CocosegError
from cocoseg.images.pairs import decoded_mask
from cocoseg.scores.confusion import class_totals, confusion_matrix, summary_scores
from cocoseg.scores.formats import ScoreName
from cocoseg.scores.per_image import false_foreground, image_iou


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a group, which is ranked by validation and not by its test score."""

    name: str
    seed: int
    chosen_by: str | None
    """The score that chose the epoch."""
    val_score: float | None
    test_score: float | None
    """The primary score on the run's own test side and truth."""
    fold: int | None = None
    """Under `split_rule: fold`, the one that it was tested on."""


class ImageChange(msgspec.Struct, frozen=True, kw_only=True):
    """One image's own IoU under both checkpoints."""

    file_name: str
    base: float
    new: float
    reason: str | None = None
    """The classes that were found or lost, if any: each of them moves the IoU of a whole image."""


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the report says."""

    base: str
    new: str
    score: ScoreName
    min_effect: float
    remarks: list[str]
    """What to know before reading any number."""
    refused: str | None
    """Why the scores of the two cannot be compared, if so."""
    is_outdated: bool = False
    """Whether parameters or code of the new side have changed since its results."""
    classes: tuple[str, ...]
    split: str
    images: int
    """Test images that both were scored on."""
    folds: list[int] = []
    """Under `split_rule: fold`, those whose images these are."""
    checkpoint: Claim | None
    change: Claim | None
    more_seeds: list[str]
    """The commands that train the seeds that the claim about the change lacks."""
    runs: dict[str, list[Run]]
    """By side, best in validation first."""
    models_seen: int
    """Distinct models of all commits and experiments in this clone that were scored on this test side."""
    images_changed: list[ImageChange]
    """Those that got worse most, then those that got better most."""
    differences: Differences
    gate: Gate | None = None
    """What `--fail-if` came to; `None` where it was not asked, or the scores cannot be compared."""


def compare(
    base: Revision, new: Revision, samples: int = 10_000, shown: int = 4, among: Collection[str] | None = None
) -> Comparison:
    """Compare `new` with `base`, by the primary score and least effect that the base declares.

    A change must not choose its own measure. At most `shown` images that got worse and as many that got better are
    named. Other seeds are looked for `among` the experiments of these names, or all. Raises `CocosegError` for a
    revision without results, and for results that neither cache nor remote has.
    """
    read_ahead((base, new), (LOCK, *SMALL_FILES))
    old, fresh = scored(base), scored(new)
    # Without a change there is nothing to judge, and both sides would have the same group of seeds.
    changed = not _same_model(old, fresh) and group_key(base.lock, True) != group_key(new.lock, True)
    groups, left_out = _groups(old, fresh, among) if changed else ([[old], [fresh]], [])
    folds, about_folds = paired(groups)
    refused = refusal_of(old, fresh, folds[0].images)
    outdated = changed_since_results(new)
    remarks = [*changed_since_results(base), *outdated, *_parted(base, new), *_remarks(old, fresh, folds, refused)]
    remarks += [*_below_baseline(old, fresh), *about_folds, *left_out, *_seen(old, fresh), *about_groups(new, folds)]
    checkpoint = change = None
    if refused is None:
        for fold in folds:
            remarks += on_one_truth(fold.base, fold.new[0], fold.images)
        remarks += _without_object(folds)
        checkpoint, change = _claims(folds, samples, with_change=changed)
        if change is not None and len(folds) == 1 and (why := alike_seeds([folds[0].base, folds[0].new])):
            change = undetermined(change, why)
    commands, waiting = more_seeds(groups, across_folds=True) if change is not None else ([], [])
    remarks += waiting
    score = old.metrics.primary_score
    return Comparison(
        base=title(base),
        new=title(new),
        score=score,
        min_effect=old.metrics.min_effect,
        remarks=remarks,
        refused=refused,
        classes=fresh.class_names,
        split=fresh.metrics.split,
        images=sum(len(fold.images) for fold in folds),
        is_outdated=bool(outdated),
        folds=[fold.number for fold in folds if fold.number is not None],
        checkpoint=checkpoint,
        change=change,
        more_seeds=commands,
        runs={side: ranked_by_validation(group, score) for side, group in zip(("base", "new"), groups, strict=True)},
        models_seen=models_seen(new),
        images_changed=_most_changed(old, fresh, folds, shown) if refused is None else [],
        differences=differences(base, new),
    )


def _groups(old: Scored, fresh: Scored, among: Collection[str] | None) -> tuple[list[list[Scored]], list[str]]:
    """Return the runs of each side, with those of other seeds, and why any were left out."""
    groups, left_out = seed_groups([old, fresh], among, across_folds=True)
    return groups, [*left_out, *(remark for group in groups if (remark := other_environments(group)))]


def _claims(folds: Sequence[Fold], samples: int, *, with_change: bool) -> tuple[Claim, Claim | None]:
    """Return the claim about the two checkpoints, and that about the change if there is one."""
    old, fresh = folds[0].base[0], folds[0].new[0]
    for fold in folds:
        check_truth(fold.new[0], [*fold.base, *fold.new], fold.images)
    pairs = [fold.totals() for fold in folds]
    first_base, first_new = _of_first(pairs)
    check_objects(fresh, first_new)
    settings = (fresh.class_names, old.metrics.primary_score, old.metrics.min_effect)
    checkpoint = checkpoint_claim(first_base, first_new, *settings, samples)
    if not with_change:
        return checkpoint, None
    if len(folds) == 1:
        return checkpoint, change_claim(pairs[0][0], pairs[0][1], *settings, samples)
    ratio = test_per_training(fresh.revision)
    return checkpoint, fold_claim([base for base, _ in pairs], [new for _, new in pairs], *settings, samples, ratio)


def _of_first(pairs: Sequence[tuple[list[Counts], list[Counts]]]) -> tuple[Counts, Counts]:
    """Return the totals of the images of all folds, each from the first run of its fold, on both sides."""
    return np.concatenate([base[0] for base, _ in pairs]), np.concatenate([new[0] for _, new in pairs])


def check_truth(fresh: Scored, runs: Sequence[Scored], common: Sequence[str]) -> None:
    """Raise `CocosegError` unless all tables count the same target pixels as that of `fresh`."""
    truth = fresh.stacked(common)[:, :, 0]
    for run in runs:
        if (run.stacked(common)[:, :, 0] != truth).any():
            raise CocosegError(
                f"{run.revision.name} and {fresh.revision.name}: their tables count different target pixels in the "
                "same masks; rebuild them with: dvc repro -f evaluate"
            )


def check_objects(fresh: Scored, totals: Counts) -> None:
    """Raise `CocosegError` unless some image shows an object; `totals: (images, classes, 3)`."""
    if not totals[:, 1:, 0].any():
        raise CocosegError(
            f"{fresh.revision.name}: no test image shows an object of any class; there is nothing to judge"
        )


def title(revision: Revision) -> str:
    """Return the name of a revision with its commit."""
    if revision.commit is None:
        return revision.name
    kept = kept_commit(revision.commit)
    return f"{revision.name} ({'' if kept == revision.commit else 'merge of '}{kept[:7]})"


def refusal_of(old: Scored, fresh: Scored, common: Sequence[str]) -> str | None:
    """Return why the scores cannot be compared, if so."""
    if old.class_names != fresh.class_names:
        how = class_difference(old.class_names, fresh.class_names, "removed", "added")
        return f"the classes differ, {how}: their scores do not measure the same thing"
    if common:
        return None
    numbers = [fold_of(run.revision) for run in (old, fresh)]
    named = ["a split without folds" if number is None else f"fold {number}" for number in numbers]
    tested = "" if numbers == [None, None] else f": {named[0]} against {named[1]}"
    return f"the two were scored on no image in common{tested}"


def _parted(base: Revision, new: Revision) -> list[str]:
    """Return what to remark if the branch of the base went on without `new`: no loss of `new`, though it looks so."""
    at = other_results_since_parted(base, new)
    if at is None:
        return []
    return [f"{base.name} has other results since the two parted, so the difference is not that of {new.name} alone; "
            f"to judge that, take the commit where they parted as the base: {at[:7]}"]  # fmt: skip


def _remarks(old: Scored, fresh: Scored, folds: Sequence[Fold], refused: str | None) -> list[str]:
    """Return what to know before reading the numbers."""
    remarks = []
    sides = (old.metrics.split, fresh.metrics.split)
    if sides[0] != sides[1]:
        remarks.append(f"the two were scored on different sides of the split ({', '.join(sides)}): read with care")
    removed, added = (sum(counts) for counts in zip(*(fold.removed_and_added() for fold in folds), strict=True))
    common, replaced = sum(len(fold.images) for fold in folds), sum(fold.replaced for fold in folds)
    if removed or added or replaced:
        other = f", {replaced} with the same name but other content" if replaced else ""
        remarks.append(
            f"the test sides differ: {common} images in common, {removed} removed, {added} added{other}"
            + ("; only those in common are compared" if refused is None else "")
        )
    for name in ("primary_score", "min_effect"):
        declared = [getattr(run.metrics, name) for run in (old, fresh)]
        if declared[0] != declared[1]:
            remarks.append(f"{name} is {declared[0]} in the base, which decides, and {declared[1]} in the new side")
    thresholds = [run.metrics.threshold for run in (old, fresh)]
    if thresholds[0] != thresholds[1]:
        remarks.append(
            f"the threshold of foreground is {thresholds[0]:g} in the base and {thresholds[1]:g} in the new side"
        )
    if _same_model(old, fresh):
        remarks.append("both sides have the same model: there is no change to judge; see git log and dvc exp list -A")
    elif group_key(old.revision.lock, True) == group_key(fresh.revision.lock, True):
        what = "seed" if fold_of(old.revision) is None else "seed or the fold"
        remarks.append(f"the two differ in the {what} only: there is no change to judge")
    return remarks


def _below_baseline(old: Scored, fresh: Scored) -> list[str]:
    """Return which sides score below the baseline that each was evaluated with, if any do."""
    score, below = old.metrics.primary_score, {}
    for side, run in (("the base", old), ("the new side", fresh)):
        own = float(summary_scores(np.sum(list(run.own_totals.values()), axis=0))[score])
        baseline = run.metrics.baselines.get("color_and_position", {}).get(score)
        if baseline is not None and own < baseline:
            below[side] = f"{own:.4f} against {baseline:.4f} in {side}"
    if not below:
        return []
    who = f"{next(iter(below))} is" if len(below) == 1 else "both sides are"
    return [f"{who} below the color-and-position baseline, which knows no shapes: {score} {', '.join(below.values())}"]


def _seen(old: Scored, fresh: Scored) -> list[str]:
    """Return which sides started from weights that may have been trained on the images that are scored, if any did."""
    sides = {"the base": old, "the new side": fresh}
    who = [side for side, run in sides.items() if run.metrics.initial_weights_may_have_seen]
    return [f"the initial weights of {' and '.join(who)} may have been trained on images that are scored here"] * bool(
        who
    )


def _without_object(folds: Sequence[Fold]) -> list[str]:
    """Return what both sides find in the images without an object, if there are any."""
    base, new = (false_foreground(totals) for totals in _of_first([fold.totals() for fold in folds]))
    return [f"in the base {base}; in the new side {new}"] if base and new else []


def _same_model(old: Scored, fresh: Scored) -> bool:
    """Return whether both sides predict the same: with one model and, in binary tasks, one threshold."""
    if old.metrics.threshold != fresh.metrics.threshold:
        return False
    models = [run.revision.output_hash("train", MODEL) for run in (old, fresh)]
    return models[0] is not None and models[0] == models[1]


def ranked_by_validation(group: Sequence[Scored], score: ScoreName) -> list[Run]:
    """Return the runs of a group, best in validation first."""
    runs = []
    for one in group:
        curves = one.revision.tracked_json(CURVES, Curves)
        chosen_by, val_score = curves.chosen_by
        own = float(summary_scores(np.sum(list(one.own_totals.values()), axis=0))[score])
        runs.append(
            Run(
                name=title(one.revision),
                seed=seed_of(one.revision),
                chosen_by=chosen_by,
                val_score=val_score,
                test_score=None if np.isnan(own) else round(own, 6),
                fold=fold_of(one.revision),
            )
        )
    return sorted(runs, key=lambda run: (-(run.val_score or 0), run.name))


def on_one_truth(group: Sequence[Scored], fresh: Scored, common: Sequence[str]) -> list[str]:
    """Score the runs of a group on the masks of `fresh` where theirs differ; return what to remark."""
    old = group[0]
    hashes = [hash_scored_on(run.revision, MASKS) for run in (old, fresh)]
    if hashes[0] == hashes[1] and hashes[0] is not None:
        return []
    old_masks, new_masks = old.revision.hashes(MASKS), fresh.revision.hashes(MASKS)
    other = [name for name in common if old_masks.get(mask_name(name)) != new_masks.get(mask_name(name))]
    classes = len(fresh.class_names)
    for name in other:
        path = f"{MASKS}/{mask_name(name)}"
        truth = decoded_mask(fresh.revision.cached(path), classes, f"{fresh.revision.name}: {path}")
        for run in group:
            path = f"{PREDICTIONS}/{mask_name(name)}"
            prediction = decoded_mask(run.revision.cached(path), classes, f"{run.revision.name}: {path}", "evaluate")
            if truth.shape != prediction.shape:
                raise CocosegError(f"{name}: its masks differ in size; there is no common truth to score on")
            run.totals[name] = class_totals(confusion_matrix(truth, prediction, classes))
    if not other:
        return []
    return [f"the masks of {len(other)} common images differ: both are scored on those of {fresh.revision.name}"]


def _most_changed(old: Scored, fresh: Scored, folds: Sequence[Fold], shown: int) -> list[ImageChange]:
    """Return the images whose IoU changed most, of those that the two named runs predicted."""
    names = (name for fold in folds if fold.base[0] is old and fold.new[0] is fresh for name in fold.images)
    changes = []
    for name in names:
        before, after = image_iou(old.totals[name]), image_iou(fresh.totals[name])
        if not np.isnan(before) and not np.isnan(after) and before != after:
            reason = change_reason(old.totals[name], fresh.totals[name], fresh.class_names)
            changes.append(ImageChange(file_name=name, base=round(before, 4), new=round(after, 4), reason=reason))
    changes.sort(key=lambda change: (change.new - change.base, change.file_name))
    worse = [change for change in changes if change.new < change.base][:shown]
    better = [change for change in reversed(changes) if change.new > change.base][:shown]
    return worse + better


def change_reason(old: NDArray[np.int64], new: NDArray[np.int64], class_names: Sequence[str]) -> str | None:
    """Return which classes of an image were found or lost, from its totals, (classes, 3); `None` if none were."""
    if not new[1:, 1].any():
        return "all predicted as background"
    if not old[1:, 1].any():
        return "no longer all background"
    there, wrong = new[:, 0] > 0, new[:, 0] == 0
    kinds = {
        "lost": there & (old[:, 2] > 0) & (new[:, 2] == 0),
        "found": there & (old[:, 2] == 0) & (new[:, 2] > 0),
        "wrongly found": wrong & (old[:, 1] == 0) & (new[:, 1] > 0),
        "no longer wrongly found": wrong & (old[:, 1] > 0) & (new[:, 1] == 0),
    }
    # Background first: it is no class to find or lose.
    named = {
        words: [name for name, one in zip(class_names[1:], which[1:], strict=True) if one]
        for words, which in kinds.items()
    }
    return "; ".join(f"{words}: {', '.join(names)}" for words, names in named.items() if names) or None
