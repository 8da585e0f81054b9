"""Runs of `split_rule: fold`: each image is tested in one fold, and two models are compared fold by fold."""

from collections.abc import Sequence

import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.commands.compare.runs import IMAGES, SPLIT_METRICS, Scored, fold_of, hash_scored_on, params_of, seed_of
from cocoseg.commands.revisions import Revision

Counts = NDArray[np.int64]


class Fold(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of both sides that were scored on one test side. A split without folds is one."""

    base: list[Scored]
    """The first are those of the seeds whose checkpoints are compared."""
    new: list[Scored]
    images: list[str]
    """Those that both sides were scored on, by name."""
    replaced: int
    """Images that share a name but differ in content."""
    number: int | None = None

    def totals(self) -> tuple[list[Counts], list[Counts]]:
        """Return for each run of the base and the new side its totals of the images, (images, classes, 3)."""
        base, new = ([run.stacked(self.images) for run in side] for side in (self.base, self.new))
        return base, new

    def removed_and_added(self) -> tuple[int, int]:
        """Return how many images only the base, and only the new side was scored on."""
        removed, added = (len(side[0].totals) - len(self.images) - self.replaced for side in (self.base, self.new))
        return removed, added


def paired(groups: Sequence[Sequence[Scored]]) -> tuple[list[Fold], list[str]]:
    """Return the runs of both groups in pairs of the same test side, and what to remark.

    A group starts with its own run. If both deal images to the same folds, those that both have are paired, else only
    the fold of either's own run.
    """
    sides = [by_fold(group) for group in groups]
    folds = folds_of(groups[0][0].revision)
    alike = folds == folds_of(groups[1][0].revision)
    common = [number for number in range(folds[0] if folds and alike else 0) if all(number in side for side in sides)]
    if folds is None or not common:
        base, new = (side[fold_of(group[0].revision)] for side, group in zip(sides, groups, strict=True))
        return [_fold(base, new)], []
    found = [_fold(sides[0][number], sides[1][number], number) for number in common]
    return [fold for fold in found if fold.images] or found[:1], _remarks(sides, common, folds[0])


class _Groups(msgspec.Struct, frozen=True):
    groups: int


class _SplitMetrics(msgspec.Struct, frozen=True):
    groups: _Groups | None = None


def about_groups(new: Revision, folds: Sequence[Fold]) -> list[str]:
    """Return what to remark if images come in groups, such as patients, whose images are alike."""
    if new.output_hash("split", SPLIT_METRICS) is None:  # of another pipeline
        return []
    found = new.tracked_json(SPLIT_METRICS, _SplitMetrics).groups
    what = "the interval of these checkpoints takes" if len(folds) > 1 else "intervals take"
    remark = (
        f"the images come in {found.groups if found else 0} groups, but {what} each image as independent of the others"
    )
    return [f"{remark}, and may be too narrow"] if found else []


def folds_of(revision: Revision) -> tuple[int, int] | None:
    """Return how many folds a run is one of, and the `data_seed` that deals them; `None` if it is of no fold."""
    params = params_of(revision.lock.get("split"))
    return None if fold_of(revision) is None else (params.get("folds", 0), params.get("data_seed", 0))


def test_per_training(revision: Revision) -> float:
    """Return how many images are tested for each one that is trained on, by the parameters of a run of a fold."""
    params = params_of(revision.lock.get("split"))
    train, val = (params.get(name, 0) for name in ("train_share", "val_share"))
    trained_on = train / (train + val) if train else 1.0  # of the images of the other folds
    return float(1 / (params.get("folds", 0) - 1) / trained_on)


def by_fold(group: Sequence[Scored]) -> dict[int | None, list[Scored]]:
    """Return the runs of each fold, first that of the own run's seed, or the smallest."""
    own = seed_of(group[0].revision)
    found: dict[int | None, list[Scored]] = {}
    for run in sorted(group, key=lambda run: (seed_of(run.revision) != own, seed_of(run.revision))):
        found.setdefault(fold_of(run.revision), []).append(run)
    return found


def _fold(base: list[Scored], new: list[Scored], number: int | None = None) -> Fold:
    images, replaced = common_images(base[0], new[0])
    return Fold(base=base, new=new, images=images, replaced=replaced, number=number)


def _remarks(sides: Sequence[dict[int | None, list[Scored]]], common: Sequence[int], folds: int) -> list[str]:
    """Return which folds are compared, how, and which are missing."""
    there = f"fold{'s' if len(common) > 1 else ''} {', '.join(map(str, common))} of {folds}"
    said = [f"only fold {common[0]} of {folds} is compared, on a part of the images"]
    if len(common) > 1:
        said = [
            f"{there} are compared: each image counts once, as scored by a model that did not train on it; the claim "
            "about this change is by the spread over folds, with Nadeau and Bengio's correction for trainings that "
            "share images"
        ]
    for words, side in zip(("the base", "the new side"), sides, strict=True):
        if missing := [str(number) for number in range(folds) if number not in side]:
            said.append(f"{words} has no run of fold{'s' if len(missing) > 1 else ''} {', '.join(missing)}")
    return said


def common_images(old: Scored, fresh: Scored) -> tuple[list[str], int]:
    """Return the images that both were scored on, and how many others share a name but differ in content."""
    named = sorted(old.totals.keys() & fresh.totals.keys())
    sides = [hash_scored_on(run.revision, IMAGES) for run in (old, fresh)]
    if sides[0] == sides[1] and sides[0] is not None:
        return named, 0
    before, after = old.revision.hashes(IMAGES), fresh.revision.hashes(IMAGES)
    common = [name for name in named if before.get(name) == after.get(name)]
    return common, len(named) - len(common)
