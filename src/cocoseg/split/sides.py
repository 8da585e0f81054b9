"""Assign each image to a side: training, validation or test."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from cocoseg.coco.categories import BACKGROUND, IGNORE
from cocoseg.core.errors import CocosegError, counted
from cocoseg.split.exact import SIDES, exact_sides
from cocoseg.split.groups import Groups
from cocoseg.split.near_duplicates import near_duplicate_groups, near_duplicate_pairs
from cocoseg.split.params import Side, SplitParams
from cocoseg.tables import ImageRow, MaskRow, class_counts
from cocoseg.unit_hash import unit_hash

_SIDE_NAMES: dict[str, str] = {"train": "training", "val": "validation", "test": "test"}
_NO_GROUPS = Groups()
_SEEDS_TRIED = 1000


def split_images(
    images: Sequence[ImageRow], rows: Sequence[MaskRow], params: SplitParams, groups: Groups = _NO_GROUPS
) -> dict[Side, list[int]]:
    """Return the image ids of each side in ascending order. Only images that have a mask are split.

    The images of a group are on one side. Raises `CocosegError` if a side is empty and its share is not 0.
    """
    masked = {row.image_id for row in rows}
    image_ids = sorted(masked)
    reason, way_out = "", ""  # for the message about an empty side
    match params.split_rule:
        case "stable":
            side_of = {one: _stable_side(groups.unit(one), params.shares(), params.data_seed) for one in image_ids}
            reason, way_out = ", and the hash of none of them falls there", ", or set split_rule: exact"
        case "exact":
            phashes = {row.image_id: row.phash for row in images if row.image_id in masked and row.phash}
            together = near_duplicate_groups(phashes, groups.pairs())
            side_of = exact_sides(together, _classes_of_image(rows), params.shares(), params.data_seed)
            if len(together) < min(len(image_ids), sum(share > 0 for share in params.shares().values())):
                count, of_alike = counted(len(together), "group"), "" if groups.of_image else " of near-duplicates"
                reason = f" in {count}{of_alike}, which split_rule: exact keeps together"
        case "official":
            side_of = _official_sides([row for row in images if row.image_id in masked], params, groups)
        case "fold":
            side_of = {one: _fold_side(groups.unit(one), params) for one in image_ids}
            _refuse_poor_folds({groups.unit(one) for one in image_ids}, params, groups)
    sides: dict[Side, list[int]] = {side: [] for side in SIDES}
    for image_id in image_ids:
        sides[side_of[image_id]].append(image_id)
    if groups.of_image and not reason.startswith(" in "):
        reason = f" in {counted(len(groups.members()) + groups.alone, 'group')}{reason}"
    _refuse_empty(sides, params, f"{counted(len(image_ids), 'image')}{reason}", way_out)
    return sides


def _refuse_empty(sides: Mapping[Side, Sequence[int]], params: SplitParams, images: str, way_out: str) -> None:
    """Raise `CocosegError` if a side is empty that should not be. `images`: how many there are, and why, in words."""
    more = "keep more images (max_images, classes)"
    for side, share in params.shares().items():
        if share > 0 and not sides[side]:
            raise CocosegError(
                f"params.yaml: the {side} side is empty: {side}_share is {share:g} of {images}; raise it, or {more}"
                f"{way_out}" + (f", or set {side}_share: 0" if side == "test" else "")
            )


def _refuse_poor_folds(units: Collection[int | str], params: SplitParams, groups: Groups) -> None:
    """Raise `CocosegError` if any of the folds has an empty side, before others of them are trained."""
    if (poor := _poor_fold(units, params)) is None:
        return
    fold, side = poor
    of = counted(len(units), "group" if groups.of_image else "image")
    seeds = (msgspec.structs.replace(params, data_seed=seed) for seed in range(_SEEDS_TRIED))
    good = next((one.data_seed for one in seeds if _poor_fold(units, one) is None), None)
    seed = "" if good is None else f"set data_seed: {good}, with which none of any fold is empty, or "
    raise CocosegError(
        f"params.yaml: the {_SIDE_NAMES[side]} side of fold {fold} of {params.folds} is empty: the hash of none of "
        f"{of} falls there; {seed}take fewer folds, or keep more images (max_images, classes)"
    )


def _poor_fold(units: Collection[int | str], params: SplitParams) -> tuple[int, Side] | None:
    """Return the first fold with an empty side that should not be, and that side."""
    for fold in range(params.folds):
        own = msgspec.structs.replace(params, fold=fold)
        there = {_fold_side(unit, own) for unit in units}
        for side, share in (_shares_without_test(params) | {"test": 1}).items():
            if share > 0 and side not in there:
                return fold, side
    return None


def split_metrics(
    sides: Mapping[Side, Sequence[int]],
    images: Sequence[ImageRow],
    rows: Sequence[MaskRow],
    params: SplitParams,
    groups: Groups = _NO_GROUPS,
) -> dict[str, Any]:
    """Return the images of each side, its images, instances and pixels per class, and near-duplicates across sides.

    Groups and folds are counted where there are any.
    """
    side_of = {image_id: side for side, image_ids in sides.items() for image_id in image_ids}
    names = [name for _, name in sorted({(row.class_index, row.class_name) for row in rows})]
    rows_of: dict[Side, list[MaskRow]] = {side: [] for side in SIDES}
    for row in rows:
        rows_of[side_of[row.image_id]].append(row)
    name_of = {row.image_id: row.file_name for row in images}
    pairs = near_duplicate_pairs({row.image_id: row.phash for row in images if row.image_id in side_of and row.phash})
    across = [(first, second) for first, second in pairs if side_of[first] != side_of[second]]
    return {
        "rule": params.split_rule,
        "sides": {side: {"images": len(sides[side]), "classes": class_counts(rows_of[side], names)} for side in SIDES},
        "near_duplicates": {
            "pairs": len(pairs),
            "across_sides": len(across),
            "examples": [[name_of[first], name_of[second]] for first, second in across[:10]],
        },
        **({"groups": _group_counts(sides, params, groups)} if groups.of_image else {}),
        **({"folds": _images_of_folds(side_of, params, groups)} if params.split_rule == "fold" else {}),
    }


def _group_counts(sides: Mapping[Side, Sequence[int]], params: SplitParams, groups: Groups) -> dict[str, Any]:
    """Return how many groups there are and on which side, and the images of the largest.

    No name of one, which may be that of a patient: git keeps these metrics.
    """
    members = groups.members()
    return {
        "groups": len(members),
        "images_alone": groups.alone,
        "unknown_names": groups.unknown,
        "images_of_largest": max(map(len, members.values())),
        "sides": {side: len({groups.of_image.get(one) for one in ids} - {None}) for side, ids in sides.items()},
        "wanted": _wanted(sides, params),
    }


def _images_of_folds(side_of: Mapping[int, Side], params: SplitParams, groups: Groups) -> list[int]:
    """Return the images of each fold."""
    found = Counter(_fold(groups.unit(image_id), params) for image_id in side_of)
    return [found[fold] for fold in range(params.folds)]


def _wanted(sides: Mapping[Side, Sequence[int]], params: SplitParams) -> dict[Side, int]:
    """Return how many images each side should have."""
    images = sum(map(len, sides.values()))
    if params.split_rule not in ("official", "fold"):
        return {side: round(images * share) for side, share in params.shares().items()}
    test = len(sides["test"]) if params.split_rule == "official" else round(images / params.folds)
    rest = {side: round((images - test) * share) for side, share in _shares_without_test(params).items()}
    return {**rest, "test": test}


def closing_line(metrics: Mapping[str, Any]) -> str:
    """Return the images of each side in words, and how many near-duplicates are on different sides."""
    said = ", ".join(f"{side['images']:,} {_SIDE_NAMES[name]}" for name, side in metrics["sides"].items()) + " images"
    across = metrics["near_duplicates"]["across_sides"]
    if folds := metrics.get("folds"):
        said += f"; {len(folds)} folds of {min(folds):,} to {max(folds):,} images"
    said += _about_groups(metrics["groups"], metrics["sides"]) if "groups" in metrics else ""
    return said + (f"; {counted(across, 'pair')} of near-duplicates on different sides" if across else "")


def _about_groups(found: Mapping[str, Any], sides: Mapping[str, Any]) -> str:
    """Return how many groups there are, and how uneven they make the sides."""
    largest, wanted = found["images_of_largest"], found["wanted"]
    said = f"; {counted(found['groups'], 'group')} of up to {counted(largest, 'image')}"
    if largest == 1:
        said += ", so that none keeps two images together"
    if found["images_alone"]:
        said += f", {counted(found['images_alone'], 'image')} in none"
    if found["unknown_names"]:
        said += f", {counted(found['unknown_names'], 'name')} without an image"
    said += "; the shares ask for " + ", ".join(f"{wanted[side]:,}" for side in sides) + " images"
    small = [_SIDE_NAMES[side] for side in sides if 0 < wanted[side] < largest]
    return said + (f"; the largest group is larger than {' and '.join(small)} should be" if small else "")


def _fold(unit: int | str, params: SplitParams) -> int:
    """Return the fold that tests an image or group. It depends on nothing else."""
    return int(unit_hash(params.data_seed, "fold", unit) * params.folds)


def _fold_side(unit: int | str, params: SplitParams) -> Side:
    if _fold(unit, params) == params.fold:
        return "test"
    # Another draw in each fold: else some images would never train.
    return _stable_side(unit, _shares_without_test(params), params.data_seed, f"validation of fold {params.fold}")


def _shares_without_test(params: SplitParams) -> dict[Side, float]:
    known = params.train_share + params.val_share
    return {"train": params.train_share / known, "val": params.val_share / known, "test": 0}


def _stable_side(unit: int | str, shares: Mapping[Side, float], data_seed: int, purpose: str = "split") -> Side:
    place = unit_hash(data_seed, purpose, unit)
    if place < shares["train"]:
        return "train"
    # The last boundary is 1, not a sum of floats that may fall short of it.
    return "val" if shares["test"] == 0 or place < shares["train"] + shares["val"] else "test"


def _official_sides(images: Sequence[ImageRow], params: SplitParams, groups: Groups) -> dict[int, Side]:
    from_val = {row.image_id for row in images if (row.origin or "").startswith("val")}
    if not from_val:
        raise CocosegError(
            "params.yaml: split_rule is official, but no image comes from COCO's val; "
            "use dataset: coco2017 or coco2014, or split_rule: stable or exact"
        )
    if len(from_val) == len(images):
        raise CocosegError(
            "params.yaml: split_rule is official, but all images come from COCO's val, the test side; "
            "use dataset: coco2017 or coco2014, or split_rule: stable or exact"
        )
    name_of = {row.image_id: row.file_name for row in images}
    for group, members in groups.members().items():
        ours = {image_id in from_val: name_of[image_id] for image_id in members}
        if len(ours) == 2:
            raise CocosegError(
                f"params.yaml: split_rule is official, but the group {group} is on both sides: {ours[False]} is of "
                f"COCO's train, {ours[True]} of its val; use split_rule: stable, exact or fold, or other groups"
            )
    shares = _shares_without_test(params)
    return {
        one: "test" if one in from_val else _stable_side(groups.unit(one), shares, params.data_seed) for one in name_of
    }


def _classes_of_image(rows: Sequence[MaskRow]) -> dict[int, set[int]]:
    """Return the classes that each image shows; background is the class of one that shows none."""
    classes: dict[int, set[int]] = defaultdict(set)
    for row in rows:
        classes[row.image_id].update(
            # others cover some objects wholly
            {row.class_index} if row.pixels and row.class_index not in (BACKGROUND, IGNORE) else ()
        )
    return {image_id: shown or {BACKGROUND} for image_id, shown in classes.items()}
