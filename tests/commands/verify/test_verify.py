"""`cocoseg verify`, on a tiny pipeline whose remote is a folder, damaged in ways that DVC does not notice."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from clones import Clone
from counting_pipeline import counting_pipeline
from silent_faults import FAULTS, FIRST, LIST, REPORT, SECOND, SilentFault, cached, dvc_says, flip, md5_of

from cocoseg.cli import main
from cocoseg.core.work_tree import work_tree_held

Verify = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Make the pipeline with all its data in workspace, cache and remote."""
    return counting_pipeline(tmp_path_factory.mktemp("verify") / "made")


@pytest.fixture
def whole(made: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """Make a copy of it with its own remote, to be damaged, and work in it."""
    shutil.copytree(made.folder.parent, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy/made")
    return Clone(tmp_path / "copy/made")


@pytest.fixture
def verify(capsys: pytest.CaptureFixture[str]) -> Verify:
    """Return a function that runs the command and returns its exit status and what it says below the table."""

    def run(*options: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as ended:
            main(["verify", *options])
        if isinstance(ended.value.code, str):
            return 1, ended.value.code
        assert isinstance(ended.value.code, int)
        return ended.value.code, capsys.readouterr().out.partition("\n\n")[2]

    return run


def stored(clone: Clone, name: str) -> Path:
    return clone.folder.parent / "store/files/md5" / name[:2] / name[2:]


def snapshot(folder: Path) -> dict[Path, tuple[int, int, bytes]]:
    """Mode, time and content of every file, but for what DVC itself keeps of its runs."""
    return {
        path: (path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and ".dvc/tmp" not in path.as_posix() and ".git" not in path.parts
    }


def test_a_clone_with_all_its_data_has_no_faults(whole: Clone) -> None:
    finished = whole.run("cocoseg", "verify")
    # 3 drawn files, the empty folder, 2 texts, 1 metric; total.txt is the first file again, and each folder has a list.
    assert [line.split() for line in finished.stdout.splitlines()] == [
        ["named", "missing", "corrupt", "extra"],
        ["--------------", "-------", "---------", "---------", "-------"],
        ["workspace", "7", "0", "0", "0"],
        ["cache", "6", "0", "0", "1"],  # the metric, which the run cache keeps
        ["remote", "'store'", "6", "0", "0", "0"],
        ["DVC's", "notes", "5", "0", "0", "0"],  # a run of each stage, who reads and writes, dvc.lock
        [],
        ["no", "faults"],
    ]
    assert finished.stderr == ""


def an_empty_entry_of_the_run_cache(clone: Clone) -> Path:
    [entry] = [path for path in (clone.folder / ".dvc/cache/runs").glob("*/*/*") if "report" in path.read_text()]
    entry.unlink()
    return entry.parent


def an_empty_list_of_reads_and_writes(clone: Clone) -> Path:
    path = clone.folder / ".dvc/tmp/rwlock"
    path.write_bytes(b"")
    return path


def a_cut_off_lock(clone: Clone) -> Path:
    path = clone.folder / "dvc.lock"
    path.write_bytes(b"schema: '2.0'\nstages:\n  dr")
    return path


@pytest.mark.parametrize(
    ("happens", "dvc_line"),
    [
        (a_cut_off_lock, "'./dvc.lock' validation failed"),
        (an_empty_entry_of_the_run_cache, "join() argument must be str, bytes, or os.PathLike object"),
        (
            an_empty_list_of_reads_and_writes,
            "Unable to read RWLock-file '.dvc/tmp/rwlock'. JSON structure is corrupted",
        ),
    ],
)
def test_what_a_kill_leaves_of_dvcs_own_notes_is_removed_and_dvc_goes_on(
    happens: Callable[[Clone], Path], dvc_line: str, whole: Clone, verify: Verify
) -> None:
    (whole.folder / "dvc.lock").unlink()
    whole.dvc("commit", "--force", "draw", "count")  # all but the last stage
    name = happens(whole).relative_to(whole.folder).as_posix()
    assert dvc_line in whole.dvc("repro", check=False)
    fault = f"corrupt in DVC's notes: {name}"
    way_out = "left by a kill, a full disk or an edit, and dvc repro fails on it; cocoseg verify --repair repairs it"
    status, said = verify("--no-remote")
    assert (status, said.splitlines()[0], said.splitlines()[-1]) == (1, f"{fault} ({way_out})", "1 fault")
    status, said = verify("--no-remote", "--repair")
    looked_at = name.startswith(".dvc/cache/runs")
    assert (status, said.splitlines()[0]) == (0 if looked_at else 3, f"{fault} (repaired)")
    assert said.splitlines()[-1].startswith("1 fault, all repaired")
    assert said.endswith("; the data was not checked: run cocoseg verify again\n") == (not looked_at)
    assert "report" in whole.dvc("repro")
    assert verify("--no-remote") == (0, "no faults\n")


def test_a_lock_is_mended_from_what_is_staged_and_the_data_stays(whole: Clone, verify: Verify) -> None:
    whole.set_params(count=4)
    whole.dvc("repro")
    staged = (whole.folder / "dvc.lock").read_text()
    whole.git("add", "dvc.lock")
    (whole.folder / "dvc.lock").write_bytes(b"")
    assert verify("--repair")[0] == 3  # the data was not checked
    assert (whole.folder / "dvc.lock").read_text() == staged
    assert verify("--no-remote") == (0, "no faults\n")


def test_outputs_that_the_lock_does_not_name_are_named(whole: Clone, verify: Verify) -> None:
    lock = (whole.folder / "dvc.lock").read_text()
    (whole.folder / "dvc.lock").write_text(lock[: lock.index("  report:")])  # torn, but YAML all the same
    line = "not in dvc.lock, so not checked: report.txt; make them with: dvc repro\nno faults\n"
    assert verify() == (0, line)


def test_a_hash_that_is_not_valid_is_one_line_and_nothing_is_moved(whole: Clone, verify: Verify) -> None:
    lock = (whole.folder / "dvc.lock").read_text()
    (whole.folder / "dvc.lock").write_text(lock.replace(REPORT, "../../../../victim.txt"))
    before = snapshot(whole.folder.parent)
    status, said = verify("--repair")
    assert status == 1
    assert said.startswith("cocoseg verify: dvc.lock: the hash of report.txt is '../../../../victim.txt'; ")
    assert snapshot(whole.folder.parent) == before


def test_an_output_with_a_remote_of_its_own_goes_to_no_other(whole: Clone, verify: Verify) -> None:
    for name in ("public", "private"):
        whole.dvc("remote", "add", name, f"../{name}")
    text = (whole.folder / "dvc.yaml").read_text()
    (whole.folder / "dvc.yaml").write_text(text.replace("outs: [report.txt]", "outs: [report.txt: {remote: private}]"))
    whole.dvc("push", "--remote", "public")
    assert verify("--remote", "public", "--repair")[0] == 3  # the private one is empty
    assert not list((whole.folder.parent / "public").rglob(REPORT[2:]))


def test_a_file_that_cannot_be_read_is_not_taken_for_corrupt(whole: Clone, verify: Verify) -> None:
    path = cached(whole, SECOND)
    path.unlink()
    path.symlink_to(path.name)  # a loop, which even root cannot read
    assert "unreadable in cache: raw/1.txt (intact copy: remote 'store')" in verify()[1]


def test_nothing_is_repaired_while_a_stage_runs(whole: Clone, verify: Verify) -> None:
    running = {"pid": os.getpid(), "cmd": "dvc repro"}
    notes = {"write": {str(whole.folder / "raw"): running}, "read": {}}
    (whole.folder / ".dvc/tmp/rwlock").write_text(json.dumps(notes))
    (whole.folder / "raw/1.txt").unlink()
    status, said = verify("--repair")
    assert status == 1
    assert f"'{whole.folder}' is busy, it is being blocked by" in said
    assert said.endswith("; run again when it has finished")
    assert not (whole.folder / "raw/1.txt").exists()


def test_what_a_stage_writes_at_this_moment_is_not_judged(whole: Clone, verify: Verify) -> None:
    (whole.folder / "raw/1.txt").unlink()
    (whole.folder / "raw/new.txt").touch()
    (whole.folder / "data").mkdir()
    with work_tree_held(whole.folder / "data/.lock", "draw"):
        status, said = verify()
        assert (status, said.splitlines()[-1]) == (3, "no faults elsewhere")
        assert said.startswith("not checked in workspace: none, raw; written at this moment by draw, process ")
        (whole.folder / "report.txt").unlink()
        status, said = verify()
        assert (status, said.splitlines()[-1]) == (1, "1 fault")
    note = whole.folder / ".dvc/tmp/rwlock"
    with subprocess.Popen([sys.executable, "-c", "input()", "/bin/dvc", "repro"], stdin=subprocess.PIPE) as running:
        notes = {"write": {str(whole.folder / "raw"): {"pid": running.pid, "cmd": "/usr/bin/dvc repro"}}, "read": {}}
        note.write_text(json.dumps(notes))
        told = f"not checked in workspace: raw; written at this moment by /usr/bin/dvc repro, process {running.pid}\n"
        assert told in verify()[1]
        os.utime(note, (1, 1))  # older than the process, which has only got the number of one that was killed
        assert verify()[1].endswith("3 faults\n")
        running.communicate(b"\n")
    notes["write"][str(whole.folder / "raw")]["pid"] = os.getpid()  # of another program
    note.write_text(json.dumps(notes))
    assert verify()[1].endswith("3 faults\n")
    note.unlink()
    assert verify()[1].endswith("3 faults\n")


def test_nothing_is_repaired_while_a_stage_that_was_started_by_hand_holds_the_work_tree(
    whole: Clone, verify: Verify
) -> None:
    (whole.folder / "data").mkdir()
    with work_tree_held(whole.folder / "data/.lock", "train"):
        status, said = verify("--repair")
    assert status == 1
    assert ": in use by train, process " in said


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_each_fault_is_named_and_repaired_whether_dvc_sees_it_or_not(
    fault: SilentFault, whole: Clone, verify: Verify
) -> None:
    whole.dvc("status")  # from here on DVC believes what it has seen
    before = snapshot(whole.folder.parent)
    fault.happens(whole)
    damaged = snapshot(whole.folder.parent)
    assert (dvc_says(whole) == "clean") != fault.dvc_sees_it
    status, said = verify()
    assert status == 1
    assert tuple(line.partition(" (")[0] for line in said.splitlines()[:-1]) == fault.says
    assert snapshot(whole.folder.parent) == damaged  # nothing was touched
    status, said = verify("--repair")
    assert (status, "all repaired" in said) == (0, True)
    assert verify() == (0, "no faults\n")
    assert dvc_says(whole) == "clean"
    after = snapshot(whole.folder.parent)
    assert {path: content for path, (_, _, content) in after.items()} == {
        path: content for path, (_, _, content) in before.items()
    }
    assert {mode & 0o777 for path, (mode, _, _) in after.items() if "files" in path.parts} == {0o444}


def test_a_remote_object_that_is_corrupt_reaches_another_clone_unless_it_is_verified(
    whole: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: Verify
) -> None:
    flip(stored(whole, SECOND))
    whole.git("clone", "--quiet", ".", "../other")
    other = Clone(whole.folder.parent / "other")
    other.dvc("pull")
    assert dvc_says(other) == "clean"
    monkeypatch.chdir(other.folder)
    status, said = verify()
    assert status == 1
    assert said.splitlines()[:3] == [
        "corrupt in workspace: raw/1.txt (no intact copy is left: dvc repro --force draw makes it again)",
        "corrupt in cache: raw/1.txt (no intact copy is left: dvc repro --force draw makes it again)",
        "corrupt in remote 'store': raw/1.txt (no intact copy is left: dvc repro --force draw makes it again)",
    ]


def test_what_has_no_right_copy_left_is_made_again_as_the_line_says(whole: Clone, verify: Verify) -> None:
    for path in (whole.folder / "raw/1.txt", cached(whole, SECOND), stored(whole, SECOND)):
        flip(path)
    status, said = verify("--repair")
    assert (status, said.count("no intact copy is left: dvc repro --force draw makes it again")) == (1, 3)
    assert not cached(whole, SECOND).exists()  # else dvc repro would take the corrupt object for its output
    assert [path.read_text() for path in (whole.folder / ".dvc/tmp/set-aside").glob(f"*/cache/{SECOND}")] == ["erawn 1"]
    whole.dvc("repro", "--force", "draw")
    assert verify("--repair")[0] == 0
    assert verify() == (0, "no faults\n")


def test_data_that_is_nowhere_is_missed_though_dvc_repro_is_content(whole: Clone, verify: Verify) -> None:
    for path in ("report.txt", cached(whole, REPORT), stored(whole, REPORT)):
        (whole.folder / path).unlink()
    said_by_dvc = whole.dvc("repro", "--pull", "--allow-missing", "--dry")
    assert "up to date" in said_by_dvc
    status, said = verify()
    assert (status, said.count("no intact copy is left: dvc repro --force report")) == (1, 3)
    for path in (whole.folder / "dvc.yaml", whole.folder / "dvc.lock"):
        path.write_text(path.read_text().replace("\n  report:\n", "\n  train:\n"))
    status, said = verify()
    nowhere = (
        "(no intact copy is here or on the remote: first run cocoseg verify --repair in the clone where it was made; "
        "dvc repro --force train trains another model)"
    )
    assert (status, said.count(nowhere)) == (1, 3)


def test_in_a_fresh_clone_repair_does_what_dvc_pull_does_and_trusts_nothing(
    whole: Clone, monkeypatch: pytest.MonkeyPatch, verify: Verify
) -> None:
    whole.git("clone", "--quiet", ".", "../fresh")
    fresh = Clone(whole.folder.parent / "fresh")
    monkeypatch.chdir(fresh.folder)
    status, said = verify()
    assert status == 1
    # 5 files and an empty folder, 6 objects
    assert said == "12 faults; none of the data is here: dvc pull fetches it from a remote, dvc repro makes it\n"
    flip(stored(whole, REPORT))
    assert verify()[1].splitlines()[0].startswith("corrupt in remote 'store': report.txt")
    flip(stored(whole, REPORT))
    assert verify("--repair")[0] == 0
    assert "up to date" in fresh.dvc("status")
    assert (fresh.folder / "none").is_dir()


def test_a_list_that_only_the_workspace_can_tell_is_written_anew(whole: Clone, verify: Verify) -> None:
    cached(whole, LIST).unlink()
    stored(whole, LIST).unlink()
    assert verify()[1].startswith("missing in cache: raw (intact copy: workspace)\n")
    assert verify("--repair")[0] == 0
    assert verify() == (0, "no faults\n")


def test_a_folder_whose_list_is_nowhere_and_which_has_changed_is_corrupt_as_a_whole(
    whole: Clone, verify: Verify
) -> None:
    cached(whole, LIST).unlink()
    stored(whole, LIST).unlink()
    (whole.folder / "raw/1.txt").write_text("other")
    assert verify("--repair")[1].startswith("corrupt in workspace: raw (no intact copy is left: dvc repro --force draw")
    assert (whole.folder / "raw/1.txt").read_text() == "other"  # who knows


def test_a_linked_folder_inside_an_output_is_set_aside_and_what_it_leads_to_stays(whole: Clone, verify: Verify) -> None:
    draw = whole.folder / "draw.py"
    draw.write_text(draw.read_text() + 'Path("raw/sub").mkdir()\nPath("raw/sub/deep.txt").write_text("deep")\n')
    whole.dvc("repro")
    folder, outside = whole.folder / "raw/sub", whole.folder.parent / "outside"
    shutil.move(folder, outside)
    folder.symlink_to(outside, target_is_directory=True)
    before = snapshot(outside)
    assert verify("--no-remote")[0] == 1
    assert verify("--repair")[0] == 0
    assert (folder.is_symlink(), folder.is_dir()) == (False, True)
    assert snapshot(outside) == before
    assert "up to date" in whole.dvc("status")


def test_what_a_repair_writes_is_on_the_disk_before_it_has_its_name(
    whole: Clone, verify: Verify, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [whole.folder / "raw/1.txt", cached(whole, SECOND), stored(whole, FIRST)]
    for place in places:
        place.unlink()
    on_the_disk: set[int] = set()
    sync = os.fsync

    def synced(descriptor: int) -> None:
        sync(descriptor)
        assert not any(place.exists() and place.stat().st_ino == os.fstat(descriptor).st_ino for place in places)
        on_the_disk.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", synced)
    assert verify("--repair")[0] == 0
    assert {place.stat().st_ino for place in places} <= on_the_disk


def test_what_the_user_wrote_is_set_aside_and_never_lost(whole: Clone, verify: Verify) -> None:
    (whole.folder / "raw/1.txt").write_text("by hand")
    (whole.folder / "raw/more.txt").write_text("an extra file")
    assert [line.partition(" (")[0] for line in verify()[1].splitlines()] == [
        "corrupt in workspace: raw/1.txt",
        "extra in workspace: raw/more.txt",
        "2 faults",
    ]
    status, said = verify("--repair")
    assert status == 0
    assert said.endswith("all repaired; replaced files are in .dvc/tmp/set-aside\n")
    (whole.folder / "raw/1.txt").write_text("by hand again")
    verify("--repair")
    aside = (whole.folder / ".dvc/tmp/set-aside").glob("*/raw/*")  # a folder for each of the two
    assert sorted((path.name, path.read_text()) for path in aside) == [
        ("1.txt", "by hand"),
        ("1.txt", "by hand again"),
        ("more.txt", "an extra file"),
    ]


def test_what_was_written_through_a_link_to_the_cache_is_set_aside_too(whole: Clone, verify: Verify) -> None:
    whole.dvc("config", "cache.type", "symlink")
    whole.dvc("checkout", "--relink")
    cached(whole, SECOND).chmod(0o644)
    (whole.folder / "raw/1.txt").write_text("by hand")
    assert verify("--repair")[0] == 0
    aside = (whole.folder / ".dvc/tmp/set-aside").glob(f"*/cache/{SECOND}")
    assert [path.read_text() for path in aside] == ["by hand"]
    assert (whole.folder / "raw/1.txt").read_text() == "drawn 1"


def test_a_link_that_leads_nowhere_is_set_aside(whole: Clone, verify: Verify) -> None:
    (whole.folder / "raw/1.txt").unlink()
    (whole.folder / "raw/1.txt").symlink_to("/mnt/away/photo.jpg")
    assert verify("--repair")[0] == 0
    [aside] = (whole.folder / ".dvc/tmp/set-aside").iterdir()
    assert (aside / "raw/1.txt").readlink() == Path("/mnt/away/photo.jpg")


def test_a_folder_that_is_to_be_empty_is_so_again(whole: Clone, verify: Verify) -> None:
    (whole.folder / "none/hi.txt").write_text("hi")
    assert verify("--repair")[0] == 0
    assert verify() == (0, "no faults\n")


@pytest.mark.parametrize("kind", ["hardlink", "symlink", "copy"])
def test_a_file_comes_back_linked_as_dvc_links(kind: str, whole: Clone, verify: Verify) -> None:
    whole.dvc("config", "cache.type", kind)
    whole.dvc("checkout", "--relink")
    whole.dvc("status")
    (whole.folder / "raw/1.txt").unlink()
    shutil.rmtree(whole.folder / ".dvc/cache/files")
    assert verify("--repair")[0] == 0
    file = whole.folder / "raw/1.txt"
    assert file.is_symlink() == (kind == "symlink")
    assert file.samefile(cached(whole, SECOND)) == (kind != "copy")
    assert (cached(whole, SECOND).stat().st_mode & 0o777) == 0o444
    assert os.access(file, os.W_OK) or kind != "copy"
    assert "up to date" in whole.dvc("status")
    assert verify() == (0, "no faults\n")


def test_a_program_that_dvc_keeps_comes_back_as_one_that_runs(whole: Clone, verify: Verify) -> None:
    program = whole.folder / "program.sh"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    whole.dvc_here("add", "program.sh")
    program.unlink()
    assert verify("--repair")[0] == 0
    assert os.access(program, os.X_OK)


def test_what_stands_in_the_way_is_set_aside(whole: Clone, verify: Verify) -> None:
    shutil.rmtree(whole.folder / "raw")
    (whole.folder / "raw").write_text("a file where a folder should be")
    (whole.folder / "total.txt").unlink()
    (whole.folder / "total.txt").mkdir()
    (whole.folder / "total.txt/inside").write_text("a folder where a file should be")
    assert verify("--repair")[0] == 0
    assert verify() == (0, "no faults\n")
    [aside] = (whole.folder / ".dvc/tmp/set-aside").iterdir()
    assert (aside / "raw").read_text() == "a file where a folder should be"
    assert (aside / "total.txt/inside").read_text() == "a folder where a file should be"


def test_an_object_of_another_commit_is_counted_and_left_alone(whole: Clone, verify: Verify) -> None:
    other = md5_of("drawn 9")
    for path in (cached(whole, other), stored(whole, other)):
        path.parent.mkdir(exist_ok=True)
        path.write_text("drawn 9")
    assert verify() == (0, "no faults\n")
    flip(cached(whole, other))
    before = snapshot(whole.folder.parent)
    assert verify("--repair") == (0, "no faults\n")  # a cache may be shared, and hold other people's data
    assert snapshot(whole.folder.parent) == before


def test_what_git_keeps_is_left_to_git(whole: Clone, verify: Verify) -> None:
    (whole.folder / "metrics/total.json").write_text("{}")
    way_out = "git has it: git checkout -- metrics/total.json, or dvc repro count"
    assert verify("--repair") == (1, f"corrupt in workspace: metrics/total.json ({way_out})\n1 fault\n")
    whole.git("checkout", "--", "metrics/total.json")
    assert verify() == (0, "no faults\n")


@pytest.mark.parametrize(
    ("text", "said"), [("stages: {a: 7}", "'./dvc.yaml' validation failed"), ("[", "YAML file structure is corrupted")]
)
def test_of_a_dvc_yaml_that_dvc_refuses_the_place_is_a_command_away(
    text: str, said: str, whole: Clone, verify: Verify
) -> None:
    (whole.folder / "dvc.yaml").write_text(text)
    status, line = verify("--no-remote")
    assert (status, line.endswith(f"{said}; dvc status says where")) == (1, True)
    assert "line 1, column" in whole.dvc("status", check=False)


def test_a_list_that_names_a_file_outside_of_its_folder_is_refused(whole: Clone, verify: Verify) -> None:
    listed = json.dumps([{"md5": FIRST, "relpath": "../../outside.txt"}])
    hostile = f"{md5_of(listed)}.dir"
    cached(whole, hostile).parent.mkdir(exist_ok=True)
    cached(whole, hostile).write_text(listed)
    lock = whole.folder / "dvc.lock"
    lock.write_text(lock.read_text().replace(LIST, hostile))
    status, said = verify("--repair")
    assert status == 1
    assert said == f"cocoseg verify: raw: {hostile} names '../../outside.txt', outside the folder"
    assert not (whole.folder.parent / "outside.txt").exists()


def test_json_has_every_fault_with_its_object_and_where_a_right_copy_is(
    whole: Clone, capsys: pytest.CaptureFixture[str]
) -> None:
    cached(whole, SECOND).unlink()
    with pytest.raises(SystemExit):
        main(["verify", "--format", "json", "--jobs", "3"])
    report = json.loads(capsys.readouterr().out)
    assert report["faults"] == [
        {
            "place": "cache",
            "kind": "missing",
            "path": "raw/1.txt",
            "object": SECOND,
            "output": "raw",
            "right_copy": "remote 'store'",
            "repaired": False,
            "way_out": None,
        }
    ]
    assert [place["name"] for place in report["places"]] == ["workspace", "cache", "remote 'store'", "DVC's notes"]


def test_without_a_remote_the_workspace_and_the_cache_stand_for_each_other(whole: Clone, verify: Verify) -> None:
    shutil.rmtree(whole.folder.parent / "store")
    cached(whole, SECOND).unlink()
    (whole.folder / "report.txt").unlink()
    assert verify("--repair", "--no-remote")[0] == 0
    assert not (whole.folder.parent / "store").exists()
    assert verify("--no-remote") == (0, "no faults\n")
    # A disk that is not mounted looks so too: verify does not fill what is under it.
    for options in ([], ["--repair"]):
        status, said = verify(*options)
        assert status == 3
        assert said.startswith("remote 'store' was not checked: nothing found in /")
        assert said.endswith("/store/files/md5; if the disk is mounted, run: dvc push\nno faults elsewhere\n")
    assert not (whole.folder.parent / "store").exists()
    whole.dvc("push")
    assert verify() == (0, "no faults\n")


def test_an_unknown_remote_is_one_line(whole: Clone, verify: Verify) -> None:
    assert verify("--remote", "nowhere") == (1, "cocoseg verify: remote 'nowhere' not found; expected one of store")


def test_a_folder_without_outputs_or_without_dvc_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verify: Verify
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "cocoseg verify: you are not inside of a DVC repository" in verify()[1]


def test_repair_waits_for_no_other_dvc_but_says_so(whole: Clone, verify: Verify) -> None:
    from dvc.repo import Repo

    with Repo(".") as repository, repository.lock:
        status, said = verify("--repair")
    assert status == 1
    assert said.endswith("; run again when it has finished")
