"""What came in is what stayed and what went, and what a stage says of it."""

from collections import Counter

from cocoseg.accounts import account, closing_line


def test_an_account_adds_up_and_names_only_reasons_that_took_something() -> None:
    assert account(10, Counter({"b": 2, "a": 3, "none": 0})) == {"input": 10, "kept": 5, "dropped": {"a": 3, "b": 2}}


def test_the_closing_line_says_what_went_and_the_first_of_each_defect() -> None:
    metrics = {
        "annotations": {
            "input": 1200,
            "kept": 1175,
            "dropped": {"bad_area": 1, "bad_iscrowd": 12, "class_not_chosen": 7, "other": 3, "beyond": 2},
            "converted": {"iscrowd": 3},
            "first": {"bad_area": "…", "bad_iscrowd": "annotation 2 of shot_001.jpg, iscrowd is 'yes'"},
        },
        "images": {
            "input": 9,
            "kept": 8,
            "dropped": {"no_annotation": 1},
            "converted": {},
            "first": {},
            "negatives": 1,
        },
        "lost_objects": 12,
    }
    assert closing_line(metrics) == (
        "1,175 of 1,200 annotations kept (dropped: 7 class_not_chosen, 3 other, …); "
        "13 annotations broken, 12 as bad_iscrowd, first: annotation 2 of shot_001.jpg, iscrowd is 'yes'; "
        "annotations converted: 3 iscrowd; "
        "8 of 9 images kept (dropped: 1 no_annotation); "
        "1 image without an object of the chosen classes; "
        "12 objects lost with their annotations"
    )


def test_the_closing_line_names_hidden_objects_and_lost_ones_without_a_box() -> None:
    metrics = {
        "annotations": {"input": 5, "kept": 5, "dropped": {}},
        "images": {"input": 2, "kept": 2, "dropped": {}},
        "hidden": {"cat": 1, "dog": 2},
        "mostly_hidden": {"cat": 1, "dog": 3},
        "lost_objects": 2,
        "lost_in_filter": 1,
        "lost_without_box": 1,
    }
    assert closing_line(metrics) == (
        "5 of 5 annotations kept; 2 of 2 images kept; "
        "2 objects lost with their annotations, 1 of them in filter, 1 of them without a usable bbox; "
        "4 objects mostly hidden by others, 3 of them wholly (overlap says who owns a pixel that several claim)"
    )


def test_the_closing_line_of_filter_names_a_class_that_means_none() -> None:
    counts = {"images": 1, "instances": 2}
    whole = {"input": 3, "kept": 3, "dropped": {}}
    metrics = {"images": whole, "classes": {"leaf": counts, "ignored regions": counts}}
    line = closing_line({"annotations": whole | {"ignored_crowds": 0}, **metrics})
    assert "; a class like any other here: ignored regions; leave it out of classes to make it background, or " in line
    assert "ignored regions" not in closing_line({"annotations": whole, **metrics})  # of mask


def test_the_closing_line_says_what_became_of_images_that_are_listed_twice() -> None:
    whole = {"input": 3, "kept": 3, "dropped": {}}
    line = closing_line({"annotations": whole, "images": whole | {"kept": 2, "dropped": {"listed_twice": 1}}})
    assert line == (
        "3 of 3 annotations kept; 2 of 3 images kept (dropped: 1 listed_twice); entries joined with another of the "
        "same file_name, annotations too: 1; if they are different images, as frames of several videos, give each a "
        "name of its own"
    )


def test_the_closing_line_names_classes_without_an_instance_and_one_lost_object() -> None:
    whole = {"input": 1, "kept": 1, "dropped": {}}
    counts = {"plants": {"images": 0, "instances": 0}, "leaf": {"images": 1, "instances": 2}}
    line = closing_line({"annotations": whole, "images": whole, "classes": counts, "lost_objects": 1})
    assert line == (
        "1 of 1 annotations kept; 1 of 1 images kept; 1 of 2 classes without an instance: plants; "
        "1 object lost with its annotation"
    )


def test_where_nothing_went_the_closing_line_is_short() -> None:
    whole = {"input": 1, "kept": 1, "dropped": {}}
    assert closing_line({"annotations": whole, "images": whole}) == "1 of 1 annotations kept; 1 of 1 images kept"
