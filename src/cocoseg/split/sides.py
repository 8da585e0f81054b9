"""Assign each image to a side: training, validation or test."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cocoseg.coco.categories import BACKGROUND, IGNORE
from cocoseg.core.errors import CocosegError, counted
from cocoseg.split.exact import SIDES, exact_sides
from cocoseg.split.near_duplicates import near_duplicate_groups, near_duplicate_pairs
from cocoseg.split.params import Side, SplitParams
from cocoseg.tables import ImageRow, MaskRow, class_counts
from cocoseg.unit_hash import unit_hash

_SIDE_NAMES: dict[str, str] = {"train": "training", "val": "validation", "test": "test"}


def split_images(images: Sequence[ImageRow], rows: Sequence[MaskRow], params: SplitParams) -> dict[Side, list[int]]:
    """Return the image ids of each side in ascending order. Only images that have a mask are split.

    Raises `CocosegError` if a side is empty and its share is not 0.
    """
    masked = {row.image_id for row in rows}
    image_ids = sorted(masked)
    reason, way_out = "", ""  # for the message about an empty side
    match params.split_rule:
        case "stable":
            side_of = {image_id: _stable_side(image_id, params.shares(), params.data_seed) for image_id in image_ids}
            reason, way_out = ", and the hash of none of them falls there", ", or set split_rule: exact"
        case "exact":
            phashes = {row.image_id: row.phash for row in images if row.image_id in masked and row.phash}
            groups = near_duplicate_groups(phashes)
            side_of = exact_sides(groups, _classes_of_image(rows), params.shares(), params.data_seed)
            if len(groups) < min(len(image_ids), sum(share > 0 for share in params.shares().values())):
                count = counted(len(groups), "group")
                reason = f" in {count} of near-duplicates, which split_rule: exact keeps together"
        case "official":
            side_of = _official_sides([row for row in images if row.image_id in masked], params)
    sides: dict[Side, list[int]] = {side: [] for side in SIDES}
    for image_id in image_ids:
        sides[side_of[image_id]].append(image_id)
    for side, share in params.shares().items():
        if share > 0 and not sides[side]:
            raise CocosegError(
                f"params.yaml: the {side} side is empty: {side}_share is {share:g} of "
                f"{counted(len(image_ids), 'image')}{reason}; raise it, or keep more images (max_images, classes)"
                f"{way_out}" + (f", or set {side}_share: 0" if side == "test" else "")
            )
    return sides


def split_metrics(
    sides: Mapping[Side, Sequence[int]], images: Sequence[ImageRow], rows: Sequence[MaskRow], params: SplitParams
) -> dict[str, Any]:
    """Return the images of each side, its images, instances and pixels per class, and near-duplicates across sides."""
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
    }


def closing_line(metrics: Mapping[str, Any]) -> str:
    """Return the images of each side in words, and how many near-duplicates are on different sides."""
    said = ", ".join(f"{side['images']:,} {_SIDE_NAMES[name]}" for name, side in metrics["sides"].items()) + " images"
    across = metrics["near_duplicates"]["across_sides"]
    return said + (f"; {counted(across, 'pair')} of near-duplicates on different sides" if across else "")


def _stable_side(image_id: int, shares: Mapping[Side, float], data_seed: int) -> Side:
    place = unit_hash(data_seed, "split", image_id)
    if place < shares["train"]:
        return "train"
    # The last boundary is 1, not a sum of floats that may fall short of it.
    return "val" if shares["test"] == 0 or place < shares["train"] + shares["val"] else "test"


def _official_sides(images: Sequence[ImageRow], params: SplitParams) -> dict[int, Side]:
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
    known = params.train_share + params.val_share
    shares: dict[Side, float] = {"train": params.train_share / known, "val": params.val_share / known, "test": 0}
    return {
        row.image_id: "test" if row.image_id in from_val else _stable_side(row.image_id, shares, params.data_seed)
        for row in images
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
