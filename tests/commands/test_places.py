"""Every reader of a revision, wherever in git the project lies."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from clones import Clone
from counting_pipeline import counting_pipeline
from silent_faults import REPORT

from cocoseg.commands.compare.history import changed_files
from cocoseg.commands.revisions import (
    EXPERIMENTS,
    OtherRepository,
    Revision,
    commits_of_lock,
    experiments,
    find_revision,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Make the pipeline with two commits, the code of which differs, and push its data."""
    pipeline = counting_pipeline(tmp_path_factory.mktemp("places") / "made")
    pipeline.dvc_here("remote", "modify", "store", "url", str(pipeline.folder.parent / "store"))
    pipeline.commit("a remote that is found from everywhere")
    edit(pipeline)
    pipeline.commit("other code")
    return pipeline


def edit(pipeline: Clone) -> None:
    with (pipeline.folder / "src/counting/unit.py").open("a") as file:
        file.write("# one\n")
    pipeline.dvc_here("repro")


def copied(made: Clone, folder: Path) -> Clone:
    shutil.copytree(made.folder, folder, symlinks=True)
    return Clone(folder)


def of_odd_name(made: Clone, folder: Path) -> Clone:
    return copied(made, folder / "Prüf läufe/nummer 1")


def detached(made: Clone, folder: Path) -> Clone:
    clone = copied(made, folder / "clone")
    clone.git("checkout", "--quiet", "--detach")
    return clone


def worktree(made: Clone, folder: Path) -> Clone:
    copied(made, folder / "clone").git("worktree", "add", "--quiet", "-b", "other", str(folder / "tree"))
    return Clone(folder / "tree")


def submodule(made: Clone, folder: Path) -> Clone:
    outer = git_repository(folder / "outer")
    outer.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(made.folder), "models/one")
    outer.commit("a submodule")
    return Clone(outer.folder / "models/one")


def monorepo(made: Clone, folder: Path) -> Clone:
    """Return the project as a folder of a monorepo, with a DVC of its own, as `dvc init --subdir` makes it."""
    outer = git_repository(folder / "outer")
    inner = Clone(outer.folder / "Teams/säge 1")
    shutil.copytree(made.folder, inner.folder, symlinks=True, ignore=shutil.ignore_patterns(".git", "tmp"))
    return two_commits(outer, inner)


def monorepo_of_one_dvc(made: Clone, folder: Path) -> Clone:
    """Return the project as a folder of a monorepo whose DVC lies at the root."""
    outer = git_repository(folder / "outer")
    inner = Clone(outer.folder / "Teams/säge 1")
    shutil.copytree(made.folder, inner.folder, symlinks=True, ignore=shutil.ignore_patterns(".git", "tmp"))
    shutil.move(inner.folder / ".dvc", outer.folder)
    return two_commits(outer, inner)


def git_repository(folder: Path) -> Clone:
    folder.mkdir()
    repository = Clone(folder)
    repository.git("init", "--quiet", "--initial-branch=main")
    repository.git("config", "user.name", "A. Tester")
    repository.git("config", "user.email", "tester@example.org")
    return repository


def two_commits(outer: Clone, inner: Clone) -> Clone:
    outer.commit("all")
    edit(inner)
    inner.dvc_here("push")
    outer.commit("other code")
    return inner


@pytest.mark.parametrize("place", [of_odd_name, detached, worktree, submodule, monorepo, monorepo_of_one_dvc])
def test_a_revision_is_read_wherever_the_project_lies(
    place: Callable[[Clone, Path], Clone], made: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = place(made, tmp_path)
    monkeypatch.chdir(project.folder)
    base, new = find_revision("HEAD~1"), find_revision("HEAD")
    here = str(project.folder)
    for run in (base, new, find_revision(None), OtherRepository(here, "HEAD"), OtherRepository(here, None)):
        assert run.has("raw")
        assert not run.has("nothing")
        assert run.cached("report.txt") == b"drawn 0drawn 0"
        assert sorted(run.hashes("raw")) == ["0.txt", "1.txt", "2.txt"]
    assert base.tracked("params.yaml") == b"count: 3\n"
    assert base.output_hash("report", "report.txt") == REPORT
    assert changed_files(base, new, ["src/*.py"]) == ["src/counting/unit.py"]
    assert len(commits_of_lock()) == 2


def test_an_experiment_of_a_monorepo_is_read(made: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = monorepo(made, tmp_path)
    project.dvc_here("exp", "run", "--name", "ochre-wisp", "--set-param", "count=4")
    monkeypatch.chdir(project.folder)
    [found] = experiments()
    assert Revision(found.name, found.commit).tracked("params.yaml") == b"count: 4\n"
    assert find_revision("ochre-wisp").cached("total.txt") == b"drawn 0"


def test_a_name_of_a_branch_and_an_experiment_is_the_branch_and_is_said(
    made: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = copied(made, tmp_path / "both")
    head, before = both.git("rev-parse", "HEAD", "HEAD~1").split()
    both.git("update-ref", f"{EXPERIMENTS}{head[:2]}/{head[2:]}/twice", head)
    both.git("branch", "twice", before)
    monkeypatch.chdir(both.folder)
    assert find_revision("twice").commit == before
    told = capsys.readouterr().err
    assert told == (
        "twice: is a branch or tag, and an experiment; this takes the first, as DVC does; the experiment is "
        f"{head[:12]}\n"
    )
    both.git("branch", "--delete", "--force", "twice")
    assert find_revision("twice").commit == head
    assert capsys.readouterr().err == ""
