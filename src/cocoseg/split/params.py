"""The parameters of the stage `split`."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from cocoseg.core.redaction import without_secrets

Side = Literal["train", "val", "test"]
Share = Annotated[float, Meta(ge=0, le=1, extra_json_schema={"examples": [0.1]})]
_BOTH_SIDES = ("coco2017", "coco2014", "custom", None)  # None: dvc.yaml has no download


class SplitParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `split`."""

    data_seed: int
    split_rule: Literal["stable", "exact", "official", "fold"]
    """`stable`: an image never changes sides when others come or go. `exact`: exact counts, every class on every side
    if possible, near-duplicates together. `official`: COCO's val images are the test side. `fold`: fold number `fold`
    of `folds` is the test side, and `test_share` does not count; as stable as `stable`."""
    folds: Annotated[int, Meta(ge=2, le=1000, extra_json_schema={"examples": [5]})]
    """For `split_rule: fold`: each image is in one of so many [folds](experiments.md#folds)."""
    fold: Annotated[int, Meta(ge=0, extra_json_schema={"examples": [0]})]
    """The one that is tested, from 0 to `folds` - 1."""
    group_pattern: str | None
    """A regular expression that finds [groups](your-own-data.md#groups), such as patients, videos or sites, in the file
    names. Its first capturing group, else all that it matches, is the name of a group, which stays on one side."""
    groups: str
    """In place of it: a CSV file with the columns `file_name` and `group`."""
    train_share: Share
    """The share of images to train on."""
    val_share: Share
    """The share that chooses the best epoch."""
    test_share: Share
    """The share that is scored. With 0, `evaluate` scores the validation side; with 1, nothing is left to train on."""

    def __post_init__(self) -> None:
        total = self.train_share + self.val_share + self.test_share
        if abs(total - 1) > 1e-9:
            raise ValueError(f"train_share + val_share + test_share is {total:g}; expected 1")
        if self.split_rule in ("official", "fold") and self.train_share + self.val_share == 0:
            others = "COCO's train images" if self.split_rule == "official" else "the images of the other folds"
            raise ValueError(
                f"test_share is 1 and split_rule is {self.split_rule}, which splits {others} into train and val; "
                "expected a test_share below 1, or split_rule: stable"
            )
        if self.fold >= self.folds:
            raise ValueError(f"fold is {self.fold}; expected 0 to {self.folds - 1}, since folds is {self.folds}")
        if self.fold and self.split_rule != "fold":
            raise ValueError(
                f"fold is {self.fold}, but split_rule is {self.split_rule}; expected split_rule: fold, or fold: 0"
            )
        if "://" in self.groups:
            raise ValueError(f"groups is {without_secrets(self.groups)}; expected a local CSV file")
        if self.group_pattern is not None:
            _refuse_bad_pattern(self.group_pattern)

    @staticmethod
    def beside(values: Mapping[str, Any]) -> Iterator[str]:
        """Yield what is wrong beside the parameters of other stages."""
        if values["split_rule"] == "official" and values.get("dataset") not in _BOTH_SIDES:
            yield (
                f"split_rule is official, but the images of dataset {values['dataset']} are not of both COCO's train "
                "and val; use dataset: coco2017 or coco2014, or split_rule: stable or exact"
            )

    def shares(self) -> dict[Side, float]:
        """Return the share of each side."""
        return {"train": self.train_share, "val": self.val_share, "test": self.test_share}


def _refuse_bad_pattern(pattern: str) -> None:
    """Raise `ValueError` for a text that is no regular expression."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            f"group_pattern is {pattern!r}: {error or 'is nested too deeply'}; expected a regular expression of Python,"
            r" such as '^(patient\d+)_'"
        ) from None
