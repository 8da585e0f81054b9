"""How a stage script starts and ends: parameters in, one line for a user's mistake, its seconds recorded."""

import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from cocoseg.core.errors import CocosegError, missing_extra
from cocoseg.core.files import write_json
from cocoseg.core.params import Params, load_params
from cocoseg.paths import TIMING

# DVC removed the stage's outputs before it started; the last good ones are still in the cache and in git.
# dvc.lock first: stages before this one may have written new entries, and `dvc checkout` follows it.
_WAY_BACK = "the last good outputs come back with: git checkout -- dvc.lock metrics plots; dvc checkout"


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say which extra is missing, or show the traceback of any other error."""
    line = missing_extra(error)
    if line is None:
        sys.__excepthook__(kind, error, trace)
    else:
        say(f"{line} ({_WAY_BACK})")


# A script that lacks an extra stops at its imports, before `run`: those of `core` come before those that need one.
sys.excepthook = _end


def say(line: str) -> None:
    """A line of the running stage for people, on standard error."""
    sys.stderr.write(f"{Path(sys.argv[0]).stem}: {line}\n")


def run(main: Callable[[Params], Mapping[str, Any] | None], params_type: type[Params]) -> None:
    """Run the script that holds `main` as a stage: exit 0, or exit 1 after one line on standard error.

    Its seconds go to `metrics/timing/<stage>.json`, beside what else `main` returns about its cost.
    """
    name = Path(sys.argv[0]).stem
    started = time.perf_counter()
    try:
        cost = main(load_params(params_type)) or {}
        write_json(TIMING / f"{name}.json", {"seconds": round(time.perf_counter() - started, 2), **cost})
    except CocosegError as error:
        sys.exit(f"{name}: {error} ({_WAY_BACK})")
    except OSError as error:  # such as a disk that filled up
        if error.errno is None:  # a library's own, which is no word of the system
            raise
        sys.exit(f"{name}: {error.filename or Path.cwd()}: {error.strerror}; fix that, then: dvc repro ({_WAY_BACK})")
    except BrokenExecutor:
        sys.exit(
            f"{name}: a worker process was killed, as by a system that runs out of memory; fewer of them need less: "
            f"COCOSEG_WORKERS=1 dvc repro ({_WAY_BACK})"
        )
    except KeyboardInterrupt:
        sys.exit(130)
