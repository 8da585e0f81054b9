"""End a process together with those that started it. Killed, they could not tell it to."""

import multiprocessing
import os
import time
from collections.abc import Iterator, Mapping, Sequence
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


def environment_of_dvc() -> Mapping[str, str]:
    """Return the environment of the DVC that started this process; an empty one if none did."""
    with suppress(psutil.Error):
        return {name: value for dvc in list(_up_to_dvc())[-1:] for name, value in dvc.environ().items()}
    return {}


def _up_to_dvc() -> Iterator[psutil.Process]:
    """Yield the parents of this process up to DVC: all have `DVC_STAGE` in their environment but DVC itself."""
    stage, inside = os.environ.get("DVC_STAGE"), True
    # What we may not look into is not ours, so it is the last one. A DVC that ended before we could look is not missed:
    # the lock on the work tree stays, and names this process. Without /proc there is none to be seen.
    with suppress(psutil.Error):
        parent = psutil.Process()
        while stage is not None and inside and (above := parent.parent()) is not None:
            yield (parent := above)
            inside = parent.environ().get("DVC_STAGE") == stage


def _end_with(starters: Sequence[psutil.Process]) -> None:
    if starters:
        Thread(target=_watch, args=(starters,), daemon=True).start()


def _watch(starters: Sequence[psutil.Process]) -> None:
    with suppress(psutil.NoSuchProcess):
        # A zombie has ended, too: its own parent has not noticed yet.
        while all(starter.is_running() and starter.status() != psutil.STATUS_ZOMBIE for starter in starters):
            time.sleep(_LOOK_EVERY_S)
    os._exit(1)
