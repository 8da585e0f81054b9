"""Run a stage script: load its parameters, report a user's mistake in one line, record its seconds."""

import errno
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import BrokenExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

from cocoseg.core.errors import CocosegError, explained
from cocoseg.core.files import write_json
from cocoseg.core.interrupt import one_line_at_ctrl_c
from cocoseg.core.lifetime import end_with_dvc
from cocoseg.core.params import PARAMS, Params, declared_outs, load_params
from cocoseg.core.quick_end import spare_imports, through
from cocoseg.core.threads import wait_briefly
from cocoseg.core.work_tree import InUseError, is_first_process, work_tree_held
from cocoseg.paths import EVALUATION, LOCK, MODEL, TIMING

# DVC removed the stage's outputs before it started; the last good ones are still in the cache and in git.
# dvc.lock first: stages before this one may have changed it, and `dvc checkout` restores what it names.
_WAY_BACK = " (restore the last good outputs with: git checkout HEAD -- dvc.lock metrics plots; dvc checkout --force)"
# The outputs of the last commit beside a wrong params.yaml would be changed ones again.
_WAY_BACK_OF_PARAMS = (
    " (or go back to the last commit's parameters and outputs with: git checkout HEAD -- params.yaml dvc.lock metrics "
    "plots; dvc checkout --force)"
)


def _way_back(error: CocosegError | None = None) -> str:
    """Return how to restore the last good outputs, or nothing in a clone that has not run yet: it has none."""
    if not (MODEL.exists() or EVALUATION.exists()):
        return ""
    return _WAY_BACK_OF_PARAMS if str(error).startswith(f"{PARAMS}:") else _WAY_BACK


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Write one line for what lies in the machine, or show the traceback of any other error."""
    line = explained(error)
    if line is None:
        sys.__excepthook__(kind, error, trace)
    else:
        say(f"{line}{_way_back()}")


# Without its extra a script fails at an import, before `run`: `core` is imported before modules that need an extra.
sys.excepthook = _end
# So early for the imports of torch, which take seconds.
end_with_dvc()
wait_briefly()
spare_imports()


def say(line: str) -> None:
    """Write a line about the running stage to standard error."""
    sys.stderr.write(f"{Path(sys.argv[0]).stem}: {line}\n")


def run(main: Callable[[Params], Mapping[str, Any] | None], params_type: type[Params]) -> None:
    """Run `main` as the stage of its script: return, or exit after one line on standard error.

    Writes the seconds that it took to `metrics/timing/<stage>.json`, together with the costs that `main` returns.
    """
    name, *arguments = Path(sys.argv[0]).stem, *sys.argv[1:]
    if arguments:
        say(f"takes no arguments, found {' '.join(arguments)}; set parameters in params.yaml")
        sys.exit(2)
    interrupted = f"{name}: interrupted; run the same line again to go on{_way_back()}" if is_first_process() else ""
    with one_line_at_ctrl_c(interrupted):
        _run(main, params_type, name)
    caller = sys._getframe(1)
    lines = [line for *_, line in caller.f_code.co_lines() if line]
    # Else the process is not the stage's alone, such as a test's, or the script goes on and may still fail.
    if caller.f_globals.get("__name__") == "__main__" and caller.f_lineno == max(lines):
        through(0)


def _run(main: Callable[[Params], Mapping[str, Any] | None], params_type: type[Params], name: str) -> None:
    try:
        params = load_params(params_type)
        with work_tree_held(LOCK, name) as waited:
            started = time.perf_counter()
            if waited and "DVC_STAGE" in os.environ:
                _remove_outs(name)
            cost = main(params) or {}
            write_json(TIMING / f"{name}.json", {"seconds": round(time.perf_counter() - started, 2), **cost})
    except InUseError as error:  # no way back: restored outputs would be in the other stage's way
        sys.exit(f"{name}: {error}")
    except CocosegError as error:
        sys.exit("\n".join(f"{name}: {line}" for line in f"{error}{_way_back(error)}".splitlines()))
    except OSError as error:  # such as a full disk
        if error.errno is None:  # raised by a library, not by the system
            raise
        way_out = "allow more with: ulimit -n 4096" if error.errno == errno.EMFILE else "fix that"
        sys.exit(f"{name}: {error.filename or Path.cwd()}: {error.strerror}; {way_out}, then: dvc repro{_way_back()}")
    except BrokenExecutor:
        sys.exit(
            f"{name}: a worker process was killed, probably for lack of memory; use fewer of them: "
            f"COCOSEG_WORKERS=1 dvc repro{_way_back()}"
        )


def _remove_outs(name: str) -> None:
    """Remove the outputs of a stage again: DVC did, but the stage that had to end may have written since."""
    for path in declared_outs(name):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
