"""A comparison in words."""

import json

import msgspec
import pytest

from cocoseg.commands.compare.claims import Claim, Difference
from cocoseg.commands.compare.compare import Comparison, ImageChange, Run
from cocoseg.commands.compare.differences import DataChange, Differences
from cocoseg.commands.compare.gate import judged
from cocoseg.commands.compare.report import report

PRIMARY = Difference(name="miou", base=0.5, new=0.6, difference=0.1, low=0.02, high=0.18, verdict="better")
UNSURE = msgspec.structs.replace(PRIMARY, low=None, high=None, verdict="undetermined")
LOST = Difference(name="cat", base=0.7, new=0.0, difference=-0.7, low=-1.01, high=-0.39, verdict="worse")
COMPARISON = Comparison(
    base="main (1234567)",
    new="the working tree",
    score="miou",
    min_effect=0.01,
    remarks=["the test sides differ"],
    refused=None,
    classes=("background", "cat"),
    split="test",
    images=24,
    checkpoint=Claim(primary=PRIMARY, others=[], classes=[LOST], smallest_difference=0.09),
    change=Claim(
        primary=UNSURE, others=[], classes=[], smallest_difference=None, undetermined_because="one seed per side"
    ),
    more_seeds=["dvc exp run --queue -S 'seed=1,2' && dvc queue start"],
    runs={"base": [Run(name="main (1234567)", seed=0, chosen_by="miou", val_score=0.51, test_score=0.5)], "new": []},
    models_seen=7,
    images_changed=[ImageChange(file_name="a|b.jpg", base=0.75, new=0.25, reason="lost: cat")],
    differences=Differences(
        params={"lr": (0.01, 0.1), "classes": (["cat"], ["cat", "dog"])},
        data=[DataChange(what="masks", entered=1, left=2, changed=3)],
        code=[f"src/cocoseg/m{number:02}.py" for number in range(14)],
        environment={"torch": ("2.14", None)},
        cost={"parameters": (2198982, 1100000)},
    ),
)


@pytest.mark.parametrize("style", ["text", "md"])
def test_what_must_be_known_first_stands_before_every_number(style: str) -> None:
    text = report(COMPARISON, "md" if style == "md" else "text")
    assert text.index("the test sides differ") < text.index("0.5000")
    assert text.index("these checkpoints on these images") < text.index("this change")
    for part in (
        '"Equivalent" is within ±0.01.',
        "+0.0200 to +0.1800",
        "-1.0000 to -0.3900",
        "▲ better",
        "undetermined: one seed per side",
        "0.0900",
        "seed=1,2",
        "(dvc queue status), share them, so that they count in a review too:\n\n    dvc exp push -A origin\n",
        "of the 7 models scored on these test images that this clone knows,",
        "Verdicts are on miou (the parameter primary_score) and on each class in at least 10 test images; – stands",
        "Time and memory were measured once a side",
    ):
        assert part in text


def test_the_gate_says_the_condition_and_what_came_of_it() -> None:
    assert COMPARISON.checkpoint is not None
    lost = msgspec.structs.replace(PRIMARY, name="dog", verdict="worse")
    checkpoint = msgspec.structs.replace(COMPARISON.checkpoint, classes=[PRIMARY, lost])
    by_change = judged(checkpoint, COMPARISON.change, "worse", "change")
    by_checkpoints = judged(checkpoint, COMPARISON.change, "not-better", "checkpoints")
    texts = [report(msgspec.structs.replace(COMPARISON, gate=gate), "md") for gate in (by_change, by_checkpoints)]
    assert "**Fails if worse, judged by this change: undetermined**, one seed per side.\n" in texts[0]
    assert (
        "**Fails if not better, judged by these checkpoints on these images: passed**, miou is better. Classes that "
        "are worse: dog.\n"
    ) in texts[1]
    assert texts[0].index("Fails if") < texts[0].index("0.5000")
    equivalent = msgspec.structs.replace(checkpoint, primary=msgspec.structs.replace(PRIMARY, verdict="equivalent"))
    assert judged(equivalent, None, "not-better", "checkpoints").exit_status == 3
    assert judged(equivalent, None, "worse", "checkpoints").exit_status == 0


def test_the_reason_stands_beside_an_image_that_changed() -> None:
    assert "| a\\|b.jpg | 0.7500     | 0.2500    | -0.5000  | lost: cat |" in report(COMPARISON, "md")
    assert "-0.5000   lost: cat" in report(COMPARISON, "text")


def test_all_differences_are_listed_and_many_files_counted() -> None:
    text = report(COMPARISON, "text")
    assert "cat, dog" in text
    assert "src/cocoseg/m11.py and 2 more files" in text
    assert [line.split() for line in text.splitlines() if line.startswith("masks")] == [["masks", "1", "2", "3"]]
    assert "2.14" in text
    assert [line.split() for line in text.splitlines() if line.startswith("parameters")] == [
        ["parameters", "2,198,982", "1,100,000"]
    ]


def test_in_markdown_a_file_name_cannot_end_its_cell_and_plots_are_shown() -> None:
    text = report(COMPARISON, "md", "Drawn in shown/changed.png.", "https://example.org/raw/abc/")
    assert "a\\|b.jpg" in text
    assert "Drawn in shown/changed.png." in text
    assert "![IoU of each class](https://example.org/raw/abc/plots/evaluate/iou.png)" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert tables
    assert "<details>" in text


def test_json_holds_every_field() -> None:
    assert json.loads(report(COMPARISON, "json")) == json.loads(msgspec.json.encode(COMPARISON))


def test_where_nothing_else_differs_it_says_so() -> None:
    nothing = Differences(params={}, data=[], code=[], environment={}, cost={})
    same = msgspec.structs.replace(COMPARISON, differences=nothing)
    assert "Nothing: parameters, data, code and environment are the same." in report(same, "text")


def test_a_refusal_is_the_first_sentence() -> None:
    refused = msgspec.structs.replace(COMPARISON, refused="the classes differ", checkpoint=None, change=None)
    assert report(refused, "text").splitlines()[2] == "The scores are not compared: the classes differ."
