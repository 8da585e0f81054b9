"""The datasets that have a name."""

from typing import get_args

import pytest

from cocoseg.coco.format import Image
from cocoseg.core.errors import CocosegError
from cocoseg.download.remote.catalog import NAMED, DatasetName, coco_url, image_url_path, origin


def image(coco_url: str | None, file_name: str = "000000000139.jpg") -> Image:
    return Image(id=139, file_name=file_name, width=640, height=426, coco_url=coco_url)


def test_every_name_is_a_record_or_one_of_the_two_that_need_none() -> None:
    assert {*NAMED, "sample", "custom"} == set(get_args(DatasetName))


def test_train_and_val_together_are_two_members_of_one_archive() -> None:
    assert NAMED["coco2017"].members() == (
        "annotations/instances_train2017.json",
        "annotations/instances_val2017.json",
    )
    assert NAMED["coco2014-val"].members() == ("annotations/instances_val2014.json",)


def test_a_mirror_replaces_the_prefix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COCOSEG_COCO_URL", raising=False)
    assert coco_url() == "https://s3.amazonaws.com/images.cocodataset.org"

    monkeypatch.setenv("COCOSEG_COCO_URL", "http://127.0.0.1:1/coco")
    assert coco_url() == "http://127.0.0.1:1/coco"


@pytest.mark.parametrize(
    ("url", "split"),
    [
        ("http://images.cocodataset.org/val2017/000000000139.jpg", "val2017"),
        ("http://images.cocodataset.org/train2014/COCO_train2014_000000057870.jpg", "train2014"),
        ("https://example.org/mine/000000000139.jpg", None),
        ("http://[", None),
        ("", None),
        (None, None),
    ],
)
def test_the_origin_is_the_folder_of_coco_url_if_it_is_one_of_cocos(url: str | None, split: str | None) -> None:
    assert origin(image(url)) == split


def test_an_image_is_fetched_from_the_folder_of_its_coco_url() -> None:
    of_train = image("http://images.cocodataset.org/train2017/000000000139.jpg")

    assert image_url_path(NAMED["coco2017"], of_train) == "train2017/000000000139.jpg"


def test_without_a_coco_url_the_folder_is_the_datasets_or_in_the_file_name() -> None:
    assert image_url_path(NAMED["coco2017-val"], image(None)) == "val2017/000000000139.jpg"
    assert (
        image_url_path(NAMED["coco2014"], image(None, "COCO_val2014_000000000042.jpg"))
        == "val2014/COCO_val2014_000000000042.jpg"
    )
    with pytest.raises(
        CocosegError,
        match="image 139: coco_url is None, which does not tell whether it belongs to train2017 or val2017",
    ):
        image_url_path(NAMED["coco2017"], image(None))
