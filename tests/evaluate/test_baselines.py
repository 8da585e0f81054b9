import numpy as np
import pytest

from cocoseg.evaluate.baselines import FIT_IMAGES, DecodedPair, baseline_scores, cells, predictions


def flat(color: tuple[int, int, int], label: int, size: int = 8) -> DecodedPair:
    return np.full((size, size, 3), color, np.uint8), np.full((size, size), label, np.uint8)


def test_always_the_commonest_class_scores_its_share_over_the_number_of_classes() -> None:
    image, mask = flat((90, 90, 90), 0)
    mask[:2] = 1  # 16 of 64 pixels: IoU of class 0 is 48/64, of class 1 0
    scores = baseline_scores([(image, mask)], [(image, mask)], 2)
    assert scores["commonest_class"]["miou"] == pytest.approx((48 / 64 + 0) / 2)


def test_classes_that_differ_in_color_are_told_apart_by_it() -> None:
    sides = [flat((200, 30, 30), 0), flat((30, 200, 30), 1), flat((30, 30, 200), 2)]
    scores = baseline_scores(sides, sides, 3)
    assert scores["commonest_class"] == {
        "miou": pytest.approx(1 / 9), "mean_dice": pytest.approx(1 / 6, abs=1e-6), "foreground_miou": 0.0,
        "foreground_dice": 0.0,
        "frequency_weighted_iou": pytest.approx(1 / 9), "pixel_accuracy": pytest.approx(1 / 3),
    }  # fmt: skip
    assert set(scores["color_and_position"].values()) == {1.0}


def test_classes_that_differ_in_position_are_told_apart_by_it() -> None:
    image, mask = flat((90, 90, 90), 0, size=16)
    mask[:, 8:] = 1
    assert baseline_scores([(image, mask)], [(image, mask)], 2)["color_and_position"]["miou"] == 1.0


def test_a_class_without_test_pixels_is_left_out_of_the_mean() -> None:
    train = [flat((200, 30, 30), 0), flat((30, 200, 30), 1)]
    assert baseline_scores(train, train[:1], 2)["color_and_position"]["miou"] == 1.0


def test_ignored_pixels_count_neither_in_training_nor_in_the_score() -> None:
    image, mask = flat((90, 90, 90), 1)
    mask[:6] = 255
    scores = baseline_scores([(image, mask)], [(image, mask)], 2)
    assert scores["commonest_class"]["miou"] == 1.0


def test_each_side_may_be_read_only_once() -> None:
    pair = flat((90, 90, 90), 0)
    scores = baseline_scores(iter([pair]), iter([pair]), 2)
    assert scores["color_and_position"]["miou"] == 1.0


def test_train_images_after_the_first_thousand_are_not_read() -> None:
    train = iter([flat((90, 90, 90), 0)] * FIT_IMAGES + [flat((90, 90, 90), 1, size=64)])
    assert baseline_scores(train, [flat((90, 90, 90), 0)], 2)["commonest_class"]["miou"] == 1.0
    assert len(list(train)) == 1


def test_a_test_side_without_target_pixels_has_no_score() -> None:
    pair = flat((90, 90, 90), 0)
    ignored = flat((90, 90, 90), 255)
    assert baseline_scores([pair], [ignored], 2)["commonest_class"]["miou"] is None


def test_a_cell_is_its_place_then_its_color() -> None:
    image = np.zeros((4, 8, 3), np.uint8)
    image[2, 6] = (255, 128, 16)
    # Four bits: red 15, green 8, blue 1 is 0xF81; the place is row 2, column 3 of 4 × 4, the eleventh.
    assert cells(image)[2, 6] == 0xB_F81
    assert cells(image)[3].tolist() == [0xC_000, 0xC_000, 0xD_000, 0xD_000, 0xE_000, 0xE_000, 0xF_000, 0xF_000]
    assert cells(image, step=2).tolist() == [[0x0_000, 0x1_000, 0x2_000, 0x3_000], [0x8_000, 0x9_000, 0xA_000, 0xB_F81]]


def test_a_rare_class_wins_a_cell_that_it_nearly_holds() -> None:
    # Class 0 has 900 pixels, class 1 has 100: a pixel of class 1 counts as much as 9 ** (1 / 4) = 1.73 of class 0.
    assert predictions(np.array([[60, 40], [65, 35], [775, 25]])).tolist() == [1, 0, 0]


def test_a_cell_without_train_pixels_follows_the_commonest_class() -> None:
    assert predictions(np.array([[0, 0, 0], [1, 5, 2]])).tolist() == [1, 1]


def test_a_class_without_train_pixels_is_never_predicted() -> None:
    assert predictions(np.array([[0, 0], [0, 5]])).tolist() == [1, 1]


def test_cells_by_rows_are_those_of_the_whole_image() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 20, 3), dtype=np.uint8)
    parts = [cells(image, rows=slice(top, top + 7)) for top in range(0, 30, 7)]

    np.testing.assert_array_equal(np.concatenate(parts), cells(image))
