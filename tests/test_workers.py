"""How many things to do at once."""

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event, current_thread, main_thread

import pytest

from cocoseg.core.errors import CocosegError
from cocoseg.workers import PixelBudget, ahead, counted_in, process_pool, worker_count


def test_workers_are_as_many_as_asked_for_or_as_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOSEG_WORKERS", "3")
    assert worker_count() == 3
    monkeypatch.delenv("COCOSEG_WORKERS")
    assert 1 <= worker_count() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("asked", ["0", "-1", "two", "", "1.5"])
def test_a_count_that_is_none_is_one_line(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOSEG_WORKERS", asked)
    with pytest.raises(CocosegError, match=f"COCOSEG_WORKERS is '{asked}'; expected a whole number of at least 1"):
        counted_in("COCOSEG_WORKERS")


# Says the process ids of its workers, and is killed while both have nothing to do.
PARENT = """\
import os, signal
from cocoseg.workers import process_pool

if __name__ == "__main__":
    with process_pool(2) as pool:
        list(pool.map(abs, [1, 2]))
        print(*[process.pid for process in pool._processes.values()], flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_processes_end_with_the_one_that_started_them_also_when_it_is_killed(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    environment = os.environ | {"COCOSEG_WORKERS": "2"}  # also where there is one core
    with subprocess.Popen(
        [sys.executable, "parent.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        workers = [int(pid) for pid in parent.stdout.readline().split()]
    assert parent.returncode == -signal.SIGKILL
    assert workers
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        assert time.monotonic() < deadline, "workers outlive the process that started them"
        time.sleep(0.05)


def test_large_images_are_made_ahead_within_half_the_budget_and_in_order() -> None:
    started: list[int] = []
    megapixels = [64, 10, 10, 44, 200, 1]

    def task(number: int) -> int:
        started.append(number)
        return number

    with ThreadPoolExecutor(4) as pool:
        made = ahead(pool, task, range(6), 8, lambda number: megapixels[number] * 1_000_000)
        assert next(made) == 0
        assert started == [0]  # 64 of 64
        assert next(made) == 1  # 10 + 10 + 44 were started, and 200 have to wait
        assert set(started) <= {0, 1, 2, 3}
        assert list(made) == [2, 3, 4, 5]


def test_while_the_pool_is_busy_the_next_is_done_here_in_order_and_an_error_waits_for_its_turn() -> None:
    go, here = Event(), set[int]()

    def task(number: int) -> int:
        if current_thread() is main_thread():
            here.add(number)
            go.set()
        go.wait(10)
        if number == 4:
            raise CocosegError("of the fifth")
        return number

    with ThreadPoolExecutor(1) as pool:
        made = ahead(pool, task, range(6), 2, lend_a_hand=True)
        assert [next(made) for _ in range(4)] == [0, 1, 2, 3]
        assert 2 in here
        assert not {0, 1} & here  # the pool has room for two
        with pytest.raises(CocosegError, match="of the fifth"):
            next(made)


def test_who_asks_for_more_pixels_than_are_left_waits() -> None:
    budget, at_a_time, most = PixelBudget(100), [0], [0]

    def hold(pixels: int) -> None:
        with budget.holding(pixels):
            at_a_time[0] += pixels
            most[0] = max(most[0], at_a_time[0])
            time.sleep(0.01)
            at_a_time[0] -= pixels

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, [40] * 12))
        assert most[0] == 80
        list(pool.map(hold, [1000, 30, 1000]))  # more than there is: alone
    assert most[0] == 1000


def test_without_room_for_the_locks_of_processes_one_line_names_the_way_to_do_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cocoseg.workers.ProcessPoolExecutor", full)
    monkeypatch.setenv("COCOSEG_WORKERS", "2")
    with pytest.raises(
        CocosegError, match=r"/dev/shm: No space left on device.*--shm-size.*COCOSEG_WORKERS=1 dvc repro"
    ):
        process_pool(3)
    monkeypatch.setenv("COCOSEG_WORKERS", "1")
    with process_pool(3) as pool:
        assert list(pool.map(abs, [-1, 2])) == [1, 2]
