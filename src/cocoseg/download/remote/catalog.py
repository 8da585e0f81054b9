"""The named datasets: what to fetch, from where, and how to verify it. https://cocodataset.org"""

import os
import re
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from cocoseg.coco.format import Image
from cocoseg.core.errors import CocosegError

DatasetName = Literal[
    "sample",
    "coco2017",
    "coco2014",
    "coco2017-train",
    "coco2017-val",
    "coco2014-train",
    "coco2014-val",
    "custom",
]

MEAN_IMAGE_BYTES = 163_000

# The official host, http://images.cocodataset.org, has no valid certificate; the bucket behind it does.
_OFFICIAL_URL = "https://s3.amazonaws.com/images.cocodataset.org"
_SPLIT = re.compile(r"(train|val|test)20\d\d")


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """A file below `coco_url()`, with its exact size and SHA-256."""

    path: str
    bytes: int
    sha256: str


class NamedDataset(msgspec.Struct, frozen=True, kw_only=True):
    """One or two of COCO's splits; the annotations are in one archive."""

    annotations: Archive
    splits: tuple[str, ...]  # also the folders of the images

    def members(self) -> tuple[str, ...]:
        """Return the names of the files in the archive, one per split."""
        return tuple(f"annotations/instances_{split}.json" for split in self.splits)


_ANNOTATIONS_2017 = Archive(
    path="annotations/annotations_trainval2017.zip",
    bytes=252_907_541,
    sha256="113a836d90195ee1f884e704da6304dfaaecff1f023f49b6ca93c4aaae470268",
)
_ANNOTATIONS_2014 = Archive(
    path="annotations/annotations_trainval2014.zip",
    bytes=252_872_794,
    sha256="031296bbc80c45a1d1f76bf9a90ead27e94e99ec629208449507a4917a3bf009",
)

NAMED = {
    "coco2017": NamedDataset(annotations=_ANNOTATIONS_2017, splits=("train2017", "val2017")),
    "coco2017-train": NamedDataset(annotations=_ANNOTATIONS_2017, splits=("train2017",)),
    "coco2017-val": NamedDataset(annotations=_ANNOTATIONS_2017, splits=("val2017",)),
    "coco2014": NamedDataset(annotations=_ANNOTATIONS_2014, splits=("train2014", "val2014")),
    "coco2014-train": NamedDataset(annotations=_ANNOTATIONS_2014, splits=("train2014",)),
    "coco2014-val": NamedDataset(annotations=_ANNOTATIONS_2014, splits=("val2014",)),
}


def coco_url() -> str:
    """Return the URL prefix of COCO's files: the official one, or that of the mirror in `COCOSEG_COCO_URL`."""
    return os.environ.get("COCOSEG_COCO_URL") or _OFFICIAL_URL


def origin(image: Image) -> str | None:
    """Return the split in the `coco_url` of an image, such as `train2017`, or None if there is none."""
    try:
        folders = urlsplit(str(image.coco_url or "")).path.split("/")[:-1]
    except ValueError:  # such as http://[: the field may hold anything
        return None
    return folders[-1] if folders and _SPLIT.fullmatch(folders[-1]) else None


def image_url_path(dataset: NamedDataset, image: Image) -> str:
    """Return the path below `coco_url()` of an image of a named dataset, such as `val2017/000000000139.jpg`."""
    split = origin(image)
    if split is None:
        split = next((name for name in dataset.splits if name in image.file_name), dataset.splits[0])
        if len(dataset.splits) > 1 and split not in image.file_name:
            raise CocosegError(
                f"image {image.id}: coco_url is {image.coco_url!r}, which does not tell whether "
                f"it belongs to {' or '.join(dataset.splits)}; run: dvc repro -f download"
            )
    return f"{split}/{image.file_name}"
