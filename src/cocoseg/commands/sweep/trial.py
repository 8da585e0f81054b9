"""One run of a sweep, in a job of its own: an experiment of DVC in a clone of the commit, which sends back its result.

A job may start on another node, and again after a kill; training then goes on after its last whole epoch.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

from cocoseg.core.errors import CocosegError, first_line
from cocoseg.core.files import write_json
from cocoseg.core.work_tree import InUseError, work_tree_held

# Of a folder with the notes of one run.
HELD, ENDED, LOG, EPOCHS, STOP = "held", "ended.json", "log", "epochs", "stop"
_CLONE = "work"
_NO_SPACE = re.compile("No space left on device|Disk quota exceeded")
_NO_ACCESS = re.compile("Permission denied|Read-only file system|Stale file handle|Input/output error")
# The user's own settings that would refuse what a sweep does among its own folders: hooks, such as of a template; a key
# that is not at hand; clones of a path.
_OWN_WAY = (
    *("-c", f"core.hooksPath={os.devnull}"),
    *("-c", "push.gpgSign=false"),
    *("-c", "protocol.file.allow=always"),
)
_WAY_BACK = re.compile(r" \((restore the last good|or go back to).*")
_ENDED = re.compile(r"reproduce '([^']+)'.*, exited with (-?\d+)")
_SIGNALS = {128 + one for one in signal.Signals if one != signal.SIGINT}
_TRACEBACK = "Traceback (most recent call last):"
_PLACE = re.compile(rf'File "[^"]*/{_CLONE}/([^"]+)", line (\d+)')
_PLAIN = re.compile(r"[A-Za-z_][\w./-]*")
_WORDS = ("true", "false", "null", "nan", "inf")


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What a run needs to know. All paths are absolute, and on a disk that its node has too."""

    name: str
    commit: str
    values: dict[str, Any]
    """The parameters that differ from the commit's."""
    needs: list[str]
    """The stages, and `.dvc` files, whose outputs training starts from."""
    repository: str
    """The root of the clone that the sweep runs in, to which the experiment returns."""
    project: str
    """The folder with `dvc.yaml`, from that root."""
    cache: str
    notes: str
    """The folder for the notes of this run."""
    environment: dict[str, str | None]
    """Variables to set, or to unset."""

    def __call__(self) -> None:
        """Run it; the form in which submitit takes it."""
        run_trial(self)

    def checkpoint(self) -> Any:
        """Return what SLURM is to start again where the time of a job runs out."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Ended(msgspec.Struct, frozen=True):
    """Why a run has no result: its own failure, or the trouble of its machine, which says nothing of its parameters."""

    why: str
    is_trouble: bool


def run_trial(trial: Trial) -> None:
    """Run the experiment and send it to the repository of the sweep, or write why there is none."""
    notes = Path(trial.notes)
    with suppress(InUseError), work_tree_held(notes / HELD, trial.name, patience_s=3):  # else another job has it
        if experiment_commit(trial.repository, trial.commit, trial.name) is not None:
            return
        (notes / ENDED).unlink(missing_ok=True)
        work = notes / _CLONE
        try:
            why = _run(trial, work)
            ended = None if why is None else Ended(why, False)
        except (CocosegError, OSError) as error:
            ended = Ended(str(error), True)
        except Exception as error:  # of a library, which says nothing of the parameters either
            ended = Ended(f"{type(error).__name__}: {first_line(error)}; see {notes}", True)
        if ended is not None and (found := _NO_SPACE.search(ended.why)):
            ended = Ended(f"{work}: {found[0]}", True)
        if ended is not None and _NO_ACCESS.search(ended.why):
            ended = Ended(ended.why, True)
        if ended is not None and ended.is_trouble:
            ended = Ended(f"{socket.gethostname()}: {ended.why}", True)
        os.chdir(notes)
        shutil.rmtree(work, ignore_errors=True)
        if ended is not None:
            write_json(notes / ENDED, ended)


def experiment_ref(commit: str, name: str) -> str:
    """Return where DVC keeps an experiment of a commit."""
    return f"refs/exps/{commit[:2]}/{commit[2:]}/{name}"


def experiment_commit(repository: str, commit: str, name: str) -> str | None:
    """Return the commit of an experiment, or `None` if the repository has none of this name."""
    with suppress(CocosegError):
        return git("-C", repository, "rev-parse", "--verify", experiment_ref(commit, name))
    return None


def override(key: str, value: Any) -> str:
    """Return a parameter as `dvc exp run -S` takes it."""
    return f"{key}={_written(value)}"


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if not isinstance(value, str) or (_PLAIN.fullmatch(value) and value.lower() not in _WORDS):
        return value if isinstance(value, str) else json.dumps(value)
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _run(trial: Trial, work: Path) -> str | None:
    """Return why the run failed, or `None`. Raises `CocosegError` or `OSError` for trouble of the machine."""
    from cocoseg.commands.dvc_adapter import run_dvc

    if not Path(trial.cache).is_dir():
        raise CocosegError(
            f"{trial.cache}: not found; the clone and the DVC cache must lie on a disk that all nodes have"
        )
    _prepare_process(trial)
    _end_orphans(trial.notes)
    shutil.rmtree(work, ignore_errors=True)  # of a job that was killed
    # A clone and not a work tree of git's: experiments that run in those at a time share references that they write.
    git("clone", "--quiet", "--shared", "--no-checkout", trial.repository, str(work))
    for key in ("user.name", "user.email"):  # DVC commits
        git("-C", str(work), "config", key, git("-C", trial.repository, "config", "--default", "cocoseg", "--get", key))
    git("-C", str(work), "checkout", "--quiet", "--detach", trial.commit)
    os.chdir(work / trial.project)
    _share_cache(Path.cwd(), trial.cache)
    log = Path(trial.notes) / LOG
    if run_dvc("checkout", "--quiet", "--force", *trial.needs):
        lacks = f"{trial.cache}: lacks data of {trial.commit[:7]}; run dvc pull, or dvc repro, in the clone"
        error = _error(log)
        raise CocosegError(lacks if error is None or "Checkout failed" in error else error)
    changes = [word for key, value in trial.values.items() for word in ("-S", override(key, value))]
    # Sources of the data may lie on another machine; what was made of them is here.
    if run_dvc("exp", "run", "--allow-missing", "--name", trial.name, *changes):
        if (reason := _reason(log)) is None:
            raise CocosegError(_error(log) or f"{log}: does not say why the run failed, as where the disk is full")
        return reason
    ref = experiment_ref(trial.commit, trial.name)
    git("-C", str(work), "push", "--quiet", trial.repository, f"{ref}:{ref}")
    return None


def _share_cache(project: Path, cache: str) -> None:
    """Let a clone use this cache, and link files from it where the disk can: a copy a run would fill the disk."""
    from configobj import ConfigObj

    # DVC reads UTF-8 but writes ASCII. From here, since an absolute path may have %(…), which it would replace.
    config: Any = ConfigObj(str(project / ".dvc/config.local"), encoding="utf-8")
    folder = os.path.relpath(os.path.realpath(cache), os.path.realpath(project / ".dvc"))
    links = ["reflink", "hardlink", "symlink", "copy"]
    config["cache"] = {"type": links, **config.get("cache", {}), "dir": folder}
    config.write()


def _end_orphans(notes: str) -> None:
    """End what a job of this run that was killed left: a stage does not notice that DVC is gone while it imports."""
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # such as where it is another user's
            if process.environ().get("COCOSEG_SWEEP") == notes:
                process.kill()


def _prepare_process(trial: Trial) -> None:
    """Set the environment, and send all that this process and its children say to the log."""
    for name, value in trial.environment.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    # Else training would take srun's single task for a single device.
    os.environ.pop("SLURM_STEP_ID", None)
    if os.environ.get("SUBMITIT_EXECUTOR") == "local":
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # submitit ignores it, for clusters that send it as a warning
        # Inherited as blocked, which a shell such as dash, with which DVC starts stages, undoes. Not this:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    log = os.open(Path(trial.notes) / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    for stream in (1, 2):
        os.dup2(log, stream)


def _reason(log: Path) -> str | None:
    """Return why a stage failed, from what it and DVC wrote; `None` if DVC does not say that a stage did."""
    lines = [line.rstrip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    end = next((number for number, line in enumerate(lines) if line.startswith("ERROR: failed to reproduce")), None)
    if end is None:
        return None
    began = max((number for number, line in enumerate(lines[:end]) if line.startswith("> ")), default=end - 1)
    said, ended = lines[began + 1 : end], _ENDED.search(lines[end])
    if ended is None or (ended[2] == "1" and not said):
        return lines[end]
    stage, status = ended[1], int(ended[2])
    # A shell such as dash gives 128 and the signal.
    if status < 0 or status in _SIGNALS:
        killed = signal.Signals(-status if status < 0 else status - 128)
        memory = ", as where memory runs out" if killed == signal.SIGKILL else ""
        return f"{stage} was killed by {killed.name}{memory}"
    last = said[-1].strip() if said else ""
    if _TRACEBACK in said and not last.startswith(f"{stage}: "):
        return _raised(said[len(said) - said[::-1].index(_TRACEBACK) :])
    last = _WAY_BACK.sub("", last)
    return last if status in (1, 130) else f"{stage} exited with {status}; before that: {last or 'nothing'}"


def _error(log: Path) -> str | None:
    """Return what DVC says of an error of its own; `None` if it says nothing."""
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    return next((line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")), None)


def _raised(trace: list[str]) -> str:
    """Return the first line of an exception, and the line of the project that it came from."""
    error = next((line for line in trace if not line.startswith(" ")), trace[-1] if trace else "")
    places = [found for line in trace if (found := _PLACE.search(line))]
    return f"{error} ({places[-1][1]}, line {places[-1][2]})" if places else error


def git(*arguments: str) -> str:
    """Return what git prints; raise `CocosegError` with its words if it fails."""
    finished = subprocess.run(["git", *_OWN_WAY, *arguments], capture_output=True, text=True, check=False)
    if finished.returncode:
        raise CocosegError(" ".join(finished.stderr.split()) or f"git {arguments[0]} failed")
    return finished.stdout.strip()
