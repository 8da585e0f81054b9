import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from model.test_weights import INFO

from cocoseg.evaluate.model_card import Cost, DatasetNotes, LicensedImage, Results, measured_cost, model_card
from cocoseg.model.architectures import build_model
from cocoseg.model.weights import BestThreshold, InitialWeights, save_checkpoint

COST = Cost(parameters=1_250_000, multiply_adds=330_108_048)
METRICS: dict[str, Any] = {
    "split": "test",
    "images": 7,
    "primary_score": "miou",
    "miou": 0.61234,
    "mean_dice": 0.7,
    "iou": {"background": 0.9, "person": 0.32468, "car": None},
    "dice": {"background": 0.95, "person": 0.49, "car": None},
    "intervals": {"miou": {"low": 0.55, "high": 0.66}, "iou": {"background": {"low": 0.85, "high": 0.93}}},
    "baselines": {"commonest_class": {"miou": 0.3}},
}


def side(images: int, persons: int) -> dict[str, Any]:
    return {"images": images, "classes": {"person": {"images": persons}}}


FILTERED: dict[str, Any] = {
    "images": {"input": 1_032, "dropped": {"license": 5}, "converted": {"file_name": 4}, "first": {}},
    "annotations": {
        "input": 2_114,
        "dropped": {"class_not_chosen": 9, "null_segmentation": 7, "bad_iscrowd": 2},
        "converted": {},
        "first": {"bad_iscrowd": "annotation 1 of a", "null_segmentation": "annotation 2 of b"},
    },
    "classes": {"person": {"images": 3, "instances": 4}},
}
MASKS: dict[str, Any] = {
    "images": {
        "dropped": {"damaged": 3, "no_painted_class": 1}, "converted": {"gray": 2}, "first": {"damaged": "c"}
    },
    "annotations": {
        "dropped": {"odd_polygon": 5, "zero_area": 3, "out_of_bounds": 6, "image_damaged": 8},
        "first": {"odd_polygon": "annotation 3 of d", "zero_area": "annotation 4 of d"},
        "converted": {"segmentation": 1},
        "box_disagrees": 70,
    },
    "lost_ignored": 16,
    "hidden": {"person": 1},
    "mostly_hidden": {"person": 1, "car": 2},
}  # fmt: skip
RESULTS = Results(
    metrics=METRICS,
    filtered=FILTERED,
    masks=MASKS,
    split={
        "sides": {"train": side(20, 11), "val": side(3, 2), "test": side(7, 5)},
        "near_duplicates": {"across_sides": 0},
    },
    source=DatasetNotes(
        info={"description": "COCO 2017 Dataset", "year": 2017},
        licenses=[{"id": 4, "name": "Attribution", "url": "http://example.org/by"}],
        images=[
            LicensedImage(file_name=name, license=id_) for name, id_ in (("a", 4), ("b", 4), ("c", None), ("d", 9))
        ],
    ),
    learned_from=frozenset("abc"),
)


def rows(text: str) -> list[list[str]]:
    """The cells of every table."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]


def test_every_score_stands_with_its_interval_and_one_that_was_not_measured_with_a_dash() -> None:
    found = rows(model_card(INFO, COST, RESULTS))
    assert ["mIoU", "0.612", "0.550 to 0.660"] in found
    assert ["mean Dice", "0.700", "–"] in found
    assert ["background", "0.900", "0.850 to 0.930", "0.950"] in found
    assert ["car", "–", "–", "–"] in found


def test_images_are_counted_by_side_and_class_and_the_licenses_are_of_what_was_learned_from() -> None:
    found = rows(model_card(INFO, COST, RESULTS))
    assert ["all", "20", "3", "7"] in found
    assert ["person", "11", "2", "5"] in found
    assert ["car", "0", "0", "0"] in found
    assert ["Attribution, http://example.org/by", "2"] in found
    assert ["not stated", "1"] in found
    assert ["id 9", "1"] not in found


def test_the_defects_of_the_data_are_counted_over_both_stages_and_chosen_drops_are_none() -> None:
    assert (
        "Dropped as broken: 17 of 2,114 annotations (7 null_segmentation, 5 odd_polygon, 3 zero_area, 2 others) and 3 "
        "of 1,032 images (3 damaged). Converted: 4 file_name, 2 gray, 1 segmentation. The boxes of 16 objects with "
        "broken annotations are ignored. 70 annotations paint another box than their `bbox` says (`box_disagrees`). "
        "3 objects are mostly hidden by others, 1 of them wholly.\n"
    ) in model_card(INFO, COST, RESULTS)


def test_sound_data_has_one_short_sentence() -> None:
    sound: dict[str, Any] = {
        noun: {"input": 9, "dropped": {"crowd": 1}, "first": {}} for noun in ("images", "annotations")
    }
    masks = sound | {"annotations": sound["annotations"] | {"box_disagrees": 0}, "lost_ignored": 0}
    masks |= {"hidden": {}, "mostly_hidden": {}}
    results = msgspec.structs.replace(RESULTS, filtered=sound, masks=masks)
    assert "\n\nDropped as broken: 0 of 9 annotations and 0 of 9 images.\n\n" in model_card(INFO, COST, results)


def test_the_card_of_a_binary_model_names_its_threshold_and_what_it_finds_where_nothing_is() -> None:
    metrics = METRICS | {"primary_score": "foreground_dice", "foreground_dice": 0.49, "threshold": 0.25, "split": "val"}
    metrics["baselines"] = {"commonest_class": {"miou": 0.3, "foreground_dice": 0.0}}
    metrics["images_without_object"] = {"images": 4, "any_foreground": 0.75, "above_1_percent": 0.5}
    best = BestThreshold(threshold=0.25, val_score=0.625)
    info = msgspec.structs.replace(INFO, primary_score="foreground_dice", val_score=0.5, best_threshold=best)
    text = model_card(info, COST, msgspec.structs.replace(RESULTS, metrics=metrics))
    for said in (
        "the best in validation (foreground Dice 0.500). Validation's best threshold is 0.25 (0.625).",
        "the foreground scores leave it out. Foreground is a probability above 0.25.",
        "75 % of the 4 images without an object get foreground, 50 % on more than 1 % of their pixels.",
        "Baselines to beat, by foreground Dice: commonest class 0.000.",
        "The scores are of the validation side, which chose the epoch and the threshold, so they are too good.",
    ):
        assert said in text
    assert "threshold" not in model_card(INFO, COST, RESULTS)


def test_the_limits_name_the_weakest_class_and_those_that_were_not_tested() -> None:
    text = model_card(INFO, COST, RESULTS)
    assert "- The weakest class is person, with an IoU of 0.325." in text
    assert "- Not tested, because no scored image shows them: car." in text
    assert "- Not learned, because no training image shows them: car." in text
    assert "too good" not in text
    of_val = msgspec.structs.replace(RESULTS, metrics=METRICS | {"split": "val"})
    assert "- The scores are of the validation side, which chose the epoch, so they are too good." in model_card(
        INFO, COST, of_val
    )


def test_the_limits_name_the_weights_that_training_started_from_and_what_these_may_have_seen() -> None:
    first = InitialWeights(sha256="0123456789abcdef", tensors=12, pretrained="coco", data_fingerprint="f")
    text = model_card(msgspec.structs.replace(INFO, initial=first), COST, RESULTS)
    assert "- It starts from another model's weights (`0123456789ab`, 12 tensors), whose training" in text
    assert "- It starts from coco weights, whose" in text
    assert "may have been trained on images that are scored" not in text  # the same split
    other = msgspec.structs.replace(first, pretrained="unknown", data_fingerprint="")
    text = model_card(msgspec.structs.replace(INFO, initial=other), COST, RESULTS)
    assert "- Those weights may have been trained on images that are scored here; then the scores are too good." in text


@pytest.mark.parametrize("rule", ["auto", "follow", "ignore"])
def test_the_card_says_what_training_did_with_orientations(rule: str) -> None:
    card = model_card(msgspec.structs.replace(INFO, params={**INFO.params, "exif": rule}), COST, RESULTS)
    assert f"(`exif: {rule}`)" in card


def test_a_card_counts_the_classes_that_a_model_did_not_learn_and_calls_none_of_them_the_weakest() -> None:
    iou = {"background": 0.9, "person": 0.0004, "car": 0.0, "dog": None}
    text = model_card(INFO, COST, msgspec.structs.replace(RESULTS, metrics=METRICS | {"iou": iou, "dice": iou}))
    assert "- Of the 3 classes that were scored, 2 have an IoU of 0.000: the model did not learn them." in text
    assert "weakest" not in text


def test_source_training_and_cost_are_the_files_own() -> None:
    text = model_card(INFO, COST, RESULTS)
    assert "Source: COCO 2017 Dataset, 2017. 30 of its 1,032 images are used. Fingerprint of the data `" in text
    assert "Classes, by their value in a mask: 0 background, 1 person, 2 car." in text
    assert "weights of epoch 3, counted from 1: the best in validation (mIoU 0.500)" in text
    assert ["`lr`", "0.001"] in rows(text)
    assert "1,250,000 parameters; 5.0 MB" in text
    assert "0.33 billion multiply-adds for an image of 32 × 32 pixels" in text


def test_the_lines_of_a_card_load_the_model_by_the_name_that_older_cards_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (lines,) = re.findall(r"^```python\n(.*?)^```", model_card(INFO, COST, RESULTS), re.MULTILINE | re.DOTALL)
    assert "from cocoseg.weights import load_checkpoint\n" in lines
    save_checkpoint(tmp_path / "data/model", build_model("fastscnn", "none", "none", 3).eval(), INFO)
    monkeypatch.chdir(tmp_path)
    found: dict[str, Any] = {}
    exec(lines, found)
    assert found["info"].classes == INFO.classes


def test_what_one_machine_measured_is_said_of_that_machine() -> None:
    training = {
        "seconds": 144.73, "device": "cpu, 2 threads", "precision": "32-true", "train_images_per_second": 45.0,
        "peak_memory_mb": 1289,
    }  # fmt: skip
    evaluation = {"milliseconds_per_image": 16.13, "device": "cpu, 2 threads", "peak_memory_mb": 921}
    trained = "Trained in 145 s on cpu, 2 threads in 32-true, 45.0 images/s, at most 1289 MB."
    used = "One image alone takes 16.13 ms on cpu, 2 threads; predicting the scored images took at most 921 MB."
    assert measured_cost(training, evaluation) == f"{trained} {used}"
    assert measured_cost(None, evaluation) == used
    assert measured_cost(training, None) == trained


def test_without_results_the_card_says_which_command_measures_them() -> None:
    text = model_card(INFO, COST, None)
    assert "Not scored yet: run `dvc repro evaluate`." in text
    assert "2 training and 1 validation images" in text


@pytest.mark.parametrize("info", [None, "text", [], {}, {"description": None}])
def test_a_file_that_says_nothing_of_its_source_is_quoted_as_that(info: Any) -> None:
    source = msgspec.structs.replace(RESULTS.source, info=info, licenses={"no": "list"})
    text = model_card(INFO, COST, msgspec.structs.replace(RESULTS, source=source))
    assert "Source: not stated in the annotations file." in text
    assert ["id 4", "2"] in rows(text)


def test_a_strangers_words_cannot_become_markdown() -> None:
    source = msgspec.structs.replace(RESULTS.source, info={"description": "<img src=x>\n|[b](c)`"})
    text = model_card(INFO, COST, msgspec.structs.replace(RESULTS, source=source))
    assert "Source: _img src=x____b_(c)_. 30 of its" in text
    hostile = "<b>|[a](http://e)"
    info = msgspec.structs.replace(INFO, classes=("background", hostile, "car"))
    metrics = METRICS | {
        "iou": {"background": 0.9, hostile: 0.5, "car": None},
        "dice": {"background": 0.95, hostile: 0.6, "car": None},
    }
    text = model_card(info, COST, msgspec.structs.replace(RESULTS, metrics=metrics))
    assert hostile not in text
    assert "Classes, by their value in a mask: 0 background, 1 _b___a_(http://e), 2 car." in text
    assert "The weakest class is _b___a_(http://e), with an IoU of 0.500." in text


def test_a_license_without_an_id_is_nobodys_and_one_without_a_name_says_nothing() -> None:
    licenses = [{"name": "CC BY"}, {"id": 4, "name": "", "url": ""}]
    source = msgspec.structs.replace(RESULTS.source, licenses=licenses)
    found = rows(model_card(INFO, COST, msgspec.structs.replace(RESULTS, source=source)))
    assert ["not stated", "2"] in found  # of id 4
    assert ["not stated", "1"] in found  # without one
    assert not any("CC BY" in cell for row in found for cell in row)
