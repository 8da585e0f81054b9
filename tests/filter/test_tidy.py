"""What is unambiguous is brought into COCO's form and counted; nothing is guessed."""

import os
from pathlib import Path
from typing import Any

import pytest
from odd_entries import ANNOTATION, IMAGE, run

from cocoseg.core.errors import CocosegError
from cocoseg.filter.tidy import FileNames


@pytest.mark.parametrize(
    ("value", "iscrowd"),
    [(False, 0), (True, 1), (None, 0), (0.0, 0), (1.0, 1), ("0", 0), ("1", 1), ("False", 0), (" true", 1), ("1.0", 1)],
)
def test_an_iscrowd_that_is_clear_is_converted(value: Any, iscrowd: int) -> None:
    instances, metrics = run(annotations=[ANNOTATION, ANNOTATION | {"id": 2, "iscrowd": value}])
    assert [one.iscrowd for one in instances.annotations] == [0, iscrowd]
    assert metrics["annotations"]["converted"] == {"iscrowd": 1}


def test_a_missing_iscrowd_is_0_as_in_many_files_and_no_conversion() -> None:
    instances, metrics = run(annotations=[{key: ANNOTATION[key] for key in ANNOTATION if key != "iscrowd"}])
    assert instances.annotations[0].iscrowd == 0
    assert metrics["annotations"]["converted"] == {}


@pytest.mark.parametrize(
    ("fields", "size", "converted"),
    [
        ({"width": 8.0}, (8, 6), {"size": 1}),
        ({"width": "8"}, (8, 6), {"size": 1}),
        ({"width": "8.0"}, (8, 6), {"size": 1}),
        ({"width": "7.5"}, (None, None), {"size_from_image": 1}),
        ({"width": None}, (None, None), {"size_from_image": 1}),
        ({"height": 5.7}, (None, None), {"size_from_image": 1}),
        ({"width": None, "height": None}, (None, None), {"size_from_image": 1}),
        ({"width": float("nan"), "height": ""}, (None, None), {"size_from_image": 1}),
    ],
)
def test_a_size_is_converted_or_left_to_the_image(fields: dict[str, Any], size: Any, converted: dict[str, int]) -> None:
    instances, metrics = run([IMAGE | fields])
    assert (instances.images[0].width, instances.images[0].height) == size
    assert metrics["images"]["converted"] == converted


@pytest.mark.parametrize(
    ("prefix", "name", "tidy"),
    [
        ("photos", "a.jpg", "a.jpg"),
        ("photos", "b\\c\\a.jpg", "b/c/a.jpg"),
        ("photos", "./a.jpg", "a.jpg"),
        ("photos", ".\\b\\a.jpg", "b/a.jpg"),
        ("photos", "b//a.jpg", "b/a.jpg"),
        ("photos", "b/./a.jpg", "b/a.jpg"),
        ("photos", "a.jpg\r\n", "a.jpg"),
        ("/data/photos", "/data/photos/b/a.jpg", "b/a.jpg"),
        ("/data/photos/", "/data/photos//a.jpg", "a.jpg"),
        ("/data/photos", "file:///data/photos/mon%20chat.jpg", "mon chat.jpg"),
        ("file:///data/photos", "/data/photos/a.jpg", "a.jpg"),
        ("https://host/photos", "https://host/photos/b/a.jpg", "b/a.jpg"),
        ("https://host/photos/", "https://host/photos/mon%20chat.jpg", "mon chat.jpg"),
        ("s3://bucket/photos", "s3://bucket/photos/a.jpg", "a.jpg"),
    ],
)
def test_a_file_name_that_lies_below_images_is_relative_to_it(prefix: str, name: str, tidy: str) -> None:
    assert FileNames(prefix).tidy(name) == tidy


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert FileNames("~/photos").tidy("/home/me/photos/b/a.jpg") == "b/a.jpg"


@pytest.mark.parametrize("prefix", ["data/photos", "./data/photos/", "../data//photos"])
@pytest.mark.parametrize("above", ["/here", "/there/a/b", "C:\\mine", ""])
def test_below_a_relative_folder_an_absolute_name_does_not_depend_on_the_current_folder(
    prefix: str, above: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert FileNames(prefix).tidy(f"{above}/data/photos/b/a.jpg") == "b/a.jpg"


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("photos", "/photos/x/photos/a.jpg"),
        ("photos", "/x/photos/photos/a.jpg"),
        ("photos", "/x/other/a.jpg"),
        (".", "/x/a.jpg"),
        ("photos", "https://host/photos/a.jpg"),
    ],
)
def test_an_absolute_name_that_may_lie_below_a_relative_folder_in_two_ways_or_none_is_left(
    prefix: str, name: str
) -> None:
    assert FileNames(prefix).tidy(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "/data/photos2/a.jpg",
        "/data/a.jpg",
        "/data/photos/../a.jpg",
        "..\\a.jpg",
        "b/../../a.jpg",
        "https://host/a.jpg",
        "C:\\data\\photos\\a.jpg",
        "\\\\server\\share\\a.jpg",
    ],
)
def test_a_file_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(CocosegError, match="1 of 1 images: unsafe_file_name, first: image at position 0, file_name "):
        run([IMAGE | {"file_name": name}])


@pytest.mark.skipif(os.name == "nt", reason="Windows forbids a colon in file names")
def test_a_colon_is_part_of_a_name() -> None:
    instances, _ = run([IMAGE | {"file_name": "cam0_2023-05-04T10:01:00.jpg"}])
    assert instances.images[0].file_name == "cam0_2023-05-04T10:01:00.jpg"


@pytest.mark.parametrize(("folder", "name"), [("/data/coco", "train2017/9.jpg"), ("/data/train2017", "9.jpg")])
def test_a_missing_file_name_comes_from_coco_url_as_in_lvis(folder: str, name: str) -> None:
    lvis = {"id": 1, "width": 8, "height": 6, "coco_url": "http://images.cocodataset.org/train2017/9.jpg"}
    instances, metrics = run([lvis], images=folder)
    assert instances.images[0].file_name == name
    assert metrics["images"]["converted"] == {"name_from_coco_url": 1}


def test_a_coco_url_that_is_no_address_names_no_file() -> None:
    with pytest.raises(CocosegError, match="bad_file_name, first: image at position 0, file_name is missing"):
        run([{"id": 1, "width": 8, "height": 6, "coco_url": "n/a"}])  # as V7 writes it


def test_an_image_that_is_listed_twice_is_one_with_both_sets_of_annotations() -> None:
    entries = [ANNOTATION, ANNOTATION | {"id": 2, "image_id": 2}]
    instances, metrics = run([IMAGE, IMAGE | {"id": 2}], entries)
    assert [one.image_id for one in instances.annotations] == [1, 1]
    assert metrics["images"]["dropped"] == {"listed_twice": 1}


def test_one_id_with_two_files_is_refused() -> None:
    message = "two images have the id 1: 1.jpg and 2.jpg; give each an id of its own, in the annotations too"
    with pytest.raises(CocosegError, match=message):
        run([IMAGE, IMAGE | {"file_name": "2.jpg"}])


def test_an_image_that_is_listed_twice_has_the_size_that_one_entry_knows() -> None:
    bare = {"id": 2, "file_name": "1.jpg"}
    for listed in ([IMAGE, bare], [bare, IMAGE]):
        (one,) = run(listed, [ANNOTATION, ANNOTATION | {"id": 2, "image_id": 2}])[0].images
        assert (one.width, one.height) == (8, 6)


@pytest.mark.parametrize("license_", ["4", 4.0, " 4"])
def test_a_license_in_quotes_is_its_number(license_: Any) -> None:
    instances, metrics = run([IMAGE | {"license": license_}], licenses=(4,))
    assert instances.images[0].license == 4
    assert metrics["images"]["converted"] == {"license": 1}


@pytest.mark.parametrize(
    ("value", "shown"),
    [([0], "[0]"), ({"a": 1}, '{"a": 1}'), (float("nan"), "NaN or Infinity"), ("yes", "'yes'"), (2, "2")],
)
def test_an_iscrowd_that_is_none_is_shown_as_it_is(value: Any, shown: str) -> None:
    _, metrics = run(annotations=[ANNOTATION, ANNOTATION | {"id": 2, "iscrowd": value}], max_defects=1.0)
    assert metrics["annotations"]["first"] == {"bad_iscrowd": f"annotation 2 of 1.jpg, iscrowd is {shown}"}


def test_the_signature_of_an_address_is_not_shown() -> None:
    with pytest.raises(CocosegError, match=r"file_name 'https://host/a\.jpg' leaves the folder images") as caught:
        run([IMAGE | {"file_name": "https://host/a.jpg?X-Amz-Signature=secret"}])
    assert "secret" not in str(caught.value)
