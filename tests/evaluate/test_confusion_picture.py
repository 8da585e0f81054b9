import numpy as np

from cocoseg.evaluate.confusion_picture import confusion_picture


def test_a_right_row_is_dark_and_a_row_without_target_is_gray() -> None:
    picture = confusion_picture(np.array([[4, 0], [0, 0]]), ["background", "cat"])
    colors = {tuple(color) for color in picture.reshape(-1, 3).tolist()}
    assert (8, 48, 107) in colors
    assert (235, 235, 235) in colors


def test_81_classes_still_fit_on_a_screen() -> None:
    names = ["background", *(f"class {index}" for index in range(80))]
    height, width = confusion_picture(np.eye(81, dtype=np.int64), names).shape[:2]
    assert max(height, width) < 1600
