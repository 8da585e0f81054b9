"""`.ci/repro`: the check of a fresh clone, also of a project whose data lies on another machine."""

import shutil
import subprocess
from pathlib import Path

import pytest
from clones import ROOT, Clone
from ruamel.yaml import YAML

STAGES = ("download", "filter", "download_images", "mask", "split")


def project(folder: Path, below: str, source: str) -> Clone:
    """Return data stages that copy `source`, run and committed, as the folder `below` of a repository of git."""
    whole, inner = Clone(folder / "whole"), Clone(folder / "whole" / below)
    inner.folder.mkdir(parents=True)
    whole.git("init", "--quiet", "--initial-branch=main")
    whole.git("config", "user.name", "A. Tester")
    whole.git("config", "user.email", "tester@example.org")
    inner.dvc_here("init", "--quiet", *(["--subdir"] if below else []))
    shutil.copytree(ROOT / ".ci", inner.folder / ".ci")
    (inner.folder / "mine").write_text("mine")
    (inner.folder / "code").write_text("1")
    stages, before = {}, ["${annotations}", "${images}"]
    for name in STAGES:
        in_git = name in ("filter", "mask", "split")
        made = f"metrics/{name}.json" if in_git else f"{name}.txt"
        outs = [{made: {"cache": not in_git}}]
        stages[name] = {"cmd": f"mkdir -p metrics && cat {before[0]} > {made}", "deps": ["code", *before], "outs": outs}
        before = [made]
    with (inner.folder / "dvc.yaml").open("w") as file:
        YAML(typ="safe", pure=True).dump({"stages": stages}, file)
    (inner.folder / "params.yaml").write_text(f"annotations: {source}\nimages: {source}\n")
    (inner.folder / "plots/mask").mkdir(parents=True)
    (inner.folder / "plots/mask/.gitkeep").touch()
    inner.dvc_here("repro")
    whole.commit("results")
    return inner


def checked(project: Clone, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the check with this environment in place of the one that it installs."""
    for name, text in (("pip", "exit 0"), ("uv", 'shift; exec "$@"')):
        (folder / "bin").mkdir(exist_ok=True)
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / "bin" / name).chmod(0o755)
    script = f'PATH="{folder / "bin"}:$PATH" .ci/repro'
    return project.run("bash", "-c", script, check=False)


@pytest.mark.parametrize("below", ["", "team/säge 1"])
def test_a_clone_with_its_source_repeats_the_data_stages(below: str, tmp_path: Path) -> None:
    finished = checked(project(tmp_path, below, "mine"), tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Running stage 'download'" in finished.stdout
    assert "Data and pipelines are up to date." in finished.stdout


def test_a_clone_without_the_source_is_checked_by_its_lock(tmp_path: Path) -> None:
    source = tmp_path / "instances.json"
    source.write_text("theirs")
    ours = project(tmp_path, "", str(source))
    source.unlink()
    finished = checked(ours, tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert f"not in this clone: {source}, {source}; only dvc.lock was checked" in finished.stdout
    assert "Running stage" not in finished.stdout
    (ours.folder / "code").write_text("2")
    ours.commit("other code, and nothing run")
    finished = checked(ours, tmp_path)
    assert finished.returncode != 0
    assert "failed to reproduce 'download'" in finished.stdout + finished.stderr
