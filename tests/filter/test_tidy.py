"""What is unambiguous is brought into COCO's form and counted; nothing is guessed."""

import json
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cocoseg.coco.format import Instances
from cocoseg.core.errors import CocosegError
from cocoseg.filter.choose import FilterParams, filter_instances
from cocoseg.filter.ids import key_of, number_of
from cocoseg.filter.tidy import FileNames

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


@pytest.mark.parametrize(
    ("value", "iscrowd"), [(False, 0), (True, 1), (None, 0), (0.0, 0), (1.0, 1), ("0", 0), ("1", 1)]
)
def test_an_iscrowd_that_is_clear_is_converted(value: Any, iscrowd: int) -> None:
    instances, metrics = run(annotations=[ANNOTATION, ANNOTATION | {"id": 2, "iscrowd": value}])
    assert [one.iscrowd for one in instances.annotations] == [0, iscrowd]
    assert metrics["annotations"]["converted"] == {"iscrowd": 1}


def test_a_missing_iscrowd_is_0_as_in_many_files_and_no_conversion() -> None:
    instances, metrics = run(annotations=[{key: ANNOTATION[key] for key in ANNOTATION if key != "iscrowd"}])
    assert instances.annotations[0].iscrowd == 0
    assert metrics["annotations"]["converted"] == {}


@pytest.mark.parametrize("id_", [7.0, "7", " 7 "])
def test_an_integral_float_or_a_number_in_quotes_is_that_number(id_: Any) -> None:
    instances, metrics = run(
        [IMAGE | {"id": 7}],
        [ANNOTATION | {"id": id_, "image_id": id_, "category_id": id_}],
        [CATEGORY | {"id": 7}],
    )
    (one,) = instances.annotations
    assert (one.id, one.image_id, one.category_id) == (7, 7, 7)
    assert metrics["annotations"]["converted"] == {"category_id": 1, "id": 1, "image_id": 1}


def test_ids_of_any_text_meet_and_categories_are_numbered_in_the_order_of_the_file() -> None:
    instances, metrics = run(
        [IMAGE | {"id": "img-a"}, IMAGE | {"id": "img-b", "file_name": "2.jpg"}],
        [
            ANNOTATION | {"image_id": "img-b", "category_id": "dog"},
            ANNOTATION | {"id": 2, "image_id": "img-a", "category_id": "cat"},
        ],
        [{"id": "dog", "name": "a dog"}, {"id": "cat", "name": "a cat"}],
    )
    assert {one.original_id: one.file_name for one in instances.images} == {"img-a": "1.jpg", "img-b": "2.jpg"}
    ids = {one.original_id: one.id for one in instances.images}
    assert {one.id: (one.image_id, one.category_id) for one in instances.annotations} == {
        1: (ids["img-b"], 1),
        2: (ids["img-a"], 2),
    }
    assert [(one.id, one.name) for one in instances.categories] == [(1, "a dog"), (2, "a cat")]
    assert metrics["images"]["converted"] == {"id": 2}


def test_the_number_of_a_text_depends_on_nothing_but_the_text() -> None:
    instances, _ = run(
        [IMAGE | {"id": "b", "file_name": "2.jpg"}, IMAGE | {"id": "a"}],
        [ANNOTATION | {"image_id": "a"}, ANNOTATION | {"id": 2, "image_id": "b"}],
    )
    alone, _ = run([IMAGE | {"id": "a"}], [ANNOTATION | {"image_id": "a"}])
    assert {one.original_id: one.id for one in instances.images}["a"] == alone.images[0].id == number_of("a")
    assert 0 <= number_of("a") < 2**52


def test_a_number_of_more_than_64_bits_is_a_text() -> None:
    large = 10**30
    instances, _ = run([IMAGE | {"id": large}], [ANNOTATION | {"id": large, "image_id": large}])
    assert msgspec.json.decode(msgspec.json.encode(instances), type=Instances).images[0].id == number_of(str(large))
    assert instances.annotations[0].image_id == number_of(str(large))


@pytest.mark.parametrize("id_", [None, True, 1.5, float("inf"), ""])
def test_what_cannot_be_an_id_is_none(id_: Any) -> None:
    assert key_of(id_) is None


@pytest.mark.parametrize("ids", [[1, 1, 2], [None, None, None], ["x", "y", "x"], [True, 1, 1], [[], {}, 1]])
def test_annotation_ids_cost_nothing(ids: list[Any]) -> None:
    areas = enumerate(ids)
    instances, metrics = run(annotations=[ANNOTATION | {"id": id_, "area": area} for area, id_ in areas])
    assert len({one.id for one in instances.annotations}) == 3
    assert metrics["annotations"]["kept"] == 3
    assert metrics["annotations"]["converted"]["id_renumbered"] >= 1


def test_new_ids_follow_all_others() -> None:
    entries = [ANNOTATION | {"id": 5, "area": 1}, ANNOTATION | {"id": 5, "area": 2}, ANNOTATION | {"id": 9, "area": 3}]
    assert [one.id for one in run(annotations=entries)[0].annotations] == [5, 10, 9]


def test_only_an_entry_that_is_identical_in_every_field_is_a_duplicate() -> None:
    entries = [ANNOTATION, ANNOTATION, ANNOTATION | {"bbox": [0, 0, 2, 2]}]
    instances, metrics = run(annotations=entries)
    assert [one.id for one in instances.annotations] == [1, 2]
    assert metrics["annotations"]["dropped"] == {"duplicate": 1}


@pytest.mark.parametrize(
    ("fields", "size", "converted"),
    [
        ({"width": 8.0}, (8, 6), {"size": 1}),
        ({"width": "8"}, (8, 6), {"size": 1}),
        ({"width": None}, (None, None), {"size_from_image": 1}),
        ({"height": 5.7}, (None, None), {"size_from_image": 1}),
        ({"width": None, "height": None}, (None, None), {"size_from_image": 1}),
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


def test_a_tilde_and_the_working_folder_lead_below_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for prefix in ("~/photos", "photos", "./photos", str(tmp_path / "photos")):
        assert FileNames(prefix).tidy(f"{tmp_path.as_posix()}/photos/b/a.jpg") == "b/a.jpg"


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


def test_an_image_that_is_listed_twice_is_one_with_both_sets_of_annotations() -> None:
    entries = [ANNOTATION, ANNOTATION | {"id": 2, "image_id": 2}]
    instances, metrics = run([IMAGE, IMAGE | {"id": 2}], entries)
    assert [one.image_id for one in instances.annotations] == [1, 1]
    assert metrics["images"]["dropped"] == {"listed_twice": 1}


def test_one_id_with_two_files_is_refused() -> None:
    message = "two images have the id 1: 1.jpg and 2.jpg; give each an id of its own, in the annotations too"
    with pytest.raises(CocosegError, match=message):
        run([IMAGE, IMAGE | {"file_name": "2.jpg"}])


def test_a_category_that_nothing_uses_gives_way_to_another_of_its_name() -> None:
    instances, metrics = run(categories=[{"id": 0, "name": "cat", "supercategory": "none"}, CATEGORY])
    assert [one.id for one in instances.categories] == [1]
    assert metrics["categories"]["dropped"] == {"unused_of_shared_name": 1}


@pytest.mark.parametrize("name", ["background", "ignore"])
def test_a_reserved_name_that_nothing_uses_is_no_class(name: str) -> None:
    assert [one.name for one in run(categories=[{"id": 0, "name": name}, CATEGORY])[0].categories] == ["cat"]
    with pytest.raises(CocosegError, match=f"a category is named '{name}'"):
        run(categories=[{"id": 1, "name": name}, CATEGORY | {"id": 2}])


def test_a_name_that_is_a_number_is_its_text() -> None:
    instances, metrics = run(categories=[{"id": 1, "name": 5}])
    assert [one.name for one in instances.categories] == ["5"]
    assert metrics["categories"]["converted"] == {"name": 1}


def test_only_chosen_categories_are_limited_to_254() -> None:
    many = [{"id": n, "name": f"class {n}"} for n in range(1, 301)]
    assert len(run(categories=many, classes=("class 1",))[0].categories) == 1
    with pytest.raises(CocosegError, match="300 categories; a mask holds 1 to 254"):
        run(categories=many)
