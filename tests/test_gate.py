"""The gate over dvc.lock, in fresh clones of a tiny pipeline whose data lies in a folder that is its remote."""

import functools
import hashlib
import io
import logging
import runpy
import shutil
import subprocess
import threading
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from clones import NOBODY, ROOT, Clone
from counting_pipeline import counting_pipeline

LATE = """\
  late:
    cmd: cp report.txt late.txt
    deps: [report.txt]
    outs: [late.txt]
"""
REPRO = "run dvc repro and commit dvc.lock, metrics and plots\n"
FRESH = "dvc.lock is up to date, 3 stages\n"
# Three drawn files, their list, and that of an empty folder; total.txt is the first file again, report.txt that twice.
ALL_THERE = "remote 'store' has all 6 objects that dvc.lock names\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The pipeline with the gate in it, its data in the folder `store` beside it."""
    folder = tmp_path_factory.mktemp("gate")
    shutil.copytree(ROOT / ".ci", folder / "made" / ".ci")
    return counting_pipeline(folder / "made")


@pytest.fixture
def fresh(made: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """A fresh clone, its cache empty, with a remote of its own that it may break: the folder `store` beside it."""
    # Python takes bytecode for that of a module which was edited since, if that kept its length and took no second.
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    made.git("clone", "--quiet", ".", str(tmp_path / "clone"))
    shutil.copytree(made.folder.parent / "store", tmp_path / "store")
    clone = Clone(tmp_path / "clone")
    clone.set_remote(str(tmp_path / "store"))
    return clone


def edit(clone: Clone, name: str, old: str, new: str) -> None:
    text = (clone.folder / name).read_text()
    assert old in text
    (clone.folder / name).write_text(text.replace(old, new, 1))


@functools.cache
def gate_main() -> Callable[[], int]:
    main: Callable[[], int] = runpy.run_path(str(ROOT / ".ci/gate.py"))["main"]
    return main


def judged(clone: Clone, **environment: str) -> str:
    """What the gate says, run in this process: to start one takes longer than to judge."""
    said, errors = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said), redirect_stderr(errors):
        patch.chdir(clone.folder)
        patch.setattr(logging.root.manager, "disable", logging.NOTSET)  # which the gate changes: back to what it was
        for name, value in environment.items():
            patch.setenv(name, value)
        status = gate_main()()
    return checked(status, said.getvalue(), errors.getvalue())


def judged_by_the_command(clone: Clone, **environment: str) -> str:
    """What the gate says where it is started as CI starts it, whatever libraries print of their own included."""
    finished = clone.run("bash", ".ci/gate", check=False, **environment)
    return checked(finished.returncode, finished.stdout, finished.stderr)


def checked(status: int, said: str, errors: str) -> str:
    """The gate exits 1 if and only if it says red, and nothing else reaches the reader."""
    assert errors == ""
    assert status == any(line.startswith("red: ") for line in said.splitlines())
    return said


def stored(clone: Clone, name: str) -> Path:
    """Where the remote keeps an object."""
    return clone.folder.parent / "store/files/md5" / name[:2] / name[2:]


def stale(stage: str, changes: str) -> str:
    return f"red: dvc.lock: stage {stage} is out of date: {changes}; {REPRO}"


def list_of_raw(clone: Clone) -> str:
    outs = clone.yaml("dvc.lock")["stages"]["draw"]["outs"]
    return next(str(out["md5"]) for out in outs if out["path"] == "raw")


def test_a_fresh_clone_is_green_and_no_data_is_fetched(fresh: Clone) -> None:
    assert judged_by_the_command(fresh) == FRESH + ALL_THERE
    fetched = [path for path in (fresh.folder / ".dvc").rglob("*") if "files" in path.parts]
    assert fetched == []
    assert fresh.git("status", "--porcelain", "--ignored=no") == ""


def test_other_code_of_the_first_stage_is_red(fresh: Clone) -> None:
    edit(fresh, "draw.py", "from", "# Drawn.\nfrom")
    assert judged_by_the_command(fresh) == stale("draw", "draw.py (modified)") + ALL_THERE
    dry = fresh.run("dvc", "repro", "--dry", "--allow-missing")
    assert (dry.returncode, fresh.stages_run(dry.stdout)) == (0, ["draw"])  # its exit status would pass a gate


@pytest.mark.parametrize(
    ("edits", "lines"),
    [
        (
            [
                ("params.yaml", "count: 3", "count: 4"),
                ("count.py", "from", "# Counted.\nfrom"),
                ("dvc.yaml", "cat total.txt", "cat  total.txt"),
            ],
            [("draw", "params.yaml:count (modified)"), ("count", "count.py (modified)"), ("report", "cmd")],
        ),
        (
            [
                ("params.yaml", "count: 3", "length: 3"),
                ("metrics/total.json", "1", "2"),
                ("dvc.yaml", "deps: [total.txt]", "deps: [total.txt, raw]"),
            ],
            [
                ("draw", "params.yaml:count (deleted)"),
                ("count", "metrics/total.json (modified)"),
                ("report", "raw (new)"),
            ],
        ),
        (
            [("dvc.yaml", "outs: [report.txt]\n", f"outs: [report.txt, more.txt]\n{LATE}")],
            [("report", "more.txt (new)"), ("late", "not in dvc.lock")],
        ),
    ],
)
def test_each_stage_that_would_run_is_a_red_line_that_says_why(
    fresh: Clone, edits: list[tuple[str, str, str]], lines: list[tuple[str, str]]
) -> None:
    for edited in edits:
        edit(fresh, *edited)
    assert judged(fresh) == "".join(stale(*line) for line in lines) + ALL_THERE


def test_what_git_lost_is_no_data_to_be_pulled(fresh: Clone) -> None:
    for name in ("params.yaml", "draw.py", "metrics/total.json"):
        (fresh.folder / name).unlink()
    lost = stale("draw", "draw.py (deleted), params.yaml (deleted)") + stale("count", "metrics/total.json (deleted)")
    assert judged(fresh) == lost + ALL_THERE
    assert "up to date" in fresh.dvc_here("repro", "--dry", "--allow-missing")


def run_only(clone: Clone, stage: str) -> None:
    """Run one stage with its data there, push what it made, and leave a clone whose cache is empty again."""
    clone.dvc_here("pull")
    clone.dvc_here("repro", "--single-item", stage)
    clone.dvc_here("push")
    clone.git("clean", "-dffqX", "--exclude=!/.dvc/config.local")
    shutil.rmtree(clone.folder / ".dvc/cache", ignore_errors=True)


def test_a_file_in_a_folder_that_another_stage_made_anew_is_red(fresh: Clone) -> None:
    edit(fresh, "draw.py", "drawn {number}", "painted {number}")
    run_only(fresh, "draw")
    assert stale("count", "raw/0.txt (made anew)") in judged(fresh)
    assert fresh.stages_run(fresh.dvc("repro", "--dry", "--allow-missing")) == []


def test_an_output_that_another_stage_made_anew_is_red(fresh: Clone) -> None:
    edit(fresh, "count.py", ".read_text()", ".read_text() * 2")
    run_only(fresh, "count")
    assert stale("report", "total.txt (made anew)") in judged(fresh)


def test_the_way_out_of_a_stale_lock_is_the_one_that_the_line_names(fresh: Clone) -> None:
    edit(fresh, "draw.py", "drawn {number}", "painted {number}")
    fresh.dvc_here("repro")
    assert FRESH in judged(fresh)
    fresh.dvc_here("push")
    assert judged(fresh) == FRESH + ALL_THERE


def with_data(clone: Clone) -> Path:
    """Bring the data of a fresh clone, without which DVC cannot say what changed; return the folder of modules."""
    clone.dvc_here("pull")
    return clone.folder / "src/counting"


def test_what_editors_and_tools_leave_beside_modules_counts_for_nothing(fresh: Clone) -> None:
    modules = with_data(fresh)
    for folder in (".ipynb_checkpoints", "__pycache__"):
        (modules / folder).mkdir()
    for name in (
        *("unit.py~", ".unit.py.swp", "#unit.py#", "4913", ".DS_Store", "._unit.py"),
        *(".ipynb_checkpoints/unit-checkpoint.py", "__pycache__/unit.cpython-311.pyc", "__pycache__/unit.py"),
    ):
        (modules / name).write_text("stray")
    (modules / ".#unit.py").symlink_to("user@host.1:2")  # the lock of Emacs, which DVC stops at if it looks
    (modules / "unit.py").chmod(0o755)
    assert "up to date" in fresh.dvc_here("status")
    assert judged(fresh) == FRESH + ALL_THERE


def test_a_module_of_a_folder_that_is_edited_new_or_gone_is_seen_by_the_gate_and_by_dvc(fresh: Clone) -> None:
    modules = with_data(fresh)
    for name, text in (("unit.py", "UNIT = 1  # here\n"), ("new.py", ""), ("sub/new.py", ""), ("unit.py", None)):
        if text is None:
            (modules / name).unlink()
        else:
            (modules / name).parent.mkdir(exist_ok=True)
            (modules / name).write_text(text)
        assert judged(fresh) == stale("count", "src/counting (modified)") + ALL_THERE
        changed = " ".join(fresh.dvc_here("status").split())
        assert changed == "count: changed deps: modified: src/counting"
        fresh.git("clean", "-dfq", "src")
        fresh.git("checkout", "--quiet", "src")
    assert judged(fresh) == FRESH + ALL_THERE


def test_a_module_that_is_a_link_to_nothing_is_one_line(fresh: Clone) -> None:
    lost = fresh.folder / "src/counting/lost.py"
    lost.symlink_to("nowhere.py")
    assert judged(fresh) == f"red: [Errno 2] No such file or directory: '{lost}'; fix or delete it, then {REPRO}"


def test_the_way_out_of_two_branches_that_changed_modules_of_one_folder_runs_what_changed(fresh: Clone) -> None:
    modules = with_data(fresh)
    fresh.git("config", "user.name", "A. Tester")
    fresh.git("config", "user.email", "tester@example.org")
    for branch, name, text in (("unit", "unit.py", "UNIT = 2\n"), ("total", "total.py", None)):
        fresh.git("checkout", "--quiet", "-b", branch, "main")
        fresh.dvc_here("checkout")
        (modules / name).write_text(text or (modules / name).read_text().replace("1 *", "3 *"))
        fresh.dvc_here("repro")
        fresh.commit(branch)
    assert "CONFLICT (content): Merge conflict in dvc.lock" in fresh.run("git", "merge", "unit", check=False).stdout
    assert "git checkout HEAD -- dvc.lock metrics plots, then run dvc repro" in judged(fresh)
    fresh.git("checkout", "HEAD", "--", "dvc.lock", "metrics")
    assert fresh.stages_run(fresh.dvc("repro")) == ["count"]
    assert (fresh.folder / "metrics/total.json").read_text() == '{"total": 6}'
    fresh.commit("both")
    assert judged(fresh) == FRESH + ALL_THERE
    assert "up to date" in fresh.dvc_here("status")


def test_data_that_lies_outside_of_the_repository_is_compared_where_it_is(fresh: Clone, tmp_path: Path) -> None:
    outside = tmp_path / "photos.txt"
    outside.write_text("photos")
    edit(fresh, "dvc.yaml", "deps: [draw.py]", f"deps: [draw.py, {outside}]")
    fresh.dvc_here("repro")
    assert FRESH in judged(fresh)
    outside.write_text("other photos")
    assert f"stage draw is out of date: {outside} (modified)" in judged(fresh)
    outside.unlink()
    assert judged(fresh) == f"{outside} was not compared: git does not have it\n{FRESH}{ALL_THERE}"


def test_an_address_that_cannot_be_asked_is_not_called_changed(fresh: Clone) -> None:
    edit(fresh, "dvc.yaml", "deps: [draw.py]", "deps: [draw.py, s3://bucket/photos]")
    lock = "    - path: s3://bucket/photos\n      etag: 0a0a\n      size: 1\n"
    edit(fresh, "dvc.lock", "    - path: draw.py\n", f"{lock}    - path: draw.py\n")
    assert judged(fresh, **NOBODY) == (
        f"s3://bucket/photos was not compared: it cannot be reached from here\n{FRESH}{ALL_THERE}"
    )


def test_a_folder_whose_content_git_ignores_is_not_called_changed(fresh: Clone) -> None:
    photos = fresh.folder / "photos"
    photos.mkdir()
    (photos / ".gitignore").write_text("*\n!.gitignore\n")
    (photos / "1.jpg").write_text("a photo")
    edit(fresh, "dvc.yaml", "deps: [draw.py]", "deps: [draw.py, photos]")
    fresh.dvc_here("repro")
    assert FRESH in judged(fresh)
    (photos / "1.jpg").unlink()
    assert judged(fresh) == f"photos was not compared: git does not have it\n{FRESH}{ALL_THERE}"


def test_a_lock_that_is_not_there_is_one_line(fresh: Clone) -> None:
    (fresh.folder / "dvc.lock").unlink()
    assert judged(fresh) == f"red: dvc.lock: not found; {REPRO}"


def test_the_marks_of_a_merge_conflict_are_one_line_that_says_where(fresh: Clone) -> None:
    edit(fresh, "dvc.lock", "stages:\n", "stages:\n<<<<<<< HEAD\n")
    way_out = f"git checkout HEAD -- dvc.lock metrics plots, then {REPRO}"
    in_lock = f"red: dvc.lock: has the conflict markers of a merge, from line 3; {way_out}"
    assert judged(fresh) == in_lock
    edit(fresh, "params.yaml", "count: 3\n", "<<<<<<< HEAD\ncount: 3\n=======\ncount: 4\n>>>>>>> other\n")
    assert judged(fresh) == (
        "red: params.yaml: has the conflict markers of a merge, from line 1; resolve it by hand\n" + in_lock
    )


@pytest.mark.parametrize("text", ["stages: [", "stages: 3\n"])
def test_a_lock_that_cannot_be_read_is_one_line(fresh: Clone, text: str) -> None:
    (fresh.folder / "dvc.lock").write_text(text)
    says = judged(fresh)
    assert says.count("\n") == 1
    assert "dvc.lock" in says
    assert says.endswith(f"; fix or delete it, then {REPRO}")


@pytest.mark.parametrize("name", ["params.yaml", "dvc.yaml"])
def test_another_file_that_cannot_be_read_is_one_line_too(fresh: Clone, name: str) -> None:
    (fresh.folder / name).write_text("stages: [")
    assert judged(fresh) == f"red: unable to read: '{name}', YAML file structure is corrupted\n"


def test_without_a_remote_the_gate_says_so_and_is_yellow(fresh: Clone) -> None:
    (fresh.folder / ".dvc/config.local").unlink()
    (fresh.folder / ".dvc/config").write_text("")
    assert judged(fresh) == (
        f"raw/0.txt was not compared: the list of files in raw is not here\n{FRESH}"
        "yellow: data not checked: no default remote is set\n"
    )


def test_a_folder_that_was_never_pushed_to_or_is_not_mounted_is_one_line(fresh: Clone) -> None:
    store = fresh.folder.parent / "store"
    shutil.rmtree(store)
    for _ in ("not there", "empty"):
        assert judged(fresh) == (
            f"raw/0.txt was not compared: the list of files in raw is not here\n{FRESH}red: remote 'store': "
            f"nothing found in {store}/files/md5; if the disk is mounted, run: dvc push\n"
        )
        store.mkdir(exist_ok=True)


def test_a_file_that_the_remote_lacks_is_red_until_it_is_pushed(made: Clone, fresh: Clone) -> None:
    stored(fresh, hashlib.md5(b"drawn 0drawn 0").hexdigest()).unlink()
    lacks = "red: report.txt: 1 of 1 objects are not on remote 'store'; run dvc push where the data is\n"
    assert judged(fresh) == FRESH + lacks
    push_where_the_data_is(made, fresh)
    assert judged(fresh) == FRESH + ALL_THERE


def test_a_file_in_a_folder_that_the_remote_lacks_is_red_until_the_way_out_is_taken(made: Clone, fresh: Clone) -> None:
    stored(fresh, hashlib.md5(b"drawn 1").hexdigest()).unlink()
    stored(fresh, hashlib.md5(b"drawn 2").hexdigest()).unlink()
    folder = list_of_raw(fresh)
    lacks = (
        "red: raw: 2 of 4 objects are not on remote 'store'; "
        f"remove files/md5/{folder[:2]}/{folder[2:]} from it, then run dvc push where the data is\n"
    )
    assert judged(fresh) == FRESH + lacks
    push_where_the_data_is(made, fresh)
    assert judged(fresh) == FRESH + lacks  # `dvc push` saw the folder's list and went no further
    stored(fresh, folder).unlink()
    push_where_the_data_is(made, fresh)
    assert judged(fresh) == FRESH + ALL_THERE


def push_where_the_data_is(made: Clone, fresh: Clone) -> None:
    made.set_remote(str(fresh.folder.parent / "store"))
    made.dvc_here("push")
    (made.folder / ".dvc/config.local").unlink()


def test_a_folder_whose_list_the_remote_lacks_is_red(fresh: Clone) -> None:
    stored(fresh, list_of_raw(fresh)).unlink()
    assert judged(fresh) == (
        f"raw/0.txt was not compared: the list of files in raw is not here\n{FRESH}"
        "red: raw: the list of its files is not on remote 'store'; run dvc push where the data is\n"
    )


@pytest.mark.parametrize("text", ["[]", "{"])
def test_a_list_that_is_not_what_its_name_says_is_red(fresh: Clone, text: str) -> None:
    listed = stored(fresh, list_of_raw(fresh))
    listed.chmod(0o644)
    listed.write_text(text)
    assert "red: raw: the list of its files is broken on remote 'store'; remove files/md5/" in judged(fresh)


def test_the_remote_is_left_as_it_was(fresh: Clone) -> None:
    # Of a local folder DVC's own check for many objects removes those whose content is wrong.
    wrong = stored(fresh, hashlib.md5(b"drawn 1").hexdigest())
    wrong.chmod(0o644)
    wrong.write_text("other")
    before = snapshot(fresh.folder.parent / "store")
    judged(fresh)
    assert snapshot(fresh.folder.parent / "store") == before


def snapshot(folder: Path) -> dict[Path, tuple[int, bytes]]:
    return {path: (path.stat().st_mode, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


SECRET = "nobody-may-see-this"
ECHOED = ("nor-this-password", "nor-this-signature")  # in what the server answers, beside the key that was sent


@pytest.mark.parametrize(
    ("url", "status", "says"),
    [
        (f"http://me:{SECRET}@127.0.0.1:{{port}}/store", 401, "401, message='Unauthorized', url='http://"),
        ("http://127.0.0.1:{port}/store", None, "Cannot connect to host 127.0.0.1:{port}"),
        ("s3://bucket/store", 403, "AWS4-HMAC-SHA256 Credential=***/"),  # the message of AccessDenied
        ("s3://bucket/store", 404, "AWS4-HMAC-SHA256 Credential=***/"),  # the message of NoSuchBucket
    ],
)
def test_a_remote_that_does_not_let_us_in_is_one_red_line_without_secrets(
    fresh: Clone, url: str, status: int | None, says: str
) -> None:
    with Refusing(status) as server:
        port = str(server.server_address[1])
        settings = {"endpointurl": f"http://127.0.0.1:{port}"} if url.startswith("s3") else {}
        fresh.set_remote(url.format(port=port), **settings)
        if status is None:
            server.stop()
        output = judged_by_the_command(
            fresh, AWS_ACCESS_KEY_ID=SECRET, AWS_SECRET_ACCESS_KEY=SECRET, AWS_DEFAULT_REGION="eu-west-1"
        )
    assert [secret for secret in (SECRET, *ECHOED) if secret in output] == []
    *others, line = output.splitlines()
    assert line.startswith(f"red: remote 'store' cannot be reached: {says.format(port=port)}")
    assert line.endswith("; check its address and credentials")
    assert others == ["raw/0.txt was not compared: the list of files in raw is not here", FRESH.strip()]


def test_without_any_credentials_as_in_a_fork_the_gate_says_that_it_did_not_ask(fresh: Clone) -> None:
    fresh.set_remote("s3://bucket/store", endpointurl="http://127.0.0.1:9")
    assert judged_by_the_command(fresh, **NOBODY) == (
        f"raw/0.txt was not compared: the list of files in raw is not here\n{FRESH}"
        "yellow: data not checked: there are no credentials for remote 'store' here\n"
    )


def test_the_committed_dvc_lock_of_this_repository_is_up_to_date(tmp_path: Path) -> None:
    # The last commit, as .ci/repro takes it: while someone edits, dvc.lock may lag behind the code.
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], check=True)
    committed = Clone(tmp_path / "clone")
    shutil.copytree(ROOT / ".ci", committed.folder / ".ci", dirs_exist_ok=True)
    (committed.folder / ".dvc/config").write_text("")  # whatever remote is set, a test leaves it alone
    assert judged(committed) == (
        "dvc.lock is up to date, 7 stages\nyellow: data not checked: no default remote is set\n"
    )


class Refusing(ThreadingHTTPServer):
    """Answers every request with one status; `with` it."""

    def __init__(self, status: int | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = status or 500
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        """From here on nobody listens."""
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: Refusing

    def do_GET(self) -> None:
        code = "NoSuchBucket" if self.server.status == 404 else "AccessDenied"
        said = f"{self.headers['Authorization']} at http://me:{ECHOED[0]}@host/x?X-Amz-Signature={ECHOED[1]}"
        body = f"<Error><Code>{code}</Code><Message>{said}</Message></Error>".encode()
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.send_response(404)  # no object can be seen
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any, **named: Any) -> None:
        """Nobody asks."""
