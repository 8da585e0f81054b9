"""Which scored images a model has met before it was trained here."""

import msgspec
from model.test_weights import INFO

from cocoseg.evaluate.pretraining import Seen, seen_in_pretraining
from cocoseg.model.weights import InitialWeights, ModelInfo
from cocoseg.tables import ImageRow

ORIGINS = ["train2017", "train2014", "val2014", "val2014", "val2017", None]
TABLE = [
    ImageRow(image_id=number, file_name=f"{number}.jpg", status="ok", origin=origin)
    for number, origin in enumerate(ORIGINS)
]


def info_of(pretrained: str) -> ModelInfo:
    return msgspec.structs.replace(INFO, params={"pretrained": pretrained})


def test_images_that_coco_weights_have_seen_are_counted_by_their_origin() -> None:
    every = [row.file_name for row in TABLE]
    assert seen_in_pretraining(info_of("coco"), every, TABLE) == Seen(images=2, images_perhaps=2)
    assert seen_in_pretraining(info_of("coco"), ["1.jpg", "2.jpg", "not in the table.jpg"], TABLE) == Seen(
        images=1, images_perhaps=1
    )
    assert seen_in_pretraining(info_of("imagenet"), every, TABLE) is None
    first = InitialWeights(sha256="0", tensors=1, pretrained="coco")  # of a model that started from COCO weights
    started = msgspec.structs.replace(info_of("none"), initial=first)
    assert seen_in_pretraining(started, every, TABLE) == Seen(images=2, images_perhaps=2)
    overridden = msgspec.structs.replace(info_of("coco"), initial=msgspec.structs.replace(first, pretrained="none"))
    assert seen_in_pretraining(overridden, every, TABLE) is None


def test_the_warning_has_the_numbers_and_comes_only_where_there_is_one() -> None:
    assert Seen(images=0, images_perhaps=0).warnings(6) == []
    assert Seen(images=2, images_perhaps=1).warnings(6) == [
        "2 of the 6 scored images were used to train the COCO weights, and 1 more may have been: the scores "
        "are too good"
    ]
