"""The shell blocks of the README, run one after the other as they stand: each shows what the text beside it says."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from clones import PATH, ROOT, TINY, clone

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
# What a test cannot have: COCO's host, a bucket, a package index, a browser.
PHOTOGRAPHS = "dataset=coco2017-val"
UV = '#!/bin/sh\nmkdir -p .venv/bin && touch .venv/bin/activate\nshift 2 && exec "$@"\n'


@pytest.fixture(scope="module")
def said(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each block printed, by its first line."""
    folder = tmp_path_factory.mktemp("readme")
    clone(folder / "URL", TINY | {"bootstrap_samples": 200}).git("switch", "--quiet", "--create", "elsewhere")
    for command in (["switch", "--quiet", "main"], ["config", "receive.denyCurrentBranch", "ignore"]):  # as if bare
        subprocess.run(["git", "-C", folder / "URL", *command], check=True)
    shims = folder / "shims"
    shims.mkdir()
    for name, text in (("pip", "#!/bin/sh\n"), ("uv", UV), ("browser", "#!/bin/sh\n")):
        (shims / name).write_text(text)
        (shims / name).chmod(0o755)
    script = ["set -euo pipefail", f"cd {folder}"]
    for block in BLOCKS:
        if PHOTOGRAPHS in block:
            block = block.partition("image_size_px=320")[2].partition("\n")[2]
        if "cocoseg predict" in block:
            script.append("mkdir photos && cp data/images/$(ls data/images | head -1) photos/")
        if "/data/instances.json" in block:
            script.append("mkdir -p ../data && cp data/raw/instances.json ../data/ && cp -r data/images ../data/photos")
        block = block.replace("s3://bucket/ours", str(folder / "store")).replace("=/data/", f"={folder}/data/")
        script += [f"echo '=== {block.splitlines()[0]}'", block]
    environment = os.environ | {
        "PATH": f"{shims}{os.pathsep}{PATH}",
        "BROWSER": "browser",
        "COLUMNS": "120",
        "DVC_NO_ANALYTICS": "1",
        "COCOSEG_CACHE": str(folder / "cache"),
        **{f"GIT_{who}_{what}": "tester@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
    }
    finished = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert finished.returncode == 0, finished.stdout[-5000:]
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in finished.stdout.split("=== ")[1:]}


def block(said: dict[str, str], word: str) -> str:
    (found,) = (text for first, text in said.items() if word in first)
    return found


@pytest.mark.slow
def test_every_stage_of_the_first_run_ends_with_a_line_that_says_what_came_out(said: dict[str, str]) -> None:
    lines = block(said, "git clone").splitlines()
    for stage in ("download", "filter", "download_images", "mask", "split", "train", "evaluate"):
        assert any(line.startswith(f"{stage}: ") for line in lines), stage
    (last,) = (line for line in lines if line.startswith("evaluate: test mIoU"))
    assert last.endswith("see metrics/model_card.md and plots/evaluate/")
    assert "WARNING" not in block(said, "git clone")


@pytest.mark.slow
def test_the_experiments_are_in_the_table_and_the_kept_one_differs_from_main(said: dict[str, str]) -> None:
    text = block(said, "git switch")
    (header,) = (line.split() for line in text.splitlines() if line.startswith("  Experiment "))
    assert header == ["Experiment", "miou", "val_miou", "lr", "seed"]
    rows = [line for line in text.splitlines() if re.match(r"  [├└]──", line)]
    assert len(rows) == 3
    assert max(map(len, rows)) <= 80
    assert re.search(r"^metrics/scores\.json +miou +0\.\d+ +0\.\d+ +-?0\.\d+", text, re.MULTILINE)


@pytest.mark.slow
def test_compare_finds_the_change_of_the_branch(said: dict[str, str]) -> None:
    text = block(said, "cocoseg compare main")
    assert re.search(r"^lr +0\.01 +0\.003", text, re.MULTILINE)
    assert "undetermined" in text  # a seed a side


@pytest.mark.slow
def test_predictions_an_export_a_push_and_own_data_come_out(said: dict[str, str], tmp_path: Path) -> None:
    assert "no faults" in block(said, "dvc remote add")
    assert "Ran experiment(s)" in block(said, "dvc exp run -S dataset=custom")
    assert len(said) == len(BLOCKS)
