"""Galleries of a scored side."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from small_data import MULTICLASS, write_pairs

from cocoseg.evaluate.evaluation import write_prediction
from cocoseg.evaluate.galleries import Ranked, caption, galleries, image_scores, ranked_images
from cocoseg.images.pairs import Pair, read_pair
from cocoseg.pictures.overlay import ERRORS
from cocoseg.scores.confusion import confusion_matrix
from cocoseg.scores.per_image import class_pixels
from cocoseg.tables import ClassPixels

CLASSES = MULTICLASS.classes
NAMES = ["gallery", "gallery_best", "gallery_median", "gallery_worst", "typical"]


def totals(*rows: tuple[int, int, int]) -> NDArray[np.int64]:
    """Target, predicted and right pixels of background, person and car."""
    return np.array(rows)


# Of person 1 / 2, of car 3 / 4.
TWO_CLASSES = totals((10, 10, 10), (2, 1, 1), (3, 4, 3))
# Of person 2 / 4; car was only predicted.
ONE_INVENTED = totals((10, 9, 9), (4, 2, 2), (0, 3, 0))
NO_OBJECT = totals((10, 10, 10), (0, 0, 0), (0, 0, 0))


def test_an_image_scores_the_mean_over_classes_in_its_truth_or_prediction() -> None:
    scored = image_scores({"a.jpg": TWO_CLASSES, "b.jpg": ONE_INVENTED, "c.jpg": NO_OBJECT})
    assert scored == {"a.jpg": 0.625, "b.jpg": 0.25}


def test_a_caption_has_the_score_its_parts_and_the_name() -> None:
    assert caption("a.jpg", TWO_CLASSES, CLASSES) == "IoU 0.62   a.jpg   person 0.50  car 0.75"
    assert caption("c.jpg", NO_OBJECT, CLASSES) == "no object   c.jpg"


def test_a_caption_says_which_classes_count_as_zero_though_the_image_does_not_show_them() -> None:
    assert caption("b.jpg", ONE_INVENTED, CLASSES) == "IoU 0.25   b.jpg   person 0.50   not there, counts as 0: car"
    only_invented = totals((10, 7, 7), (0, 1, 0), (0, 2, 0))
    assert caption("d.jpg", only_invented, CLASSES) == "IoU 0.00   d.jpg   not there, counts as 0: person, car"


def predicted(folder: Path, pairs: list[Pair], right: int) -> list[ClassPixels]:
    """The rows of predictions that are right in the first `right` images and empty in the others."""
    rows = []
    for number, pair in enumerate(pairs):
        _, truth = read_pair(pair, len(CLASSES))
        prediction = np.where(truth == 255, 0, truth if number < right else 0).astype(np.uint8)
        write_prediction(folder, pair.file_name, prediction)
        rows += class_pixels(pair.file_name, confusion_matrix(truth, prediction, len(CLASSES)), CLASSES)
    return rows


def missed(picture: NDArray[np.uint8]) -> int:
    """Pixels of objects that were taken for background, without those of the legend."""
    found = int((picture == np.array(ERRORS["missed"], np.uint8)).all(axis=2).sum())
    return max(0, found - 14 * 20)


def test_the_best_are_right_and_the_worst_miss_everything(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 4)
    rows = predicted(tmp_path / "predictions", pairs, right=2)
    pictures = dict(galleries(pairs, tmp_path / "predictions", rows, CLASSES, 2))
    assert list(pictures) == NAMES
    assert missed(pictures["gallery_best"]) == 0
    assert missed(pictures["gallery_median"]) > 0
    assert missed(pictures["gallery_worst"]) > missed(pictures["gallery_median"])


def test_one_image_is_in_every_gallery(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 1)
    rows = predicted(tmp_path / "predictions", pairs, right=0)
    pictures = dict(galleries(pairs, tmp_path / "predictions", rows, CLASSES, 8))
    assert len({missed(pictures[name]) for name in NAMES[:4]}) == 1
    assert missed(pictures["typical"]) == 0  # it shows no errors


def test_the_picture_for_the_readme_has_at_most_three_large_rows(tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path, 5)
    rows = predicted(tmp_path / "predictions", pairs, right=5)
    large = {
        count: dict(galleries(pairs, tmp_path / "predictions", rows, CLASSES, count))["typical"] for count in (2, 3, 5)
    }
    assert large[2].shape[0] < large[3].shape[0] == large[5].shape[0]
    assert 3 * 272 < large[3].shape[0] < 5 * 272


def test_images_without_objects_are_in_the_sample_alone(tmp_path: Path) -> None:
    (pair,) = write_pairs(tmp_path, 1)
    pair.mask.write_bytes(b"")
    nothing = np.zeros((32, 32), np.uint8)
    write_prediction(pair.mask.parent, pair.mask.name, nothing)
    rows = predicted(tmp_path / "predictions", [pair], right=0)
    pictures = dict(galleries([pair], tmp_path / "predictions", rows, CLASSES, 8))
    assert pictures["gallery"].shape[0] > 172
    assert all(pictures[name].shape[0] < 50 for name in NAMES[1:])  # a line that says "none"


def test_images_are_ranked_by_hand_and_ties_by_name() -> None:
    scores = {"d": 0.5, "a": 0.5, "c": 0.9, "b": 0.1, "e": 0.5, "f": 0.1}
    # falling: c a d e b f
    assert ranked_images(scores, 2) == Ranked(best=["c", "a"], median=["d", "e"], worst=["b", "f"])
    assert ranked_images(scores, 3) == Ranked(best=["c", "a", "d"], median=["a", "d", "e"], worst=["b", "f", "a"])


def test_the_middle_of_an_odd_number_is_the_median_itself() -> None:
    assert ranked_images({"a": 0.1, "b": 0.7, "c": 0.4}, 1).median == ["c"]


def test_of_few_images_all_are_in_each_kind_and_of_none_none() -> None:
    assert ranked_images({"a": 0.2, "b": 0.7}, 8) == Ranked(best=["b", "a"], median=["b", "a"], worst=["a", "b"])
    assert ranked_images({}, 8) == Ranked(best=[], median=[], worst=[])
