"""Ids as tools write them: each means one thing, and two that differ are two."""

from typing import Any

import msgspec
import pytest
from odd_entries import ANNOTATION, CATEGORY, IMAGE, run

from cocoseg.coco.format import Instances
from cocoseg.filter.ids import key_of, number_of


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


def test_001_and_1_are_two_images_if_the_file_has_both() -> None:
    listed = [IMAGE | {"id": "001"}, IMAGE | {"id": "1", "file_name": "2.jpg"}]
    instances, _ = run(listed, [ANNOTATION | {"image_id": "001"}, ANNOTATION | {"id": 2, "image_id": 1}])
    names = {one.id: one.file_name for one in instances.images}
    assert {one.id: names[one.image_id] for one in instances.annotations} == {1: "1.jpg", 2: "2.jpg"}
    assert {one.original_id: one.id for one in instances.images} == {None: 1, "001": number_of("001")}


@pytest.mark.parametrize(("listed", "named"), [("001", 1), (1, "001"), (1, "1.0"), ("1.0", 1), ("+1", "01")])
def test_a_number_that_is_written_in_another_way_leads_to_the_only_one_it_can_mean(listed: Any, named: Any) -> None:
    instances, metrics = run(
        [IMAGE | {"id": listed}],
        [ANNOTATION | {"image_id": named, "category_id": named}],
        [CATEGORY | {"id": listed}],
    )
    assert [one.image_id for one in instances.annotations] == [instances.images[0].id]
    assert {"image_id": 1, "category_id": 1}.items() <= metrics["annotations"]["converted"].items()


def test_a_number_that_may_mean_two_images_leads_to_none() -> None:
    listed = [IMAGE | {"id": "01"}, IMAGE | {"id": "001", "file_name": "2.jpg"}]
    entries = [ANNOTATION | {"image_id": "01"}, ANNOTATION | {"id": 2, "image_id": 1}]
    _, metrics = run(listed, entries, max_defects=1.0)
    assert metrics["annotations"]["first"] == {"unknown_image": "annotation 2, image_id is 1"}


@pytest.mark.parametrize("id_", [-5, 0, 2**62 - 1])
def test_an_annotation_id_that_can_be_written_stays(id_: int) -> None:
    instances, metrics = run(annotations=[ANNOTATION | {"id": id_}])
    assert [one.id for one in instances.annotations] == [id_]
    assert metrics["annotations"]["converted"] == {}


@pytest.mark.parametrize("id_", [-(2**70), 2**70, 2**62, 1.5, True, {"$oid": "5f"}])
def test_an_annotation_id_that_cannot_be_written_is_renumbered(id_: Any) -> None:
    instances, metrics = run(annotations=[ANNOTATION | {"id": id_}, ANNOTATION | {"id": 7}])
    assert [one.id for one in instances.annotations] == [8, 7]
    assert metrics["annotations"]["converted"] == {"id_renumbered": 1}
    assert msgspec.json.decode(msgspec.json.encode(instances), type=Instances) is not None


def test_an_id_that_is_an_object_is_shown_as_it_is() -> None:
    _, metrics = run(annotations=[ANNOTATION, ANNOTATION | {"id": 2, "image_id": {"$oid": "5f"}}], max_defects=1.0)
    assert metrics["annotations"]["first"] == {"unknown_image": 'annotation 2, image_id is {"$oid": "5f"}'}
