"""What stays, and under which name the rest goes."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cocoseg.accounts import closing_line
from cocoseg.coco.format import Instances
from cocoseg.core.errors import CocosegError
from cocoseg.filter.choose import filter_file, filter_instances
from cocoseg.filter.params import FilterParams

PLACE = Path("data/raw/instances.json")
PARAMS = FilterParams(
    images="data/custom/images",
    negatives="drop",
    lost="ignore",
    max_defects=1,
    max_skipped=1,
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


def lost_boxes(annotations: list[Any], **changes: Any) -> list[Any]:
    """The boxes of the objects that are lost on an image which keeps one."""
    instances, metrics = run([image(1)], [annotation(1, 1), *annotations], **changes)
    assert metrics["lost_objects"] == len(instances.lost)
    return [None if one.bbox is msgspec.UNSET else msgspec.json.decode(one.bbox) for one in instances.lost]


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
        ({"image_id": 99}, "unknown_image"),
        ({"image_id": None}, "unknown_image"),
        ({"image_id": True}, "unknown_image"),
        ({"category_id": [17]}, "unknown_category"),
        ({"category_id": 17.5}, "unknown_category"),
        ({"category_id": 1000}, "unknown_category"),
        ({"category_id": 90}, "class_not_chosen"),
        ({"iscrowd": 2}, "bad_iscrowd"),
        ({"iscrowd": "yes"}, "bad_iscrowd"),
        ({"iscrowd": []}, "bad_iscrowd"),
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
        ({"id": None}, "bad_id"),
        ({"id": 2.5}, "bad_id"),
        ({"file_name": 3}, "bad_file_name"),
        ({"file_name": ""}, "bad_file_name"),
        ({"width": "wide"}, "bad_size"),
        ({"width": -8}, "bad_size"),
        ({"height": 0}, "bad_size"),
        ({"width": 10**6}, "bad_size"),
        ({"file_name": "../secret.jpg"}, "unsafe_file_name"),
        ({"file_name": "/etc/passwd"}, "unsafe_file_name"),
        ({"file_name": "..\\b.jpg"}, "unsafe_file_name"),
        ({"file_name": "C:\\a\\1.jpg"}, "unsafe_file_name"),
        ({"file_name": "https://elsewhere/1.jpg"}, "unsafe_file_name"),
        ({"file_name": "C:x.jpg"}, "unsafe_file_name"),
        ({"file_name": "sub/nul.jpg"}, "unsafe_file_name"),
        ({"file_name": "two\nlines.jpg"}, "unsafe_file_name"),
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
        ({"licenses": (9,)}, "no image is left; 1 of 1 images: license; .*allow more licenses"),
        ({"on_defect": "fail"}, "annotation 6, image_id is 99: unknown_image; fix it, or set on_defect: count"),
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
        ([{"id": 1, "name": "background"}], "a category is named 'background'"),
        ([{"id": 1, "name": "ignore"}], "a category is named 'ignore'"),
    ],
)
def test_categories_that_would_be_confused_are_an_error(categories: list[Any], message: str) -> None:
    file = {"images": [image(1)], "annotations": [annotation(1, 1, 1)], "categories": categories}
    with pytest.raises(CocosegError, match=message):
        filter_instances(json.dumps(file).encode(), msgspec.structs.replace(PARAMS, classes=()), PLACE)


def test_two_categories_of_one_name_that_annotations_use_are_an_error() -> None:
    file = {"images": [image(1)], "annotations": [annotation(1, 1, 1), annotation(2, 1, 2)]}
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]
    with pytest.raises(CocosegError, match="two categories are named 'cat'"):
        filter_instances(json.dumps(file | {"categories": categories}).encode(), PARAMS, PLACE)


def test_fields_that_no_rule_reads_may_have_any_type() -> None:
    odd = image(1, license="4", coco_url=False, date_captured=0, flickr_url=None)
    assert dropped([odd], [annotation(1, 1, bbox="none")]) == ({}, {})


def test_a_number_that_no_float_can_hold_costs_only_its_annotation() -> None:
    raw = json.dumps({"images": [image(1)], "annotations": [annotation(1, 1), annotation(2, 1)]})
    raw = raw[:-1] + ', "info": 1e999, "categories": [{"id": 17, "name": "cat"}]}'
    raw = raw.replace('"id": 2, "image_id": 1', '"id": 2, "image_id": 1e999')
    _, metrics = filter_instances(raw.encode(), msgspec.structs.replace(PARAMS, classes=()), PLACE)
    assert metrics["annotations"]["dropped"] == {"unknown_image": 1}


def test_an_image_name_that_another_needs_as_a_folder_is_an_error() -> None:
    images = [image(1, file_name="x.jpg"), image(2, file_name="x.png/1.jpg")]
    with pytest.raises(CocosegError, match="would need a file where 'x.png/1.jpg' needs a folder"):
        run(images, [annotation(1, 1), annotation(2, 2)])


def test_annotations_of_a_mistyped_image_bear_its_reason() -> None:
    assert dropped([image(1), image(2, width="x")], [annotation(1, 1), annotation(2, 2)]) == (
        {"bad_size": 1},
        {"image_bad_size": 1},
    )


def test_the_same_category_twice_is_counted_and_harmless() -> None:
    file = {"images": [image(1)], "annotations": [annotation(1, 1)], "categories": [CATEGORIES[1], CATEGORIES[1]]}
    raw = json.dumps(file).encode()
    instances, metrics = filter_instances(raw, msgspec.structs.replace(PARAMS, classes=("cat",)), PLACE)
    assert [category.id for category in instances.categories] == [17]
    assert metrics["categories"]["dropped"] == {"listed_twice": 1}


def test_an_image_whose_only_annotation_is_broken_has_one() -> None:
    images, _ = dropped([image(1), image(2), image(3)], [annotation(1, 1), annotation(2, 2, iscrowd="no")])
    assert images == {"no_annotation": 1, "no_kept_annotation": 1}


def test_a_nan_outside_strings_costs_its_entry_and_one_inside_costs_nothing() -> None:
    raw = json.dumps({"images": [image(1), image(2, file_name="[NaN, Infinity].jpg")], "categories": CATEGORIES[:2]})
    entries = [annotation(1, 1), annotation(2, 2), annotation(3, 1, area=float("nan")), annotation(4, 1) | {"id": "Q"}]
    text = raw[:-1] + ', "annotations": ' + json.dumps(entries).replace('"Q"', "-Infinity") + "}"
    instances, metrics = filter_instances(text.encode(), msgspec.structs.replace(PARAMS, min_area_px=1.0), PLACE)
    assert [entry.file_name for entry in instances.images] == ["1.jpg", "[NaN, Infinity].jpg"]
    assert metrics["annotations"]["dropped"] == {"no_usable_area": 1}
    assert metrics["annotations"]["converted"] == {"id_renumbered": 1}


@pytest.mark.parametrize(
    "fields",
    [
        {"iscrowd": 2, "bbox": [1, 2, 3, 4]},
        {"segmentation": [], "bbox": [1, 2, 3, 4]},
        {"segmentation": None, "bbox": [1, 2, 3, 4]},
        {"category_id": 1000, "bbox": [1, 2, 3, 4]},
    ],
)
@pytest.mark.parametrize("lost", ["ignore", "background"])
def test_the_box_of_a_lost_object_goes_on_to_mask(fields: dict[str, Any], lost: str) -> None:
    assert lost_boxes([annotation(2, 1) | fields], lost=lost) == [[1, 2, 3, 4]]


def test_an_object_without_a_box_is_lost_all_the_same() -> None:
    assert lost_boxes([annotation(2, 1, iscrowd=2)]) == [None]


@pytest.mark.parametrize(
    ("fields", "changes"),
    [
        ({"category_id": 90, "iscrowd": 2}, {}),
        ({"iscrowd": 1, "segmentation": None}, {"crowd": "drop"}),
        ({"area": 1, "segmentation": []}, {"min_area_px": 2.0}),
        ({"image_id": 99, "iscrowd": 2}, {}),
    ],
)
def test_who_goes_by_choice_or_is_on_no_image_is_no_lost_object(
    fields: dict[str, Any], changes: dict[str, Any]
) -> None:
    assert lost_boxes([annotation(2, 1) | fields], **changes) == []


def test_lost_drop_image_drops_the_images_of_lost_objects() -> None:
    entries = [annotation(1, 1), annotation(2, 2), annotation(3, 2, iscrowd=2)]
    assert dropped([image(1), image(2)], entries, lost="drop_image") == (
        {"lost_object": 1},
        {"bad_iscrowd": 1, "image_lost_object": 1},
    )


def test_too_large_a_share_of_broken_annotations_of_chosen_classes_stops() -> None:
    sound = [annotation(n, 1) for n in range(1, 20)]
    other = [annotation(n, 1, 90) for n in range(100, 200)]
    assert dropped([image(1)], [*sound, annotation(20, 1, iscrowd=2)], max_defects=0.05)[1] == {"bad_iscrowd": 1}
    message = (
        "^data/raw/instances.json: 2 of 21 annotations of the chosen classes are broken: 2 bad_iscrowd, first: "
        "annotation 20 of 1.jpg, iscrowd is 'yes'; max_defects allows 0.05; fix them, or raise it in params.yaml$"
    )
    broken = [annotation(20, 1, iscrowd="yes"), annotation(21, 1, iscrowd=3)]
    with pytest.raises(CocosegError, match=message):
        run([image(1)], [*sound, *broken, *other], max_defects=0.05)


@pytest.mark.parametrize(("field", "by"), [("image_id", 1), ("image_id", -1), ("category_id", 1), ("category_id", -1)])
def test_ids_that_are_all_moved_by_one_are_refused_however_few_lead_nowhere(
    field: str, by: int, tmp_path: Path
) -> None:
    numbers = range(1, 31)
    entries = [annotation(n, n, n) for n in numbers]
    content = {
        "images": [image(n) for n in numbers],
        "annotations": [one | {field: one[field] + by} for one in entries],
        "categories": [{"id": n, "name": f"c{n}"} for n in numbers],
    }
    params = msgspec.structs.replace(PARAMS, classes=())
    one, end = (31, 1) if by > 0 else (0, 30)
    message = (
        f"instances.json: annotations name the {field} {one}, which is not listed, and none names {end}, of 1 to 30: "
        f"all seem to be moved by one; correct {field}, or remove the annotations of {one}$"
    )
    source = tmp_path / "instances.json"
    source.write_text(json.dumps(content))
    with pytest.raises(CocosegError, match=message):
        filter_file(source, tmp_path / "filtered.json", params)
    source.write_text(json.dumps(content | {"annotations": [*content["annotations"], annotation(99, end, end)]}))
    filter_file(source, tmp_path / "filtered.json", params)  # one broken annotation, and no more


def test_moved_ids_are_seen_whatever_classes_are_chosen_and_an_entry_that_went_is_no_moved_id() -> None:
    images = [image(1), image(2), image(3)]
    others = [annotation(1, 0, 90), annotation(2, 1), annotation(3, 2)]
    with pytest.raises(CocosegError, match="name the image_id 0, which is not listed, and none names 3, of 1 to 3"):
        run(images, others)
    entries = [annotation(1, 2), annotation(2, 3), annotation(3, 4)]
    assert dropped([*images, image(4, width="x")], entries)[1] == {"image_bad_size": 1}


@pytest.mark.parametrize(("field", "noun"), [("image_id", "image"), ("category_id", "category")])
def test_one_stray_annotation_beside_an_end_that_none_names_is_a_defect_and_no_moved_ids(field: str, noun: str) -> None:
    images = [image(n) for n in range(1, 21)]
    numbers = range(1, 20) if field == "image_id" else (17,)  # of the categories 17, 18: the second has no object
    entries = [annotation(n, n % 20 or 1) | {field: number} for number in numbers for n in (2 * number, 2 * number + 1)]
    file = {"images": images, "categories": CATEGORIES[:2], "annotations": entries}
    low, end = (1, 20) if field == "image_id" else (17, 18)
    file["annotations"] = [*entries, annotation(99, 1) | {field: low - 1}]
    found = filter_instances(json.dumps(file).encode(), PARAMS, PLACE)[1]["annotations"]
    assert (found["kept"], found["dropped"]) == (len(entries), {f"unknown_{noun}": 1})
    assert (
        f"; none names {end}, of {low} to {end}: check that none is moved by one" in found["first"][f"unknown_{noun}"]
    )
    file["annotations"] += [annotation(n, 1) | {field: low - 1} for n in (97, 98)]
    with pytest.raises(CocosegError, match=f"name the {field} {low - 1}, which is not listed, and none names {end}"):
        filter_instances(json.dumps(file).encode(), PARAMS, PLACE)


def test_where_all_are_broken_a_higher_max_defects_is_no_way_out() -> None:
    with pytest.raises(CocosegError, match=r"1 of 1 annotations .*; max_defects allows 0\.05; fix them$"):
        run([image(1)], [annotation(1, 1, segmentation=[])], max_defects=0.05)


def test_what_is_no_object_at_all_counts_against_max_defects() -> None:
    with pytest.raises(CocosegError, match="1 of 2 annotations .* 1 not_an_object, first: annotation at position 1"):
        run([image(1)], [annotation(1, 1), 7], max_defects=0.4)
    assert dropped([image(1)], [annotation(1, 1), 7], max_defects=0.5)[1] == {"not_an_object": 1}


def test_too_large_a_share_of_broken_images_stops() -> None:
    images = [image(n) for n in range(1, 20)]
    entries = [annotation(n, n) for n in range(1, 20)]
    broken = [image(20, width="x"), image(21, file_name="../a.jpg")]
    assert dropped([*images, broken[0]], entries, max_skipped=0.05)[0] == {"bad_size": 1}
    message = (
        "^data/raw/instances.json: 2 of 21 images are broken: 1 bad_size, first: image 20.jpg, width is 'x', height is "
        "6; max_skipped allows 0.05; fix them, or raise it in params.yaml$"
    )
    with pytest.raises(CocosegError, match=message):
        run([*images, *broken], entries, max_skipped=0.05)
    with pytest.raises(CocosegError, match="1 of 2 images are broken: 1 not_an_object, first: image at position 1"):
        run([image(1), 7], [annotation(1, 1)], max_skipped=0.0)


def test_an_image_that_goes_by_choice_or_is_listed_twice_does_not_count_against_max_skipped() -> None:
    images = [image(1), image(2, license=1), image(3, file_name="1.jpg"), image(4)]
    assert dropped(images, [annotation(1, 1), annotation(2, 2)], licenses=(4,), max_skipped=0.0)[0] == {
        "license": 1,
        "listed_twice": 1,
        "no_annotation": 1,
    }


def test_the_closing_line_has_the_first_broken_image() -> None:
    _, metrics = run([image(1), image(2, height=-6)], [annotation(1, 1)])
    line = closing_line(metrics)
    assert "1 image dropped as bad_size, first: image 2.jpg, width is 8, height is -6" in line


@pytest.mark.parametrize(("crowd", "instances"), [("ignore", 1), ("drop", 1), ("keep", 2)])
def test_a_crowd_is_an_instance_only_where_it_is_painted_as_one(crowd: str, instances: int) -> None:
    _, metrics = run([image(1), image(2)], [annotation(1, 1), annotation(2, 1, iscrowd=1)], crowd=crowd)
    assert metrics["classes"] == {"cat": {"images": 1, "instances": instances}, "dog": {"images": 0, "instances": 0}}
    assert metrics["annotations"]["ignored_crowds"] == (crowd == "ignore")
    assert ("ignored crowds among them: 1; " in closing_line(metrics)) is (crowd == "ignore")


@pytest.mark.parametrize("area", [0, -1, "none", None, float("nan")])
def test_an_area_that_no_object_has_is_a_defect_and_no_choice(area: Any) -> None:
    entry = annotation(2, 1, area=area, bbox=[1, 2, 3, 4])
    assert lost_boxes([entry], min_area_px=2.0) == [[1, 2, 3, 4]]
    assert lost_boxes([entry], min_area_px=None) == []


def test_an_area_in_quotes_is_its_number() -> None:
    entries = [annotation(1, 1, area="4.0"), annotation(2, 1, area="1.5")]
    assert dropped([image(1)], entries, min_area_px=2.0)[1] == {"below_min_area": 1}


def test_a_users_own_ignored_regions_are_neither_read_nor_an_error() -> None:
    file = {"images": [image(1)], "annotations": [annotation(1, 1)], "categories": CATEGORIES}
    for theirs in ([{"image_id": 1, "segmentation": {"size": [6, 8], "counts": [0, 48]}}], {"1": [[0, 0, 2, 2]]}, 7):
        raw = json.dumps(file | {"ignored_regions": theirs}).encode()
        assert filter_instances(raw, PARAMS, PLACE)[0].ignored_regions == []


def test_under_negatives_keep_images_without_a_kept_annotation_stay() -> None:
    images = [image(n) for n in (1, 2, 3, 4)]
    entries = [annotation(1, 1), annotation(2, 3, 90), annotation(3, 4, area=1)]
    assert dropped(images, entries, min_area_px=2.0)[0] == {"no_annotation": 1, "no_kept_annotation": 2}
    instances, metrics = run(images, entries, min_area_px=2.0, negatives="keep")
    assert [entry.id for entry in instances.images] == [1, 2, 3, 4]
    assert metrics["images"]["negatives"] == 3


@pytest.mark.parametrize("lost", ["ignore", "background"])
def test_an_image_with_a_lost_object_is_never_a_negative(lost: str) -> None:
    images, entries = [image(1), image(2)], [annotation(1, 1), annotation(2, 2, iscrowd=2)]
    assert dropped(images, entries, negatives="keep", lost=lost)[0] == {"no_kept_annotation": 1}


def test_no_image_left_names_the_first_offending_value_and_the_way_out() -> None:
    images = [image(n, file_name=f"C:\\a\\{n}.jpg") for n in (1, 2)]
    message = (
        r"^data/raw/instances.json: no image is left; 2 of 2 images: unsafe_file_name, first: image at position 0, "
        r"file_name 'C:\\\\a\\\\1.jpg' leaves the folder images or is not a valid name; "
        r"write each file_name relative to images$"
    )
    with pytest.raises(CocosegError, match=message):
        run(images, [annotation(1, 1), annotation(2, 2)])


def test_a_size_that_no_image_has_may_be_left_out() -> None:
    with pytest.raises(
        CocosegError, match="width is 0, height is 6; correct width and height, or leave them out: the "
    ):
        run([image(1, width=0)], [annotation(1, 1)])


def test_no_image_left_for_lack_of_annotations_says_so() -> None:
    message = (
        "no image is left; 1 of 1 images: no_annotation; check that annotations name these images, or set negatives"
    )
    with pytest.raises(CocosegError, match=message):
        run([image(1)], [])


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
        "cocoseg_ignored_regions": [{"image_id": id_, "segmentation": region} for id_ in (1, 2, 3, "a text", 9)],
    }
    params = msgspec.structs.replace(PARAMS, crowd="drop", lost="background", max_instances=1)

    instances, metrics = filter_instances(json.dumps(file).encode(), params, PLACE)

    assert metrics["images"]["dropped"] == {"too_many_instances": 1, "no_annotation": 1}
    assert [one.image_id for one in instances.ignored_regions] == [one.id for one in instances.images]
    assert json.loads(bytes(instances.ignored_regions[0].segmentation)) == region


def test_ignored_regions_of_another_form_are_one_line() -> None:
    file = {
        "images": [image(1)],
        "annotations": [annotation(1, 1)],
        "categories": CATEGORIES,
        "cocoseg_ignored_regions": [7],
    }
    with pytest.raises(
        CocosegError, match=r"instances\.json: cocoseg_ignored_regions: Expected .*; expected a list of image_id"
    ):
        filter_instances(json.dumps(file).encode(), PARAMS, PLACE)


def test_one_file_name_of_two_sizes_is_refused_and_of_one_size_is_one_image() -> None:
    twice = [image(1), image(2, file_name="1.jpg")]
    instances, metrics = run(twice, [annotation(1, 1), annotation(2, 2)])
    assert [entry.image_id for entry in instances.annotations] == [1, 1]
    assert metrics["images"]["dropped"] == {"listed_twice": 1}
    with pytest.raises(CocosegError, match=r"the file_name '1\.jpg', of 8×6 and 80×60 pixels; give each a name"):
        run([image(1), image(2, file_name="1.jpg", width=80, height=60)], [annotation(1, 1)])


def test_a_category_of_a_reserved_name_is_refused_by_its_own_id_if_annotations_use_it() -> None:
    def chosen(category_id: Any) -> Instances:
        file = {
            "images": [image(1)],
            "annotations": [annotation(1, 1), annotation(2, 1, category_id)],
            "categories": [{"id": 17, "name": "cat"}, {"id": "bg", "name": "background"}],
        }
        params = msgspec.structs.replace(PARAMS, classes=())
        return filter_instances(json.dumps(file).encode(), params, PLACE)[0]

    assert [entry.name for entry in chosen(17).categories] == ["cat"]
    with pytest.raises(CocosegError, match="a category is named 'background'"):
        chosen("bg")


@pytest.mark.parametrize(
    ("fields", "crowd", "account"),
    [
        ({"ignore": 1}, "ignore", {"converted": {"ignore": 1}, "ignored_crowds": 1, "kept": 2}),
        ({"ignore": True}, "keep", {"converted": {"ignore": 1}, "ignored_crowds": 0, "kept": 2}),
        ({"ignore": 1}, "drop", {"dropped": {"crowd": 1}, "kept": 1}),
        ({"ignore": 1, "iscrowd": 1}, "ignore", {"converted": {}, "ignored_crowds": 1}),
        ({"ignore": 0}, "ignore", {"converted": {}, "ignored_crowds": 0, "kept": 2}),
        ({"ignore": 2}, "ignore", {"dropped": {"bad_ignore": 1}}),
        ({"ignore": [1]}, "ignore", {"dropped": {"bad_ignore": 1}}),
    ],
)
def test_an_annotation_with_the_flag_ignore_is_a_crowd(
    fields: dict[str, Any], crowd: str, account: dict[str, Any]
) -> None:
    instances, metrics = run([image(1)], [annotation(1, 1), annotation(2, 1, **fields)], crowd=crowd)
    assert {key: metrics["annotations"][key] for key in account} == account
    assert b"ignore" not in msgspec.json.encode(instances.annotations)


@pytest.mark.parametrize(
    ("noun", "key", "other"),
    [
        ("images", "file_name", "filename"),
        ("annotations", "category_id", "category"),
        ("annotations", "segmentation", "segments"),
        ("categories", "name", "names"),
    ],
)
def test_a_refusal_names_the_key_that_a_misnamed_one_is_close_to(
    noun: str, key: str, other: str, tmp_path: Path
) -> None:
    file: dict[str, Any] = {"images": [image(1)], "annotations": [annotation(1, 1)], "categories": CATEGORIES}
    file[noun] = [{other if name == key else name: value for name, value in one.items()} for one in file[noun]]
    source = tmp_path / "instances.json"
    source.write_text(json.dumps(file))
    with pytest.raises(CocosegError, match=f"; the first of '{noun}' has the key '{other}': did you mean {key}\\?$"):
        filter_file(source, tmp_path / "filtered.json", PARAMS)
