import math

import msgspec
import numpy as np
import pytest
import torch
from evaluate.test_evaluation import INFO
from pycocotools import mask as coco_mask
from small_data import BINARY, MULTICLASS

from cocoseg.commands.predict.coco_results import (
    category_ids,
    class_confidences,
    coco_results,
    confidence_tally,
    described_images,
    image_ids,
)
from cocoseg.model.preprocessing import placement


def test_an_image_that_coco_numbers_keeps_its_number() -> None:
    assert image_ids(["000000000139.jpg", "COCO_val2014_000000000042.jpg"]) == [139, 42]


def test_images_whose_names_give_no_number_of_their_own_are_counted() -> None:
    assert image_ids(["cat.jpg", "7.jpg"]) == [1, 2]
    assert image_ids(["a/7.jpg", "b/7.jpg"]) == [1, 2]
    assert image_ids([]) == []


def test_a_class_has_the_id_that_its_category_had_in_training() -> None:
    assert category_ids(msgspec.structs.replace(INFO, categories=MULTICLASS.categories)) == [0, 1, 3]
    assert category_ids(INFO) == [0, 1, 2]  # of a model that does not know
    info = msgspec.structs.replace(INFO, task="binary", classes=BINARY.classes, categories=BINARY.categories)
    assert category_ids(info) == [0, 1]
    described = described_images([], msgspec.structs.replace(INFO, categories=MULTICLASS.categories))
    assert [(one["id"], one["name"]) for one in described["categories"]] == [(1, "person"), (3, "car")]


def test_the_one_class_of_a_binary_model_has_its_id_and_several_together_have_none() -> None:
    person, car = MULTICLASS.categories
    dog = msgspec.structs.replace(person, class_index=1, category_id=18)
    binary = msgspec.structs.replace(INFO, task="binary", classes=("background", "foreground"))
    assert category_ids(msgspec.structs.replace(binary, categories=(dog,))) == [0, 18]
    both = (dog, msgspec.structs.replace(car, class_index=1))
    assert category_ids(msgspec.structs.replace(binary, categories=both)) == [0, 1]


def test_each_class_of_a_label_map_is_one_entry_whose_pixels_come_back() -> None:
    labels = np.array([[0, 2, 2], [0, 1, 2]], np.uint8)
    found = list(coco_results(labels, [0.9, 0.123456, 0.75], [0, 1, 3]))
    assert [(one["category_id"], one["score"]) for one in found] == [(1, 0.1235), (3, 0.75)]
    for one, class_index in zip(found, (1, 2), strict=True):
        assert np.array_equal(coco_mask.decode(one["segmentation"]), labels == class_index)
        assert isinstance(one["segmentation"]["counts"], str)


def test_a_label_map_of_background_has_no_entry() -> None:
    assert list(coco_results(np.zeros((2, 2), np.uint8), [1.0, 0.0], [0, 1])) == []


def test_a_confidence_is_the_mean_probability_over_the_pixels_that_a_class_wins() -> None:
    # Two pixels: class 0 wins the first with 3/4, class 1 the second with 9/10; class 2 none, at most 1/20.
    probabilities = torch.tensor([[[0.75, 0.05]], [[0.2, 0.9]], [[0.05, 0.05]]])
    place = placement(10, 20, 2, "letterbox")  # content of 1 × 2 at the top of 2 × 2
    logits = torch.full((3, 2, 2), -7.0)
    logits[:, place.top : place.top + 1] = probabilities.log()
    assert class_confidences([confidence_tally(logits, place)]) == pytest.approx([0.75, 0.9, 0.05])


def test_the_one_channel_of_a_binary_model_counts_as_two_classes() -> None:
    place = placement(4, 4, 2, "squash")
    logits = torch.tensor([[[0.0, 0.0], [math.log(3), math.log(3)]]])  # foreground at 1/2, 1/2, 3/4, 3/4
    assert class_confidences([confidence_tally(logits, place)]) == pytest.approx([0.5, 0.75])
    # Above 0.4 all four are foreground; of background no pixel is left, and its highest probability is 1/2.
    assert class_confidences([confidence_tally(logits, place, math.log(0.4 / 0.6))]) == pytest.approx([0.5, 0.625])
