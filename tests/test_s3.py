"""Masks and weights travel through a real S3 server that checks signatures."""

import csv
import io
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from clones import NOBODY, Clone
from counting_pipeline import counting_pipeline
from faults.disturbed import ALL
from forks import kill
from s3_remote import another, copied, files_in, has_no_faults, make_bucket, objects_of, set_remote
from s3_server import KEY, REGION, SECRET, S3Server
from silent_faults import FAULTS, SECOND, SilentFault, cached, delete_on_remote, dvc_says, flip_on_remote
from test_remotes import RECIPES

# botocore asks a server that does not answer 5 times, for each of which s3fs asks 5 times, for each object.
SOON = {"AWS_MAX_ATTEMPTS": "1"}
SYNC = "Data and pipelines are up to date.\n"


@pytest.fixture(scope="module")
def made(server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The pipeline, committed with its remote, a bucket; nothing is pushed."""
    pipeline = counting_pipeline(tmp_path_factory.mktemp("pipeline") / "made")
    make_bucket(pipeline, server, "masks")
    set_remote(pipeline, server.url, "s3://masks/start")
    pipeline.commit("remote")
    return pipeline


@pytest.fixture
def pushed(made: Clone, server: S3Server, tmp_path: Path) -> Clone:
    """A copy whose data is in a folder of its own on the server."""
    copy = copied(made, tmp_path / "made", server.url, f"s3://masks/{tmp_path.name}")
    copy.dvc("push")
    return copy


def test_what_one_clone_pushes_another_pulls_and_dvc_repro_does_nothing(pushed: Clone) -> None:
    assert pushed.dvc("push") == "Everything is up to date.\n"
    fresh = another(pushed)
    assert "6 files fetched" in fresh.dvc("pull")
    assert fresh.dvc("status") == SYNC
    assert fresh.stages_run(fresh.dvc("repro")) == []
    assert fresh.git("status", "--porcelain") == ""
    assert has_no_faults(fresh)


def test_the_recipe_for_another_store_pushes_and_pulls_as_it_stands(made: Clone, server: S3Server) -> None:
    recipe = next(recipe for recipe in RECIPES if "endpointurl" in recipe)
    for example, ours in {
        "s3://bucket/cocoseg": "s3://masks/recipe",
        "https://s3.example.org": server.url,
        "us-east-1": REGION,
        "--local store access_key_id …": f"--local store access_key_id {KEY}",
        "--local store secret_access_key …": f"--local store secret_access_key {SECRET}",
    }.items():
        assert example in recipe
        recipe = recipe.replace(example, ours)
    sender = another(made, "sender")
    shutil.copytree(made.folder / ".dvc/cache", sender.folder / ".dvc/cache")
    receiver = another(made, "receiver")
    for clone, transfer in ((sender, "dvc push"), (receiver, "dvc pull")):
        (clone.folder / ".dvc/config").unlink()
        clone.run("bash", "-euc", f"{recipe}{transfer}", check=True, **NOBODY)
    assert receiver.dvc("status") == SYNC
    assert SECRET not in (receiver.folder / ".dvc/config").read_text()


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
    set_remote(pushed, server.url, url)
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
        assert "Could not connect to the endpoint URL" in pushed.dvc("fetch", check=False, **SOON)
        verified = pushed.run("cocoseg", "verify", check=False, **SOON)
        assert (verified.returncode, verified.stderr) == (1, "")  # for the cache
        assert "remote 'store' was not checked: Could not connect to the endpoint URL" in verified.stdout
    finally:
        server.start()
    assert "6 files fetched" in pushed.dvc("fetch")
    assert has_no_faults(pushed)


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if "remote" in fault.name], ids=lambda fault: fault.name)
@pytest.mark.slow
def test_each_fault_on_the_server_is_named_and_repaired(fault: SilentFault, pushed: Clone) -> None:
    fault.happens(pushed)
    assert (dvc_says(pushed) == "clean") != fault.dvc_sees_it
    found = pushed.run("cocoseg", "verify", check=False)
    assert found.returncode == 1
    assert tuple(line.partition(" (")[0] for line in found.stdout.partition("\n\n")[2].splitlines()[:-1]) == fault.says
    assert pushed.run("cocoseg", "verify", "--repair").stdout.endswith("1 fault, all repaired\n")
    assert has_no_faults(pushed)


@pytest.mark.slow
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
    assert has_no_faults(pushed)
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
    assert has_no_faults(colleague)


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


MANY = 40  # photographs of 200 kB
KILLED = -9


@pytest.fixture
def many(made: Clone, server: S3Server, tmp_path: Path) -> Clone:
    """A copy with many objects that are nowhere else yet."""
    copy = copied(made, tmp_path / "made", server.url, f"s3://masks/{tmp_path.name}")
    (copy.folder / "many").mkdir()
    for number in range(MANY):
        (copy.folder / f"many/{number}.jpg").write_bytes(os.urandom(200_000))
    copy.dvc_here("add", "many")
    copy.commit("many photographs")
    return copy


def killed_after(seconds: float, clone: Clone, command: str) -> "subprocess.CompletedProcess[str]":
    """Run `dvc`, and kill it after a time if it has not ended."""
    end = time.monotonic() + seconds

    def kill_late(group: int) -> None:
        if time.monotonic() > end:
            kill(group)

    return clone.disturbed(kill_late, "dvc", command)


def is_right_as_far_as_it_is_there(clone: Clone, many: Clone) -> bool:
    """Whether no file of `many` is other than it was made, and no object of the cache other than its name."""
    objects_of(clone)
    return files_in(clone.folder / "many").items() <= files_in(many.folder / "many").items()


def cut_off_by(server: S3Server, clone: Clone, command: str, arrived: Callable[[], int]) -> str:
    """What `dvc` says if the server dies once some of the objects have arrived."""
    before, had = arrived(), list[int]()

    def die(group: int) -> None:
        if not had and arrived() >= before + 5:
            server.kill()
            had.append(arrived() - before)

    try:
        finished = clone.disturbed(die, "dvc", command, **SOON)
    finally:
        if had:
            server.start()
    assert had, f"{command} has ended before: {finished.stderr}"
    assert had[0] < MANY
    assert finished.returncode in (1, 255)
    assert "Traceback" not in finished.stderr
    assert SECRET not in finished.stderr
    return finished.stderr


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_of_a_push_is_a_line_for_each_object_and_the_second_attempt_completes(
    many: Clone, server: S3Server
) -> None:
    said = cut_off_by(server, many, "push", lambda: server.kept)
    assert said.startswith("ERROR: ")
    assert "Could not connect to the endpoint URL" in said
    assert "files pushed" in many.dvc("push")
    assert has_no_faults(many)


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_of_a_pull_is_a_line_and_the_second_attempt_completes(
    many: Clone, server: S3Server
) -> None:
    many.dvc("push")
    fresh = another(many)
    cache = fresh.folder / ".dvc/cache/files/md5"
    said = cut_off_by(server, fresh, "pull", lambda: sum(1 for path in cache.glob("??/*") if path.suffix != ".tmp"))
    assert said.startswith("ERROR: ")
    assert "Could not connect to the endpoint URL" in said
    assert is_right_as_far_as_it_is_there(fresh, many)
    again = fresh.run("dvc", "pull", check=False)
    if again.returncode:  # what DVC noted of the lists before has led it astray
        assert "Checkout failed for following targets:" in again.stderr
        assert fresh.run("cocoseg", "verify", "--repair").stdout.endswith("all repaired\n")
    assert has_no_faults(fresh)


@pytest.mark.parametrize("command", ["push", "pull"])
@pytest.mark.slow
def test_what_a_transfer_killed_at_random_moments_leaves_is_never_broken_and_repair_completes_it(
    command: str, many: Clone, server: S3Server, record_property: Callable[[str, object], None]
) -> None:
    if command == "pull":
        many.dvc("push")
    moments, kills, incomplete = random.Random(command), 0, 0
    for number in range(20 if ALL else 2):
        clone = another(many, f"another-{number}")
        if command == "push":
            shutil.copytree(many.folder / ".dvc/cache", clone.folder / ".dvc/cache")
            clone.dvc_here("checkout")
            set_remote(clone, server.url, f"s3://masks/{many.folder.parent.name}/{number}")
        killed = killed_after(moments.uniform(0.2, 1.5), clone, command)
        kills += killed.returncode == KILLED
        assert is_right_as_far_as_it_is_there(clone, many)
        # DVC may hold the outputs whose lists it had read before it was killed for all that there are.
        incomplete += clone.run("dvc", command, check=False).returncode != 0 or not has_no_faults(clone)
        assert clone.run("cocoseg", "verify", "--repair").returncode == 0
        assert has_no_faults(clone)
    said = f"dvc {command} through S3: {kills} kills, {incomplete} of which the next {command} did not make good, "
    record_property("figures", said + "all of which cocoseg verify --repair did")


SWEEP = "dvc exp run --queue -S {sweep} && dvc exp run --run-all"
SUM = """\
from pathlib import Path
count = int(Path("params.yaml").read_text().split()[1])
Path("numbers.txt").write_text(" ".join(map(str, range(1, count + 1))))
Path("metrics").mkdir(exist_ok=True)
Path("metrics/sum.json").write_text(f'{{"sum": {sum(range(1, count + 1))}}}')
"""
SUM_STAGE = """\
  sum:
    cmd: python sum.py
    deps: [sum.py]
    params: [count]
    outs: [numbers.txt]
    metrics:
    - metrics/sum.json: {cache: false}
"""


@pytest.mark.slow
def test_three_clones_run_one_sweep_and_read_it_in_one_table(made: Clone, server: S3Server, tmp_path: Path) -> None:
    first = Clone(tmp_path / "first")
    shutil.copytree(made.folder, first.folder, symlinks=True)
    set_remote(first, server.url, f"s3://masks/{tmp_path.name}")
    (first.folder / "sum.py").write_text(SUM)
    with (first.folder / "dvc.yaml").open("a") as file:
        file.write(SUM_STAGE)
    first.dvc("repro")
    first.dvc("push")
    first.commit("a sum")
    first.run("git", "clone", "--quiet", "--bare", ".", "../origin.git")
    clones = []
    for name, sweep in {"one": "4,5", "two": "6", "three": ""}.items():
        first.run("git", "clone", "--quiet", "../origin.git", f"../{name}")
        clones.append(clone := Clone(tmp_path / name))
        if sweep:
            clone.run("bash", "-euc", SWEEP.format(sweep=f"count={sweep}"))
            clone.dvc("exp", "push", "origin")
    reader = clones[-1]
    reader.dvc("exp", "pull", "origin")
    rows = list(csv.DictReader(io.StringIO(reader.dvc("exp", "show", "--csv"))))
    # 1 + 2 + 3 = 6 where it was committed, then 10, 15 and 21
    assert sorted((int(row["count"]), int(row["sum"])) for row in rows if row["Experiment"]) == [
        (4, 10),
        (5, 15),
        (6, 21),
    ]
    assert {(row["count"], row["sum"]) for row in rows if not row["Experiment"]} == {("3", "6")}
    [six] = [row["Experiment"] for row in rows if row["count"] == "6"]
    reader.dvc("exp", "apply", six)
    assert (reader.folder / "numbers.txt").read_text() == "1 2 3 4 5 6"
    reader.dvc("pull")
    assert has_no_faults(reader)
