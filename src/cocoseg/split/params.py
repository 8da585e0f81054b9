"""The parameters of the stage `split`."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Side = Literal["train", "val", "test"]
Share = Annotated[float, Meta(ge=0, le=1, extra_json_schema={"examples": [0.1]})]
_BOTH_SIDES = ("coco2017", "coco2014", "custom", None)  # None: dvc.yaml has no download


class SplitParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `split`."""

    data_seed: int
    split_rule: Literal["stable", "exact", "official"]
    """`stable`: an image never changes sides when others come or go. `exact`: exact counts, every class on every side
    if possible, near-duplicates together. `official`: COCO's val images are the test side."""
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
        if self.split_rule == "official" and self.train_share + self.val_share == 0:
            raise ValueError(
                "test_share is 1 and split_rule is official, which splits COCO's train images into train and val; "
                "expected a test_share below 1, or split_rule: stable"
            )

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
