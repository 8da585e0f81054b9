"""One sound entry of each kind, and `filter_instances` over them or over odd ones in their place."""

import json
from pathlib import Path
from typing import Any

import msgspec

from cocoseg.coco.format import Instances
from cocoseg.filter.choose import filter_instances
from cocoseg.filter.params import FilterParams

PLACE = Path("data/raw/instances.json")
PARAMS = FilterParams(
    images="/data/photos",
    negatives="drop",
    lost="ignore",
    max_defects=0,
    max_skipped=0,
    classes=(),
    max_images=None,
    max_instances=None,
    min_area_px=None,
    licenses=None,
    data_seed=0,
    crowd="ignore",
    on_defect="count",
)
IMAGE = {"id": 1, "file_name": "1.jpg", "width": 8, "height": 6}
ANNOTATION = {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "segmentation": [[0, 0, 2, 0, 2, 2, 0, 2]]}
CATEGORY = {"id": 1, "name": "cat"}


def run(
    listed: list[Any] | None = None,
    annotations: list[Any] | None = None,
    categories: list[Any] | None = None,
    **changes: Any,
) -> tuple[Instances, dict[str, Any]]:
    file = {
        "images": listed or [IMAGE],
        "annotations": annotations or [ANNOTATION],
        "categories": categories or [CATEGORY],
    }
    return filter_instances(json.dumps(file).encode(), msgspec.structs.replace(PARAMS, **changes), PLACE)
