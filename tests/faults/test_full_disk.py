"""A disk that fills up at any point costs one clear line, and with room again everything ends as if it had not.

In the normal tests at two points, at all of them as in `test_kills.py`.
"""

import subprocess
import sys
from collections.abc import Iterator

import pytest
from faults.disturbed import ALL, DATA_STAGES, STAGES, Ended, Sandbox
from faults.small_disk import NoSmallDisk, SmallDisk
from faults.undisturbed import BROKEN_NOTES, Record, Undisturbed, each
from lacking import lacking

ROOMY_BYTES = 200 * 2**20
PAGE_BYTES = 4096
# What the system, SQLite (of DVC's notes) and DVC say of it, the latter also of links that it tried, and of what became
# of its own files.
FULL = (
    *("No space left on device", "database or disk is full", "disk I/O error", "No possible cache link types for"),
    *BROKEN_NOTES,
)


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk]:
    try:
        disk = SmallDisk(tmp_path_factory.mktemp("disk"), ROOMY_BYTES)
    except NoSmallDisk as reason:
        lacking(f"no small disk: {reason}")
    with disk:
        yield disk


def run(disk: SmallDisk, program: str, *arguments: str) -> Ended:
    """Run a program of this environment in the sandbox on the disk."""
    sandbox = Sandbox(disk.folder / "sandbox")
    # DVC's database of what it has seen is elsewhere by default too.
    environment = sandbox.environment() | {"DVC_SITE_CACHE_DIR": str(disk.folder.with_name("site"))}
    finished = subprocess.run(
        disk.command(
            "env",
            f"--chdir={sandbox.clone.folder}",
            *(f"{name}={value}" for name, value in environment.items()),
            *(sys.executable, "-m", program, *arguments),
        ),
        capture_output=True,
        text=True,
        check=False,
    )
    return Ended(finished.returncode, finished.stdout + finished.stderr)


@pytest.mark.parametrize("stage", STAGES if ALL else ["mask"])
def test_a_full_disk_is_a_line_and_with_room_again_the_run_gives_what_it_would_have_given(
    stage: str, disk: SmallDisk, undisturbed: Undisturbed, record_property: Record
) -> None:
    before, after = undisturbed.before(stage), Sandbox(undisturbed.after(stage)).content()
    sandbox = Sandbox(disk.seen / "sandbox")
    sandbox.become(before)
    used = disk.used_bytes
    ended = run(disk, "dvc", "repro", stage)
    assert ended.status == 0, ended.said
    needed = disk.used_bytes - used
    repaired, lines = [], set()

    def same_with_room_again(room: int) -> None:
        disk.resize(ROOMY_BYTES)
        sandbox.become(before)
        disk.resize(disk.used_bytes + room)
        filled = run(disk, "dvc", "repro", stage)
        disk.resize(ROOMY_BYTES)
        if filled.status:  # training and DVC do without some of what they would like to keep
            assert "Traceback" not in filled.said, filled.said
            said = [line for line in filled.said.splitlines() if any(full in line for full in FULL)]
            assert said, filled.said
            lines.add(said[0])
        ended = run(disk, "dvc", "repro", stage)
        if ended.status and any(line in ended.said for line in BROKEN_NOTES):
            run(disk, "cocoseg", "verify", "--repair", "--no-remote")
            repaired.append(room)
            ended = run(disk, "dvc", "repro", stage)
        assert ended.status == 0, ended.said
        assert sandbox.content() == after
        assert sandbox.broken_objects() == []

    points = 25 if stage in DATA_STAGES else 6  # training takes long to start
    step = -(-needed // points // PAGE_BYTES) * PAGE_BYTES
    rooms = range(0, needed, step) if ALL else [0, needed // 2]
    assert each(rooms, same_with_room_again) == {}
    assert lines  # it was full
    for line in sorted(lines):
        record_property("figures", f"{stage}, disk full: {line.replace(str(disk.folder), '…')}")
    said = f"{stage}: {needed} bytes needed, full at {len(rooms)} points, all as undisturbed with room again"
    record_property("figures", f"{said}; after {len(repaired)} of them DVC needed cocoseg verify --repair")
