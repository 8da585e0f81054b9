"""Which image trains, validates or tests."""

import re
from collections import Counter
from typing import Any

import msgspec
import pytest

from cocoseg.core.errors import CocosegError
from cocoseg.split.exact import SIDES, exact_counts
from cocoseg.split.groups import PLACEHOLDER, Groups
from cocoseg.split.params import Side, SplitParams
from cocoseg.split.sides import closing_line, split_images, split_metrics
from cocoseg.tables import ImageRow, MaskRow

PARAMS = SplitParams(
    data_seed=0,
    split_rule="stable",
    folds=5,
    fold=0,
    group_pattern=None,
    groups=PLACEHOLDER,
    train_share=0.7,
    val_share=0.1,
    test_share=0.2,
)


def tables(
    classes: dict[int, set[int]], phashes: dict[int, str] | None = None, origin: str | None = None
) -> tuple[list[ImageRow], list[MaskRow]]:
    images = [
        ImageRow(
            image_id=image_id,
            file_name=f"{image_id:05}.jpg",
            status="ok",
            phash=(phashes or {}).get(image_id, f"{image_id * 0x9E3779B97F4A7C15 % 2**64:016x}"),
            origin=origin,
        )
        for image_id in classes
    ]
    rows = [
        MaskRow(
            image_id=image_id,
            file_name=f"{image_id:05}.jpg",
            class_index=index,
            class_name=f"class {index}",
            instances=1,
            pixels=10,
        )
        for image_id, present in classes.items()
        for index in sorted(present)
    ]
    return images, rows


def changed(**changes: Any) -> SplitParams:
    """Return other parameters, checked as those of a file are."""
    return msgspec.convert(msgspec.to_builtins(PARAMS) | changes, SplitParams)


def split(classes: dict[int, set[int]], **changes: Any) -> dict[Side, list[int]]:
    images, rows = tables(classes, changes.pop("phashes", None), changes.pop("origin", None))
    groups = Groups(of_image=changes.pop("groups", {}))
    return split_images(images, rows, msgspec.structs.replace(PARAMS, **changes), groups)


def test_a_stable_image_never_changes_sides_when_others_come_or_go() -> None:
    few = split({image_id: {1} for image_id in range(0, 300, 3)})
    many = split({image_id: {1} for image_id in range(300)})
    assert all(set(few[side]) <= set(many[side]) for side in SIDES)


@pytest.mark.parametrize("rule", ["stable", "exact"])
def test_images_that_show_no_class_are_split_as_the_others(rule: str) -> None:
    classes = {image_id: {0, 1} if image_id % 2 else {0} for image_id in range(1, 41)}
    sides = split(classes, split_rule=rule)
    assert sorted(image_id for ids in sides.values() for image_id in ids) == sorted(classes)
    if rule == "exact":  # 28, 4 and 8 images, half of each without a class
        empty = {side: sum(classes[image_id] == {0} for image_id in ids) for side, ids in sides.items()}
        assert empty == {"train": 14, "val": 2, "test": 4}


def test_official_takes_images_that_show_no_class_by_their_origin() -> None:
    images, rows = tables({1: {0}, 2: {0}, 3: {1}, 4: {0, 1}})
    images = [
        msgspec.structs.replace(row, origin=origin)
        for row, origin in zip(images, ("val2017", "train2017", "val2017", "train2017"), strict=True)
    ]
    params = msgspec.structs.replace(PARAMS, split_rule="official", train_share=0.8, val_share=0)
    sides = split_images(images, rows, params)
    assert sides == {"train": [2, 4], "val": [], "test": [1, 3]}


def test_stable_counts_come_near_the_shares() -> None:
    counts: Counter[str] = Counter()
    for data_seed in range(10):
        sides = split({image_id: {1} for image_id in range(1000)}, data_seed=data_seed)
        counts.update({side: len(image_ids) for side, image_ids in sides.items()})
    # three standard deviations of a binomial with 10,000 draws: 137, 90 and 120
    assert abs(counts["train"] - 7000) < 137
    assert abs(counts["val"] - 1000) < 90
    assert abs(counts["test"] - 2000) < 120


def test_without_a_test_share_every_other_image_validates() -> None:
    sides = split({image_id: {1} for image_id in range(100)}, train_share=0.8, val_share=0.2, test_share=0.0)
    assert sides["test"] == []
    assert len(sides["train"]) + len(sides["val"]) == 100


def test_another_data_seed_is_another_split() -> None:
    classes = {image_id: {1} for image_id in range(100)}
    assert split(classes)["test"] != split(classes, data_seed=1)["test"]


@pytest.mark.parametrize(
    ("images", "expected"), [(10, (7, 1, 2)), (11, (8, 1, 2)), (13, (9, 1, 3)), (30, (21, 3, 6)), (3, (2, 0, 1))]
)
def test_exact_counts_are_the_largest_remainders(images: int, expected: tuple[int, int, int]) -> None:
    # 11: 7.7, 1.1, 2.2 -> 7, 1, 2 and the one left goes to .7; 13: 9.1, 1.3, 2.6 -> to .6; 3: 2.1, .3, .6 -> to .6
    counts = exact_counts(images, {"train": 0.7, "val": 0.1, "test": 0.2})
    assert tuple(counts[side] for side in SIDES) == expected


def test_exact_keeps_its_counts_and_gives_each_side_every_class() -> None:
    # class 2 is in three images only, class 3 in four: a draw by shares would leave validation without them
    classes = {image_id: {1} for image_id in range(100)}
    classes |= {image_id: {1, 2} for image_id in (3, 40, 77)} | {image_id: {1, 3} for image_id in (8, 9, 10, 11)}
    sides = split(classes, split_rule="exact")
    assert [len(sides[side]) for side in SIDES] == [70, 10, 20]
    for side in SIDES:
        assert set().union(*(classes[image_id] for image_id in sides[side])) == {1, 2, 3}


def test_exact_gives_each_side_its_share_of_each_class() -> None:
    classes = {image_id: {1 + image_id % 2} for image_id in range(200)}
    sides = split(classes, split_rule="exact")
    for side, expected in zip(SIDES, (70, 10, 20), strict=True):
        assert Counter(min(classes[image_id]) for image_id in sides[side]) == {1: expected, 2: expected}


def test_exact_keeps_near_duplicates_together_and_its_counts() -> None:
    phashes = dict.fromkeys((4, 17, 60), "00000000000000ff") | {
        5: "ffffffff00000000",
        50: "fffffff700000000",
    }
    sides = split({image_id: {1} for image_id in range(100)}, split_rule="exact", phashes=phashes)
    assert [len(sides[side]) for side in SIDES] == [70, 10, 20]
    side_of = {image_id: side for side in SIDES for image_id in sides[side]}
    assert side_of[4] == side_of[17] == side_of[60]
    assert side_of[5] == side_of[50]


def test_official_tests_on_images_of_cocos_val_and_on_nothing_else() -> None:
    train_images, train_rows = tables({image_id: {1} for image_id in range(80)}, origin="train2017")
    val_images, val_rows = tables({image_id: {1} for image_id in range(80, 100)}, origin="val2017")
    params = msgspec.structs.replace(PARAMS, split_rule="official")
    sides = split_images(train_images + val_images, train_rows + val_rows, params)
    assert sides["test"] == list(range(80, 100))
    assert 60 <= len(sides["train"]) < 80  # 7/8 of 80 is 70


def test_official_without_a_val_image_is_an_error() -> None:
    with pytest.raises(CocosegError, match="no image comes from COCO's val; use dataset: coco2017"):
        split({1: {1}}, split_rule="official")


def test_an_empty_side_whose_share_is_not_0_is_an_error() -> None:
    with pytest.raises(CocosegError, match=r"the val side is empty: val_share is 0\.1 of 2 images; raise it, or keep"):
        split({1: {1}, 2: {1}}, split_rule="exact")


def test_a_side_that_near_duplicates_or_the_hash_leave_empty_is_an_error_that_says_so() -> None:
    alike = dict.fromkeys((1, 2, 3), "00000000000000ff")
    with pytest.raises(CocosegError, match="of 4 images in 2 groups of near-duplicates, which split_rule: exact"):
        split({image_id: {1} for image_id in range(4)}, split_rule="exact", phashes=alike)
    training = split({image_id: {1} for image_id in range(100)})["train"][:20]
    with pytest.raises(
        CocosegError, match="of 20 images, and the hash of none of them falls there; .*or set split_rule: exact"
    ):
        split({image_id: {1} for image_id in training})


def test_shares_must_sum_to_1() -> None:
    with pytest.raises(ValueError, match="is 0.9; expected 1"):
        changed(test_share=0.1)


@pytest.mark.parametrize("rule", ["stable", "exact"])
def test_every_image_can_test_a_model_that_needs_no_training(rule: str) -> None:
    sides = split({number: {1} for number in range(9)}, split_rule=rule, train_share=0, val_share=0, test_share=1)
    assert sides == {"train": [], "val": [], "test": list(range(9))}


def test_official_with_nothing_for_cocos_train_images_is_an_error() -> None:
    with pytest.raises(
        ValueError, match="test_share is 1 and split_rule is official, .*; expected a test_share below 1"
    ):
        changed(split_rule="official", train_share=0, val_share=0, test_share=1)


def test_near_duplicates_on_different_sides_are_reported() -> None:
    images, rows = tables({1: {0, 1}, 2: {1}, 3: {1}}, {1: "0" * 16, 2: "0" * 16, 3: "f" * 16})
    metrics = split_metrics({"train": [1, 3], "val": [2], "test": []}, images, rows, PARAMS)
    assert metrics["near_duplicates"] == {"pairs": 1, "across_sides": 1, "examples": [["00001.jpg", "00002.jpg"]]}
    assert metrics["sides"]["train"]["images"] == 2
    assert metrics["sides"]["train"]["classes"]["class 1"] == {"images": 2, "instances": 2, "pixels": 20}
    assert metrics["sides"]["val"]["classes"]["class 0"] == {"images": 0, "instances": 0, "pixels": 0}


def test_exact_does_not_count_an_object_that_others_cover_as_its_class() -> None:
    images, rows = tables({image_id: {1} for image_id in range(100)})
    for image_id, pixels in ((3, 5), (40, 5), (77, 5), (8, 0), (9, 0), (10, 0)):
        rows.append(
            MaskRow(
                image_id=image_id,
                file_name=f"{image_id:05}.jpg",
                class_index=2,
                class_name="class 2",
                instances=1,
                pixels=pixels,
            )
        )
    sides = split_images(images, rows, msgspec.structs.replace(PARAMS, split_rule="exact"))
    for side in SIDES:
        assert set(sides[side]) & {3, 40, 77}


def test_exact_leaves_no_side_empty_when_groups_are_large() -> None:
    phashes = {0: "0" * 16, 1: "0" * 16, 2: "0" * 16, 3: f"{255:016x}", 4: "f" * 16, 5: "f" * 16, 6: "f" * 16}
    phashes |= {7: f"{255 << 16:016x}", 8: "00ff00ff00ff00ff", 9: "00ff00ff00ff00ff", 10: "00ff00ff00ff00ff"}
    sides = split({image_id: {1} for image_id in range(11)}, split_rule="exact", phashes=phashes)
    assert [len(sides[side]) for side in SIDES] == [9, 1, 1]


def test_official_with_nothing_but_val_images_says_so() -> None:
    with pytest.raises(CocosegError, match="all images come from COCO's val, the test side; use dataset: coco2017"):
        split({image_id: {1} for image_id in range(9)}, split_rule="official", origin="val2017")


def folds(classes: dict[int, set[int]], **changes: Any) -> list[dict[Side, list[int]]]:
    return [split(classes, split_rule="fold", fold=fold, **changes) for fold in range(5)]


def test_each_image_is_tested_in_one_fold_and_in_the_same_when_others_come() -> None:
    few, many = (folds({image_id: {1} for image_id in range(0, 200, step)}) for step in (2, 1))
    assert sorted(image_id for sides in many for image_id in sides["test"]) == list(range(200))
    for before, after in zip(few, many, strict=True):
        assert all(set(before[side]) <= set(after[side]) for side in SIDES)
        assert sum(map(len, after.values())) == 200
    # An eighth of the rest validates, and another one in each fold, so that nearly every image trains once.
    assert 70 < sum(len(sides["val"]) for sides in many) < 130  # of 800; three standard deviations are 28
    assert len(set().union(*(sides["train"] for sides in many))) >= 198


@pytest.mark.parametrize("rule", ["stable", "exact", "fold"])
def test_a_group_stays_on_one_side_and_so_do_near_duplicates_of_it_under_exact(rule: str) -> None:
    groups = {image_id: f"patient {image_id // 4}" for image_id in range(120)}  # 120 to 199 are in none
    phashes = dict.fromkeys((5, 9, 150), "0" * 16)  # of three units, which have nine images
    sides = split({image_id: {1} for image_id in range(200)}, split_rule=rule, groups=groups, phashes=phashes)
    side_of = {image_id: side for side in SIDES for image_id in sides[side]}
    assert len(side_of) == 200
    assert all(len({side_of[4 * patient + image] for image in range(4)}) == 1 for patient in range(30))
    if rule == "exact":
        assert [len(sides[side]) for side in SIDES] == [140, 20, 40]
        assert side_of[4] == side_of[11] == side_of[150]
    else:
        more = split({image_id: {1} for image_id in range(250)}, split_rule=rule, groups=groups | {240: "patient 7"})
        assert all(set(sides[side]) <= set(more[side]) for side in SIDES)
        assert 240 in more[side_of[28]]


def test_each_group_is_tested_in_one_fold() -> None:
    groups = {image_id: f"video {image_id % 40}" for image_id in range(200)}
    sides = folds({image_id: {1} for image_id in groups}, groups=groups)
    tested = [{groups[image_id] for image_id in fold["test"]} for fold in sides]
    assert sum(map(len, tested)) == len(set().union(*tested)) == 40


def test_official_refuses_a_group_of_both_sides_and_keeps_the_others_together() -> None:
    images, rows = tables({image_id: {1} for image_id in range(40)})
    images = [msgspec.structs.replace(row, origin="val2017" if row.image_id < 8 else "train2017") for row in images]
    params = changed(split_rule="official")
    groups = {image_id: f"site {image_id // 4}" for image_id in range(40)}
    sides = split_images(images, rows, params, Groups(of_image=groups))
    assert sides["test"] == list(range(8))
    assert not {groups[one] for one in sides["train"]} & {groups[one] for one in sides["val"]}
    with pytest.raises(CocosegError, match="the group a is on both sides: 00009.jpg is of COCO's train, 00003.jpg of"):
        split_images(images, rows, params, Groups(of_image={3: "a", 9: "a"}))


def test_the_line_and_the_metrics_tell_of_folds_and_groups() -> None:
    images, rows = tables({image_id: {1} for image_id in range(40)})
    params = changed(split_rule="fold", folds=2, train_share=0.4, val_share=0.4)
    groups = Groups(of_image=dict.fromkeys(range(30), "ward") | {30: "a"}, alone=9, unknown=1)
    metrics = split_metrics(split_images(images, rows, params, groups), images, rows, params, groups)
    assert sum(metrics["folds"]) == 40
    assert metrics["groups"]["images_of_largest"] == 30
    assert "ward" not in str(metrics)  # git keeps them, and it may be the name of a patient
    assert metrics["groups"]["wanted"] == {"train": 10, "val": 10, "test": 20}
    line = closing_line(metrics)
    assert f"; 2 folds of {min(metrics['folds'])} to {max(metrics['folds'])} images; 2 groups of up to 30 im" in line
    assert line.endswith(
        ", 9 images in none, 1 name without an image; the shares ask for 10, 10, 20 images; the largest group is "
        "larger than training and validation and test should be"
    )
    groups = Groups(of_image={one: f"{one}.jpg" for one in range(40)})
    sides = split_images(images, rows, PARAMS, groups)
    line = closing_line(split_metrics(sides, images, rows, PARAMS, groups))
    assert "; 40 groups of up to 1 image, so that none keeps two images together; the shares ask" in line
    assert not {"groups", "folds"} & split_metrics({"train": [], "val": [], "test": []}, images, [], PARAMS).keys()


def test_a_side_that_groups_or_folds_leave_empty_is_an_error_that_says_so() -> None:
    images = {image_id: {1} for image_id in range(9)}
    one_group = dict.fromkeys(images, "a")
    with pytest.raises(
        CocosegError, match=r"the .* side of fold 0 of 5 is empty: the hash of none of 1 group falls there; take fewer"
    ):
        folds(images, groups=one_group)
    # In any run, whatever its fold: the others are not trained in vain. The seed that it names works.
    with pytest.raises(CocosegError, match="side of fold . of 5 is empty: .* set data_seed: ([0-9]+), with") as found:
        split({one: {1} for one in range(7)}, split_rule="fold", fold=4)
    named = re.search("data_seed: ([0-9]+)", str(found.value))
    assert named is not None
    assert all(
        sides[side] for sides in folds({one: {1} for one in range(7)}, data_seed=int(named[1])) for side in SIDES
    )
    with pytest.raises(CocosegError, match="side is empty: .* of 9 images in 1 group, and the hash of none"):
        split(images, groups=one_group)
    with pytest.raises(CocosegError, match="of 9 images in 1 group, which split_rule: exact keeps together"):
        split(images, split_rule="exact", groups=one_group)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"split_rule": "fold", "fold": 5}, "fold is 5; expected 0 to 4, since folds is 5"),
        ({"fold": 3}, "fold is 3, but split_rule is stable; expected split_rule: fold, or fold: 0"),
        ({"split_rule": "fold", "train_share": 0, "val_share": 0, "test_share": 1}, "the images of the other folds in"),
        ({"groups": "https://name:secret@example.org/g.csv"}, r"groups is https://\S*example.org.*; expected a local"),
        (
            {"group_pattern": "(a"},
            r"group_pattern is '\(a': missing \), unterminated .*; expected a regular expression",
        ),
        ({"group_pattern": "x{99999999999999999999}"}, "group_pattern is .*; expected a regular expression of Python"),
    ],
)
def test_folds_and_groups_that_mean_nothing_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as found:
        changed(**changes)
    assert "secret" not in str(found.value)
