"""The data of a training run: its two sides, classes and class weights."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from cocoseg.coco.categories import IGNORE, CategoryMapping
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_json, read_table
from cocoseg.images.pairs import Pair, SplitFiles
from cocoseg.model.weights import data_fingerprint
from cocoseg.tables import MaskRow, class_counts
from cocoseg.train.class_weights import class_weights
from cocoseg.train.params import ClassWeightsName, SamplingName
from cocoseg.train.sampling import repeat_factors


class RunData(msgspec.Struct, frozen=True, kw_only=True):
    """The data of one run.

    `class_weights`: of each class in the loss, background first, or `None` for equal weights.
    `repeat_factors`: how often each image of `train` is drawn, relative to the others, or `None` for once an epoch.
    `fingerprint`: the SHA-256 of the split lists and of the tables of images and masks.
    """

    mapping: CategoryMapping
    train: Sequence[Pair]
    val: Sequence[Pair]
    class_weights: Sequence[float] | None
    repeat_factors: Sequence[float] | None = None
    fingerprint: str

    def check_sides(self) -> None:
        """Raise `CocosegError` if a side is empty."""
        for side, pairs in (("train", self.train), ("val", self.val)):
            if not pairs:
                raise CocosegError(
                    f"data/splits/{side}.txt: no images; training needs at least one: set {side}_share above 0 or "
                    "choose more images"
                )


def read_run_data(
    sides: SplitFiles,
    mapping: Path,
    image_table: Path,
    mask_table: Path,
    class_weights_rule: ClassWeightsName,
    sampling: SamplingName,
) -> RunData:
    """Read the outputs of the data stages. Raises `CocosegError` if a file is missing or not valid."""
    classes = read_json(mapping, CategoryMapping)
    train, val = sides.pairs("train"), sides.pairs("val")
    rows, names = read_table(mask_table, MaskRow), [pair.file_name for pair in train]
    counts = training_counts(rows, names, classes.classes)
    return RunData(
        mapping=classes,
        train=train,
        val=val,
        class_weights=class_weights(*counts, class_weights_rule),
        repeat_factors=repeat_factors(rows, names) if sampling == "balanced" else None,
        fingerprint=data_fingerprint([image_table, mask_table, sides.splits / "train.txt", sides.splits / "val.txt"]),
    )


def training_counts(
    rows: Iterable[MaskRow], images: Sequence[str], classes: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Return in how many of `images` each class appears, and its pixels in them, both in the order of `classes`."""
    chosen = set(images)
    counts = class_counts((row for row in rows if row.file_name in chosen and row.class_index != IGNORE), classes)
    return [counts[name]["images"] for name in classes], [counts[name]["pixels"] for name in classes]
