"""The parameters of the stage `filter`."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from cocoseg.accounts import Lost, Share

OnDefect = Literal["count", "fail"]
Count = Annotated[int, Meta(ge=1, le=10**9, extra_json_schema={"examples": [500]})]


class FilterParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `filter`."""

    classes: tuple[str, ...]
    """Names of categories; `[]` takes every category."""
    max_images: Count | None
    """Keeps at most this many images; a smaller number keeps a subset of a larger one."""
    max_instances: Count | None
    """Drops images with more instances of the chosen classes."""
    min_area_px: Annotated[float, Meta(ge=0, le=1e12, extra_json_schema={"examples": [100]})] | None
    """Drops annotations with a smaller `area`."""
    licenses: tuple[int, ...] | None
    """Keeps only images under these license ids."""
    negatives: Literal["drop", "keep"]
    """Images without an annotation of the chosen classes: `drop` them, or `keep` them as all background."""
    data_seed: int
    """The seed of the order in which images are chosen and split."""
    crowd: Literal["ignore", "drop", "keep"]
    """`iscrowd: 1` becomes 255 (`ignore`), background (`drop`), or an annotation like any other (`keep`)."""
    images: str
    lost: Lost
    """What becomes of an object whose annotation is broken: its box becomes 255 (`ignore`), it counts as `background`,
    or its image goes (`drop_image`)."""
    max_defects: Share
    """Fails if a larger share of the annotations of the chosen classes is broken."""
    max_skipped: Share
    """Fails if a larger share of images is missing or broken."""
    on_defect: OnDefect
    """Count bad entries and go on, or fail at the first."""

    def __post_init__(self) -> None:
        for name in self.classes:
            if self.classes.count(name) > 1:
                raise ValueError(f"classes names {name!r} twice; name it once")
