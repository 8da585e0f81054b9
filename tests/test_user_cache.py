"""Folders that outlive a run."""

from pathlib import Path

import pytest
from clones import ROOT, Clone, git_repository

from cocoseg.user_cache import cache_folder, kept_folder

STAGE = """stages:
  log:
    cmd: python -c "import os; from cocoseg.user_cache import kept_folder; folder = kept_folder('runs');
      folder.mkdir(); (folder / 'events').write_text(os.getcwd())"
    params: [lr]
"""


@pytest.mark.parametrize("place", ["", "team/seg"])
def test_what_a_temporary_run_keeps_in_a_relative_folder_is_in_the_users_clone(tmp_path: Path, place: str) -> None:
    project = tmp_path / place
    git_repository(tmp_path)
    if place:
        project.mkdir(parents=True)
        (tmp_path / ".dvc").rename(project / ".dvc")
    (project / "dvc.yaml").write_text(STAGE)
    (project / "params.yaml").write_text("lr: 1\n")
    clone = Clone(project)
    clone.git("config", "user.name", "A. Tester")
    clone.git("config", "user.email", "tester@example.org")
    clone.commit("start")
    clone.run("dvc", "exp", "run", "--temp", "-S", "lr=2", PYTHONPATH=str(ROOT / "src"))
    ran_in = Path((project / "runs/events").read_text())
    assert ran_in.is_relative_to(project / ".dvc/tmp/exps")
    assert not ran_in.exists()


def test_outside_of_a_temporary_run_a_relative_folder_starts_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for root in (str(tmp_path), str(tmp_path.parent / "another project")):
        monkeypatch.setenv("DVC_ROOT", root)
        assert kept_folder("runs") == tmp_path / "runs"
    monkeypatch.delenv("DVC_ROOT")
    assert kept_folder("runs") == tmp_path / "runs"
    assert kept_folder("/scratch/runs") == Path("/scratch/runs")


def test_the_cache_too_is_in_the_users_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / ".dvc/tmp/exps/standalone/tmp1"
    run.mkdir(parents=True)
    monkeypatch.chdir(run)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    monkeypatch.setenv("COCOSEG_CACHE", "cache")
    assert cache_folder() == tmp_path / "cache"
