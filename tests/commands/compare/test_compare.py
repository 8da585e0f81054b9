"""Runs of a real repository, compared by the command as a user types it."""

import hashlib
import io
import json
import shutil
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from clones import Clone
from toy_pipeline import toy_pipeline

from cocoseg.cli import main
from cocoseg.commands import revisions
from cocoseg.commands.compare.compare import change_reason
from cocoseg.commands.compare.differences import start_of
from cocoseg.commands.compare.folds import Fold, about_groups
from cocoseg.commands.compare.rank import _remarks as ranking_remarks
from cocoseg.commands.compare.runs import RunMetrics, Scored
from cocoseg.commands.compare.seeds import other_environments
from cocoseg.commands.dvc_adapter import QueuedRun
from cocoseg.commands.lock_yaml import loaded
from cocoseg.commands.revisions import LockedFile, LockedStage, Revision
from cocoseg.core.errors import CocosegError

SOURCE = Path(__file__).parents[3] / "src"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Make `main`, a branch with fewer wrong pixels, and experiments of both with other seeds."""
    return with_better_branch(environment_of(toy_pipeline)(tmp_path_factory.mktemp("toy") / "toy"), "seed")


def with_better_branch(made: Clone, key: str) -> Clone:
    """Run 1 and 2 of a parameter on `main`, and all of it on the branch `better`; both commits have 0."""
    for value in (1, 2):
        made.dvc_here("exp", "run", "--name", f"main-{value}", "-S", f"{key}={value}")
    made.git("checkout", "--quiet", "--force", "-b", "better")
    for value in (2, 1, 0):
        made.dvc_here("exp", "run", "--name", f"better-{value}", "-S", "wrong=0.2", "-S", f"{key}={value}")
    made.commit("fewer wrong pixels")
    made.git("checkout", "--quiet", "main")
    made.dvc_here("checkout")
    return made


def environment_of(make: Callable[[Path], Clone]) -> Callable[[Path], Clone]:
    def with_source(folder: Path) -> Clone:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PYTHONPATH", str(SOURCE))
            return make(folder)

    return with_source


@pytest.fixture(autouse=True)
def source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))


def compared(repository: Clone, *arguments: str, command: str = "compare") -> Any:
    """Return what `cocoseg compare --format json` prints, run in this process because that is faster."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.chdir(repository.folder)
        main([command, *arguments, "--format", "json"])
    return json.loads(output.getvalue())


def gate_of(repository: Clone, *arguments: str) -> tuple[object, dict[str, Any]]:
    """Return the exit status of a comparison with `--fail-if`, and what it says of the condition."""
    output = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(output):
        patch.chdir(repository.folder)
        with pytest.raises(SystemExit) as ended:
            main(["compare", *arguments, "--format", "json"])
    return ended.value.code, json.loads(output.getvalue())["gate"]


def changed_code(repository: Clone, *revisions: str) -> list[str]:
    """Return the files that the line "Code:" names."""
    return list(compared(repository, *revisions)["differences"]["code"])


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def error_of(repository: Clone, *arguments: str) -> str:
    """Return the one line of a comparison that fails."""
    finished = repository.run("cocoseg", "compare", *arguments, check=False)
    assert finished.returncode == 1
    lines = finished.stderr.splitlines()
    assert len(lines) == 1, finished.stderr
    return lines[0]


def copy_of(repository: Clone, folder: Path) -> Clone:
    shutil.copytree(repository.folder, folder, symlinks=True)
    return Clone(folder)


def test_three_seeds_a_side_are_found_among_the_experiments_and_call_the_difference(repository: Clone) -> None:
    found = compared(repository, "main", "better")
    assert [len(found["runs"][side]) for side in ("base", "new")] == [3, 3]
    for claim in (found["checkpoint"], found["change"]):
        assert claim["primary"]["verdict"] == "better"
        assert claim["primary"]["difference"] > 0
    assert found["differences"]["params"] == {"wrong": [0.3, 0.2]}
    assert found["differences"]["code"] == []
    assert found["differences"]["data"] == []
    assert found["remarks"] == []


def test_the_other_way_round_it_is_worse(repository: Clone) -> None:
    found = compared(repository, "better", "main")
    assert (found["checkpoint"]["primary"]["verdict"], found["change"]["primary"]["verdict"]) == ("worse", "worse")


@pytest.mark.parametrize(
    ("sides", "fail_if", "status", "result"),
    [
        (("main", "better"), "worse", 0, "passed"),
        (("main", "better"), "not-better", 0, "passed"),
        (("better", "main"), "worse", 3, "failed"),
        (("better", "main"), "not-better", 3, "failed"),
        (("main", "main-1"), "worse", 0, "passed"),  # the seed alone differs
        (("main", "main"), "not-better", 3, "failed"),
    ],
)
def test_the_verdict_is_the_exit_status_where_it_is_asked_for(
    repository: Clone, sides: tuple[str, str], fail_if: str, status: int, result: str
) -> None:
    found, gate = gate_of(repository, *sides, "--fail-if", fail_if)
    assert (found, gate["exit_status"]) == (status, status)
    assert (gate["fail_if"], gate["claim"], gate["result"]) == (fail_if, "change", result)
    assert gate["because"] == ("there is no change to judge" if sides[1].startswith("main") and sides[0] == "main" else
                               f"miou is {'better' if sides[1] == 'better' else 'worse'}")  # fmt: skip
    assert gate["worse_classes"] == (["background", "cat", "dog"] if sides == ("better", "main") else [])


def test_one_seed_a_side_leaves_the_gate_undetermined_unless_it_judges_the_checkpoints(
    repository: Clone, tmp_path: Path
) -> None:
    alone = copy_of(repository, tmp_path / "alone")
    alone.dvc_here("exp", "remove", "--all-commits")
    for condition in ("worse", "not-better"):
        status, gate = gate_of(alone, "better", "main", "--fail-if", condition)
        assert (status, gate["result"], gate["because"]) == (4, "undetermined", "one seed per side")
    assert gate_of(alone, "better", "main", "--fail-if", "worse", "--claim", "checkpoints")[0] == 3
    assert gate_of(alone, "main", "better", "--fail-if", "worse", "--claim", "checkpoints")[0] == 0


def test_runs_are_ranked_by_validation_and_the_looks_at_this_test_side_are_counted(repository: Clone) -> None:
    found = compared(repository, "main", "better")
    for runs in found["runs"].values():
        scores = [run["val_score"] for run in runs]
        assert scores == sorted(scores, reverse=True)
        assert sorted(run["seed"] for run in runs) == [0, 1, 2]
    assert found["models_seen"] == 6


def test_one_seed_a_side_is_undetermined_and_the_way_to_more_is_named(repository: Clone, tmp_path: Path) -> None:
    alone = copy_of(repository, tmp_path / "alone")
    alone.dvc_here("exp", "remove", "--all-commits")
    found = compared(alone, "main", "better")
    assert found["checkpoint"]["primary"]["verdict"] == "better"
    assert found["change"]["undetermined_because"] == "one seed per side"
    assert found["more_seeds"][-1] == "dvc queue start"
    alone.dvc_here("exp", "run", "--queue", "-S", "seed=1")
    found = compared(alone, "main", "better")
    assert "1 run of main with another seed is queued or running; it counts once it is done" in found["remarks"]
    assert [command.split("seed=")[-1] for command in found["more_seeds"]] == [
        "2' && git checkout -q -", "1,2' && git checkout -q -", "dvc queue start",
    ]  # fmt: skip


def test_seeds_that_other_versions_trained_are_said() -> None:
    class Told(Revision):
        def tracked_json(self, path: str, type_: type[Any]) -> Any:
            return {"device": "cpu", "versions": {"numpy": "2.4", "torch": "2.14" if self.name == "a" else "2.15"}}

    runs: Any = [SimpleNamespace(revision=Told(name, None)) for name in ("main", "a", "b")]
    assert other_environments(runs) == (
        "the seeds of main were trained in different environments, which moves scores too: torch 2.15 or 2.14"
    )
    assert other_environments(runs[::2]) is None


@pytest.mark.slow
def test_the_commands_for_more_seeds_train_both_sides_and_leave_changed_files_alone(
    repository: Clone, tmp_path: Path
) -> None:
    alone = copy_of(repository, tmp_path / "alone")
    alone.dvc_here("exp", "remove", "main-1", "main-2", "better-0", "better-1")
    alone.set_params(wrong=0.15)  # not run: neither side's
    *queued, start = compared(alone, "main", "better-2")["more_seeds"]  # the one a branch, the other an experiment
    assert (len(queued), start) == (2, "dvc queue start")
    alone.run("bash", "-c", " && ".join([*queued, start]))
    while "Running" in (status := alone.dvc_here("queue", "status")) or "Queued" in status:
        time.sleep(0.2)
    assert status.count("Success") == 4, status
    assert alone.yaml("params.yaml")["wrong"] == 0.15
    assert alone.git("branch", "--show-current") == "main\n"
    found = compared(alone, "main", "better-2")
    assert [sorted(run["seed"] for run in found["runs"][side]) for side in ("base", "new")] == [[0, 1, 2]] * 2
    assert found["change"]["primary"]["verdict"] == "better"
    assert found["more_seeds"] == []


def test_an_experiment_is_found_by_its_name_and_two_seeds_are_no_change(repository: Clone) -> None:
    found = compared(repository, "main", "main-1")
    assert found["change"] is None
    assert any("differ in the seed only" in remark for remark in found["remarks"])
    assert found["differences"]["params"] == {"seed": [0, 1]}


def test_the_working_tree_is_compared_where_no_second_revision_is_named(repository: Clone) -> None:
    found = compared(repository, "better")
    assert found["new"] == f"main ({repository.git('rev-parse', '--short=7', 'HEAD').strip()})"
    assert found["checkpoint"]["primary"]["verdict"] == "worse"


def test_changed_code_is_the_python_of_src_and_stages_that_git_has_otherwise(repository: Clone, tmp_path: Path) -> None:
    edited = copy_of(repository, tmp_path / "edited")
    edited.git("checkout", "--quiet", "-b", "code")
    for name in ("src/new/module.py", "src/notes.txt", "stages/new.py", "tools/other.py"):
        write(edited.folder / name, "1\n")
    edited.commit("new code")
    assert changed_code(edited, "main", "code") == ["src/new/module.py", "stages/new.py"]
    assert changed_code(edited, "code", "better") == ["src/new/module.py", "stages/new.py"]
    # Of the working tree what is not committed too, tracked or not, but not what git ignores.
    edited.git("mv", "src/new/module.py", "src/new/renamed.py")
    write(edited.folder / "src/toy.py", "2\n")
    write(edited.folder / "src/untracked.py", "1\n")
    write(edited.folder / "src/ignored.py", "1\n")
    write(edited.folder / ".gitignore", "/data/\nignored.py\n")
    changed = ["src/new/module.py", "src/new/renamed.py", "src/toy.py", "src/untracked.py"]
    assert changed_code(edited, "code") == changed


def test_an_experiment_is_compared_with_the_code_that_it_ran(repository: Clone, tmp_path: Path) -> None:
    edited = copy_of(repository, tmp_path / "edited")
    script = edited.folder / "src/toy.py"
    before = script.read_text()
    script.write_text(before + "# another\n")
    edited.dvc_here("exp", "run", "--temp", "--name", "other-code", "-S", "wrong=0.25")
    script.write_text(before)
    assert changed_code(edited, "main", "other-code") == ["src/toy.py"]


def test_of_code_that_git_does_not_tell_apart_dvc_lock_names_the_folder(repository: Clone, tmp_path: Path) -> None:
    hidden = copy_of(repository, tmp_path / "hidden")
    pipeline = hidden.yaml("dvc.yaml")
    pipeline["stages"]["train"]["deps"] += ["src/lib/"]
    (hidden.folder / "dvc.yaml").write_text(json.dumps(pipeline))
    write(hidden.folder / ".gitignore", "/data/\n/src/lib/\n")
    write(hidden.folder / "src/lib/module.py", "1\n")
    hidden.dvc_here("repro")
    hidden.commit("a folder of code that git ignores")
    assert changed_code(hidden, "main~1") == []  # which has no such folder
    write(hidden.folder / "src/lib/module.py", "2\n")
    hidden.dvc_here("repro")
    assert changed_code(hidden, "main") == ["src/lib/"]
    hidden.git("add", "--force", "src/lib")
    assert changed_code(hidden, "main") == ["src/lib/module.py"]


def test_a_repository_below_the_root_of_git_is_compared_like_one_at_it(repository: Clone, tmp_path: Path) -> None:
    whole = Clone(tmp_path / "whole")
    inner = Clone(whole.folder / "team/inner")
    shutil.copytree(repository.folder, inner.folder, symlinks=True, ignore=shutil.ignore_patterns(".git", "tmp"))
    write(whole.folder / "src/outer.py", "1\n")
    whole.git("init", "--quiet", "--initial-branch=main")
    whole.git("config", "user.name", "A. Tester")
    whole.git("config", "user.email", "tester@example.org")
    whole.commit("start")
    inner.set_params(wrong=0.2, shift=1)
    write(inner.folder / "src/new.py", "1\n")
    inner.dvc_here("repro")
    whole.commit("fewer wrong pixels")
    write(whole.folder / "src/outer.py", "2\n")
    for sides in (("HEAD~1", "HEAD"), ("HEAD~1",)):
        found = compared(inner, *sides)
        assert found["checkpoint"]["primary"]["verdict"] == "better"
        assert found["differences"]["code"] == ["src/new.py"]
        assert found["differences"]["data"][0]["changed"] == 12


def test_two_models_that_one_folder_of_initial_weights_held_are_a_difference() -> None:
    started = []
    for md5 in ("aa.dir", "bb.dir"):
        revision = Revision("a run", None)
        dep = LockedFile("data/custom/weights", md5)
        params = {"params.yaml": {"initial_weights": "data/custom/weights", "seed": 0}}
        revision.lock = {"train": LockedStage(deps=(LockedFile("data/masks", "cc"), dep), params=params)}
        started.append(start_of(revision))
    assert started == [{"initial_weights (content)": "aa.dir"}, {"initial_weights (content)": "bb.dir"}]


def test_the_images_that_changed_most_are_named_and_drawn(repository: Clone, tmp_path: Path) -> None:
    finished = repository.run(
        "cocoseg", "compare", "main", "better", "--format", "md", "--images", "3",
        "--pictures", str(tmp_path / "pictures"),
    )  # fmt: skip
    changed = compared(repository, "main", "better", "--images", "3")["images_changed"]
    assert len(changed) == 3
    assert all(one["new"] > one["base"] for one in changed)
    assert f"Drawn in {tmp_path / 'pictures' / 'changed.png'}." in finished.stdout
    assert (tmp_path / "pictures" / "changed.png").read_bytes().startswith(b"\x89PNG")


def test_a_comment_shows_the_images_that_changed_where_the_branch_has_their_picture(
    repository: Clone, tmp_path: Path
) -> None:
    clone = copy_of(repository, tmp_path / "branch")
    clone.git("checkout", "--quiet", "--force", "-B", "shown", "better")
    command = [
        "cocoseg", "compare", "main", "shown", "--format", "md", "--images", "1",
        "--pictures", "comparison", "--plots-url", "https://example.org/raw/abc/",
    ]  # fmt: skip
    assert "Drawn in comparison/changed.png." in clone.run(*command).stdout
    clone.commit("the picture")
    said = clone.run(*command).stdout
    assert "![base above, new below](https://example.org/raw/abc/comparison/changed.png)" in said
    assert "Drawn in" not in said
    clone.git("checkout", "--quiet", "--force", "-B", "merged", "main")
    clone.git("checkout", "--quiet", "shown", "--", "comparison")
    clone.commit("an older comparison")
    command[2] = "merged"
    assert "Drawn in comparison/changed.png." in clone.run(*command).stdout


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        # Totals of background, cat and dog: target, predicted, hit.
        ([[4, 4, 4], [4, 4, 4], [0, 0, 0]], [[4, 8, 4], [4, 0, 0], [0, 0, 0]], "all predicted as background"),
        ([[4, 8, 4], [4, 0, 0], [0, 0, 0]], [[4, 4, 4], [4, 4, 4], [0, 0, 0]], "no longer all background"),
        ([[4, 4, 4], [2, 2, 2], [2, 2, 2]], [[4, 4, 4], [2, 0, 0], [2, 4, 2]], "lost: cat"),
        ([[4, 4, 4], [2, 0, 0], [2, 4, 2]], [[4, 4, 4], [2, 2, 2], [2, 2, 2]], "found: cat"),
        ([[4, 4, 4], [4, 4, 4], [0, 0, 0]], [[4, 4, 4], [4, 3, 3], [0, 1, 0]], "wrongly found: dog"),
        ([[4, 4, 4], [4, 3, 3], [0, 1, 0]], [[4, 4, 4], [4, 4, 4], [0, 0, 0]], "no longer wrongly found: dog"),
        ([[4, 4, 4], [4, 4, 4], [0, 0, 0]], [[4, 4, 4], [4, 0, 0], [0, 4, 0]], "lost: cat; wrongly found: dog"),
        ([[4, 4, 4], [4, 4, 4], [0, 0, 0]], [[4, 6, 4], [4, 2, 2], [0, 0, 0]], None),
    ],
)
def test_a_score_that_collapses_names_the_classes_that_were_lost_or_wrongly_found(
    old: list[list[int]], new: list[list[int]], reason: str | None
) -> None:
    assert change_reason(np.array(old), np.array(new), ("background", "cat", "dog")) == reason


def test_results_are_read_from_the_remote_where_the_cache_has_none(repository: Clone, tmp_path: Path) -> None:
    far = copy_of(repository, tmp_path / "far")
    # --local: set after both branches were made, so that no revision knows of it
    far.dvc_here("remote", "add", "--local", "--default", "store", str(tmp_path / "store"))
    for branch in ("better", "main"):
        far.git("checkout", "--quiet", branch)
        far.dvc_here("push")
    shutil.rmtree(far.folder / ".dvc/cache")
    shutil.rmtree(far.folder / "data")
    found = compared(far, "better", "main")
    assert found["checkpoint"]["primary"]["verdict"] == "worse"
    assert not (far.folder / ".dvc/cache").exists()  # two tables were read, and nothing was pulled
    shutil.rmtree(tmp_path / "store")
    line = error_of(far, "better", "main")
    assert "data/evaluation/per_image.csv is neither in the cache nor on the remote" in line
    assert "dvc push" in line
    far.dvc_here("config", "--local", "core.remote", "lost")
    line = error_of(far, "better", "main")
    assert "core.remote is lost, which is no remote; see dvc remote list" in line


def test_other_test_images_are_said_first_and_only_the_common_ones_compared(repository: Clone, tmp_path: Path) -> None:
    more = copy_of(repository, tmp_path / "more")
    more.set_params(images=30, wrong=0.2)
    more.dvc_here("repro")
    found = compared(more, "main")
    assert found["remarks"][0].startswith("the test sides differ: 24 images in common, 0 removed, 6 added")
    assert found["images"] == 24
    assert found["checkpoint"]["primary"]["verdict"] == "better"
    entered = {one["what"]: (one["entered"], one["left"], one["changed"]) for one in found["differences"]["data"]}
    assert entered == {"images": (6, 0, 0), "masks": (6, 0, 0), "test images": (6, 0, 0)}


def test_where_the_truth_differs_both_are_scored_on_the_new_one(repository: Clone, tmp_path: Path) -> None:
    other = copy_of(repository, tmp_path / "other")
    other.set_params(shift=4)
    other.dvc_here("repro")
    found = compared(other, "main")
    assert "the masks of 12 common images differ: both are scored on those of the working tree" in found["remarks"]
    # On its own truth the base scores higher than on the new one, of which it has never seen a third.
    own = json.loads(other.git("show", "main:metrics/evaluate.json"))
    assert found["checkpoint"]["primary"]["base"] < own["miou"] - 0.05
    assert next(one for one in found["differences"]["data"] if one["what"] == "masks")["changed"] == 12


def test_images_of_one_name_but_other_content_are_no_common_images(repository: Clone, tmp_path: Path) -> None:
    other = copy_of(repository, tmp_path / "other")
    other.set_params(tint=100)  # the odd ones
    other.dvc_here("repro")
    found = compared(other, "main")
    assert found["remarks"][0] == (
        "the test sides differ: 12 images in common, 0 removed, 0 added, 12 with the same name but other content; "
        "only those in common are compared"
    )
    assert found["images"] == 12


def test_results_that_do_not_belong_together_are_refused(repository: Clone, tmp_path: Path) -> None:
    stale = copy_of(repository, tmp_path / "stale")
    stale.git("checkout", "--quiet", "better")  # and no dvc checkout
    told = "data/evaluation/per_image.csv and metrics/evaluate.json are of different runs"
    assert f"): {told}; run dvc checkout, or dvc repro" in error_of(stale, "main")
    stale.git("checkout", "--quiet", "main")
    table = stale.folder / "data/evaluation/per_image.csv"
    lines = table.read_text().splitlines()
    table.unlink()
    table.write_text("\n".join(lines[:31]) + "\n")  # 15 of 24 images
    assert told in error_of(stale, "better")


def test_a_score_that_the_table_of_images_does_not_give_is_refused(repository: Clone, tmp_path: Path) -> None:
    forged = copy_of(repository, tmp_path / "forged")
    right = json.loads(forged.git("show", "HEAD:metrics/evaluate.json"))
    for name, key, told in (("scores", "miou", 0.9), ("evaluate", "pixel_accuracy", None), ("evaluate", "recall", {})):
        path = forged.folder / f"metrics/{name}.json"
        values = json.loads(path.read_text())
        values[key] = values[key] | {"cat": 0.9} if isinstance(told, dict) else told
        path.unlink()
        path.write_text(json.dumps(values))
        forged.dvc_here("commit", "--force", "evaluate")
        forged.commit("better than it is")
        is_ = f"{key}.cat is 0.9" if isinstance(told, dict) else f"{key} is {told}"
        gives = right[key]["cat"] if isinstance(told, dict) else right[key]
        assert error_of(forged, "better").endswith(
            f"): metrics/{name}.json: {is_}, but data/evaluation/per_image.csv gives {gives}; "
            "run dvc repro -f evaluate there and commit the results"
        )
        forged.git("revert", "--no-edit", "HEAD")
        forged.dvc_here("checkout", "--force")
    assert compared(forged, "better")["checkpoint"]["primary"]["verdict"] == "worse"


def test_a_model_below_the_baseline_is_said_before_it_is_called_better(repository: Clone, tmp_path: Path) -> None:
    poor = copy_of(repository, tmp_path / "poor")
    path = poor.folder / "metrics/evaluate.json"
    values = json.loads(path.read_text())
    path.unlink()
    path.write_text(json.dumps(values | {"baselines": {"color_and_position": {"miou": 0.99}}}))
    own = f"{values['miou']:.4f} against 0.9900"
    assert compared(poor, "better")["remarks"] == [
        f"the new side is below the color-and-position baseline, which knows no shapes: miou {own} in the new side"
    ]
    poor.commit("poor")
    assert compared(poor, "HEAD")["remarks"][-1] == (
        "both sides are below the color-and-position baseline, which knows no shapes: "
        f"miou {own} in the base, {own} in the new side"
    )


def test_initial_weights_that_may_have_seen_the_scored_images_are_said(repository: Clone, tmp_path: Path) -> None:
    started = copy_of(repository, tmp_path / "started")
    path = started.folder / "metrics/evaluate.json"
    values = json.loads(path.read_text())
    path.unlink()
    path.write_text(json.dumps(values | {"initial_weights_may_have_seen": True}))
    assert compared(started, "better")["remarks"] == [
        "the initial weights of the new side may have been trained on images that are scored here"
    ]


def test_parameters_and_code_changed_since_the_results_are_said_first_and_the_gate_knows_nothing(
    repository: Clone, tmp_path: Path
) -> None:
    edited = copy_of(repository, tmp_path / "edited")
    edited.set_params(wrong=0.1)
    assert compared(edited, "better")["remarks"][0] == (
        "wrong in params.yaml has changed since this run of the working tree; its scores are of the old value; "
        "dvc repro updates them"
    )
    edited.set_params(noise=0.02)
    assert compared(edited, "better")["remarks"][0].startswith(
        "noise and wrong in params.yaml have changed since this run of the working tree; its scores are of the old "
    )
    edited.git("checkout", "--quiet", "-b", "not-run")
    edited.commit("what a merge leaves where nobody runs it")
    write(edited.folder / "src/toy.py", (edited.folder / "src/toy.py").read_text() + "# another\n")
    edited.commit("other code")
    said = [
        "noise and wrong in params.yaml have changed since this run of not-run; its scores are of the old values; "
        "dvc repro updates them",
        "code has changed since these results of not-run (src/toy.py); dvc repro updates them",
    ]
    for sides in (("better", "not-run"), ("not-run", "better")):
        assert compared(edited, *sides)["remarks"][:2] == said
    assert compared(edited, "better", "not-run", command="rank")["remarks"] == said
    for claim in ("change", "checkpoints"):
        status, gate = gate_of(edited, "better", "not-run", "--fail-if", "worse", "--claim", claim)
        assert (status, gate["because"]) == (4, "these results are older than the parameters or the code")
    assert gate_of(edited, "not-run", "better", "--fail-if", "worse")[0] == 0


def test_code_that_is_committed_after_its_results_has_not_changed_since(repository: Clone, tmp_path: Path) -> None:
    edited = copy_of(repository, tmp_path / "edited")
    pipeline = edited.yaml("dvc.yaml")
    pipeline["stages"]["evaluate"]["deps"] += ["src/lib"]
    (edited.folder / "dvc.yaml").write_text(json.dumps(pipeline))
    for name, text in ((".dvcignore", "src/**\n!src/**/\n!src/**/*.py\n"), ("src/lib/a.py", "1\n"), ("src/lib/b", "")):
        write(edited.folder / name, text)
    edited.dvc_here("repro", "evaluate")
    assert compared(edited, "main")["remarks"][:1] != ["code has"]
    for paths in (["dvc.lock", "metrics"], ["."]):
        edited.git("add", *paths)
        edited.git("commit", "--quiet", "--message", "results, then code")
    assert not compared(edited, "better", "main")["is_outdated"]
    write(edited.folder / "src/lib/a.py", "2\n")
    assert compared(edited, "better")["remarks"][0].startswith("code has changed since these results of the working")
    edited.commit("newer code")
    assert compared(edited, "better", "main")["remarks"][0].startswith(
        "code has changed since these results of main (src/lib);"
    )
    # Where the rules are not ours, which files DVC counts is not known here.
    write(edited.folder / ".dvcignore", (edited.folder / ".dvcignore").read_text() + "!src/lib/b\n")
    assert not compared(edited, "better")["is_outdated"]


def test_scores_of_another_model_or_other_data_than_the_run_made_are_refused(repository: Clone, tmp_path: Path) -> None:
    half = copy_of(repository, tmp_path / "half")
    half.dvc_here("exp", "run", "--name", "only-train", "-S", "wrong=0.1", "train")  # as where evaluate fails
    told = "dvc.lock: evaluate ran on another data/model than train has made since; run dvc repro there and commit"
    assert f"only-train: {told}" in error_of(half, "main", "only-train")
    assert f"the working tree: {told}" in error_of(half, "main")
    # An entry of a stage that is no more says nothing.
    pipeline = half.yaml("dvc.yaml")
    del pipeline["stages"]["train"]
    (half.folder / "dvc.yaml").write_text(json.dumps(pipeline))
    assert compared(half, "main")["checkpoint"]["primary"]["verdict"] == "equivalent"


def test_a_stage_of_the_users_own_beside_the_scores_makes_them_neither_mixed_nor_old(
    repository: Clone, tmp_path: Path
) -> None:
    own = copy_of(repository, tmp_path / "own")
    pipeline = own.yaml("dvc.yaml")
    explain = {"cmd": "echo > explain.txt", "deps": ["data/model", "src/explain.py"], "params": ["plotting"]}
    pipeline["stages"]["explain"] = explain | {"outs": [{"explain.txt": {"cache": False}}]}
    (own.folder / "dvc.yaml").write_text(json.dumps(pipeline))
    write(own.folder / "src/explain.py", "1\n")
    own.set_params(plotting=1)
    own.dvc_here("repro", "explain")
    own.commit("a side stage")
    write(own.folder / "src/explain.py", "2\n")
    own.set_params(plotting=2, wrong=0.1)
    own.dvc_here("repro", "evaluate")
    found = compared(own, "main")
    assert (found["is_outdated"], found["checkpoint"]["primary"]["verdict"]) == (False, "better")
    pipeline["stages"]["mask"]["params"].remove("shift")  # of a stage that is no more, other values say nothing
    pipeline["stages"]["masks"] = pipeline["stages"].pop("mask")
    (own.folder / "dvc.yaml").write_text(json.dumps(pipeline))
    own.set_params(plotting=2, wrong=0.1, shift=1)
    assert not compared(own, "main")["is_outdated"]


def test_seeds_that_predict_every_pixel_alike_are_no_independent_runs(repository: Clone, tmp_path: Path) -> None:
    alike = copy_of(repository, tmp_path / "alike")
    for seed in (0, 1, 2):  # of a model that has learned nothing
        alike.dvc_here("exp", "run", "--name", f"nothing-{seed}", "-S", "wrong=2", "-S", f"seed={seed}")
    found = compared(alike, "better", "nothing-0")
    assert [run["seed"] for run in found["runs"]["new"]] == [0, 1, 2]
    assert found["checkpoint"]["primary"]["verdict"] == "worse"
    why = "seeds of nothing-0 predict every pixel alike; does train use seed?"
    assert (found["change"]["primary"]["verdict"], found["change"]["undetermined_because"]) == ("undetermined", why)
    assert found["more_seeds"] == []
    rows = compared(alike, "better", "nothing-0", "main", command="rank")["rows"]
    assert [row["not_ranked_because"] for row in rows] == [None, None, why]


def test_a_base_whose_branch_went_on_is_said_to_differ_by_that_too(repository: Clone, tmp_path: Path) -> None:
    behind = copy_of(repository, tmp_path / "behind")
    at = behind.git("rev-parse", "--short=7", "HEAD").strip()
    behind.git("checkout", "--quiet", "-b", "docs")
    behind.commit("words alone")
    said = (
        "better has other results since the two parted, so the difference is not that of docs alone; to judge that, "
        f"take the commit where they parted as the base: {at}"
    )
    assert compared(behind, "better", "docs")["remarks"] == [said]
    assert compared(behind, "better")["remarks"][0].startswith("better has other results since the two parted")
    behind.git("checkout", "--quiet", "--force", "-b", "amended", "better")
    behind.git("commit", "--quiet", "--amend", "--message", "other words")
    for sides in (("docs", "better"), (at, "docs"), ("better-1", "docs"), ("main", "better"), ("better", "amended")):
        assert "parted" not in str(compared(behind, *sides)["remarks"])


def test_images_that_dvc_add_tracks_are_told_apart_by_their_content(repository: Clone, tmp_path: Path) -> None:
    own = copy_of(repository, tmp_path / "own")
    pipeline = own.yaml("dvc.yaml")
    del pipeline["stages"]["download_images"]  # of which dvc.lock keeps the entry
    (own.folder / "dvc.yaml").write_text(json.dumps(pipeline))
    write(own.folder / ".gitignore", "".join(f"/data/{one.name}\n" for one in (own.folder / "data").iterdir()))
    own.dvc_here("add", "data/images", "data/images.csv")
    own.dvc_here("repro")
    own.commit("images of our own")
    image = own.folder / "data/images/001.png"
    content = (own.folder / "data/images/023.png").read_bytes()
    image.unlink()
    image.write_bytes(content)
    own.dvc_here("add", "data/images")
    own.dvc_here("repro")
    found = compared(own, "main")
    assert found["remarks"][0].startswith("the test sides differ: 23 images in common, 0 removed, 0 added, 1 with the")
    assert found["differences"]["data"] == [{"what": "images", "entered": 0, "left": 0, "changed": 1}]


def test_a_run_of_the_queue_is_said_to_wait_or_to_have_failed(
    repository: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = copy_of(repository, tmp_path / "queue")
    queue.dvc_here("exp", "run", "--queue", "--name", "later", "-S", "wrong=0.1")
    for name in ("later", queue.git("rev-parse", "--short=7", "refs/exps/celery/stash").strip()):
        line = error_of(queue, "main", name)
        assert line == f"cocoseg compare: {name}: has no results yet: it is queued; dvc queue start runs it"
    failed = [QueuedRun("later", "c" * 40, "failed")]
    monkeypatch.setattr(revisions, "queued_runs", lambda: failed)
    monkeypatch.chdir(queue.folder)
    with pytest.raises(CocosegError, match="later: has no results: it failed; dvc queue logs later says why"):
        revisions.find_revision("later")


def test_more_seeds_of_a_stash_are_trained_at_the_stash(repository: Clone, tmp_path: Path) -> None:
    stashed = copy_of(repository, tmp_path / "stashed")
    stashed.set_params(wrong=0.1)
    stashed.dvc_here("repro")
    stashed.git("stash", "--quiet")
    commit = stashed.git("rev-parse", "stash").strip()
    found = compared(stashed, "main", "stash")
    assert found["new"] == f"stash ({commit[:7]})"
    assert found["more_seeds"][0].startswith(f"git checkout -q {commit[:12]} && ")


def test_the_same_model_is_no_change_and_the_base_declares_what_is_judged(repository: Clone, tmp_path: Path) -> None:
    declared = copy_of(repository, tmp_path / "declared")
    declared.set_params(primary_score="pixel_accuracy", min_effect=0.9, gallery_images=5)
    declared.dvc_here("repro")
    found = compared(declared, "main")
    assert found["remarks"] == [
        "primary_score is miou in the base, which decides, and pixel_accuracy in the new side",
        "min_effect is 0.01 in the base, which decides, and 0.9 in the new side",
        "both sides have the same model: there is no change to judge; see git log and dvc exp list -A",
    ]
    assert (found["score"], found["min_effect"], found["change"]) == ("miou", 0.01, None)
    assert found["checkpoint"]["primary"]["verdict"] == "equivalent"
    (base,), (new,) = found["runs"]["base"], found["runs"]["new"]
    assert base["test_score"] == new["test_score"] == found["checkpoint"]["primary"]["base"]


def test_another_threshold_of_the_same_model_is_a_change_to_judge(repository: Clone, tmp_path: Path) -> None:
    lower = copy_of(repository, tmp_path / "lower")
    lower.set_params(threshold=0.25)
    lower.dvc_here("repro")
    found = compared(lower, "main")
    assert found["remarks"] == ["the threshold of foreground is 0.5 in the base and 0.25 in the new side"]
    assert found["checkpoint"]["primary"]["verdict"] == "better"
    assert found["change"]["primary"]["verdict"] == "undetermined"
    assert found["more_seeds"]
    assert found["models_seen"] == compared(repository, "main")["models_seen"] + 1  # the choice is one more look


def test_a_broken_lock_elsewhere_in_the_history_stops_nothing(repository: Clone, tmp_path: Path) -> None:
    broken = copy_of(repository, tmp_path / "broken")
    broken.git("checkout", "--quiet", "-b", "conflict")
    lock = broken.folder / "dvc.lock"
    lock.write_text("<<<<<<< HEAD\n" + lock.read_text())
    broken.commit("conflict")
    told = "dvc.lock: has the marks of a merge conflict; take the files of one side (git checkout COMMIT -- dvc.lock "
    assert f"cocoseg compare: conflict: {told}" in error_of(broken, "main", "conflict")
    broken.git("checkout", "--quiet", "main")
    assert compared(broken, "main", "better")["models_seen"] == 6


def test_of_experiments_with_one_name_that_of_the_checked_out_commit_is_meant(
    repository: Clone, tmp_path: Path
) -> None:
    twins = copy_of(repository, tmp_path / "twins")
    twins.dvc_here("exp", "run", "--name", "twin", "-S", "wrong=0.25")
    twins.git("checkout", "--quiet", "--force", "better")
    twins.dvc_here("exp", "run", "--name", "twin", "-S", "wrong=0.1")
    assert compared(twins, "main", "twin")["differences"]["params"] == {"wrong": [0.3, 0.1]}
    twins.git("checkout", "--quiet", "--force", "main")
    assert compared(twins, "main", "twin")["differences"]["params"] == {"wrong": [0.3, 0.25]}
    twins.git("checkout", "--quiet", "--force", "-b", "third")
    twins.commit("neither")
    assert "twin: 2 experiments have this name; give the commit of one: " in error_of(twins, "main", "twin")


def test_a_picture_that_cannot_be_drawn_costs_only_itself(repository: Clone, tmp_path: Path) -> None:
    lost = copy_of(repository, tmp_path / "lost")
    found = compared(lost, "main", "better")
    name = found["images_changed"][0]["file_name"]
    image = (lost.folder / "data/images" / name).read_bytes()
    digest = hashlib.md5(image).hexdigest()
    (lost.folder / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).unlink()
    finished = lost.run("cocoseg", "compare", "main", "better", "--pictures", str(tmp_path / "drawn"))
    assert f"Not drawn: better: data/images/{name} is neither in the cache nor on the remote" in finished.stdout
    assert "these checkpoints on these images" in finished.stdout


def test_other_classes_are_not_compared_but_what_differs_is_still_reported(repository: Clone, tmp_path: Path) -> None:
    other = copy_of(repository, tmp_path / "classes")
    other.set_params(classes=["cat", "horse"])
    other.dvc_here("repro")
    finished = other.run("cocoseg", "compare", "main", check=False)
    assert finished.returncode == 1
    assert finished.stderr.count("\n") == 1
    assert "the classes differ, 1 removed (dog) and 1 added (horse)" in finished.stderr
    assert "cat, horse" in finished.stdout
    assert "95 % interval" not in finished.stdout


def test_what_cannot_be_compared_does_not_pass_the_gate_and_is_not_ranked(repository: Clone, tmp_path: Path) -> None:
    other = copy_of(repository, tmp_path / "other")
    other.set_params(classes=["cat", "horse"])
    other.dvc_here("repro")
    other.commit("horses")
    assert error_of(other, "main~1", "--fail-if", "worse").startswith("cocoseg compare: the classes differ")
    with pytest.raises(SystemExit, match="^cocoseg rank: better and main: the classes differ, 1 removed"):
        compared(other, "better", "main", command="rank")


def test_a_lock_is_parsed_once_and_tables_in_the_cache_need_no_file_system_of_dvc(
    repository: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []

    def counted(text: str) -> Any:
        parsed.append(text)
        return loaded(text)

    monkeypatch.setattr(revisions, "loaded", counted)
    monkeypatch.setattr(revisions, "files_of_run", None)
    revisions._stages.cache_clear()
    found = compared(repository, "main", "better")
    assert [len(found["runs"][side]) for side in ("base", "new")] == [3, 3]
    assert len(parsed) == len(set(parsed)) == 6


def test_runs_are_ranked_by_group_and_one_with_too_few_seeds_comes_last(repository: Clone, tmp_path: Path) -> None:
    alone = copy_of(repository, tmp_path / "alone")
    alone.dvc_here("exp", "run", "--name", "single", "-S", "wrong=0.25")
    # Three seeds of main, named by two; three of better.
    found = compared(alone, "main", "single", "main-1", "better", "main", command="rank")
    rows = found["rows"]
    assert [(row["name"].split()[0], row["letters"], sorted(row["seeds"])) for row in rows] == [
        ("better", "a", [0, 1, 2]), ("main", "b", [0, 1, 2]), ("single", "", [0])
    ]  # fmt: skip
    assert [row["params"] for row in rows] == [{"wrong": 0.2}, {"wrong": 0.3}, {"wrong": 0.25}]
    assert rows[2]["not_ranked_because"] == "one seed, but 3 are needed"
    assert (rows[2]["difference"], len(found["more_seeds"])) == (None, 2)
    (pair,) = found["pairs"]
    assert (pair["first"], pair["second"], pair["verdict"]) == (0, 1, "worse")
    assert (pair["difference"], pair["low"], pair["high"]) == (rows[1]["difference"], rows[1]["low"], rows[1]["high"])
    assert pair["difference"] == pytest.approx(rows[1]["test_score"] - rows[0]["test_score"], abs=2e-6)
    assert found["remarks"] == ["main has the settings and the seed of main: it counts once"]
    as_they_are = compared(alone, "main", "single", "main-1", "--claim", "checkpoints", command="rank")
    assert [row["letters"] for row in as_they_are["rows"]] == ["a", "b", "b"]


def test_a_revision_that_does_not_exist_or_has_no_results_is_one_line(repository: Clone, tmp_path: Path) -> None:
    assert "nowhere: neither a git revision nor an experiment; see git branch -a" in error_of(repository, "nowhere")
    assert "better2: neither a git revision nor an experiment; did you mean better-2?" in error_of(
        repository, "better2"
    )
    bare = copy_of(repository, tmp_path / "bare")
    bare.git("rm", "--quiet", "metrics/evaluate.json")
    bare.git("commit", "--quiet", "--message", "no results")
    assert "HEAD: metrics/evaluate.json not found; run dvc repro there" in error_of(bare, "main~1", "HEAD")
    (bare.folder / "metrics/evaluate.json").write_text('{"primary_score": "auc"}')
    assert "the working tree: metrics/evaluate.json: " in error_of(bare, "main~1")


def test_a_folder_below_the_root_is_told_so(repository: Clone) -> None:
    below = Clone(repository.folder / "src")
    assert "this folder has no dvc.yaml; run from the root of the repository" in error_of(below, "main")


def test_a_shallow_clone_is_told_to_fetch_the_rest(repository: Clone, tmp_path: Path) -> None:
    repository.git("clone", "--quiet", "--depth", "1", f"file://{repository.folder}", str(tmp_path / "shallow"))
    assert "this clone is shallow: git fetch --unshallow" in error_of(Clone(tmp_path / "shallow"), "better")


def test_a_broken_table_names_the_row(repository: Clone, tmp_path: Path) -> None:
    broken = copy_of(repository, tmp_path / "broken")
    table = broken.folder / "data/evaluation/per_image.csv"
    lines = table.read_text().splitlines()
    table.unlink()  # a link into the cache, read-only
    for wrong, told in (("007.png,1,dog,96,60,60", "the row of 007.png, class 1 dog"), ("007.png,1", "per_image.csv")):
        table.write_text("\n".join([*lines[:5], wrong, *lines[6:]]) + "\n")
        line = error_of(broken, "main")
        assert told in line
        assert "dvc repro -f" in line


def test_a_side_without_any_object_cannot_be_judged(tmp_path: Path) -> None:
    empty = environment_of(lambda folder: toy_pipeline(folder, width=0))(tmp_path / "empty")
    assert "no test image shows an object of any class" in error_of(empty, "HEAD")


@pytest.fixture(scope="module")
def in_folds(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Make `main` and a branch with fewer wrong pixels, each run in three folds. The commits have the first."""
    make = environment_of(lambda folder: toy_pipeline(folder, split_rule="fold"))
    return with_better_branch(make(tmp_path_factory.mktemp("toy") / "toy"), "fold")


@pytest.mark.parametrize("new", ["better", "better-1"])
def test_folds_are_paired_and_each_image_counts_once(in_folds: Clone, new: str) -> None:
    found = compared(in_folds, "main", new)
    assert (found["images"], found["folds"]) == (24, [0, 1, 2])
    assert [sorted(run["fold"] for run in found["runs"][side]) for side in ("base", "new")] == [[0, 1, 2]] * 2
    assert found["change"]["primary"]["verdict"] == found["checkpoint"]["primary"]["verdict"] == "better"
    assert found["more_seeds"] == []
    (about,) = found["remarks"]
    assert about.startswith("folds 0, 1, 2 of 3 are compared: each image counts once, ")
    ranked = compared(in_folds, "main", "better", "--claim", "checkpoints", command="rank")
    assert "only fold 0 of 3 is ranked, on a part of the images" in ranked["remarks"]
    ranked = compared(in_folds, "main", new, command="rank")
    assert (ranked["images"], ranked["folds"], ranked["remarks"], ranked["more_seeds"]) == (24, 3, [], [])
    assert [(row["letters"], row["seeds"], row["params"]) for row in ranked["rows"]] == [
        ("a", [0], {"wrong": 0.2}), ("b", [0], {"wrong": 0.3}),
    ]  # fmt: skip
    judged = found["change"]["primary"]  # two groups have one pair, whose interval is that of the comparison
    ends = [-judged[end] for end in ("difference", "high", "low")]
    assert [ranked["pairs"][0][end] for end in ("difference", "low", "high")] == pytest.approx(ends, abs=1e-3)
    # Of the images that changed, only those that both named runs predicted could be drawn.
    assert (found["images_changed"] == []) == (new != "better")


def test_missing_folds_are_said_and_only_common_ones_are_compared(in_folds: Clone, tmp_path: Path) -> None:
    lacking = copy_of(in_folds, tmp_path / "lacking")
    lacking.dvc_here("exp", "remove", "better-2")
    found = compared(lacking, "main", "better")
    assert (found["images"], found["folds"]) == (16, [0, 1])
    assert "the new side has no run of fold 2" in found["remarks"]
    assert found["change"]["undetermined_because"] == "2 folds in common, but 3 are needed"
    assert "--queue -S 'fold=2' " in found["more_seeds"][0]
    ranked = compared(lacking, "main", "better", command="rank")
    assert [row["not_ranked_because"] for row in ranked["rows"]] == [None, "fold 2 of 3 missing"]
    assert "--queue -S 'fold=2' " in ranked["more_seeds"][0]
    lacking.dvc_here("exp", "remove", "main-1", "main-2")
    found = compared(lacking, "main", "better")
    assert (found["images"], found["folds"]) == (8, [0])
    assert found["remarks"] == [
        "only fold 0 of 3 is compared, on a part of the images",
        "the base has no run of folds 1, 2",
        "the new side has no run of fold 2",
    ]
    assert found["change"]["primary"]["verdict"] == "undetermined"
    assert [command.split("fold=")[-1][:4] for command in found["more_seeds"][:2]] == ["1,2'", "2' &"]
    lacking.dvc_here("exp", "remove", "better-0")
    assert (
        "no image in common: fold 0 against fold 1"
        in lacking.run("cocoseg", "compare", "main", "better-1", check=False).stderr
    )


def test_seeds_of_one_fold_are_ranked_where_no_two_models_have_all_folds(in_folds: Clone, tmp_path: Path) -> None:
    seeds = copy_of(in_folds, tmp_path / "seeds")
    seeds.dvc_here("exp", "remove", "--all-commits")
    for wrong in (0.3, 0.2):
        for seed in (1, 2):
            seeds.dvc_here("exp", "run", "--name", f"{wrong}-{seed}", "-S", f"wrong={wrong}", "-S", f"seed={seed}")
    ranked = compared(seeds, "main", "better", command="rank")
    assert (ranked["images"], ranked["folds"], ranked["more_seeds"]) == (8, 0, [])
    assert [(row["seeds"], row["not_ranked_because"]) for row in ranked["rows"]] == [([0, 1, 2], None)] * 2
    assert "only fold 0 of 3 is ranked, on a part of the images" in ranked["remarks"]
    for name in ("0.3", "0.2"):
        seeds.dvc_here("exp", "run", "--name", f"two-{name}", "-S", f"wrong={name}", "-S", "folds=2")
    seeds.dvc_here("exp", "run", "--name", "two-fold-1", "-S", "wrong=0.2", "-S", "folds=2", "-S", "fold=1")
    ranked = compared(seeds, "two-0.3", "two-0.2", command="rank")
    too_few = "2 folds are too few to rank over: 3 are needed"
    assert too_few in ranked["remarks"]
    assert {row["not_ranked_because"] for row in ranked["rows"]} == {"one seed, but 3 are needed"}
    ranked = compared(seeds, "two-0.3", "two-fold-1", command="rank")
    assert ({row["not_ranked_because"] for row in ranked["rows"]}, ranked["more_seeds"]) == ({too_few}, [])


def test_images_in_groups_make_intervals_over_images_doubtful() -> None:
    class Told(Revision):
        def tracked_json(self, path: str, type_: type[Any]) -> Any:
            return msgspec.convert({"rule": "exact", "groups": {"groups": 57}} if self.name == "grouped" else {}, type_)

    said = []
    for name, folds in (("grouped", 1), ("grouped", 5), ("plain", 1)):
        revision = Told(name, None)
        revision.lock = {"split": LockedStage(outs=(LockedFile("metrics/split.json", "aa"),))}
        said.append(about_groups(revision, [Fold(base=[], new=[], images=[], replaced=0)] * folds))
        metrics = RunMetrics(split="test", images=99, primary_score="miou", min_effect=0, iou={},
                             initial_weights_may_have_seen=name == "grouped")  # fmt: skip
        run = Scored(revision=revision, metrics=metrics, totals={}, own_totals={})
        seen = ["the initial weights of grouped may have been trained on images that are scored here"]
        few = "nothing can be told apart: 0 images, but 10 are needed"
        one_side = about_groups(revision, [])
        assert ranking_remarks([run], []) == [few, *(seen if name == "grouped" else []), *one_side]
    what, why = "the images come in 57 groups, but", "each image as independent of the others, and may be too narrow"
    assert said == [
        [f"{what} intervals take {why}"],
        [f"{what} the interval of these checkpoints takes {why}"],
        [],
    ]


def test_two_folds_of_one_model_are_no_change(in_folds: Clone) -> None:
    line = error_of(in_folds, "main", "main-1")
    assert line.endswith("the two were scored on no image in common: fold 0 against fold 1")
