"""What a training run learns from."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from cocoseg.coco.categories import IGNORE, CategoryMapping
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_json, read_table
from cocoseg.images.pairs import Pair, SplitFiles
from cocoseg.model.weights import data_fingerprint
from cocoseg.tables import MaskRow, class_totals
from cocoseg.train.class_weights import ClassWeightsName, class_weights


class RunData(msgspec.Struct, frozen=True, kw_only=True):
    """The two sides of a run, and the weight of each class in the loss.

    `fingerprint`: the SHA-256 of the split lists and of the tables of images and masks.
    """

    mapping: CategoryMapping
    train: Sequence[Pair]
    val: Sequence[Pair]
    class_weights: Sequence[float] | None
    fingerprint: str

    def check_sides(self) -> None:
        """Raise `CocosegError` for a side without an image."""
        for side, pairs in (("train", self.train), ("val", self.val)):
            if not pairs:
                raise CocosegError(
                    f"data/splits/{side}.txt: holds no image, and training needs some; set {side}_share above 0 "
                    "or choose more images"
                )


def read_run_data(
    sides: SplitFiles, mapping: Path, image_table: Path, mask_table: Path, class_weights_rule: ClassWeightsName
) -> RunData:
    """Read what the data stages left for training. Raises `CocosegError` for a file that is missing or broken."""
    classes = read_json(mapping, CategoryMapping)
    train, val = sides.pairs("train"), sides.pairs("val")
    totals = training_totals(read_table(mask_table, MaskRow), [pair.file_name for pair in train], classes.classes)
    return RunData(
        mapping=classes,
        train=train,
        val=val,
        class_weights=class_weights(*totals, class_weights_rule),
        fingerprint=data_fingerprint([image_table, mask_table, sides.splits / "train.txt", sides.splits / "val.txt"]),
    )


def training_totals(
    rows: Iterable[MaskRow], images: Sequence[str], classes: Sequence[str]
) -> tuple[list[int], list[int]]:
    """Return how many of the images show each class, and its pixels in them, in the order of class indices."""
    chosen = set(images)
    totals = class_totals((row for row in rows if row.file_name in chosen and row.class_index != IGNORE), classes)
    return [totals[name]["images"] for name in classes], [totals[name]["pixels"] for name in classes]
