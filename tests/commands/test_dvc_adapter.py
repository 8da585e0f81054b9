"""Everything that this project relies on inside DVC, checked in a real little DVC repository.

If an upgrade of DVC breaks something, a test here says what. After an upgrade, once the other tests here pass, set
`CHECKED_WITH` to its version.
"""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from clones import Clone
from counting_pipeline import DVC_YAML, counting_pipeline
from dvc.repo import Repo
from dvc_data.hashfile.db import get_odb
from dvc_objects.fs.memory import MemoryFileSystem
from silent_faults import FIRST, LIST, REPORT, SECOND, cached, md5_of

from cocoseg.commands.dvc_adapter import (
    ObjectStore,
    Repository,
    cached_object,
    files_of_repository,
    files_of_run,
    folder_list,
    open_repository,
)
from cocoseg.commands.revisions import Experiment, experiments, hash_in_lock
from cocoseg.commands.verify.outputs import locked_outputs
from cocoseg.core.errors import CocosegError

CHECKED_WITH = "3.67.1"

EMPTY = hashlib.md5(b"[]", usedforsecurity=False).hexdigest() + ".dir"  # the list of a folder without files
TOOL = "#!/bin/sh\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Make the pipeline, a program that `dvc add` tracks, and a file that `dvc import` took from another repository."""
    folder = tmp_path_factory.mktemp("adapter")
    other = counting_pipeline(folder / "other")
    pipeline = counting_pipeline(folder / "made")
    (pipeline.folder / "tool.sh").write_text(TOOL)
    (pipeline.folder / "tool.sh").chmod(0o755)
    pipeline.dvc_here("add", "tool.sh")
    pipeline.dvc_here("import", str(other.folder), "total.txt", "--out", "imported.txt")
    pipeline.dvc_here("push")
    pipeline.commit("a program and an import")
    return pipeline


@pytest.fixture
def work(made: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """Make a copy with its own remote, and work in it."""
    shutil.copytree(made.folder.parent, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy/made")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return Clone(tmp_path / "copy/made")


@pytest.fixture
def repository(work: Clone) -> Iterator[Repository]:
    with open_repository() as opened:
        yield opened


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def test_the_installed_dvc_is_the_one_that_this_file_was_checked_with() -> None:
    assert version("dvc") == CHECKED_WITH


def test_outputs_are_named_with_their_objects_their_stage_and_where_dvc_push_sends_them(
    repository: Repository,
) -> None:
    found = {out.path: (out.object, out.stage, out.in_cache, out.remote, out.source) for out in repository.outputs()}
    metric = hashlib.md5(b'{"total": 1}', usedforsecurity=False).hexdigest()
    assert found == {
        "raw": (LIST, "draw", True, "store", "stage"),
        "none": (EMPTY, "draw", True, "store", "stage"),
        "total.txt": (FIRST, "count", True, "store", "stage"),
        "metrics/total.json": (metric, "count", False, None, "stage"),
        "report.txt": (REPORT, "report", True, "store", "stage"),
        "tool.sh": (md5_of(TOOL), "tool.sh.dvc", True, "store", "user"),
        "imported.txt": (FIRST, "imported.txt.dvc", True, None, "import"),
    }
    assert {out.hash_name for out in repository.outputs()} == {"md5"}
    assert [out.path for out in repository.outputs() if out.is_folder] == ["raw", "none"]
    assert {out.remote for out in repository.outputs("backup")} == {"backup", None}


def test_an_output_may_name_a_remote_of_its_own_or_none(work: Clone) -> None:
    outs = "outs: [report.txt: {remote: vault}]"
    (work.folder / "dvc.yaml").write_text(DVC_YAML.replace("outs: [report.txt]", outs))
    append(work.folder / "tool.sh.dvc", "  push: false\n")
    with open_repository() as repository:
        remotes = {out.path: out.remote for out in repository.outputs()}
    assert (remotes["report.txt"], remotes["tool.sh"]) == ("vault", None)


def test_an_output_that_is_not_in_the_lock_is_unmade(work: Clone) -> None:
    with open_repository() as repository:
        assert repository.unmade_outputs() == []
    append(work.folder / "dvc.yaml", "  late:\n    cmd: touch b a\n    outs: [b, a]\n")
    with open_repository() as repository:
        assert repository.unmade_outputs() == ["a", "b"]
        assert "a" not in {out.path for out in repository.outputs()}


def test_an_output_of_before_dvc_3_says_how_it_was_hashed(work: Clone) -> None:
    text = (work.folder / "tool.sh.dvc").read_text()
    (work.folder / "tool.sh.dvc").write_text(text.replace("  hash: md5\n", ""))
    with open_repository() as repository:
        assert {out.path: out.hash_name for out in repository.outputs()}["tool.sh"] == "md5-dos2unix"


def test_a_program_is_made_executable_again_and_a_text_is_not(repository: Repository) -> None:
    outputs = {out.path: out for out in repository.outputs()}
    for name, mode in (("tool.sh", 0o744), ("report.txt", 0o644)):
        Path(name).chmod(0o644)
        outputs[name].set_executable()
        assert Path(name).stat().st_mode & 0o777 == mode


def test_files_of_a_folder_are_listed_without_those_that_dvcignore_names(work: Clone) -> None:
    (work.folder / "raw/below").mkdir()
    for name in ("raw/below/3.txt", "raw/4.tmp"):
        (work.folder / name).touch()
    append(work.folder / ".dvcignore", "*.tmp\n")
    with open_repository() as repository:
        assert repository.files_in(work.folder / "raw") == ["0.txt", "1.txt", "2.txt", "below/3.txt"]


def test_the_cache_lists_its_objects_and_leaves_out_what_is_none(work: Clone, repository: Repository) -> None:
    (cached(work, LIST).parents[1] / "README").touch()
    cache = repository.cache()
    assert cache.is_local
    assert cache.path(SECOND) == str(cached(work, SECOND)) == f"{cache.folder}/{SECOND[:2]}/{SECOND[2:]}"
    assert {FIRST, SECOND, LIST, EMPTY, REPORT, md5_of(TOOL)} <= cache.sizes().keys()
    assert all(len(name.removesuffix(".dir")) == 32 for name in cache.sizes())
    cache.make_folder(work.folder / ".dvc/cache/files/md5/zz")
    assert (work.folder / ".dvc/cache/files/md5/zz").is_dir()


@pytest.mark.parametrize(
    ("kind", "is_linked"),
    [
        ("copy", lambda path, _: path.stat().st_nlink == 1 and not path.is_symlink()),
        ("hardlink", lambda path, object_: path.samefile(object_) and not path.is_symlink()),
        ("symlink", lambda path, object_: path.is_symlink() and path.samefile(object_)),
    ],
)
def test_an_object_is_checked_out_by_the_kind_of_link_that_the_settings_name(
    kind: str, is_linked: Callable[[Path, Path], bool], work: Clone
) -> None:
    work.dvc_here("config", "cache.type", kind)
    with open_repository() as repository:
        repository.cache().check_out(SECOND, work.folder / "new.txt")
    assert (work.folder / "new.txt").read_text() == "drawn 1"
    assert is_linked(work.folder / "new.txt", cached(work, SECOND))


def test_a_file_of_a_folder_is_read_from_the_cache_and_what_is_odd_or_absent_is_none(work: Clone) -> None:
    assert cached_object(FIRST) == b"drawn 0"
    assert cached_object(LIST, "1.txt") == b"drawn 1"
    absent = [(LIST, "other.txt"), (LIST, ""), (FIRST, "1.txt"), ("0" * 32, ""), ("../../x", "")]
    assert [cached_object(*one) for one in absent] == [None] * 5
    cached(work, SECOND).unlink()
    assert cached_object(LIST, "1.txt") is None
    cached(work, LIST).chmod(0o644)
    cached(work, LIST).write_text('[{"md5": "../../../secret", "relpath": "1.txt"}]')
    assert cached_object(LIST, "1.txt") is None


def test_a_remote_that_is_a_folder_has_what_was_pushed(repository: Repository) -> None:
    remote = repository.remote("store")
    assert remote.is_local
    assert remote.sizes().keys() == {*map(md5_of, ("drawn 0", "drawn 1", "drawn 2", TOOL)), LIST, EMPTY, REPORT}


def test_a_remote_elsewhere_is_listed_read_in_parts_and_written(tmp_path: Path) -> None:
    files: Any = MemoryFileSystem(global_store=False)  # type: ignore[no-untyped-call]
    remote = ObjectStore(lambda: get_odb(files, "/store"))  # type: ignore[no-untyped-call]
    (tmp_path / "object").write_text("drawn 1")
    remote.upload(SECOND, tmp_path / "object")
    files.fs.pipe_file("/store/README", b"no object")
    assert not remote.is_local
    assert remote.sizes() == {SECOND: 7}
    assert remote.size(SECOND) == 7
    assert remote.read(SECOND, 0, 5) + remote.read(SECOND, 5, 7) == b"drawn 1"
    with pytest.raises(FileNotFoundError):
        remote.size(FIRST)


def test_the_list_of_a_web_server_is_empty_or_without_sizes(work: Clone) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=work.folder.parent)) as server:
        Thread(target=server.serve_forever, args=(0.02,)).start()
        for name in ("store", "nothing"):
            work.dvc_here("remote", "add", f"web-{name}", f"http://127.0.0.1:{server.server_port}/{name}")
        with open_repository() as repository:
            remote = repository.remote("web-store")
            assert remote.sizes() == dict.fromkeys(repository.remote("store").sizes())
            assert remote.size(SECOND) == 7
            assert remote.read(SECOND, 0, 7) == b"drawn 1"
            assert repository.remote("web-nothing").sizes() == {}
        server.shutdown()


@pytest.mark.parametrize("cause", [ConnectionRefusedError, ValueError])
def test_a_web_server_that_cannot_be_reached_is_no_missing_file(cause: type[Exception]) -> None:
    def info(path: str) -> None:  # as fsspec's file system of the web does
        raise FileNotFoundError(path) from cause()

    odb = SimpleNamespace(fs=SimpleNamespace(info=info), oid_to_path=str)
    with pytest.raises(ConnectionRefusedError if cause is ConnectionRefusedError else FileNotFoundError):
        ObjectStore(lambda: odb).size(SECOND)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def test_a_remote_that_keeps_versions_is_refused_at_its_first_use_and_no_earlier(work: Clone) -> None:
    work.dvc_here("remote", "add", "versions", "s3://bucket/data")
    work.dvc_here("remote", "modify", "versions", "version_aware", "true")
    with open_repository() as repository:
        remote = repository.remote("versions")
        with pytest.raises(Exception, match="unsupported for cloud versioned remotes"):
            remote.sizes()


def test_settings_name_the_remotes_and_the_default_one(repository: Repository) -> None:
    assert repository.config["core"]["remote"] == "store"
    assert repository.config["remote"]["store"]["url"].endswith("/store")
    assert list(repository.config["remote"]) == ["store"]


@pytest.mark.parametrize(("text", "valid"), [(None, True), ("schema: '2.0'\nstages:\n  dr", False)])
def test_a_lock_is_valid_if_it_is_whole_or_not_there(
    text: str | None, valid: bool, work: Clone, repository: Repository
) -> None:
    assert repository.lock_file == work.folder / "dvc.lock"
    assert repository.lock_is_valid()
    repository.lock_file.unlink()
    if text is not None:
        repository.lock_file.write_text(text)
    assert repository.lock_is_valid() == valid


@pytest.mark.parametrize(
    ("old", "new"), [("hash: md5", "hash: ''"), ("path: raw\n", "path: 7\n"), (REPORT, "true"), (LIST, "true")]
)
def test_an_entry_that_dvc_fails_on_is_one_line(old: str, new: str, work: Clone) -> None:
    lock = work.folder / "dvc.lock"
    lock.write_text(lock.read_text().replace(old, new, 1))
    with pytest.raises(CocosegError, match=r"dvc\.lock"), open_repository() as repository:
        locked_outputs(repository)


def test_the_hash_of_an_output_is_found_in_a_lock_without_parsing_it(work: Clone) -> None:
    lock = (work.folder / "dvc.lock").read_bytes()
    assert (hash_in_lock(lock, "raw"), hash_in_lock(lock, "report.txt")) == (LIST, REPORT)


def test_each_run_of_a_stage_is_a_folder_with_a_file_in_the_run_cache(repository: Repository) -> None:
    runs = sorted(repository.run_cache.glob("??/*/"))
    assert len(runs) == 3
    assert all(path.is_file() for run in runs for path in run.iterdir())


def test_dvc_runs_no_stage_while_it_is_kept_from_it(work: Clone, repository: Repository) -> None:
    with repository.no_stage_running("a repair"):
        assert "a repair" in repository.running_file.read_text()
        said = work.dvc("repro", "--force", "report", check=False)
    assert "is busy, it is being blocked by" in said
    assert "a repair" in said
    assert "a repair" not in repository.running_file.read_text()


def test_a_stage_that_runs_is_told_of_in_one_line(work: Clone) -> None:
    with (
        open_repository() as first,
        first.no_stage_running("dvc repro"),
        pytest.raises(
            CocosegError, match="is busy, it is being blocked by: .*dvc repro.*; run again when it has finished"
        ),
        open_repository() as second,
        second.no_stage_running("a repair"),
    ):
        pass


def test_a_locked_repository_is_closed_to_every_other_dvc(work: Clone) -> None:
    with (
        open_repository(locked=True),
        pytest.raises(CocosegError, match="Unable to acquire lock.*; run again when it has finished"),
        open_repository(locked=True),
    ):
        pass


def test_a_folder_that_is_no_repository_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CocosegError, match="you are not inside of a DVC repository"), open_repository():
        pass


def test_what_dvc_noted_of_folders_is_dropped(work: Clone) -> None:
    work.dvc_here("pull")

    def noted() -> list[Any]:
        with Repo(".") as repo:
            return list(repo.data_index.ls((), detail=False))

    assert noted()
    with open_repository() as repository:
        repository.forget_folders()
    assert not noted()


def test_files_of_the_working_tree_are_those_that_lie_there(work: Clone) -> None:
    (work.folder / "report.txt").unlink()
    (work.folder / "report.txt").write_text("mine")
    files = files_of_run(None, "")
    assert files.has("raw")
    assert files.has("dvc.yaml")
    assert not files.has("nothing")
    assert files.read("report.txt") == b"mine"


def test_files_of_a_commit_come_from_where_its_remote_is_today(work: Clone) -> None:
    commit = work.git("rev-parse", "HEAD").strip()
    shutil.rmtree(work.folder / ".dvc/cache")
    shutil.move(work.folder.parent / "store", work.folder.parent / "moved")
    work.dvc_here("remote", "modify", "store", "url", str(work.folder.parent / "moved"))
    files = files_of_run(commit, "")
    assert files.has("raw/1.txt")
    assert files.read("raw/1.txt") == b"drawn 1"


def test_hashes_of_a_folder_are_known_without_its_files(work: Clone) -> None:
    cached(work, SECOND).unlink()
    shutil.rmtree(work.folder.parent / "store")
    hashes = {f"{number}.txt": md5_of(f"drawn {number}") for number in range(3)}
    assert files_of_run("HEAD", "").hashes("raw") == hashes
    assert files_of_run("HEAD", "").hashes("none") == {}


def test_what_is_nowhere_raises_when_it_is_read(work: Clone) -> None:
    shutil.rmtree(work.folder / ".dvc/cache")
    shutil.rmtree(work.folder.parent / "store")
    files = files_of_run("HEAD", "")
    assert files.has("report.txt")
    with pytest.raises(Exception, match=r"report\.txt"):
        files.read("report.txt")


def test_a_repository_below_the_root_of_git_is_read_by_its_own_paths(
    made: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made.folder, tmp_path / "all/models/one", symlinks=True, ignore=shutil.ignore_patterns(".git"))
    outer = Clone(tmp_path / "all")
    outer.git("init", "--quiet")
    outer.git("config", "user.name", "A. Tester")
    outer.git("config", "user.email", "tester@example.org")
    outer.commit("all")
    monkeypatch.chdir(tmp_path / "all/models/one")
    files = files_of_run("HEAD", "models/one/")
    assert files.read("report.txt") == b"drawn 0drawn 0"
    assert files.has("raw/1.txt")
    assert files.hashes("raw")["1.txt"] == SECOND


def test_files_of_another_repository_are_read_at_a_revision_or_as_they_lie(work: Clone, tmp_path: Path) -> None:
    (work.folder / "report.txt").unlink()
    (work.folder / "report.txt").write_text("mine")
    assert files_of_repository(str(work.folder), None).read("report.txt") == b"mine"
    assert files_of_repository(str(work.folder), "HEAD").read("report.txt") == b"drawn 0drawn 0"
    for url, revision in ((str(work.folder), "no-such-tag"), (str(tmp_path / "nowhere"), None)):
        with pytest.raises(Exception):  # noqa: B017, PT011  git, DVC and the network have their own
            files_of_repository(url, revision)


def test_the_list_of_a_folder_is_what_dvc_keeps(work: Clone) -> None:
    files = {f"{number}.txt": md5_of(f"drawn {number}") for number in (2, 0, 1)}
    assert folder_list(files) == cached(work, LIST).read_bytes()
    assert folder_list({}) == cached(work, EMPTY).read_bytes()


def test_an_experiment_is_a_ref_that_names_its_baseline(work: Clone) -> None:
    head = work.git("rev-parse", "HEAD").strip()
    work.dvc_here("exp", "run", "--name", "ochre-wisp", "--set-param", "count=4")
    [found] = experiments()
    assert found == Experiment("ochre-wisp", head, found.commit)
    assert work.git("show", f"{found.commit}:params.yaml") == "count: 4\n"
