"""Run Python's scripts in processes that are forked from one that has imported the libraries, which takes longer.

A folder has a `python` that asks for such a process, gives it its own streams, and ends as it ends. Nothing of cocoseg
is imported before the fork, so that the script runs the code of its own folder.
"""

import atexit
import gc
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from marshal import loads
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from ask_for_fork import ERRORS, OWN

# What scripts import of others, without torch and with it. What is missing here, they import themselves.
LIBRARIES = [
    *("aiohttp", "asyncio", "cv2", "fsspec.implementations.http", "msgspec", "multiprocessing.pool", "networkx"),
    *("PIL.Image", "platformdirs", "psutil", "pycocotools.mask", "ruamel.yaml", "scipy.optimize", "simplejpeg"),
    *("tqdm", "zlib_ng"),
]
TORCH = [
    *("dvclive", "lightning_fabric", "matplotlib.figure", "safetensors.torch", "segmentation_models_pytorch"),
    *("torchvision.transforms.v2", "torchvision.models.segmentation"),
]
# Who sets one of these otherwise gets a process of its own: its operations are counted, it would lose a folder that
# wandb makes when it is imported and that the first fork removes, or its libraries would not be the same.
_OWN = (
    "KILL_BELOW",
    "COCOSEG_WANDB",
    "MPLCONFIGDIR",
    "OMP_NUM_THREADS",
    "OMP_WAIT_POLICY",
    "PYTHONHASHSEED",
    "PYTHONWARNINGS",
)
_ERROR = ("error", None, Warning, None, 0)  # what `warnings` makes of `-W error`


def forked_python() -> Path:
    """Return the folder of a `python` for the path. Elsewhere than on Linux it is Python itself.

    Its forks are not children of who starts it. They end when it ends, and no other signal reaches them.
    """
    return _started()[0]


@cache
def _started() -> "tuple[Path, subprocess.Popen[bytes] | None]":
    from own_environment import at_end

    folder = Path(tempfile.mkdtemp())
    at_end.callback(shutil.rmtree, folder)
    forks = hasattr(os, "pidfd_open")
    ask = f'-IS "{Path(__file__).with_name("ask_for_fork.py")}" "{folder}"' if forks else ""
    (folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" {ask} "$@"\n')
    (folder / "python").chmod(0o755)
    if not forks:
        return folder, None
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    server = subprocess.Popen(
        [sys.executable, __file__], cwd=folder, env=environment, start_new_session=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    at_end.callback(server.communicate)  # which ends it
    assert server.stdout is not None
    server.stdout.readline()  # now it can be asked
    return folder, server


def _serve() -> CodeType:
    """Fork for each process that asks, until the one that started this one ends. In the fork, return what to run."""
    sys.path.pop(0)  # of the tests
    listeners = [socket.socket(socket.AF_UNIX) for _ in range(2)]
    for listener, name in zip(listeners, ("light", "torch"), strict=True):
        listener.bind(name)
        listener.listen(128)
    os.write(1, b"\n")
    warnings.simplefilter("error")  # for those who run so
    for name in LIBRARIES:
        import_module(name)
    with_torch = os.fork() == 0
    listeners[not with_torch].close()
    listener = listeners[with_torch]
    while 0 not in select.select([0, listener.fileno()], [], [])[0]:
        for name in TORCH if with_torch else ():
            import_module(name)
        gc.freeze()  # to search all memory for cycles is to copy it
        server, _ = listener.accept()
        if os.fork() == 0:
            listener.close()
            return _forked(server)
        server.close()
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    with suppress(ChildProcessError):
        while os.wait():
            pass
    os._exit(0)


def _forked(asker: socket.socket) -> CodeType:
    """Return what to run, in one more fork. This process ends it if who asked for it ends, and answers how it ended."""
    head, streams, _, _ = socket.recv_fds(asker, 4, 4)
    request = b""
    while len(request) < int.from_bytes(head, sys.byteorder):
        request += asker.recv(1 << 20)
    arguments, umask, environment = loads(request)
    status = OWN
    if all(environment.get(name) == os.environ.get(name) for name in _OWN):
        if (child := os.fork()) == 0:
            asker.close()
            os.fchdir(streams[3])
            for number, stream in enumerate(streams[:3]):
                os.dup2(stream, number)
            for stream in streams:
                os.close(stream)
            os.umask(umask)
            return _become(arguments, environment)
        ended = os.pidfd_open(child)
        for stream in streams:
            os.close(stream)
        if ended not in select.select([ended, asker.fileno()], [], [])[0]:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    asker.send(status.to_bytes(4, sys.byteorder, signed=True))
    os._exit(0)


def _become(arguments: Sequence[str], environment: dict[str, str]) -> CodeType:
    """Make this process as Python is with these arguments, and return the code of its script."""
    if list(arguments[:2]) == ERRORS:
        arguments = arguments[2:]
        sys.warnoptions.append("error")
    else:
        filters: Any = warnings.filters
        filters.remove(_ERROR)
    os.environ.clear()
    os.environ.update(environment)
    vars(sys.modules["multiprocessing.process"])["ORIGINAL_DIR"] = str(Path.cwd())  # for workers
    sys.dont_write_bytecode = bool(environment.get("PYTHONDONTWRITEBYTECODE"))
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    sys.modules["__main__"] = main = ModuleType("__main__")
    if arguments[0] == "-c":
        sys.argv, code, name, place = ["-c", *arguments[2:]], arguments[1].encode(), "<string>", ""
    else:
        script = Path(arguments[0]).absolute()
        sys.argv, code, name, place = list(arguments), script.read_bytes(), str(script), str(script.parent)
        main.__file__ = name
    if not environment.get("PYTHONSAFEPATH"):
        sys.path.insert(0, place)
    return compile(code, name, "exec")


_statuses = [0]


def _end_at_once() -> None:
    """End without taking all libraries apart, which takes seconds: their memory would have to be copied first."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_statuses[-1])


if __name__ == "__main__":
    atexit.register(_end_at_once)  # the last, since it is the first
    code = _serve()
    try:
        exec(code, sys.modules["__main__"].__dict__)
    except BaseException as error:
        said = error.code if isinstance(error, SystemExit) else 1
        _statuses.append(said if isinstance(said, int) else int(said is not None))
        raise
