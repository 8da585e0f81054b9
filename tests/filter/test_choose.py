"""What stays, and under which name the rest goes."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cocoseg.coco.format import Instances
from cocoseg.core.errors import CocosegError
from cocoseg.filter.choose import FilterParams, filter_instances

PLACE = Path("data/raw/instances.json")
PARAMS = FilterParams(
    images="data/custom/images",
    negatives="drop",
    lost="ignore",
    max_defects=1,
    classes=("cat", "dog"),
    max_images=None,
    max_instances=None,
    min_area_px=None,
    licenses=None,
    data_seed=0,
    crowd="ignore",
    on_defect="count",
)
SQUARE = [[0, 0, 2, 0, 2, 2, 0, 2]]


def image(image_id: int, **fields: Any) -> dict[str, Any]:
    return {"id": image_id, "file_name": f"{image_id}.jpg", "width": 8, "height": 6, "license": 4} | fields


def annotation(annotation_id: int, image_id: int, category_id: int = 17, **fields: Any) -> dict[str, Any]:
    entry = {"id": annotation_id, "image_id": image_id, "category_id": category_id, "iscrowd": 0, "area": 4.0}
    return entry | {"segmentation": SQUARE} | fields


CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}, {"id": 90, "name": "toothbrush"}]


def run(
    images: list[Any], annotations: list[Any], params: FilterParams = PARAMS, **changes: Any
) -> tuple[Instances, dict[str, Any]]:
    file = {"images": images, "annotations": annotations, "categories": CATEGORIES}
    return filter_instances(json.dumps(file).encode(), msgspec.structs.replace(params, **changes), PLACE)


def dropped(
    images: list[Any], annotations: list[Any], params: FilterParams = PARAMS, **changes: Any
) -> tuple[dict[str, int], dict[str, int]]:
    """Reasons of images and annotations, with the accounts checked on the way."""
    _, metrics = run(images, annotations, params, **changes)
    for noun, entries in (("images", images), ("annotations", annotations)):
        account = metrics[noun]
        assert account["input"] == len(entries) == account["kept"] + sum(account["dropped"].values())
    return metrics["images"]["dropped"], metrics["annotations"]["dropped"]


def test_chosen_classes_stay_and_their_images_with_them() -> None:
    instances, metrics = run([image(2), image(1)], [annotation(5, 2), annotation(6, 1, 18), annotation(7, 1, 90)])
    assert [entry.id for entry in instances.images] == [1, 2]
    assert [entry.id for entry in instances.annotations] == [6, 5]
    assert [category.name for category in instances.categories] == ["cat", "dog"]
    assert metrics["classes"] == {"cat": {"images": 1, "instances": 1}, "dog": {"images": 1, "instances": 1}}
    assert metrics["annotations"]["dropped"] == {"class_not_chosen": 1}


def test_an_empty_list_of_classes_is_every_category_in_the_order_of_ids() -> None:
    instances, _ = run([image(1)], [annotation(5, 1)], classes=())
    assert [category.id for category in instances.categories] == [17, 18, 90]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"id": "7"}, "bad_id"),
        ({"id": None}, "bad_id"),
        ({"id": 5}, "duplicate_id"),
        ({"image_id": "1"}, "bad_image_id"),
        ({"image_id": 99}, "unknown_image"),
        ({"category_id": [17]}, "bad_category_id"),
        ({"category_id": 1000}, "unknown_category"),
        ({"category_id": 90}, "class_not_chosen"),
        ({"iscrowd": 2}, "bad_iscrowd"),
        ({"iscrowd": "0"}, "bad_iscrowd"),
        ({"iscrowd": True}, "bad_iscrowd"),
        ({"segmentation": None}, "null_segmentation"),
        ({"segmentation": []}, "empty_segmentation"),
        ({"segmentation": {}}, "empty_segmentation"),
        ({"segmentation": ""}, "empty_segmentation"),
    ],
)
def test_a_bad_annotation_is_counted_and_costs_nothing_else(fields: dict[str, Any], reason: str) -> None:
    bad = annotation(6, 1) | fields
    assert dropped([image(1)], [annotation(5, 1), bad]) == ({}, {reason: 1})


def test_an_annotation_without_a_segmentation_or_that_is_no_object_is_counted() -> None:
    bare = annotation(6, 1)
    del bare["segmentation"]
    assert dropped([image(1)], [annotation(5, 1), bare, 7, "x", None]) == (
        {},
        {"missing_segmentation": 1, "not_an_object": 3},
    )


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"id": "2"}, "bad_id"),
        ({"file_name": 3}, "bad_file_name"),
        ({"width": "8"}, "bad_size"),
        ({"height": 0}, "bad_size"),
        ({"width": 10**6}, "bad_size"),
        ({"file_name": "../secret.jpg"}, "unsafe_file_name"),
        ({"file_name": "/etc/passwd"}, "unsafe_file_name"),
        ({"file_name": "a\\b.jpg"}, "unsafe_file_name"),
        ({"file_name": "C:x.jpg"}, "unsafe_file_name"),
        ({"file_name": "sub/nul.jpg"}, "unsafe_file_name"),
        ({"file_name": "two\nlines.jpg"}, "unsafe_file_name"),
        ({"file_name": ""}, "unsafe_file_name"),
    ],
)
def test_a_bad_image_is_counted(fields: dict[str, Any], reason: str) -> None:
    images, annotations = dropped([image(1), image(2) | fields], [annotation(5, 1), annotation(6, 2)])
    assert images == {reason: 1}
    # Where the id can be read, its annotations go under the same name.
    assert annotations in ({f"image_{reason}": 1}, {"unknown_image": 1})


def test_names_with_folders_spaces_and_unicode_are_fine() -> None:
    assert dropped([image(1, file_name="été à Paris/mon chat.jpg")], [annotation(5, 1)]) == ({}, {})


def test_images_go_by_licence_number_of_instances_and_lack_of_annotations() -> None:
    images = [image(1), image(2, license=1), image(3), image(4), image(5)]
    annotations = [
        annotation(1, 1),
        annotation(2, 2),
        *(annotation(10 + index, 3) for index in range(3)),
        annotation(20, 5, 90),
    ]
    assert dropped(images, annotations, licenses=(4, 5), max_instances=2) == (
        {"license": 1, "no_annotation": 1, "no_kept_annotation": 1, "too_many_instances": 1},
        {"class_not_chosen": 1, "image_license": 1, "image_too_many_instances": 3},
    )


def test_a_crowd_alone_keeps_an_image_only_under_crowd_keep() -> None:
    images, annotations = [image(1), image(2)], [annotation(1, 1), annotation(2, 2, iscrowd=1)]
    assert dropped(images, annotations, crowd="ignore") == (
        {"no_kept_annotation": 1},
        {"image_no_kept_annotation": 1},
    )
    assert dropped(images, annotations, crowd="keep") == ({}, {})
    assert dropped(images, annotations, crowd="drop") == ({"no_kept_annotation": 1}, {"crowd": 1})


def test_a_crowd_counts_among_the_instances_unless_it_is_dropped() -> None:
    images = [image(1), image(2)]
    annotations = [annotation(1, 1), annotation(2, 1, iscrowd=1), annotation(3, 2)]
    assert dropped(images, annotations, max_instances=1)[0] == {"too_many_instances": 1}
    assert dropped(images, annotations, max_instances=1, crowd="drop")[0] == {}


def test_small_areas_go_and_unusable_ones_only_if_areas_are_asked_for() -> None:
    images = [image(1)]
    annotations = [annotation(1, 1, area=100), annotation(2, 1, area=99.9), annotation(3, 1, area="big")]
    assert dropped(images, annotations) == ({}, {})
    assert dropped(images, annotations, min_area_px=100.0) == ({}, {"below_min_area": 1, "no_usable_area": 1})


def test_a_smaller_max_images_is_a_subset_of_a_larger_one_and_both_numbers_are_reported() -> None:
    images = [image(image_id) for image_id in range(1, 41)]
    annotations = [annotation(image_id, image_id) for image_id in range(1, 41)]
    ids = {}
    for most in (5, 20):
        instances, metrics = run(images, annotations, max_images=most)
        ids[most] = {entry.id for entry in instances.images}
        assert (metrics["images"]["requested"], metrics["images"]["available"]) == (most, 40)
        assert metrics["annotations"]["dropped"] == {"image_beyond_max_images": 40 - most}
    assert len(ids[5]) == 5
    assert ids[5] < ids[20]


def test_a_segmentation_keeps_its_bytes() -> None:
    raw = b'{"images":[{"id":1,"file_name":"a.jpg","width":4,"height":4}],"categories":[{"id":17,"name":"cat"}],'
    raw += b'"annotations":[{"id":1,"image_id":1,"category_id":17,"segmentation":[[0.50, 1e0,2,2,3.0,1]]}]}'
    instances, _ = filter_instances(raw, msgspec.structs.replace(PARAMS, classes=()), PLACE)
    assert b"[[0.50, 1e0,2,2,3.0,1]]" in msgspec.json.encode(instances)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("cta",)}, "params.yaml: classes names 'cta', .* did you mean cat?"),
        ({"classes": ("zebra",)}, "it has: cat, dog, toothbrush"),
        ({"classes": ("cat", "cat")}, "names 'cat' twice"),
        ({"licenses": (9,)}, r"no image is left of 1 \(dropped: 1 license; .*loosen"),
        ({"on_defect": "fail"}, "annotation 6: unknown_image; fix it, or set on_defect: count"),
    ],
)
def test_what_cannot_go_on_is_one_line_with_a_way_out(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CocosegError, match=message) as caught:
        run([image(1)], [annotation(5, 1), annotation(6, 99)], **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("first", "second"), [("a.jpg", "a.png"), ("b/a.jpg", "b/a.jpeg"), ("A.jpg", "a.png")])
def test_two_images_that_would_share_a_mask_are_an_error(first: str, second: str) -> None:
    images = [image(1, file_name=first), image(2, file_name=second)]
    with pytest.raises(CocosegError, match="would share the mask"):
        run(images, [annotation(1, 1), annotation(2, 2)])


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 1, "name": "person"}, {"id": 1, "name": "cat"}], "two categories have the id 1"),
        ([{"id": 1, "name": 5}, {"id": 1, "name": "cat"}], "two categories have the id 1"),
        ([{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}], "two categories are named 'cat'"),
        ([{"id": 1, "name": "background"}], "a category is named 'background'"),
        ([{"id": 1, "name": "ignore"}], "a category is named 'ignore'"),
    ],
)
def test_categories_that_would_be_confused_are_an_error(categories: list[Any], message: str) -> None:
    file = {"images": [image(1)], "annotations": [annotation(1, 1, 1)], "categories": categories}
    with pytest.raises(CocosegError, match=message):
        filter_instances(json.dumps(file).encode(), msgspec.structs.replace(PARAMS, classes=()), PLACE)


def test_fields_that_no_rule_reads_may_have_any_type() -> None:
    odd = image(1, license="4", coco_url=False, date_captured=0, flickr_url=None)
    assert dropped([odd], [annotation(1, 1, bbox="none")]) == ({}, {})


def test_a_number_that_no_float_can_hold_costs_only_its_annotation() -> None:
    raw = json.dumps({"images": [image(1)], "annotations": [annotation(1, 1), annotation(2, 1)]})
    raw = raw[:-1] + ', "info": 1e999, "categories": [{"id": 17, "name": "cat"}]}'
    raw = raw.replace('"id": 2, "image_id": 1', '"id": 2, "image_id": 1e999')
    _, metrics = filter_instances(raw.encode(), msgspec.structs.replace(PARAMS, classes=()), PLACE)
    assert metrics["annotations"]["dropped"] == {"bad_image_id": 1}


def test_an_image_name_that_another_needs_as_a_folder_is_an_error() -> None:
    images = [image(1, file_name="x.jpg"), image(2, file_name="x.png/1.jpg")]
    with pytest.raises(CocosegError, match="would need a file where 'x.png/1.jpg' needs a folder"):
        run(images, [annotation(1, 1), annotation(2, 2)])


def test_annotations_of_a_mistyped_image_bear_its_reason() -> None:
    assert dropped([image(1), image(2, width="8")], [annotation(1, 1), annotation(2, 2)]) == (
        {"bad_size": 1},
        {"image_bad_size": 1},
    )


def test_the_same_category_twice_is_counted_and_harmless() -> None:
    file = {"images": [image(1)], "annotations": [annotation(1, 1)], "categories": [CATEGORIES[1], CATEGORIES[1]]}
    raw = json.dumps(file).encode()
    instances, metrics = filter_instances(raw, msgspec.structs.replace(PARAMS, classes=("cat",)), PLACE)
    assert [category.id for category in instances.categories] == [17]
    assert metrics["categories"]["dropped"] == {"duplicate_id": 1}


def test_an_image_whose_only_annotation_is_broken_has_one() -> None:
    images, _ = dropped([image(1), image(2), image(3)], [annotation(1, 1), annotation(2, 2, iscrowd="0")])
    assert images == {"no_annotation": 1, "no_kept_annotation": 1}


def test_a_nan_outside_strings_costs_its_entry_and_one_inside_costs_nothing() -> None:
    raw = json.dumps({"images": [image(1), image(2, file_name="[NaN, Infinity].jpg")], "categories": CATEGORIES[:2]})
    entries = [annotation(1, 1), annotation(2, 2), annotation(3, 1, area=float("nan")), annotation(4, 1) | {"id": "Q"}]
    text = raw[:-1] + ', "annotations": ' + json.dumps(entries).replace('"Q"', "-Infinity") + "}"
    instances, metrics = filter_instances(text.encode(), msgspec.structs.replace(PARAMS, min_area_px=1.0), PLACE)
    assert [entry.file_name for entry in instances.images] == ["1.jpg", "[NaN, Infinity].jpg"]
    assert metrics["annotations"]["dropped"] == {"bad_id": 1, "no_usable_area": 1}


def test_ignored_regions_go_with_their_images_and_no_parameter_touches_them() -> None:
    region = {"size": [6, 8], "counts": [0, 48]}
    file = {
        "images": [image(1), image(2), image(3), image(4) | {"id": "a text"}],
        "annotations": [
            annotation(1, 1),
            annotation(2, 2),
            annotation(3, 2),
            annotation(4, 1) | {"image_id": "a text"},
        ],
        "categories": CATEGORIES,
        "ignored_regions": [{"image_id": id_, "segmentation": region} for id_ in (1, 2, 3, "a text", 9)],
    }
    params = msgspec.structs.replace(PARAMS, crowd="drop", lost="background", max_instances=1)

    instances, metrics = filter_instances(json.dumps(file).encode(), params, PLACE)

    assert metrics["images"]["dropped"] == {"too_many_instances": 1, "no_annotation": 1}
    assert [one.image_id for one in instances.ignored_regions] == [one.id for one in instances.images]
    assert json.loads(bytes(instances.ignored_regions[0].segmentation)) == region


def test_ignored_regions_of_another_form_are_one_line() -> None:
    file = {"images": [image(1)], "annotations": [annotation(1, 1)], "categories": CATEGORIES, "ignored_regions": [7]}
    with pytest.raises(
        CocosegError, match=r"instances\.json: ignored_regions: Expected .*; expected a list of image_id"
    ):
        filter_instances(json.dumps(file).encode(), PARAMS, PLACE)
