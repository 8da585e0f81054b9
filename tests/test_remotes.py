"""docs/remotes.md: its recipes are run as they stand, and its table is what the tests of `cocoseg verify` hold."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from clones import NOBODY, Clone
from silent_faults import FAULTS

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs/remotes.md").read_text(encoding="utf-8")
RECIPES = re.findall(r"```sh\n(dvc remote add .*?)```", TEXT, re.DOTALL)


def test_there_is_a_recipe_for_a_folder_for_aws_and_for_other_stores() -> None:
    assert len(RECIPES) == 3


@pytest.mark.parametrize("recipe", RECIPES, ids=["folder", "AWS", "other"])
def test_a_recipe_is_accepted_and_commits_verify_and_no_secret(recipe: str, tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    clone.dvc("init", "--quiet")
    script = "\n".join(line for line in recipe.splitlines() if line.startswith("dvc ")).replace("…", "hidden")
    clone.run("bash", "-euc", script)
    committed = (tmp_path / ".dvc/config").read_text()
    assert "remote = store" in committed
    assert "verify = true" in committed
    assert "hidden" not in committed
    assert "config.local" not in clone.git("status", "--porcelain", "--untracked-files=all")


def test_dvc_has_ten_connections_to_s3_and_with_the_documented_line_as_many_as_jobs() -> None:
    [(setting, jobs)] = re.findall(r"export FSSPEC_S3='(.*)'\ndvc push --jobs (\d+)", TEXT)
    remote = "url='s3://bucket', endpointurl='http://127.0.0.1:1', access_key_id='a', secret_access_key='b'"
    client = f"from dvc_s3 import S3FileSystem; print(S3FileSystem({remote}).fs.s3.meta.config.max_pool_connections)"
    for environment, connections in ({}, "10"), ({"FSSPEC_S3": setting}, jobs):
        command = [sys.executable, "-c", client]
        finished = subprocess.run(command, env={**os.environ, **NOBODY, **environment}, capture_output=True, text=True)
        assert finished.stdout == f"{connections}\n", finished.stderr


def test_the_table_of_faults_is_what_the_tests_hold() -> None:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in TEXT.splitlines()]
    assert [row for row in rows if row[-1] == "no faults"] == [
        [fault.name, "changed" if fault.dvc_sees_it else "clean", "; ".join(fault.says), "no faults"]
        for fault in FAULTS
    ]
