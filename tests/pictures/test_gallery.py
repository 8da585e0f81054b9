import cv2
import msgspec
import numpy as np
import pytest
from pictures.test_overlay import least_distance

from cocoseg.images.png import encode_png
from cocoseg.pictures import overlay as overlay_module
from cocoseg.pictures.gallery import PANEL_HEIGHT_PX, GalleryRow, chosen_images, gallery, resized
from cocoseg.pictures.gallery import row as gallery_row
from cocoseg.pictures.layout import Pixels, text_width
from cocoseg.pictures.overlay import ERRORS, color_map, error_map, outline, overlay, palette

NAMES = ("background", "person", "car")


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def row(height: int, width: int, predicted: bool = True) -> GalleryRow:
    truth = np.zeros((height, width), np.uint8)
    truth[height // 4 : height // 2, width // 4 : width // 2] = 2
    return GalleryRow(image=noise(height, width), truth=truth, prediction=truth if predicted else None, caption="a.jpg")


def count(picture: Pixels, color: tuple[int, int, int]) -> int:
    return int((picture == np.array(color, np.uint8)).all(axis=2).sum())


def test_a_class_has_its_color_in_the_color_map() -> None:
    pixels = color_map(np.array([[0, 2]], np.uint8))
    assert pixels[0, 1].tolist() == palette()[2].tolist()


def test_ignored_pixels_are_hatched() -> None:
    pixels = color_map(np.full((16, 16), 255, np.uint8))
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) == 2


def test_an_outline_is_one_pixel_inside_the_object() -> None:
    labels = np.zeros((7, 7), np.uint8)
    labels[1:6, 1:6] = 1
    edge = outline(labels)
    assert edge.sum() == 16
    assert not edge[3, 3]
    assert not edge[0, 0]


def test_an_overlay_in_strips_is_the_overlay(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(1).choice(np.array([0, 0, 0, 1, 2, 255], np.uint8), (61, 40))
    labels = cv2.dilate(labels, np.ones((3, 3), np.uint8)).astype(np.uint8)
    whole = overlay(noise(61, 40), labels)
    monkeypatch.setattr(overlay_module, "_STRIP_PIXELS", 40 * 17)

    np.testing.assert_array_equal(overlay(noise(61, 40), labels), whole)


def test_a_row_keeps_no_more_of_a_gigantic_image_than_a_gallery_shows() -> None:
    large = gallery_row(noise(4000, 4000), np.zeros((4000, 4000), np.uint8))
    usual = gallery_row(noise(1200, 1600), np.zeros((1200, 1600), np.uint8))

    assert large.image.shape == (2000, 2000, 3)
    assert large.truth.shape == (2000, 2000)
    assert usual.image.shape == (1200, 1600, 3)


def test_an_overlay_keeps_the_image_visible_and_tints_objects() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[2:7, 2:7] = 1
    image = np.full((9, 9, 3), 200, np.uint8)
    pixels = overlay(image, labels)
    gray = 200
    assert pixels[0, 0].tolist() == [gray * 5 // 8] * 3
    assert pixels[4, 4].tolist() == [(gray * 3 + int(channel) * 5) // 8 for channel in palette()[1]]


def test_an_error_map_by_hand() -> None:
    truth = np.array([[0, 1, 1, 1, 0, 2], [255, 255, 255, 255, 255, 255]], np.uint8)
    prediction = np.array([[0, 1, 0, 2, 2, 2], [0, 1, 2, 0, 1, 2]], np.uint8)
    pixels = error_map(np.full((2, 6, 3), 200, np.uint8), truth, prediction)
    dimmed, right = (75, 75, 75), ((200 * 3 + 110 * 5) // 8,) * 3
    assert [tuple(pixel) for pixel in pixels[0].tolist()] == [
        dimmed,
        right,
        ERRORS["missed"],
        ERRORS["confused"],
        ERRORS["invented"],
        right,
    ]
    assert np.array_equal(pixels[1], color_map(truth)[1])


def test_the_kinds_of_error_differ_for_every_kind_of_eye_and_from_class_colors() -> None:
    errors = np.array(list(ERRORS.values()), float)
    dimmed = np.repeat(np.linspace(0, 160, 9)[:, None], 3, axis=1)
    # A difference of 2.3 is just noticeable.
    assert least_distance(errors) > 60
    for error in errors:
        for other in (*dimmed, *palette()[:21].astype(float)):
            assert least_distance(np.array([error, other])) > 5
        for gray in dimmed:
            assert least_distance(np.array([error, gray])) > 25


def test_a_picture_is_shrunk_by_means_so_that_no_pixel_is_skipped() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    image[0, 0] = 80
    assert resized(image, 2, 2)[..., 0].tolist() == [[20, 0], [0, 0]]


def test_a_gallery_holds_legible_panels_and_one_more_with_predictions() -> None:
    plain = gallery([row(60, 80, predicted=False), row(80, 60, predicted=False)], NAMES)
    predicted = gallery([row(60, 80), row(80, 60)], NAMES)
    assert plain.shape[0] > 2 * PANEL_HEIGHT_PX
    assert plain.shape[1] > 3 * PANEL_HEIGHT_PX
    assert predicted.shape[1] > 4 * PANEL_HEIGHT_PX
    assert predicted.dtype == np.uint8


def test_an_error_is_in_the_picture_in_its_color() -> None:
    shown = row(60, 80)
    nothing = GalleryRow(image=shown.image, truth=shown.truth, prediction=np.zeros_like(shown.truth))
    # Pictures keep four of eight bits: 221, 17, 34 becomes 216, 24, 40. The legend keeps all.
    assert count(gallery([nothing], NAMES), (216, 24, 40)) > 1000
    assert count(gallery([shown], NAMES), (216, 24, 40)) == 0
    assert count(gallery([shown], NAMES), ERRORS["missed"]) == 14 * 20


def test_headings_and_pictures_have_the_same_centre() -> None:
    dark = GalleryRow(image=np.zeros((300, 100, 3), np.uint8), truth=np.zeros((300, 100), np.uint8))
    picture = gallery([dark], NAMES)
    panel = PANEL_HEIGHT_PX * 3 // 4
    inked = np.flatnonzero(picture[6 : 6 + 22, 6 : 6 + panel].min(axis=(0, 2)) < 100)
    painted = np.flatnonzero((picture[100, 6 : 6 + panel] < 100).all(axis=1))
    assert abs((inked[0] + inked[-1]) - (painted[0] + painted[-1])) <= 6


def test_a_caption_that_does_not_fit_is_cut_and_makes_nothing_wider() -> None:
    long = msgspec.structs.replace(row(60, 80), caption="IoU 0.73   " + "person 0.66  " * 99)
    assert text_width(long.caption) > 5000
    assert gallery([long], NAMES).shape == gallery([row(60, 80)], NAMES).shape


def test_a_long_class_name_is_cut_too() -> None:
    assert gallery([row(60, 80)], (*NAMES, "x" * 999)).shape[1] == gallery([row(60, 80)], NAMES).shape[1]


def test_panoramas_and_towers_leave_room_for_headings_and_stay_on_the_page() -> None:
    width = gallery([row(60, 80)], NAMES).shape[1]
    assert gallery([row(10, 500)], NAMES).shape[1] == width
    assert width / 2 < gallery([row(500, 10)], NAMES).shape[1] < width


def test_a_gallery_of_nothing_says_so() -> None:
    assert gallery([], NAMES, title="the images with the highest IoU").min() < 100


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


FILE_NAMES = [f"{number}.jpg" for number in range(50)]


def test_the_same_images_are_shown_whatever_the_order_and_more_of_them_include_fewer() -> None:
    few, many = chosen_images(FILE_NAMES, 4), chosen_images(reversed(FILE_NAMES), 9)
    assert (len(few), len(many)) == (4, 9)
    assert set(few) < set(many)
    assert few == sorted(few)
    assert few != FILE_NAMES[:4]


def test_fewer_images_than_asked_for_are_all_shown() -> None:
    assert chosen_images(["b", "a"], 5) == ["a", "b"]
    assert chosen_images(FILE_NAMES, 0) == []
