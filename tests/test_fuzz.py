"""A short run of `tests/fuzz.py`; CONTRIBUTING.md has the long one."""

import os
import subprocess
import sys

import pytest
from stage_runs import ROOT


@pytest.mark.parametrize(
    ("kinds", "mutations"),
    [
        (("annotations", "weights"), 10),
        pytest.param(("annotations", "images", "weights", "params"), 60, marks=pytest.mark.slow),
        pytest.param(("locks",), 20, marks=pytest.mark.slow),
    ],
)
def test_mutated_files_are_accepted_and_add_up_or_are_refused_in_one_line(
    kinds: tuple[str, ...], mutations: int
) -> None:
    finished = subprocess.run(
        [sys.executable, "tests/fuzz.py", "--mutations", str(mutations), "--kinds", *kinds],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert finished.returncode == 0, finished.stderr + finished.stdout
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in finished.stdout.splitlines() if "|" in line][
        2:
    ]
    assert [(kind, int(count)) for kind, count, *_ in rows] == [(kind, mutations) for kind in kinds]
    assert all(int(refused) for _, _, _, refused, *_ in rows)
