"""The jobs of a sweep: where they run, and what became of each. All that is known lies on disk."""

import io
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import psutil

from cocoseg.commands.compare.runs import CURVES, Curves
from cocoseg.commands.revisions import Revision
from cocoseg.commands.sweep.trial import ENDED, EPOCHS, HELD, STOP, Ended, Trial, experiment_commit
from cocoseg.core.errors import CocosegError, first_line
from cocoseg.core.files import read_json, write_bytes, write_json
from cocoseg.core.interrupt import children_without_ctrl_c
from cocoseg.core.work_tree import InUseError, work_tree_held

JOB = "job.json"
_MOST_STARTS = 3  # of one run, whose job is killed, or ends without a word
_SUBMITIT = {"gpu": "gpus_per_node", "time": "timeout_min", "cpu": "cpus_per_task", "mem": "mem_gb"}
_EXPECTED = "local:2 (two at a time), or slurm:gpu=1,time=120,jobs=8 (minutes; jobs at a time) with options of sbatch"
_PATHS = ("COCOSEG_CACHE", "COCOSEG_TENSORBOARD", "WANDB_DIR")
_FOREVER_MIN = 60 * 24 * 365


class Place(msgspec.Struct, frozen=True):
    """Where jobs run: processes of this machine, or a cluster."""

    kind: Literal["local", "slurm"]
    at_once: int
    options: dict[str, str | int] = {}


class State(NamedTuple):
    """What became of a run. `trouble` is that of a machine: the same run may succeed later."""

    kind: Literal["absent", "running", "done", "failed", "pruned", "trouble", "lost"]
    why: str = ""
    score: float | None = None
    """In validation, of a run that is done."""


class _Job(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    host: str
    created: float | None
    """The time at which its process started, since process ids are used again."""
    slot: int


def parse_place(text: str) -> Place:
    """Return the place that `--on` names."""
    kind, _, rest = text.partition(":")
    if kind == "local" and rest.isdecimal() and int(rest) > 0:
        return Place("local", int(rest))
    words = dict(part.partition("=")[::2] for part in rest.split(","))
    counts = {key: words.pop(key) for key in (*_SUBMITIT, "jobs") if key in words}
    if kind != "slurm" or "time" not in counts or not all([*map(str.isdecimal, counts.values()), *words.values()]):
        raise CocosegError(f"--on {text}: expected {_EXPECTED}")
    numbers = {key: int(value) for key, value in counts.items()}
    return Place("slurm", max(1, numbers.pop("jobs", 8)), {**numbers, **words})


class Jobs:
    """The jobs of one commit. `settings` are the fields of `Trial` that all share."""

    def __init__(self, place: Place, folder: Path, commit: str, settings: Mapping[str, Any]) -> None:
        self.place = place
        self.folder = folder
        if pattern := re.search("%[AaJjNnstux]", str(folder)):
            raise CocosegError(
                f"{folder}: its path has {pattern[0]}, which submitit and sbatch replace; move or rename the clone"
            )
        self.commit = commit
        self._settings = settings
        self._starts = Counter[str]()
        self._gpus = _gpus() if place.kind == "local" else []

    def start(self, name: str, values: Mapping[str, Any], active: Collection[str]) -> None:
        """Start a run, which may have been started before. `active` are the names of those that run."""
        notes = self.folder / name
        notes.mkdir(parents=True, exist_ok=True)
        for left in (ENDED, STOP, EPOCHS):
            (notes / left).unlink(missing_ok=True)
        taken = {job.slot for other in active if (job := self._job(other)) is not None}
        slot = min(set(range(len(taken) + 1)) - taken)
        self._starts[name] += 1
        environment: dict[str, str | None] = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "COCOSEG_SWEEP": str(notes),
            **{key: str(Path(os.environ[key]).expanduser().absolute()) for key in _PATHS if os.environ.get(key)},
        }
        if self.place.kind == "local":  # submitit would hide all
            shown = self._gpus[slot % len(self._gpus)] if self._gpus else os.environ.get("CUDA_VISIBLE_DEVICES")
            environment |= {"CUDA_VISIBLE_DEVICES": shown}
        trial = Trial(name=name, commit=self.commit, values=dict(values), notes=str(notes), environment=environment,
                      **self._settings)  # fmt: skip
        id_ = self._submit(trial, notes, len(active))
        created = psutil.Process(int(id_)).create_time() if self.place.kind == "local" else None
        write_json(notes / JOB, _Job(id=id_, host=socket.gethostname(), created=created, slot=slot))

    def _submit(self, trial: Trial, notes: Path, others: int) -> str:
        import submitit

        try:
            # The highest number of time-outs: each has trained for a while, and the next job goes on from there.
            executor = submitit.AutoExecutor(folder=notes, cluster=self.place.kind, slurm_max_num_timeout=1000)
            executor.update_parameters(**self._parameters(trial.name))
            hangup = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited: a closed terminal ends no job
            try:
                # submitit prints what sbatch says, too
                with children_without_ctrl_c(), _children_without_terminal(), redirect_stderr(io.StringIO()):
                    return str(executor.submit(trial).job_id)
            finally:
                signal.signal(signal.SIGHUP, hangup)
        except (submitit.core.utils.FailedJobError, RuntimeError, subprocess.CalledProcessError) as error:
            said = [line for line in str(error).splitlines() if "error:" in line] or [first_line(error)]
            way_out = f"expected {_EXPECTED}"
            if others:  # as at a limit of jobs a user
                way_out = f"{others} go on; run the same line again after that, with jobs={others} if that is its limit"
            raise CocosegError(f"--on {self.place.kind}: the cluster refuses: {said[0]}; {way_out}") from None

    def _parameters(self, name: str) -> dict[str, Any]:
        if self.place.kind == "local":
            return {"name": name, "timeout_min": _FOREVER_MIN}
        known = {_SUBMITIT[key]: value for key, value in self.place.options.items() if key in _SUBMITIT}
        others = {key: value for key, value in self.place.options.items() if key not in _SUBMITIT}
        return {"name": name, **known, "slurm_additional_parameters": others}

    def state(self, name: str) -> State:
        """Return what became of a run, from what lies on disk."""
        job, notes = self._job(name), self.folder / name
        running = job is not None and (self._is_alive(job) or _is_held(notes))
        # Looked up after that, since a run ends between any two looks. Without a job, another sweep may have made it.
        commit = experiment_commit(self._settings["repository"], self.commit, name)
        if commit is not None and not running:  # else it still tidies up, and counts among those at a time
            _, score = Revision(name, commit).tracked_json(CURVES, Curves).chosen_by
            return State("done", score=score) if score is not None else State("failed", f"{CURVES} has no best score")
        if job is None or running:
            return State("absent" if job is None else "running")
        if (notes / ENDED).exists():
            ended = read_json(notes / ENDED, Ended)
            if ended.is_trouble:  # of an earlier line, it may be over
                return State("trouble" if self._starts[name] else "lost", ended.why)
            return State("pruned" if (notes / STOP).exists() else "failed", ended.why)
        if self._starts[name] >= _MOST_STARTS:
            return State("failed", f"its job was killed {_MOST_STARTS} times; see {notes}")
        return State("lost", f"its job {job.id} on {job.host} was killed")

    def left_running(self) -> set[str]:
        """Return the runs that work on this machine, also those of other sweeps of this clone."""
        names = (job.parent.name for job in self.folder.glob(f"*/{JOB}"))
        found = ((name, self._job(name)) for name in names if self.place.kind == "local")
        return {name for name, job in found if job and job.created is not None and
                (self._is_alive(job) or _is_held(self.folder / name))}  # fmt: skip

    def scores(self, name: str) -> list[float]:
        """Return the score of each epoch so far in validation."""
        epochs = self.folder / name / EPOCHS
        lines = epochs.read_text().splitlines(keepends=True) if epochs.exists() else []
        return [float(line) for line in lines if line.endswith("\n")]  # the last may be half written

    def stop(self, name: str) -> None:
        """Let the training of a run end after its next epoch."""
        write_bytes(self.folder / name / STOP, b"")

    def forget(self, name: str) -> None:
        """Remove the notes of a run, so that it can start anew."""
        shutil.rmtree(self.folder / name, ignore_errors=True)

    def _job(self, name: str) -> _Job | None:
        path = self.folder / name / JOB
        return read_json(path, _Job) if path.exists() else None

    def _is_alive(self, job: _Job) -> bool:
        if job.created is None:
            asked = ["squeue", "--noheader", f"--jobs={job.id}", "--format=%T"]  # sacct needs a database
            found = subprocess.run(asked, capture_output=True, text=True, check=False)
            # An error other than this says nothing of the job, such as a controller that restarts.
            return bool(found.stdout.strip()) if not found.returncode else "Invalid job id" not in found.stderr
        try:
            process = psutil.Process(int(job.id))
            same = job.host == socket.gethostname() and abs(process.create_time() - job.created) < 1
            return same and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


@contextmanager
def _children_without_terminal() -> Iterator[None]:
    """Start processes within that hold no stream of this one, so that a terminal, or ssh, can end before they do."""
    sys.stdout.flush()
    kept = [os.dup(stream) for stream in range(3)]
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        for stream in range(3):
            os.dup2(nowhere, stream)
        yield
    finally:
        for stream, own in enumerate(kept):
            os.dup2(own, stream)
        for one in (*kept, nowhere):
            os.close(one)


def _is_held(notes: Path) -> bool:
    """Return whether a job works on a run, which it may do without the process that started it."""
    try:
        with work_tree_held(notes / HELD, "cocoseg sweep", patience_s=0):
            return False
    except InUseError:
        return True


def _gpus() -> list[str]:
    """Return the GPUs of this machine that may be used; of several, each job gets one."""
    if (chosen := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [one for one in chosen.split(",") if one]
    if shutil.which("nvidia-smi") is None:
        return []
    listed = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, check=False).stdout
    return [str(number) for number, line in enumerate(listed.splitlines()) if line.startswith("GPU ")]
