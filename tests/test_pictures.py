import numpy as np

from cocoseg.palette import palette
from cocoseg.pictures import PANEL_HEIGHT_PX, Row, colour_map, gallery, outline, overlay, resized
from cocoseg.png import encode_png

NAMES = ("background", "person", "car")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def row(height: int, width: int, predicted: bool = True) -> Row:
    truth = np.zeros((height, width), np.uint8)
    truth[height // 4 : height // 2, width // 4 : width // 2] = 2
    return Row(image=noise(height, width), truth=truth, prediction=truth if predicted else None, caption="a.jpg")


def test_a_class_has_its_colour_in_the_colour_map() -> None:
    pixels = colour_map(np.array([[0, 2]], np.uint8))
    assert pixels[0, 1].tolist() == palette()[2].tolist()


def test_ignored_pixels_are_hatched() -> None:
    pixels = colour_map(np.full((16, 16), 255, np.uint8))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 2


def test_an_outline_is_one_pixel_inside_the_object() -> None:
    labels = np.zeros((7, 7), np.uint8)
    labels[1:6, 1:6] = 1
    edge = outline(labels)
    assert edge.sum() == 16
    assert not edge[3, 3]
    assert not edge[0, 0]


def test_an_overlay_keeps_the_image_visible_and_tints_objects() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[2:7, 2:7] = 1
    image = np.full((9, 9, 3), 200, np.uint8)
    pixels = overlay(image, labels)
    gray = 200
    assert pixels[0, 0].tolist() == [gray * 5 // 8] * 3
    assert pixels[4, 4].tolist() == [(gray * 3 + int(channel) * 5) // 8 for channel in palette()[1]]


def test_a_picture_is_shrunk_by_means_so_that_no_pixel_is_skipped() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, 0] = 80
    assert resized(image, 2, 2)[..., 0].tolist() == [[20, 0], [0, 0]]


def test_a_gallery_holds_three_legible_panels_a_row() -> None:
    picture = gallery([row(60, 80), row(80, 60)], NAMES)
    assert picture.shape[0] > 2 * PANEL_HEIGHT_PX
    assert picture.shape[1] > 3 * PANEL_HEIGHT_PX
    assert picture.dtype == np.uint8


def test_many_rows_stand_in_two_columns() -> None:
    tall, wide = gallery([row(60, 80)] * 4, NAMES), gallery([row(60, 80)] * 8, NAMES)
    assert wide.shape[1] > 1.9 * tall.shape[1]


def test_a_gallery_without_predictions_and_with_a_single_tiny_image_works() -> None:
    assert gallery([row(1, 1, predicted=False)], NAMES).shape[0] > PANEL_HEIGHT_PX


def test_a_gallery_of_81_classes_names_only_those_in_it() -> None:
    names = ("background", *(f"a rather long class name {index}" for index in range(80)))
    few, many = row(60, 80), row(60, 80)
    many.truth[0, :] = np.arange(1, 81)
    assert gallery([many], names).shape[0] > gallery([few], names).shape[0] + 100


def test_the_same_rows_give_the_same_bytes() -> None:
    rows = [row(60, 80), row(300, 500)]
    assert encode_png(gallery(rows, NAMES)) == encode_png(gallery(rows, NAMES))
