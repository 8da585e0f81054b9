"""End a process together with those that started it. Killed, they could not tell it to."""

import multiprocessing
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from threading import Thread

import psutil

_LOOK_EVERY_S = 0.2


def end_with_parent() -> None:
    """End this worker process when the process that started it ends."""
    if (parent := multiprocessing.parent_process()) is not None:
        try:
            _end_with([psutil.Process(parent.pid)])
        except psutil.NoSuchProcess:
            os._exit(1)


def end_with_dvc() -> None:
    """End this process when the DVC that started it ends, or what lies between them, such as a shell or torchrun.

    A process that DVC did not start goes on, as after `nohup` or in a closed terminal.
    """
    _end_with(list(_up_to_dvc()))


def _up_to_dvc() -> Iterator[psutil.Process]:
    """Yield the parents of this process up to DVC: all have `DVC_STAGE` in their environment but DVC itself."""
    if (stage := os.environ.get("DVC_STAGE")) is None:
        return
    for parent in psutil.Process().parents():
        with suppress(psutil.Error):  # what we may not look into is not ours, so it is the last one
            if parent.environ().get("DVC_STAGE") == stage:
                yield parent
                continue
            # Only in a container is DVC the first process. Else DVC has ended before we could look.
            if parent.pid == 1 and not any("dvc" in word for word in parent.cmdline()):
                os._exit(1)
        yield parent
        return


def _end_with(starters: Sequence[psutil.Process]) -> None:
    if starters:
        Thread(target=_watch, args=(starters,), daemon=True).start()


def _watch(starters: Sequence[psutil.Process]) -> None:
    with suppress(psutil.NoSuchProcess):
        # A zombie has ended, too: its own parent has not noticed yet.
        while all(starter.is_running() and starter.status() != psutil.STATUS_ZOMBIE for starter in starters):
            time.sleep(_LOOK_EVERY_S)
    os._exit(1)
