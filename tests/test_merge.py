"""A merge of two branches that both changed `dvc.lock`, as docs/remotes.md says."""

from pathlib import Path

import pytest
from counting_pipeline import counting_pipeline

from cocoseg.commands.dvc_adapter import open_repository
from cocoseg.core.errors import CocosegError

PLOT = Path("plots/total.txt")


def test_branches_that_changed_one_folder_of_code_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = counting_pipeline(tmp_path / "made")
    (pipeline.folder / "plots").mkdir()
    (pipeline.folder / PLOT).write_text("first\n2\n3\n4\n5\n6\nlast\n")
    pipeline.commit("a plot")
    for name, module, line in (("ours", "unit.py", "first"), ("theirs", "total.py", "last")):
        pipeline.git("checkout", "--quiet", "-b", name, "main")
        with (pipeline.folder / "src/counting" / module).open("a") as file:
            file.write(f"# {name}\n")
        plot = pipeline.folder / PLOT
        plot.write_text(plot.read_text().replace(line, name))
        pipeline.dvc_here("repro")
        pipeline.commit(name)
    pipeline.git("checkout", "--quiet", "ours")
    assert (
        "CONFLICT (content): Merge conflict in dvc.lock" in pipeline.run("git", "merge", "theirs", check=False).stdout
    )
    monkeypatch.chdir(pipeline.folder)
    with pytest.raises(CocosegError, match="to end the merge: git checkout HEAD"), open_repository() as repository:
        repository.outputs()
    assert PLOT.read_text().count("theirs") == 1  # git has merged it by itself
    pipeline.git("checkout", "HEAD", "--", "dvc.lock", "metrics", "plots")
    assert "theirs" not in PLOT.read_text()
    assert pipeline.stages_run(pipeline.dvc("repro")) == ["count"]
    pipeline.commit("merged")
    assert pipeline.git("log", "-1", "--format=%P").count(" ") == 1
    assert "up to date" in pipeline.dvc("status")
