"""The parameters of the stage `mask`."""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from cocoseg.accounts import Lost, Share
from cocoseg.coco.categories import Task
from cocoseg.core.errors import did_you_mean
from cocoseg.pictures import GalleryImages

Overlap = Literal["last", "first", "largest", "smallest", "priority", "ignore"]


class MaskParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `mask`."""

    task: Task
    """`multiclass`, or `binary`: any chosen class against background."""
    overlap: Overlap
    """Who owns a pixel that several annotations claim: the `smallest` or `largest` by painted pixels, the `last` or
    `first` in the file, the class of higher `priority`; `ignore` makes it 255."""
    priority: tuple[str, ...]
    """For `overlap: priority`: names of classes, the highest first. The others come after them."""
    crowd: Literal["ignore", "drop", "keep"]
    negatives: Literal["drop", "keep"]
    lost: Lost
    max_defects: Share
    out_of_bounds: Literal["clip", "drop"]
    """A polygon that leaves the image is cut at its border (`clip`) or dropped (`drop`)."""
    gallery_images: GalleryImages
    instance_masks: bool
    """Also write 16-bit maps that keep instances apart."""
    max_skipped: Share
    on_defect: Literal["count", "fail"]

    @staticmethod
    def beside(values: Mapping[str, Any]) -> Iterator[str]:
        """Yield what is wrong beside the parameters of other stages."""
        classes = values.get("classes") or ()  # none if dvc.yaml has no filter
        for name in values["priority"] if values["overlap"] == "priority" else ():
            if classes and name not in classes:
                hint = did_you_mean(name, classes, f"expected some of {', '.join(classes)}")
                yield f"priority names {name!r}, which is not among the classes; {hint}"
