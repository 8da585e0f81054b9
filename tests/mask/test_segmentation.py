"""The pixels of one annotation are those of pycocotools, or it is named as broken before C code sees it."""

import json
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from cocoseg.mask.segmentation import SegmentationDefect, Shape, decompress, shapes_of

SIZES = st.integers(1, 64)
# Ties at .5 and .1 are where a rasteriser's rounding shows.
COORDINATES = st.one_of(
    st.integers(-20, 90).map(float),
    st.integers(-200, 900).map(lambda tenth: tenth / 10),
    st.integers(-40, 180).map(lambda half: half / 2),
)
PARTS = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=9).map(
    lambda points: [number for point in points for number in point]
)


def shape(segmentation: Any, height: int, width: int, *, drop: bool = False) -> Shape:
    return shape_of(json.dumps(segmentation).encode(), height, width, drop=drop)


def shape_of(segmentation: bytes, height: int, width: int, *, drop: bool = False) -> Shape:
    (painted,) = shapes_of([msgspec.Raw(segmentation)], height, width, drop_out_of_bounds=drop)
    if isinstance(painted, SegmentationDefect):
        raise painted
    return painted


def pixels(painted: Shape, height: int, width: int) -> NDArray[np.uint8]:
    flat = np.zeros(height * width, np.uint8)
    for start, stop in painted.borders.reshape(-1, 2).tolist():
        flat[start:stop] = 1
    return flat.reshape(width, height).T


def ann_to_mask(segmentation: Any, height: int, width: int) -> NDArray[np.uint8]:
    """What pycocotools' `COCO.annToMask` does."""
    encoded = coco_mask.frPyObjects(segmentation, height, width)
    rle = coco_mask.merge(encoded) if isinstance(segmentation, list) else encoded
    decoded: NDArray[np.uint8] = coco_mask.decode(rle)
    return decoded


@given(st.lists(PARTS, min_size=1, max_size=3), SIZES, SIZES)
@example([[0.0, 0.0, 4.0, 0.0, 4.0, 3.0, 0.0, 3.0]], 3, 4)
@settings(max_examples=400, deadline=None)
def test_a_polygon_paints_the_pixels_of_pycocotools(parts: list[list[float]], height: int, width: int) -> None:
    expected = ann_to_mask(parts, height, width)
    if not expected.any():
        with pytest.raises(SegmentationDefect, match="outside_image|zero_area|paints_nothing|normalized_coordinates"):
            shape(parts, height, width)
        return
    if all(0 <= number <= 1 for part in parts for number in part):
        return  # one pixel of pycocotools' at most, see the test of normalized coordinates
    painted = shape(parts, height, width)
    np.testing.assert_array_equal(pixels(painted, height, width), expected)
    assert painted.size == expected.sum()


@given(st.integers(1, 40), st.integers(1, 40), st.data())
@settings(max_examples=200, deadline=None)
def test_run_lengths_paint_the_same_as_a_list_and_as_compressed_text(
    height: int, width: int, data: st.DataObject
) -> None:
    flat = data.draw(st.lists(st.booleans(), min_size=height * width, max_size=height * width))
    truth = np.asfortranarray(np.array(flat, np.uint8).reshape(width, height).T)
    encoded = coco_mask.encode(truth)
    text = encoded["counts"].decode()
    counts = decompress([encoded["counts"]])[0].tolist()
    for rle in ({"size": [height, width], "counts": text}, {"size": [height, width], "counts": counts}):
        if not truth.any():
            with pytest.raises(SegmentationDefect, match="paints_nothing"):
                shape(rle, height, width)
        else:
            np.testing.assert_array_equal(pixels(shape(rle, height, width), height, width), truth)


def test_a_square_of_two_by_two_covers_four_pixels_from_the_second_column() -> None:
    painted = shape([[1, 1, 3, 1, 3, 3, 1, 3]], height=4, width=4)
    assert painted.borders.tolist() == [1 * 4 + 1, 1 * 4 + 3, 2 * 4 + 1, 2 * 4 + 3]


def test_a_part_of_two_points_is_ignored_and_the_other_part_stays() -> None:
    painted = shape([[0, 0, 2, 0, 2, 2, 0, 2], [1, 1, 3, 3]], height=4, width=4)
    assert (painted.size, painted.ignored_parts, painted.clipped) == (4, 1, False)


def test_a_polygon_in_another_is_filled_and_noted_and_one_beside_it_or_the_same_again_is_not() -> None:
    outer, inner, beside = [0, 0, 6, 0, 6, 6, 0, 6], [2, 2, 4, 2, 4, 4, 2, 4], [4, 0, 8, 0, 8, 6, 4, 6]
    painted = [shape([outer, other], height=8, width=8) for other in (inner, beside, outer)]
    assert [(one.size, one.nested) for one in painted] == [(36, True), (48, False), (36, False)]
    many = [shape([outer, *[inner] * count], height=8, width=8) for count in (49, 50, 300)]
    assert [(one.size, one.nested) for one in many] == [(36, True), (36, False), (36, False)]  # of so many, none is


def test_a_polygon_that_leaves_the_image_is_cut_at_its_border_or_dropped() -> None:
    outline = [[2, 0, 9, 0, 9, 2, 2, 2]]
    assert shape(outline, height=4, width=4).clipped
    assert shape(outline, height=4, width=4).size == 4
    with pytest.raises(SegmentationDefect, match="out_of_bounds"):
        shape(outline, height=4, width=4, drop=True)


def test_a_polygon_that_ends_on_the_border_does_not_leave_the_image() -> None:
    assert shape([[0, 0, 4, 0, 4, 4, 0, 4]], height=4, width=4, drop=True).size == 16


@pytest.mark.parametrize(
    ("segmentation", "reason"),
    [
        ([[1, 1, 3, 3]], "polygon_under_three_points"),
        ([[]], "polygon_under_three_points"),
        ([[0, 0, 4, 0, 4, 4, 0]], "odd_polygon"),
        ([[0, 0, 4, 0, 4, 4], [1, 1, 2]], "odd_polygon"),
        ([0, 0, 4, 0, 4], "flat_polygon"),
        ([0, 0, 4, 0, 4, 4, 1], "flat_polygon"),
        ([["0", 0, 4, 0, 4, 4]], "polygon_of_non_numbers"),
        ([[None, 0, 4, 0, 4, 4]], "polygon_of_non_numbers"),
        ([[True, 0, 4, 0, 4, 4]], "polygon_of_non_numbers"),
        ([[0, 0, 4e8, 0, 4, 4]], "absurd_coordinates"),
        ([[0, 0, -4e8, 0, 4, 4]], "absurd_coordinates"),
        ([[99_999, 0, -99_999, 1] * 10], "absurd_coordinates"),
        ("polygon", "segmentation_of_wrong_type"),
        (7, "segmentation_of_wrong_type"),
        ([[9, 9, 12, 9, 12, 12]], "outside_image"),
        ([[-9, 0, -5, 0, -5, 4]], "outside_image"),
        ([[1, 1, 3, 1, 1, 1]], "zero_area"),
        ([[1.1, 1.3, 1.7, 1.9, 1.4, 1.6]], "zero_area"),
        ([[0.1, 0.3, 0.7, 0.9, 0.4, 0.6]], "normalized_coordinates"),
        ([[0, 0, 0.9, 0, 1, 1, 0, 0.8]], "normalized_coordinates"),
        ([[10**400, 0, 4, 0, 4, 4]], "absurd_coordinates"),
        ([True, False], "polygon_of_non_numbers"),
        ([[[0, 0], [4, 0], [4, 4]], [[1, 1], [2, 1], [2, 2]]], "rings_of_points"),
        ([[[0, 0, 7], [4, 0, 7], [4, 4, 7]]], "rings_of_points"),
        ([{"exterior": [[0, 0], [4, 0], [4, 4]], "interiors": []}], "segmentation_of_wrong_type"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [4, 0], [4, 4]]]}, "segmentation_of_wrong_type"),
        ([{"size": [4, 4], "counts": [0, 16]}] * 2, "segmentation_of_wrong_type"),
        ([], "empty_segmentation"),
        ({}, "empty_segmentation"),
        ({"size": [4, 5], "counts": [0, 20]}, "rle_of_wrong_size"),
        ({"size": [4, 4], "counts": [0, 15]}, "rle_counts_short"),
        ({"size": [4, 4], "counts": [1.0, 15.0], "order": "C"}, "rle_row_major"),
        ({"size": [4, 4], "counts": [0, 17]}, "rle_bad_counts"),
        ({"size": [4, 4], "counts": [8, 9]}, "rle_counts_long"),
        ({"size": [4, 4], "counts": [20, -4]}, "rle_bad_counts"),
        ({"size": [4, 4], "counts": [0.5, 15.5]}, "rle_bad_counts"),
        ({"size": [4, 4], "counts": [10**19]}, "rle_bad_counts"),
        ({"size": [4, 4], "counts": [16]}, "paints_nothing"),
        ({"size": [4, 4], "counts": ""}, "rle_undecodable"),
        ({"size": [4, 4], "counts": "é"}, "rle_undecodable"),
        ({"size": [4, 4], "counts": "!"}, "rle_undecodable"),
        ({"size": [4, 4], "counts": "oooooooooo0"}, "rle_undecodable"),
        ({"size": [4, 4], "counts": "o"}, "rle_undecodable"),
        ({"size": [4, 4]}, "rle_malformed"),
        ({"size": [10**9, 10**9], "counts": [0, 10**18]}, "rle_of_wrong_size"),
    ],
)
def test_a_broken_segmentation_is_named(segmentation: Any, reason: str) -> None:
    with pytest.raises(SegmentationDefect, match=f"^{reason}$"):
        shape(segmentation, height=4, width=4)


def test_an_object_of_one_pixel_in_the_corner_is_not_normalized() -> None:
    assert shape([[0, 0, 1, 0, 1, 1, 0, 1]], height=4, width=4).size == 1


SQUARE = [1, 1, 3, 1, 3, 3, 1, 3]


@pytest.mark.parametrize(
    "segmentation",
    [
        SQUARE,
        [[1, 1], [3, 1], [3, 3], [1, 3]],
        [[[1, 1], [3, 1], [3, 3], [1, 3]]],
        [[[[1, 1], [3, 1], [3, 3], [1, 3]]]],
        [[SQUARE]],
        [[[1, 1]], [[3, 1]], [[3, 3]], [[1, 3]]],  # a contour of OpenCV
        [[{"x": 1, "y": 1}, {"x": 3, "y": 1}, {"x": 3, "y": 3}, {"x": 1, "y": 3}]],
        [{"size": [4, 4], "counts": [5, 2, 2, 2, 5]}],
        {"size": [4.0, 4.0], "counts": [5, 2, 2, 2, 5]},
        {"size": [4, 4], "counts": [5.0, 2.0, 2.0, 2.0, 5.0]},
        {"size": [4, 4], "counts": "b'52203'"},
    ],
)
def test_a_form_that_means_one_thing_only_is_converted(segmentation: Any) -> None:
    painted = shape(segmentation, height=4, width=4)
    assert painted.converted
    np.testing.assert_array_equal(pixels(painted, 4, 4), ann_to_mask([SQUARE], 4, 4))


@given(st.integers(0, 2**32 - 1), st.integers(20, 200), st.integers(20, 200))
@settings(max_examples=100, deadline=None)
def test_the_text_that_python_writes_of_counts_in_bytes_is_read(seed: int, height: int, width: int) -> None:
    runs = np.random.default_rng(seed).integers(1, 60, height * width)
    bits = np.repeat(np.arange(len(runs)) % 2, runs)[: height * width].astype(np.uint8)
    mask = np.asfortranarray(bits.reshape(width, height).T)
    counts = str(coco_mask.encode(mask)["counts"])  # a backslash, which many have, is written twice
    painted = shape({"size": [height, width], "counts": counts}, height, width)
    assert painted.converted
    np.testing.assert_array_equal(pixels(painted, height, width), mask)


def test_coco_s_own_form_is_not_counted_as_converted() -> None:
    assert not shape([SQUARE], height=4, width=4).converted


@pytest.mark.parametrize(
    "segmentation",
    [
        [[1, 1], [3, 1]],
        [[1, 1, 9], [3, 1, 9], [3, 3, 9]],
        [[[1, 1], [3, 1]]],
        [{"size": [4, 4], "counts": [5, 2, 2, 2, 5]}] * 2,
        ["1", "1", "3", "1", "3", "3"],
        json.dumps([SQUARE]),
    ],
)
def test_a_form_that_could_mean_more_than_one_thing_is_not_converted(segmentation: Any) -> None:
    with pytest.raises(SegmentationDefect):
        shape(segmentation, height=4, width=4)


def test_a_number_too_large_for_a_float_is_not_finite() -> None:
    with pytest.raises(SegmentationDefect, match="non_finite_coordinates"):
        shape_of(b"[[0, 0, 1e999, 0, 4, 4]]", 4, 4)
