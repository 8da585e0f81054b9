"""Who owns a pixel that several annotations claim."""

from collections import Counter
from collections.abc import Sequence
from typing import get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cocoseg.mask.painting import Maps, Paint, paint
from cocoseg.mask.params import Overlap

WIDTH = 6


def strip(start: int, stop: int, class_index: int, rank: int = 0, ignored: bool = False) -> Paint:
    """An annotation of one row of pixels, `start` up to but not including `stop`."""
    borders = np.array([start, stop])
    return Paint(borders=borders, size=stop - start, class_index=class_index, rank=rank, ignored=ignored)


def row(paints: Sequence[Paint], overlap: Overlap) -> list[int]:
    labels: list[int] = paint(paints, 1, WIDTH, overlap, instance_map=True).labels[0].tolist()
    return labels


# pixels 0-3 are class 1 (four pixels), then pixels 2-4 class 2 (three pixels): 2 and 3 are contested
LARGE_THEN_SMALL = [strip(0, 4, 1), strip(2, 5, 2)]


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("last", [1, 1, 2, 2, 2, 0]),
        ("first", [1, 1, 1, 1, 2, 0]),
        ("largest", [1, 1, 1, 1, 2, 0]),
        ("smallest", [1, 1, 2, 2, 2, 0]),
        ("priority", [1, 1, 1, 1, 2, 0]),  # with an empty list it is `largest`
        ("ignore", [1, 1, 255, 255, 2, 0]),
    ],
)
def test_an_overlap_of_two_classes_follows_the_rule(overlap: Overlap, expected: list[int]) -> None:
    assert row(LARGE_THEN_SMALL, overlap) == expected


@pytest.mark.parametrize("overlap", ["largest", "smallest", "priority"])
def test_equal_sizes_go_to_the_later_annotation(overlap: Overlap) -> None:
    assert row([strip(0, 3, 1), strip(1, 4, 2)], overlap) == [1, 2, 2, 2, 0, 0]


def test_a_class_of_higher_priority_wins_over_a_larger_one() -> None:
    assert row([strip(2, 4, 2, rank=0), strip(0, 6, 1, rank=1)], "priority") == [1, 1, 2, 2, 1, 1]


def test_among_equal_priority_the_larger_wins() -> None:
    assert row([strip(0, 4, 1, rank=1), strip(2, 5, 2, rank=1)], "priority") == [1, 1, 1, 1, 2, 0]


def test_annotations_of_one_class_unite_and_contest_nothing() -> None:
    maps = paint([strip(0, 3, 1), strip(2, 5, 1)], 1, WIDTH, "ignore", instance_map=True)
    assert maps.labels.tolist() == [[1, 1, 1, 1, 1, 0]]
    assert maps.contested == 0


def test_a_crowd_is_ignored_only_where_no_other_annotation_paints() -> None:
    for overlap in get_args(Overlap):
        assert row([strip(1, 3, 1), strip(0, 6, 2, ignored=True)], overlap) == [255, 1, 1, 255, 255, 255]


def test_contested_pixels_are_counted_under_every_rule() -> None:
    for overlap in get_args(Overlap):
        assert paint(LARGE_THEN_SMALL, 1, WIDTH, overlap, instance_map=False).contested == 2


def test_instances_are_numbered_in_painting_order_and_name_their_annotation() -> None:
    maps = paint([strip(0, 4, 1), strip(3, 5, 1)], 1, WIDTH, "first", instance_map=True)
    assert maps.instances is not None
    assert maps.instances.tolist() == [[2, 2, 2, 2, 1, 0]]
    assert maps.numbered == (1, 0)


def test_an_instance_map_is_0_where_the_mask_is_0_or_ignored() -> None:
    maps = paint([*LARGE_THEN_SMALL, strip(5, 6, 1, ignored=True)], 1, WIDTH, "ignore", instance_map=True)
    assert maps.labels.tolist() == [[1, 1, 255, 255, 2, 255]]
    assert maps.instances is not None
    assert maps.instances.tolist() == [[1, 1, 0, 0, 2, 0]]


def test_pixels_run_down_the_columns() -> None:
    maps = paint([strip(1, 3, 1)], 2, 3, "last", instance_map=True)
    assert maps.labels.tolist() == [[0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("annotations", [52, 53, 54, 105])
def test_the_last_of_many_annotations_is_on_top(annotations: int) -> None:
    # A float64 tells the highest bit of 53, and would round more of them up.
    maps = paint([strip(0, WIDTH, 1 + number) for number in range(annotations)], 1, WIDTH, "last", instance_map=True)
    assert maps.pixels == {annotations: WIDTH}
    assert maps.pieces.owned() == [0] * (annotations - 1) + [WIDTH, 0]


def covers(entry: Paint, pixel: int) -> bool:
    return bool(np.searchsorted(entry.borders, pixel, side="right") % 2)


def slow_reference(paints: Sequence[Paint], pixels: int, overlap: Overlap) -> NDArray[np.int64]:
    """Pixel by pixel: who claims it, and which of them wins by the words of the rule."""
    result = np.zeros(pixels, np.int64)
    for pixel in range(pixels):
        claims = [(index, entry) for index, entry in enumerate(paints) if covers(entry, pixel)]
        solid = [(index, entry) for index, entry in claims if not entry.ignored]
        if not solid:
            result[pixel] = 255 if claims else 0
            continue
        if overlap == "ignore" and len({entry.class_index for _, entry in solid}) > 1:
            result[pixel] = 255
            continue
        wins = {
            "last": lambda claim: claim[0],
            "ignore": lambda claim: claim[0],
            "first": lambda claim: -claim[0],
            "largest": lambda claim: (claim[1].size, claim[0]),
            "smallest": lambda claim: (-claim[1].size, claim[0]),
            "priority": lambda claim: (-claim[1].rank, claim[1].size, claim[0]),
        }[overlap]
        result[pixel] = max(solid, key=wins)[1].class_index
    return result


@st.composite
def random_paint(draw: st.DrawFn) -> Paint:
    borders = np.array(sorted(draw(st.sets(st.integers(0, 12), min_size=2))))
    borders = borders[: len(borders) // 2 * 2]
    return Paint(
        borders=borders,
        size=int(np.diff(borders)[::2].sum()),
        class_index=draw(st.integers(1, 4)),
        rank=draw(st.integers(0, 2)),
        ignored=draw(st.integers(0, 4)) == 0,
    )


# Layers are swept in parts of `at_once`: images with more annotations than that are rare.
@given(st.lists(random_paint(), max_size=8), st.sampled_from(get_args(Overlap)), st.sampled_from([1, 3, 52]))
@settings(max_examples=900, deadline=None)
def test_every_rule_equals_a_reference_that_looks_at_each_pixel(
    paints: list[Paint], overlap: Overlap, at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cocoseg.mask.painting._LAYERS", at_once)
        maps: Maps = paint(paints, 3, 4, overlap, instance_map=True)
    expected = slow_reference(paints, 12, overlap)
    np.testing.assert_array_equal(maps.labels.T.ravel(), expected)
    assert maps.pixels == Counter(expected.tolist())
    claims = [
        [entry.class_index for entry in paints if covers(entry, pixel) and not entry.ignored] for pixel in range(12)
    ]
    assert maps.contested == sum(len(set(classes)) > 1 for classes in claims)
    for index, entry in enumerate(paints):
        own = sum(expected[pixel] == entry.class_index for pixel in range(12) if covers(entry, pixel))
        assert entry.ignored or maps.pieces.visible(index, entry) == own
    assert maps.instances is not None
    named = maps.instances.T.ravel()
    assert ((named > 0) == ((expected > 0) & (expected < 255))).all()
    for pixel in np.flatnonzero(named):
        assert paints[maps.numbered[named[pixel] - 1]].class_index == expected[pixel]
