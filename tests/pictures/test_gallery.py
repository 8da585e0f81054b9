import cv2
import msgspec
import numpy as np
import pytest
from pictures.test_overlay import least_distance

from cocoseg.images.png import encode_png
from cocoseg.pictures import overlay as overlay_module
from cocoseg.pictures.gallery import GalleryRow, _thrifty, chosen_images, gallery, legend, resized
from cocoseg.pictures.gallery import row as gallery_row
from cocoseg.pictures.layout import PAGE_PX, Pixels, text_width
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
    for finest in (400, 4):  # an outline of one pixel, and one of more rows than the hatch has
        monkeypatch.setattr(overlay_module, "_OUTLINE", finest)
        monkeypatch.setattr(overlay_module, "_STRIP_PIXELS", 10**6)
        whole = overlay(noise(61, 40), labels)
        monkeypatch.setattr(overlay_module, "_STRIP_PIXELS", 40 * 17)
        np.testing.assert_array_equal(overlay(noise(61, 40), labels), whole)


def test_a_row_keeps_no_more_of_a_gigantic_image_than_a_gallery_shows() -> None:
    large = gallery_row(noise(4000, 4000), np.zeros((4000, 4000), np.uint8))
    usual = gallery_row(noise(1200, 1600), np.zeros((1200, 1600), np.uint8))

    assert large.image.shape == (2000, 2000, 3)
    assert large.truth.shape == (2000, 2000)
    assert usual.image.shape == (1200, 1600, 3)


def test_an_overlay_keeps_the_colors_of_the_image_and_tints_and_outlines_objects() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[2:7, 2:7] = 1  # d55e00
    pixels = overlay(np.full((9, 9, 3), (200, 120, 40), np.uint8), labels)
    assert pixels[0, 0].tolist() == [200, 120, 40]
    # Five eighths of the image and three of the color: 204.875, 110.25, 25.
    assert pixels[4, 4].tolist() == [205, 110, 25]
    assert pixels[2, 2].tolist() == [0xD5, 0x5E, 0x00]


def test_an_outline_grows_with_the_image() -> None:
    labels = np.zeros((1200, 1200), np.uint8)
    labels[300:900, 300:900] = 1
    pixels = overlay(np.zeros((1200, 1200, 3), np.uint8), labels)
    outlined = np.flatnonzero((pixels[600] == palette()[1]).all(axis=1))
    assert outlined.tolist() == [300, 301, 302, 303, 896, 897, 898, 899]


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


def test_a_gallery_is_as_wide_as_a_page_whatever_it_shows() -> None:
    for predicted in (False, True):
        for shape in ((60, 80), (80, 60), (10, 500), (500, 10), (1, 1)):
            for large in (False, True):
                picture = gallery([row(*shape, predicted=predicted)] * 9, NAMES, "a title", large=large)
                assert PAGE_PX - 6 < picture.shape[1] <= PAGE_PX == 840
                assert picture.dtype == np.uint8
    assert gallery([], NAMES, "a title").shape[1] == PAGE_PX


def test_a_row_with_a_prediction_has_one_panel_more() -> None:
    black = np.zeros((80, 80, 3), np.uint8), np.zeros((80, 80), np.uint8)
    for shown, widths in ((None, 3 * 272), (black[1], 4 * 202)):
        picture = gallery([GalleryRow(image=black[0], truth=black[1], prediction=shown)], NAMES)
        assert int((picture[130] < 60).all(axis=1).sum()) == widths


def test_an_error_is_in_the_picture_in_its_color() -> None:
    shown = row(60, 80)
    nothing = GalleryRow(image=shown.image, truth=shown.truth, prediction=np.zeros_like(shown.truth))
    legend_alone = 14 * 20
    assert count(gallery([nothing], NAMES), ERRORS["missed"]) > legend_alone + 1000
    assert count(gallery([shown], NAMES), ERRORS["missed"]) < legend_alone + 10  # of the noise


def test_the_panels_of_a_panorama_are_lines_of_the_page_and_those_of_a_tower_columns_of_it() -> None:
    for predicted, panels in ((False, 3), (True, 4)):
        usual, wide, tall = (gallery([row(*shape, predicted)], NAMES) for shape in ((90, 90), (30, 400), (400, 30)))
        width = (PAGE_PX - 6) // panels - 6
        line = (panels * (width + 6) - 6) * 30 // 400  # instead of `width * 30 // 400`
        assert abs(len(wide) - (len(usual) - width + panels * (line + 24 + 4))) <= 6
        assert abs(len(tall) - (len(usual) + 2 * width)) <= 2


def test_colors_keep_sixteen_levels_or_the_one_above_that_is_near() -> None:
    # Down a column: 90 and 80 are 85 of 17 levels; 97 is within 12 of that, 98 is not; nor is 255.
    image = np.repeat(np.array([90, 80, 97, 98, 255, 0], np.uint8)[:, None, None], 3, axis=2)
    shown = _thrifty(np.repeat(image, 2, axis=1))
    assert shown[:, 0, 0].tolist() == [85, 85, 85, 102, 255, 0]


def test_a_noisy_gray_picture_stays_gray() -> None:
    photograph = 180 - 6 + noise(40, 40) // 20  # its channels are at most 12 apart, on both sides of 178.5
    shown = _thrifty(photograph)
    assert np.ptp(shown, axis=2).max() == 0
    assert len(np.unique(shown)) == 2


def test_headings_and_pictures_have_the_same_centre() -> None:
    dark = GalleryRow(image=np.zeros((300, 100, 3), np.uint8), truth=np.zeros((300, 100), np.uint8))
    picture = gallery([dark], NAMES)[:, : 6 + 272]
    inked = np.flatnonzero(picture[6 : 6 + 24].min(axis=(0, 2)) < 100)
    painted = np.flatnonzero((picture[150] < 100).all(axis=1))
    assert abs((inked[0] + inked[-1]) - (painted[0] + painted[-1])) <= 6


def test_a_caption_that_does_not_fit_is_cut_and_makes_nothing_wider() -> None:
    long = msgspec.structs.replace(row(60, 80), caption="IoU 0.73   " + "person 0.66  " * 99)
    assert text_width(long.caption) > 5000
    assert gallery([long], NAMES).shape == gallery([row(60, 80)], NAMES).shape


def test_a_long_class_name_is_cut_too() -> None:
    assert gallery([row(60, 80)], (*NAMES, "x" * 999)).shape[1] == gallery([row(60, 80)], NAMES).shape[1]


def test_a_gallery_of_nothing_says_so() -> None:
    assert gallery([], NAMES, title="the images with the highest IoU").min() < 100


def test_a_gallery_without_predictions_and_with_a_single_tiny_image_works() -> None:
    assert gallery([row(1, 1, predicted=False)], NAMES).shape[0] > 272


def test_the_legend_of_predictions_leaves_out_the_background_which_they_do_not_color() -> None:
    for predicted, swatches in ((True, 0), (False, 1)):
        assert count(gallery([row(60, 80, predicted)], NAMES)[-60:], (30, 32, 36)) == swatches * 14 * 20
    assert count(legend(NAMES), (30, 32, 36)) == 0
    assert count(legend(NAMES), (0xD5, 0x5E, 0x00)) == 14 * 20


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
