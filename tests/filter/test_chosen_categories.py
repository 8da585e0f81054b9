"""Which categories there are, and which are chosen."""

import json
from typing import Any

import pytest
from odd_entries import ANNOTATION, CATEGORY, IMAGE, PARAMS, PLACE, run

from cocoseg.core.errors import CocosegError
from cocoseg.filter.choose import filter_instances


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
    with pytest.raises(CocosegError, match="300 categories; a mask holds 1 to 254 .*; name some in classes"):
        run(categories=many)


def test_one_category_of_two_supercategories_is_one() -> None:
    instances, metrics = run(categories=[CATEGORY | {"supercategory": "pet"}, CATEGORY | {"supercategory": "animal"}])
    assert [(one.name, one.supercategory) for one in instances.categories] == [("cat", "pet")]
    assert metrics["categories"]["dropped"] == {"listed_twice": 1}


def test_a_second_category_of_an_id_that_nothing_uses_is_left_out() -> None:
    instances, metrics = run(categories=[CATEGORY, {"id": 9, "name": "dog"}, {"id": 9, "name": "cow"}])
    assert [one.name for one in instances.categories] == ["cat", "dog"]
    assert metrics["categories"]["dropped"] == {"unused_of_shared_id": 1}
    with pytest.raises(CocosegError, match="two categories have the id 1: 'cat' and 'dog'; give each an id of its own"):
        run(categories=[CATEGORY, {"id": 1, "name": "dog"}])


@pytest.mark.parametrize(("name", "chosen"), [(" cat", "cat"), ("cat\r", "cat"), ("A\u0308pfel", "Äpfel")])
def test_space_around_a_name_and_its_form_of_unicode_do_not_count(name: str, chosen: str) -> None:
    instances, metrics = run(categories=[{"id": 1, "name": name}], classes=(chosen,))
    assert [one.name for one in instances.categories] == [chosen]
    assert metrics["categories"]["converted"] == {"name": 1}
    assert len(run(categories=[{"id": 1, "name": chosen}], classes=(name.strip(),))[0].categories) == 1


def test_names_that_only_space_tells_apart_are_an_error_if_annotations_use_both() -> None:
    with pytest.raises(CocosegError, match="two categories are named 'cat'"):
        run(annotations=[ANNOTATION, ANNOTATION | {"id": 2, "category_id": 2}],
            categories=[CATEGORY, {"id": 2, "name": " cat"}])  # fmt: skip


def test_labelmes_background_that_nothing_uses_is_no_class() -> None:
    listed = [CATEGORY | {"id": 0, "name": "_background_"}, CATEGORY | {"id": 5, "name": "__ignore__"}, CATEGORY]
    listed.append({"id": 6, "name": "Background"})
    assert [one.name for one in run(categories=listed)[0].categories] == ["cat"]


@pytest.mark.parametrize("name", [[], {"en": "cat"}, True, None])
def test_a_name_that_is_no_text_is_shown_as_it_is(name: Any) -> None:
    _, metrics = run(categories=[CATEGORY, {"id": 2, "name": name}])
    shown = {"[]": "[]", "{'en': 'cat'}": '{"en": "cat"}', "None": "missing"}.get(repr(name), repr(name))
    assert metrics["categories"]["first"] == {"bad_name": f"category at position 1, id is 2, name is {shown}"}


@pytest.mark.parametrize(
    ("categories", "first"),
    [([], ""), ([{"id": 1}], "; 1 bad_name, first: category at position 0, id is 1, name is missing")],
)
def test_without_a_category_there_is_one_line(categories: list[Any], first: str) -> None:
    file = {"images": [IMAGE], "annotations": [ANNOTATION], "categories": categories}
    with pytest.raises(CocosegError, match=f": none of {len(categories)} categories can be a class{first}; expected"):
        filter_instances(json.dumps(file).encode(), PARAMS, PLACE)
