"""Several groups of runs, and what chance leaves of their order."""

from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from commands.compare.test_claims import GAIN_ERROR, NAMES, Counts, gained, group, model

from cocoseg.commands.compare.claims import change_claim
from cocoseg.commands.compare.rank import Ranking, Row
from cocoseg.commands.compare.rank_report import rank_report, write_forest
from cocoseg.commands.compare.ranking import Pair, all_pairs, letters, pairs_over_folds

SCORE: Any = "foreground_miou"


def alike(*means: float) -> list[Counts]:
    """Return a model per mean that finds that share in every image, so that the seeds alone count."""
    return [model([round(100 * mean)] * 12) for mean in means]


def margin(pair: Pair) -> float:
    assert pair.high is not None
    return pair.high - pair.difference


@pytest.mark.parametrize(
    ("apart", "expected"),
    [
        ([], ["a", "a", "a", "a"]),
        ([(0, 3)], ["a", "ab", "ab", "b"]),
        ([(0, 2), (0, 3), (1, 3)], ["a", "ab", "bc", "c"]),
        (list(combinations(range(4), 2)), ["a", "b", "c", "d"]),
        ([(1, 2)], ["ab", "a", "b", "ab"]),
    ],
)
def test_two_share_a_letter_unless_they_are_apart(apart: list[tuple[int, int]], expected: list[str]) -> None:
    assert letters(4, apart) == expected


def test_letters_say_for_every_pair_of_sixty_whether_it_is_apart() -> None:
    apart = {(one, other) for one, other in combinations(range(60), 2) if other - one > 1}
    found = letters(60, apart)
    for pair in combinations(range(60), 2):
        shared = [name for name in found[pair[0]] if name.isalpha() and name in found[pair[1]]]
        assert bool(shared) != (pair in apart) or "(" in found[pair[1]]
    assert found[:2] == ["a", "ab"]
    assert found[59] == "(58)"


def test_the_intervals_of_three_groups_by_hand() -> None:
    groups = [alike(*means) for means in ((0.3, 0.4, 0.5), (0.5, 0.6, 0.7), (0.4, 0.5, 0.6))]
    order, pairs = all_pairs(groups, SCORE, 0.01, 20_000)
    assert order == [1, 2, 0]
    assert [(pair.first, pair.second, pair.difference) for pair in pairs] == [(0, 1, -0.1), (0, 2, -0.2), (1, 2, -0.1)]
    # Standard error sqrt(0.01 / 3 + 0.01 / 3) = 0.08165. The range of three normals, 3.3145, over sqrt(2) is 2.3437,
    # which leaves 0.955 % a side; t with the 6 degrees of freedom of all nine seeds is 3.1866 there.
    assert [margin(pair) for pair in pairs] == pytest.approx([3.1866 * 0.08165] * 3, rel=0.02)
    assert {pair.verdict for pair in pairs} == {"undetermined"}


def test_the_intervals_of_three_groups_over_folds_by_hand() -> None:
    hits = ([50] * 5, [60, 62, 58, 61, 59], [70, 68, 72, 69, 71])
    groups = [[[model([own] * 4)] for own in each] for each in hits]
    order, pairs = pairs_over_folds(groups, SCORE, 0.01, 500, 1 / 4)
    assert order == [2, 1, 0]
    # What the means of groups and folds leave: squares of 0.002 in all, with 2 * 4 degrees of freedom, so 0.00025 each.
    # A pair has twice that, or its own variance, 0.001 of the first and the second. The studentized range is 4.0410.
    expected = {(0, 1): 0.001, (1, 2): 0.0005, (0, 2): 0.0005}
    for pair in pairs:
        assert margin(pair) == pytest.approx(
            4.0410 / 2**0.5 * (0.45 * expected[pair.first, pair.second]) ** 0.5, abs=2e-5
        )
    assert [pair.verdict for pair in pairs] == ["worse"] * 3
    few = pairs_over_folds([[[model([own] * 3)]] * 3 for own in (50, 90)], SCORE, 0.01, 500, 1 / 2)[1]
    assert [pair.verdict for pair in few] == ["undetermined"]


def test_seeds_that_scatter_less_than_most_count_as_the_mean_and_those_that_scatter_more_as_they_do() -> None:
    _, (pair,) = all_pairs([alike(0.5, 0.5, 0.5), alike(0.6, 0.7, 0.8)], SCORE, 0.01, 20_000)
    # Variances 0 and 0.01, their mean 0.005: error sqrt(0.005 / 3 + 0.01 / 3) = 0.07071; t of 4 degrees is 2.7764
    assert margin(pair) == pytest.approx(2.7764 * 0.07071, rel=0.02)


def test_single_checkpoints_are_as_uncertain_as_their_images() -> None:
    order, (pair,) = all_pairs([[model([50] * 40)], [gained()]], SCORE, 0.01, 8000)
    assert (order, pair.difference, pair.verdict) == ([1, 0], -0.1, "worse")
    assert margin(pair) == pytest.approx(2.0227 * GAIN_ERROR, rel=0.03)


def test_of_twelve_groups_that_do_not_differ_two_by_two_finds_a_winner_and_the_ranking_none() -> None:
    chance = np.random.default_rng(7)
    groups = [group((0.5 + 0.03 * chance.standard_normal(3)).tolist()) for _ in range(12)]
    two_by_two = {
        change_claim(one, other, NAMES, SCORE, 0.0, 200).primary.verdict for one, other in combinations(groups, 2)
    }
    assert two_by_two & {"better", "worse"}
    assert {pair.verdict for pair in all_pairs(groups, SCORE, 0.0, 500)[1]} == {"undetermined"}


def test_groups_without_any_spread_differ_by_exactly_what_they_do() -> None:
    _, pairs = all_pairs([alike(0.5, 0.5, 0.5), alike(0.6, 0.6, 0.6), alike(0.5, 0.5, 0.5)], SCORE, 0.01, 200)
    assert [(pair.low, pair.high, pair.verdict) for pair in pairs] == [
        (-0.1, -0.1, "worse"), (-0.1, -0.1, "worse"), (0.0, 0.0, "equivalent"),
    ]  # fmt: skip


def test_nine_images_tell_nothing_apart_and_one_group_has_no_pair() -> None:
    few = [[run[:9] for run in group([mean] * 3)] for mean in (0.4, 0.6)]
    _, (pair,) = all_pairs(few, SCORE, 0.01, 200)
    assert (pair.low, pair.high, pair.verdict) == (None, None, "undetermined")
    assert all_pairs(few[:1], SCORE, 0.01, 200) == ([0], [])


ROWS = [
    Row(name="big|lr", params={"lr": 0.1}, seeds=[0, 1, 2], letters="a", val_score=0.61, test_score=0.6,
        test_scores=[0.58, 0.6, 0.62]),
    Row(name="main", params={"lr": 0.01}, seeds=[0, 1, 2], letters="b", val_score=0.51, test_score=0.5,
        test_scores=[0.5, 0.5, 0.5], difference=-0.1, low=-0.15, high=-0.05),
    Row(name="new", params={"lr": 0.02}, seeds=[4], letters="", val_score=None, test_score=0.55, test_scores=[0.55],
        not_ranked_because="one seed, but 3 are needed"),
]  # fmt: skip
RANKING = Ranking(
    score="miou", chosen_by="miou", min_effect=0.01, claim="change", split="test", images=24, remarks=["a remark"],
    rows=ROWS, pairs=[Pair(first=0, second=1, difference=-0.1, low=-0.15, high=-0.05, verdict="worse")],
    more_seeds=["dvc queue start"], models_seen=7,
)  # fmt: skip


def test_a_ranking_in_words_names_the_winner_only_where_it_is_better_than_all() -> None:
    text, markdown = rank_report(RANKING, "text"), rank_report(RANKING, "md", "Drawn in x.png.")
    assert text.startswith("big|lr is better than the others that are ranked\n\nNote: a remark.\n")
    assert "-0.1000           -0.1500 to -0.0500\n" in text
    assert "one seed, but 3 are needed\n" in text
    assert "| a  | big\\|lr |" in markdown
    assert "\n\nDrawn in x.png.\n\n" in markdown
    assert "\n    dvc queue start\n" in text
    assert msgspec.json.decode(rank_report(RANKING, "json"), type=Ranking) == RANKING
    tied = msgspec.structs.replace(RANKING, rows=[ROWS[0], msgspec.structs.replace(ROWS[1], letters="ab"), ROWS[2]])
    told = "big|lr has the highest score of the ranked rows, but is not better than any other"
    assert rank_report(tied, "text").startswith(f"{told}\n")
    tied.rows[2] = msgspec.structs.replace(ROWS[2], test_score=0.7)
    assert rank_report(tied, "text").startswith(f"{told}; higher, but not ranked: new (0.7000)\n")
    whole = msgspec.structs.replace(RANKING, rows=ROWS[:2])
    assert rank_report(whole, "text").startswith("big|lr is better than the others\n")
    nothing = msgspec.structs.replace(RANKING, rows=ROWS[2:], pairs=[])
    assert rank_report(nothing, "md").startswith("## Nothing is ranked: fewer than two runs have enough seeds\n")


def test_the_forest_has_a_row_for_each_that_is_ranked(tmp_path: Path) -> None:
    path = write_forest(tmp_path, RANKING)
    picture = cv2.imread(path)
    assert picture is not None
    blue = (picture == (178, 114, 0)).all(axis=2).any(axis=1)  # the squares
    assert int((blue & ~np.roll(blue, 1)).sum()) == 2
    black = (picture == (38, 34, 32)).all(axis=2).sum(axis=1).max()
    assert black > 640 / 5  # the interval of the second row, 0.1 wide of the 0.15 that are drawn
