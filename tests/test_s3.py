"""Masks and weights travel through a real S3 server that checks signatures."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from clones import Clone
from counting_pipeline import counting_pipeline
from s3_server import KEY, REGION, SECRET, NoServer, S3Server
from silent_faults import FAULTS, SECOND, SilentFault, cached, delete_on_remote, dvc_says, flip_on_remote

SYNC = "Data and pipelines are up to date.\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    try:
        server = S3Server(tmp_path_factory.mktemp("s3"))
        server.start()
    except NoServer as reason:
        if os.environ.get("COCOSEG_S3_TESTS") == "required":  # as .ci/run says
            pytest.fail(f"no S3 server: {reason}")
        pytest.skip(f"no S3 server: {reason}")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in server.credentials.items():
            environment.setenv(name, value)
        environment.setenv("NO_PROXY", "127.0.0.1")
        yield server
    server.kill()


@pytest.fixture(scope="module")
def made(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The pipeline, committed with its remote, a bucket; nothing is pushed."""
    pipeline = counting_pipeline(tmp_path_factory.mktemp("pipeline") / "made")
    make_bucket(pipeline, server, "masks")
    set_remote(pipeline, server, "s3://masks/start")
    pipeline.commit("remote")
    return pipeline


@pytest.fixture
def pushed(made: Clone, server: S3Server, tmp_path: Path) -> Clone:
    """A copy whose data is in a folder of its own on the server."""
    shutil.copytree(made.folder, tmp_path / "made", symlinks=True)
    copy = Clone(tmp_path / "made")
    set_remote(copy, server, f"s3://masks/{tmp_path.name}")
    copy.commit("a remote of its own")
    copy.dvc("push")
    return copy


def make_bucket(clone: Clone, server: S3Server, name: str) -> None:
    # In a process of its own: s3fs leaves connections open, and warnings are errors.
    options = f"key={KEY!r}, secret={SECRET!r}, endpoint_url={server.url!r}"
    clone.run("python", "-c", f"import s3fs; s3fs.S3FileSystem({options}).mkdir({name!r})")


def set_remote(clone: Clone, server: S3Server, url: str) -> None:
    """What the commands of docs/remotes.md write for a store of one's own."""
    settings = {"url": url, "endpointurl": server.url, "region": REGION, "verify": "true"}
    lines = "".join(f"    {name} = {value}\n" for name, value in settings.items())
    (clone.folder / ".dvc/config").write_text(f"[core]\n    remote = store\n['remote \"store\"']\n{lines}")


def another(clone: Clone, name: str = "another") -> Clone:
    """A fresh clone of it, its cache empty."""
    clone.git("clone", "--quiet", ".", f"../{name}")
    return Clone(clone.folder.parent / name)


def test_what_one_clone_pushes_another_pulls_and_dvc_repro_does_nothing(pushed: Clone) -> None:
    assert pushed.dvc("push") == "Everything is up to date.\n"
    fresh = another(pushed)
    assert "6 files fetched" in fresh.dvc("pull")
    assert fresh.dvc("status") == SYNC
    assert fresh.stages_run(fresh.dvc("repro")) == []
    assert fresh.git("status", "--porcelain") == ""
    assert fresh.run("cocoseg", "verify").stdout.endswith("\n\nno faults\n")


@pytest.mark.parametrize(
    ("environment", "url", "dvc_line", "verify_line"),
    [
        (
            {"AWS_SECRET_ACCESS_KEY": "nobody-may-see-this"},
            "s3://masks/x",
            "ERROR: unexpected error - Forbidden",
            "The request signature we calculated does not match the signature you provided.",
        ),
        (
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "s3://masks/x",
            "ERROR: unexpected error - Unable to locate credentials",
            "Unable to locate credentials",
        ),
        ({}, "s3://nobody/x", "NoSuchBucket", "The specified bucket does not exist"),
    ],
    ids=["wrong key", "no key", "missing bucket"],
)
def test_a_remote_that_does_not_let_us_in_is_a_line_without_secrets(
    environment: dict[str, str], url: str, dvc_line: str, verify_line: str, pushed: Clone, server: S3Server
) -> None:
    set_remote(pushed, server, url)
    said = pushed.dvc("push", check=False, **environment)
    assert dvc_line in said
    verified = pushed.run("cocoseg", "verify", check=False, **environment)
    assert verified.returncode == 3  # workspace and cache are whole
    assert f"remote 'store' was not checked: {verify_line}" in verified.stdout
    assert verified.stderr == ""
    assert "nobody-may-see-this" not in said + verified.stdout


def test_a_server_that_is_down_is_a_line_and_once_it_is_up_again_the_second_attempt_completes(
    pushed: Clone, server: S3Server
) -> None:
    shutil.rmtree(pushed.folder / ".dvc/cache")
    server.kill()
    try:
        assert "Could not connect to the endpoint URL" in pushed.dvc("fetch", check=False)
        verified = pushed.run("cocoseg", "verify", check=False)
        assert (verified.returncode, verified.stderr) == (1, "")  # for the cache
        assert "remote 'store' was not checked: Could not connect to the endpoint URL" in verified.stdout
    finally:
        server.start()
    assert "6 files fetched" in pushed.dvc("fetch")
    assert pushed.run("cocoseg", "verify").stdout.endswith("\n\nno faults\n")


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if "remote" in fault.name], ids=lambda fault: fault.name)
def test_each_fault_on_the_server_is_named_and_repaired(fault: SilentFault, pushed: Clone) -> None:
    fault.happens(pushed)
    assert (dvc_says(pushed) == "clean") != fault.dvc_sees_it
    found = pushed.run("cocoseg", "verify", check=False)
    assert found.returncode == 1
    assert tuple(line.partition(" (")[0] for line in found.stdout.partition("\n\n")[2].splitlines()[:-1]) == fault.says
    assert pushed.run("cocoseg", "verify", "--repair").stdout.endswith("1 fault, all repaired\n")
    assert pushed.run("cocoseg", "verify").stdout.endswith("\n\nno faults\n")


def test_dvc_push_leaves_a_folder_incomplete_and_repair_completes_it(pushed: Clone) -> None:
    delete_on_remote(pushed, SECOND)
    assert pushed.dvc("push") == "Everything is up to date.\n"
    assert f"failed to transfer '{SECOND}'" in another(pushed, "before").dvc("pull", check=False)
    pushed.run("cocoseg", "verify", "--repair")
    assert "6 files fetched" in another(pushed, "after").dvc("pull")


def test_a_corrupt_object_is_pulled_as_if_it_were_right_unless_the_remote_is_set_to_verify(pushed: Clone) -> None:
    flip_on_remote(pushed, SECOND)
    trusting = another(pushed, "trusting")
    trusting.dvc("remote", "modify", "--local", "store", "verify", "false")
    assert "6 files fetched" in trusting.dvc("pull")
    assert trusting.dvc("status") == SYNC
    verified = trusting.run("cocoseg", "verify", check=False).stdout.partition("\n\n")[2].splitlines()
    assert [line.partition(" (")[0] for line in verified] == [
        "corrupt in workspace: raw/1.txt",
        "corrupt in cache: raw/1.txt",
        "corrupt in remote 'store': raw/1.txt",
        "3 faults",
    ]
    careful = another(pushed, "careful")
    assert "Checkout failed for following targets:\nraw\n" in careful.dvc("pull", check=False)
    assert not cached(careful, SECOND).exists()


def test_an_object_of_many_megabytes_is_read_in_parts_and_restored(pushed: Clone) -> None:
    (pushed.folder / "weights.bin").write_bytes(os.urandom(20_000_001))  # 8 + 8 + 4 MiB and a bit
    pushed.dvc("add", "weights.bin")
    pushed.dvc("push")
    assert pushed.run("cocoseg", "verify").stdout.endswith("\n\nno faults\n")
    before = (pushed.folder / "weights.bin").read_bytes()
    shutil.rmtree(pushed.folder / ".dvc/cache")
    (pushed.folder / "weights.bin").unlink()
    assert "all repaired" in pushed.run("cocoseg", "verify", "--repair").stdout
    assert (pushed.folder / "weights.bin").read_bytes() == before
    assert pushed.dvc("status") == SYNC


def test_an_experiment_goes_through_git_and_the_server_to_another_clone(pushed: Clone) -> None:
    pushed.run("git", "clone", "--quiet", "--bare", ".", "../origin.git")
    pushed.git("remote", "add", "origin", "../origin.git")
    pushed.dvc("exp", "run", "--name", "four", "--set-param", "count=4")
    pushed.dvc("exp", "push", "origin", "four")
    pushed.run("git", "clone", "--quiet", "../origin.git", "../colleague")
    colleague = Clone(pushed.folder.parent / "colleague")
    colleague.dvc("exp", "pull", "origin", "four")
    colleague.dvc("exp", "apply", "four")
    colleague.dvc("checkout")
    assert colleague.yaml("params.yaml") == {"count": 4}
    assert colleague.run("cocoseg", "verify").stdout.endswith("\n\nno faults\n")


def test_another_repository_gets_and_imports_an_output(pushed: Clone, tmp_path: Path) -> None:
    consumer = Clone(tmp_path / "consumer")
    consumer.folder.mkdir()
    consumer.git("init", "--quiet")
    consumer.dvc("init", "--quiet")
    consumer.dvc("get", str(pushed.folder), "report.txt", "--out", "got.txt")
    consumer.dvc("import", str(pushed.folder), "raw", "--out", "imported")
    assert (consumer.folder / "got.txt").read_text() == "drawn 0drawn 0"
    assert sorted(path.name for path in (consumer.folder / "imported").iterdir()) == ["0.txt", "1.txt", "2.txt"]
    (consumer.folder / "imported/1.txt").chmod(0o644)
    (consumer.folder / "imported/1.txt").write_text("drawn by hand")
    # Of what is imported no remote is asked: it lies where it comes from.
    assert "all repaired" in consumer.run("cocoseg", "verify", "--repair").stdout
    assert (consumer.folder / "imported/1.txt").read_text() == "drawn 1"
