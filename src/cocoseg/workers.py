"""Parallel work. The number of workers never enters `params.yaml`: results must not depend on the number of cores."""

import errno
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Condition
from typing import TypeVar

from cocoseg.core.errors import CocosegError
from cocoseg.core.interrupt import children_without_ctrl_c
from cocoseg.core.lifetime import end_with_parent


def worker_count() -> int:
    """Return how many processes or threads to use: `COCOSEG_WORKERS`, or the cores this process may use."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return counted_in("COCOSEG_WORKERS") or cores


def counted_in(variable: str) -> int | None:
    """Return the number in an environment variable, or `None` if it is not set.

    Raises `CocosegError` if it is not a whole number of at least 1.
    """
    asked = os.environ.get(variable)
    if asked is None:
        return None
    if not asked.isdecimal() or int(asked) < 1:
        raise CocosegError(f"{variable} is {asked!r}; expected a whole number of at least 1, such as 4")
    return int(asked)


def process_pool(most: int, *, beside: bool = False) -> Executor:
    """Return a pool of `worker_count` processes, at most `most`; a single worker is a thread of this process.

    `beside`: one fewer, since this process lends a hand.

    They end when this process ends, even if it is killed. Those of a plain pool would wait forever. Raises
    `CocosegError` without room for their locks.
    """
    if (workers := min(worker_count(), most)) <= 1:
        return ThreadPoolExecutor(1)
    # Spawned: a fork would copy locks held by threads that numpy and OpenCV may have started.
    try:
        return ProcessPoolExecutor(workers - beside, _Spawn(), _begin_worker)
    except OSError as error:
        if error.errno == errno.EMFILE:
            raise
        raise CocosegError(
            f"worker processes need shared memory, but in /dev/shm: {error.strerror}; start a container with "
            "--shm-size=1g, or do without worker processes: COCOSEG_WORKERS=1 dvc repro"
        ) from None


class _WorkerProcess(SpawnProcess):
    def start(self) -> None:
        with children_without_ctrl_c():
            super().start()


class _Spawn(SpawnContext):
    Process = _WorkerProcess


def _begin_worker() -> None:
    import cv2  # here: `worker_count` alone does not need it

    # One thread per process: OpenCV would start one per core in each of them.
    cv2.setNumThreads(1)
    end_with_parent()


Item = TypeVar("Item")
Result = TypeVar("Result")


PIXEL_BUDGET = 128_000_000
"""Pixels of images that are decoded at a time, over all threads; one larger image has it to itself."""


def ahead(
    pool: Executor,
    task: Callable[[Item], Result],
    items: Iterable[Item],
    most: int,
    pixels: Callable[[Item], int] | None = None,
    *,
    lend_a_hand: bool = False,
) -> Iterator[Result]:
    """Yield the result of `task` for each item, in order, while the pool works on up to `most` of the next ones.

    `pixels`: how many an item has; together those that are started stay within half of `PIXEL_BUDGET`. `lend_a_hand`:
    while the pool has `most` to do, the next is done here.
    """
    started: deque[tuple[Future[Result], int]] = deque()
    held = 0
    for item in items:
        own = pixels(item) if pixels else 0
        # In order, so that no item waits for one after it.
        while started and held + own > PIXEL_BUDGET // 2:
            held -= started[0][1]
            yield started.popleft()[0].result()
        busy = lend_a_hand and sum(not future.done() for future, _ in started) >= most
        started.append((_done(task, item) if busy else pool.submit(task, item), own))
        held += own
        del item  # it may be large, and the next may take long
        while started and (started[0][0].done() if lend_a_hand else len(started) > most):
            held -= started[0][1]
            yield started.popleft()[0].result()
    while started:
        yield started.popleft()[0].result()


def _done(task: Callable[[Item], Result], item: Item) -> Future[Result]:
    """Do a task here. The mistake that it finds waits for its turn, as in a pool, so that the first one is told."""
    future: Future[Result] = Future()
    try:
        future.set_result(task(item))
    except CocosegError as error:
        future.set_exception(error)
    return future


class PixelBudget:
    """Pixels that threads may hold at a time; who asks for more than there are left waits."""

    def __init__(self, pixels: int = PIXEL_BUDGET) -> None:
        self._most = self._left = pixels
        self._changed = Condition()

    @contextmanager
    def holding(self, pixels: int) -> Iterator[None]:
        """Hold so many pixels, or all that there are, until the block ends. Never to be nested."""
        own = min(pixels, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= own)
            self._left -= own
        try:
            yield
        finally:
            with self._changed:
                self._left += own
                self._changed.notify_all()
