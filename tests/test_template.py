"""`Use this template`: a repository that begins with one commit of this tree, as GitHub's button makes it, works."""

import json
import re
import shutil
import subprocess
import sys

import pytest
from clones import ROOT, TINY, Clone


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """All files that git has here, results too, as the only commit of a new repository, with no default remote."""
    made = Clone(tmp_path_factory.mktemp("template") / "ours")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():  # removed, and not committed yet
            (made.folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, made.folder / name)
    config = made.folder / ".dvc/config"  # a team has set its own
    config.write_text(re.sub(r"^ *remote *=.*\n", "", config.read_text(), flags=re.MULTILINE))
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("config", "user.name", "A. Tester")
    made.git("config", "user.email", "tester@example.org")
    made.commit("Initial commit")
    return made


def test_the_first_stages_run_and_the_gate_asks_only_for_the_others(made: Clone) -> None:
    made.set_params(**TINY)
    cache = str(made.folder.parent / "cache")
    said = made.dvc("repro", "split", COCOSEG_CACHE=cache)
    assert made.stages_run(said) == ["download", "filter", "download_images", "mask", "split"]
    made.commit("Our data")
    finished = made.run(".ci/gate", check=False, PYTHONPATH=str(ROOT / "src"))
    lines = finished.stdout.splitlines()
    assert [line for line in lines if "stage train" not in line and "stage evaluate" not in line] == [
        "yellow: data not checked: no default remote is set"
    ]
    assert (finished.returncode, finished.stderr) == (1, "")
    assert made.git("status", "--porcelain") == ""


def test_the_linters_and_the_tests_find_what_they_need(made: Clone) -> None:
    made.run(sys.executable, "-m", "ruff", "check", "--no-cache", "stages", ".ci")
    made.run("lint-imports", "--no-cache", PYTHONPATH=str(made.folder / "src"))
    collected = made.run(sys.executable, "-m", "pytest", "--collect-only", "-q", "-n", "0", "tests/test_contracts.py")
    assert "error" not in collected.stdout.lower()
    made.run("pre-commit", "validate-config")


def test_nothing_of_this_repository_is_needed_to_work_in_another(made: Clone) -> None:
    lacking = made.run(sys.executable, ".ci/lacking_sources.py")
    assert lacking.stdout.strip() == ""
    entries = made.run(sys.executable, ".ci/data_entries.py", "dvc.lock")
    assert json.loads(entries.stdout)
