"""Through a network that is slow, cuts, resets, answers for the server or changes what passes, either DVC completes by
asking again, or it is a line; nothing corrupt is left, and with an honest network the second attempt completes.
"""

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from clones import Clone
from counting_pipeline import counting_pipeline
from faults.disturbed import ALL
from faults.lying_proxy import Fault, Kind, LyingProxy, Way
from forks import kill
from s3_remote import copied, files_in, has_no_faults, make_bucket, objects_of, set_remote
from s3_server import SECRET, S3Server

pytestmark = pytest.mark.slow
# Drawn files, of which one is `total.txt` too, `report.txt`, photographs, and a list for each of three folders.
OBJECTS = 3 + 1 + 12 + 3
# botocore asks 5 times, for each of which s3fs asks 5 times; once for each is enough where nobody ever answers.
ONCE = {"AWS_MAX_ATTEMPTS": "1"}


@pytest.fixture(scope="module")
def made(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The pipeline with a folder more, whose files take several packets; nothing is pushed."""
    folder = tmp_path_factory.mktemp("network") / "made"
    pipeline = Clone(counting_pipeline(folder).folder)
    (folder / "photographs").mkdir()
    for number in range(12):
        (folder / f"photographs/{number}.jpg").write_bytes(bytes([number]) * 100_000)
    pipeline.dvc_here("add", "photographs")
    make_bucket(pipeline, server, "network")
    pipeline.commit("photographs")
    return pipeline


@pytest.fixture
def proxy(server: S3Server) -> Iterator[LyingProxy]:
    with LyingProxy(server.url) as proxy:
        yield proxy


@pytest.fixture
def pipeline(made: Clone, proxy: LyingProxy, tmp_path: Path) -> Clone:
    """A copy whose remote is behind the network, a folder of its own."""
    return copied(made, tmp_path / "made", proxy.url, f"s3://network/{tmp_path.name}")


@pytest.fixture(scope="module")
def pushed(made: Clone, server: S3Server) -> str:
    """Where on the server all its data is."""
    set_remote(made, server.url, "s3://network/pushed")
    made.dvc("push")
    return "s3://network/pushed"


@pytest.fixture
def fresh(pushed: str, made: Clone, proxy: LyingProxy, tmp_path: Path) -> Clone:
    """A clone without data, whose remote is behind the network."""
    made.run("git", "clone", "--quiet", ".", str(tmp_path / "fresh"))
    clone = Clone(tmp_path / "fresh")
    set_remote(clone, proxy.url, pushed)
    return clone


def tells_no_secret(said: str) -> bool:
    return "Traceback" not in said and SECRET not in said


def is_right_as_far_as_it_is_there(clone: Clone, made: Clone) -> bool:
    """Whether each file of the outputs is as it was made or not there; and each object is what its name says."""
    objects_of(clone)
    return all(
        files_in(clone.folder / name).items() <= files_in(made.folder / name).items()
        for name in ("raw", "none", "photographs")
    )


# What DVC asks again for until it is right. What a client signs, its content among it, the server refuses if it is
# changed; who answers signs nothing, so that of these DVC gives up, once it has compared the content with its name.
ASKED_AGAIN: dict[Way, tuple[Kind, ...]] = {
    "up": ("cut", "busy", "flip", "slow", "silent", "reset", "shorter", "longer"),
    "down": ("cut", "silent", "slow", "reset", "busy"),
}
GIVEN_UP: tuple[Kind, ...] = ("flip", "shorter", "longer")


@pytest.mark.parametrize("kind", ASKED_AGAIN["up"] if ALL else ASKED_AGAIN["up"][:3])
def test_a_push_through_a_network_that_lies_now_and_then_completes(
    kind: Kind, pipeline: Clone, proxy: LyingProxy
) -> None:
    pipeline.dvc("remote", "modify", "--local", "store", "read_timeout", "1")
    proxy.fault = Fault(kind, "up", every=5)
    assert pipeline.dvc("push") == f"{OBJECTS} files pushed\n"
    assert proxy.lies >= OBJECTS // 5
    proxy.fault = None
    assert has_no_faults(pipeline)


@pytest.mark.parametrize("kind", ASKED_AGAIN["down"] if ALL else ASKED_AGAIN["down"][:2])
def test_a_pull_through_a_network_that_lies_now_and_then_completes(kind: Kind, fresh: Clone, proxy: LyingProxy) -> None:
    fresh.dvc("remote", "modify", "--local", "store", "read_timeout", "1")
    proxy.fault = Fault(kind, "down", every=5)
    assert f"{OBJECTS} files fetched" in fresh.dvc("pull")
    assert proxy.lies >= OBJECTS // 5
    proxy.fault = None
    assert has_no_faults(fresh)


@pytest.mark.parametrize("kind", GIVEN_UP if ALL else GIVEN_UP[:2])
def test_a_pull_of_what_the_network_changes_is_a_line_and_the_next_completes(
    kind: Kind, fresh: Clone, made: Clone, proxy: LyingProxy
) -> None:
    proxy.fault = Fault(kind, "down", every=4, lists=False)
    finished = fresh.run("dvc", "pull", check=False)
    assert finished.returncode == 1
    assert "ERROR: failed to pull data from the cloud - Checkout failed for following targets:\n" in finished.stderr
    assert tells_no_secret(finished.stderr)
    assert is_right_as_far_as_it_is_there(fresh, made)
    proxy.fault = None
    assert "files fetched" in fresh.dvc("pull")
    assert has_no_faults(fresh)


@pytest.mark.parametrize("kind", GIVEN_UP if ALL else GIVEN_UP[:1])
def test_a_list_that_the_network_changes_is_a_line_that_may_give_no_reason(
    kind: Kind, fresh: Clone, made: Clone, proxy: LyingProxy
) -> None:
    proxy.fault = Fault(kind, "down")
    finished = fresh.run("dvc", "pull", check=False)
    # Sometimes "- object ….dir is corrupted"; where bytes were put behind it, what the next step does not find.
    assert (finished.returncode, finished.stderr[:23]) in [
        (255, "ERROR: unexpected error"),
        (1, "ERROR: failed to pull d"),
    ]
    assert tells_no_secret(finished.stderr)
    assert is_right_as_far_as_it_is_there(fresh, made)
    proxy.fault = None
    # What DVC noted of the lists before may lead the next pull astray.
    assert fresh.run("cocoseg", "verify", "--repair").stdout.endswith("all repaired\n")
    assert has_no_faults(fresh)


def test_who_does_not_set_verify_takes_what_the_network_has_changed_and_cocoseg_verify_finds_it(
    fresh: Clone, proxy: LyingProxy
) -> None:
    fresh.dvc("remote", "modify", "--local", "store", "verify", "false")
    proxy.fault = Fault("flip", "down", every=OBJECTS)  # the last
    assert f"{OBJECTS} files fetched" in fresh.dvc("pull")
    assert fresh.dvc("status") == "Data and pipelines are up to date.\n"
    proxy.fault = None
    assert "corrupt in cache: " in fresh.run("cocoseg", "verify", check=False).stdout
    assert "all repaired" in fresh.run("cocoseg", "verify", "--repair").stdout
    assert has_no_faults(fresh)


def test_a_network_that_changes_every_other_answer_makes_no_object_corrupt(fresh: Clone, proxy: LyingProxy) -> None:
    fresh.dvc("pull")
    proxy.fault = Fault("flip", "down", every=2)
    # One after the other: each is asked for once more, and that answer is right.
    finished = fresh.run("cocoseg", "verify", "--jobs", "1")
    assert finished.stdout.endswith("\n\nno faults\n")
    assert proxy.lies == OBJECTS - 1


def test_a_repair_believes_no_upload_that_does_not_come_back_as_it_was(fresh: Clone, proxy: LyingProxy) -> None:
    fresh.dvc("pull")
    proxy.fault = Fault("flip", "down")
    finished = fresh.run("cocoseg", "verify", "--repair", check=False)
    assert finished.returncode == 1
    assert "was sent, but came back changed; run again" in finished.stdout
    proxy.fault = None
    assert has_no_faults(fresh)


@pytest.mark.parametrize(
    ("fault", "line"),
    [
        (Fault("flip", "up"), f"ERROR: failed to push data to the cloud - {OBJECTS} files failed to upload\n"),
        (Fault("busy", "down"), "ERROR: unexpected error - [Errno 16] Service Unavailable: "),
    ],
    ids=["flip up", "busy down"],
)
def test_a_network_that_always_lies_is_a_line_and_an_honest_one_completes(
    fault: Fault, line: str, pipeline: Clone, fresh: Clone, made: Clone, proxy: LyingProxy
) -> None:
    clone, command = (pipeline, "push") if fault.way == "up" else (fresh, "pull")
    proxy.fault = fault
    finished = clone.run("dvc", command, check=False, **ONCE)
    assert finished.returncode != 0
    assert line in finished.stderr
    assert tells_no_secret(finished.stderr)
    assert is_right_as_far_as_it_is_there(clone, made)
    proxy.fault = None
    clone.dvc(command)
    assert has_no_faults(clone)


def test_a_pull_killed_between_two_lists_leads_the_next_astray_and_repair_completes_it(
    fresh: Clone, made: Clone, proxy: LyingProxy
) -> None:
    proxy.fault = Fault("silent", "down", every=2)
    killed = fresh.disturbed(lambda group: kill(group) if proxy.lies else None, "dvc", "pull")
    assert killed.returncode == -signal.SIGKILL
    proxy.fault = None
    # It had noted the first list, and takes that for all.
    said = fresh.run("dvc", "pull", check=False)
    assert said.returncode == 1
    assert "Checkout failed for following targets:\n" in said.stderr
    assert is_right_as_far_as_it_is_there(fresh, made)
    assert fresh.run("cocoseg", "verify", "--repair").stdout.endswith("all repaired\n")
    assert fresh.dvc("pull") == "Everything is up to date.\n"
    assert has_no_faults(fresh)
