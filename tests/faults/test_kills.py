"""Killed in front of any file operation, or at any moment, and run again, everything ends as if nothing had happened.

In the normal tests a few of each kind, all of them with:
COCOSEG_TEST_FAULTS=all uv run pytest -m '' --dist=load tests/faults
"""

import random
import shutil
import time
from collections.abc import Sequence

import pytest
from faults.disturbed import ALL, DATA_STAGES, KILLED, Sandbox
from faults.undisturbed import Record, Undisturbed, again, as_undisturbed, each

# What the script of a stage writes, and not DVC around it, which does the same around each.
OWN = ("work/data", "work/metrics", "work/plots", "cache")
EVERYWHERE = ("work", "cache", "store")


def chosen(operations: int, few: int, seed: str) -> Sequence[int]:
    """All operations, or the same few each time."""
    every = range(1, operations + 1)
    return every if ALL else sorted(random.Random(seed).sample(every, few))


@pytest.mark.parametrize(
    "stage", ["split", *(pytest.param(stage, marks=pytest.mark.slow) for stage in DATA_STAGES if stage != "split")]
)
def test_a_stage_killed_at_a_file_operation_and_run_again_gives_what_it_would_have_given(
    stage: str, undisturbed: Undisturbed, record_property: Record
) -> None:
    sandbox, before, after = undisturbed.sandbox, undisturbed.before(stage), undisturbed.after(stage)
    sandbox.become(before)
    sandbox.dvc("repro", stage, environment=sandbox.counted(EVERYWHERE))
    as_undisturbed(sandbox, after)
    operations = sandbox.operations
    points, killed, repaired = chosen(operations, 2, stage), [], []

    def same_after_a_kill(point: int) -> None:
        sandbox.become(before)
        ended = sandbox.dvc("repro", stage, environment=sandbox.counted(EVERYWHERE, point))
        # Processes side by side do not make as many operations each time, so the last few may not come.
        assert ended.status == KILLED or (ended.status == 0 and sandbox.operations < point), ended.said
        if ended.status == KILLED:
            killed.append(point)
        if again(sandbox, "repro", stage):
            repaired.append(point)
        as_undisturbed(sandbox, after)

    assert each(points, same_after_a_kill) == {}
    assert killed
    said = f"{stage}: {operations} operations, {len(killed)} kills, all as undisturbed"
    record_property(
        "figures", said + (f"; after {len(repaired)} of them DVC needed cocoseg verify --repair" if repaired else "")
    )


@pytest.mark.slow
@pytest.mark.parametrize("last", ["split", *(["evaluate"] if ALL else [])])
@pytest.mark.parametrize("whom", ["all", "DVC alone"])
def test_a_pipeline_killed_at_random_moments_and_run_again_gives_what_it_would_have_given(
    whom: str, last: str, undisturbed: Undisturbed, record_property: Record
) -> None:
    sandbox, start, end = undisturbed.sandbox, undisturbed.before("download"), undisturbed.after(last)
    sandbox.become(start)
    started = time.monotonic()
    assert sandbox.dvc("repro", last).status == 0
    seconds = time.monotonic() - started
    moments = random.Random(f"moments {whom} {last}")
    rounds, kills, repaired = 30 if ALL else 1, 0, 0
    for _ in range(rounds):
        sandbox.become(start)
        for _ in range(3):
            after_s = moments.uniform(0, seconds)
            kills += sandbox.dvc("repro", last, kill_after_s=after_s, alone=whom != "all").status == KILLED
        repaired += again(sandbox, "repro", last)
        as_undisturbed(sandbox, end)
    assert kills
    record_property(
        "figures", f"random moments up to {last}: {kills} kills of {whom} in {rounds} runs, all as undisturbed"
    )


@pytest.mark.parametrize("stage", ["download_images", "train", "evaluate"] if ALL else ["download_images"])
def test_a_worker_or_stage_that_the_system_kills_leaves_one_line_at_most_and_the_next_run_is_whole(
    stage: str, undisturbed: Undisturbed, record_property: Record
) -> None:
    sandbox, before, after = undisturbed.sandbox, undisturbed.before(stage), undisturbed.after(stage)
    sandbox.become(before)
    sandbox.stage(stage, sandbox.counted(OWN))
    points = chosen(sandbox.operations, 2, f"system {stage}")

    def whole_after_a_kill(point: int) -> None:
        sandbox.become(before)
        ended = sandbox.stage(stage, sandbox.counted(OWN, point, whom="process"))
        assert ended.status == KILLED or (ended.status == 1 and ": a worker process was killed" in ended.said)
        assert "Traceback" not in ended.said
        again(sandbox, "repro", stage)
        as_undisturbed(sandbox, after)

    assert each(points, whole_after_a_kill) == {}
    record_property("figures", f"{stage}, one process killed: {len(points)} kills, all as undisturbed")


@pytest.mark.parametrize(
    "command",
    [
        "verify --repair",
        *(pytest.param(f"{name} --with-deps split", marks=pytest.mark.slow) for name in ("push", "pull", "checkout")),
    ],
)
def test_a_transfer_killed_at_a_file_operation_and_made_again_is_complete(
    command: str, undisturbed: Undisturbed, record_property: Record
) -> None:
    sandbox, pushed = undisturbed.sandbox, undisturbed.pushed()
    made = [f"work/data/{path.name}" for path in (pushed / "work/data").iterdir() if path.name != "custom"]
    lost = {"push": ["store"], "checkout": made}.get(command.split()[0], [*made, "work/.dvc/cache"])
    run = sandbox.cocoseg if command.startswith("verify") else sandbox.dvc

    def prepare() -> None:
        sandbox.become(pushed)
        for place in lost:
            path = sandbox.folder / place
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    prepare()
    ended = run(*command.split(), environment=sandbox.counted(EVERYWHERE))
    assert ended.status == 0, ended.said
    operations = sandbox.operations
    points, killed, repaired = chosen(operations, 2, command), [], []

    def is_complete() -> bool:
        return not sandbox.broken_objects() and sandbox.objects() >= Sandbox(pushed).objects()

    def complete_after_a_kill(point: int) -> None:
        prepare()
        ended = run(*command.split(), environment=sandbox.counted(EVERYWHERE, point))
        assert ended.status == KILLED or (ended.status == 0 and sandbox.operations < point), ended.said
        if ended.status == KILLED:
            killed.append(point)
        if command.startswith("verify"):
            assert sandbox.half_folders() == []
        ended = run(*command.split())
        if command.startswith("verify") and ended.status == 3:  # it was killed while DVC wrote its own notes
            ended = run(*command.split())
        # Before DVC copies to a folder, it makes and removes the file to see whether the disk can do better: killed
        # in between, it leaves an empty object, which the next `dvc push` takes for whole, or breaks down over.
        if not command.startswith("verify") and (ended.status or not is_complete()):
            repaired.append(point)
            ended = sandbox.cocoseg("verify", "--repair")
        assert ended.status == 0, ended.said
        assert is_complete()
        as_undisturbed(sandbox, pushed)

    assert each(points, complete_after_a_kill) == {}
    assert killed
    said = f"{command}: {operations} operations, {len(killed)} kills, all complete after the next"
    record_property("figures", said + (f"; or, {len(repaired)} of them, cocoseg verify --repair" if repaired else ""))
