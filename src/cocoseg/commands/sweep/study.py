"""The study: what was tried, with which score, and what to try next. Optuna samples, prunes and stores."""

import hashlib
import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.exceptions import OptunaError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from cocoseg.commands.sweep.jobs import State
from cocoseg.commands.sweep.space import Range, Space, Values
from cocoseg.core.errors import CocosegError
from cocoseg.core.redaction import one_line, without_secrets

Pruning = Literal["none", "median", "hyperband"]
_MOST_DRAWS = 50  # for values that were not tried yet
_SILENT_S = 3600.0  # after which a driver of another clone counts as lost
_LOOKED_EVERY_S = 60.0


class Tried(NamedTuple):
    """One run of the study."""

    number: int
    name: str
    values: Values
    state: Literal["running", "done", "failed", "pruned"]
    score: float | None
    owner: str
    """The clone whose driver started it."""


class Study:
    """A study of one space at one commit, which drivers of several clones may share."""

    def __init__(
        self, storage: BaseStorage, commit: str, space: Space, most: int, pruning: Pruning, epochs: int, me: str
    ) -> None:
        self._commit, self._space, self._most, self._me = commit, space, most, me
        self._looked = 0.0
        self._storage = storage
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        name = f"cocoseg-{commit[:12]}"
        self._study = optuna.create_study(storage=storage, study_name=name, direction="maximize", load_if_exists=True)
        self._study_id = storage.get_study_id_from_name(name)
        before = self._study.user_attrs.get("space")
        if before is None:
            self._study.set_user_attr("space", space.text())
        elif before != space.text():
            raise CocosegError(
                f"the study {name} has another space, {before}; expected the same parameters again, or another --study"
            )
        seed = len(self._study.trials)  # a sampler with the same seed would draw again what it drew before
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            self._study.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        if pruning == "median":
            self._study.pruner = optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2)
        elif pruning == "hyperband":
            self._study.pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs)
        else:
            self._study.pruner = optuna.pruners.NopPruner()
        self._look_after()

    def tried(self) -> list[Tried]:
        """Return every run, each once."""
        found: dict[str, Tried] = {}
        for trial in self._study.get_trials(deepcopy=False):
            name = trial.user_attrs.get("name")  # none: its driver was killed before it could start anything
            if name is not None and (name not in found or found[name].state == "failed"):
                found[name] = _tried(trial)
        return list(found.values())

    def running(self) -> dict[str, Values]:
        """Return the runs of this driver that have not ended."""
        self._look_after()
        return {name: run.values for name, run in self._mine().items()}

    def next(self) -> tuple[str, Values] | None:
        """Begin another run; return `None` if there are enough, or nothing new is left."""
        tried = self.tried()
        names = {one.name for one in tried}
        if len(names) >= self._most:
            return None
        used = Counter(json.dumps({key: one.values[key] for key in self._space.grid}) for one in tried)
        points = sorted(self._space.combinations(), key=lambda point: used[json.dumps(point)])
        if self._space.is_grid and used[json.dumps(points[0])]:
            return None
        for _ in range(_MOST_DRAWS):
            self._study.enqueue_trial({key: json.dumps(value) for key, value in points[0].items()})
            trial = self._study.ask(_distributions(self._space))
            values = _values(trial.params, self._space)
            name = run_name(self._commit, values)
            if name not in names:
                for key, attribute in (("owner", self._me), ("values", values), ("name", name)):
                    trial.set_user_attr(key, attribute)
                if any(one.name == name and one.number == trial.number for one in self.tried()):
                    return name, values
            self._study.tell(trial, state=TrialState.FAIL)  # tried before, or by another driver at the same moment
        return None

    def revive(self, run: Tried) -> None:
        """Let a run that failed be tried again."""
        trial = self._study.trials[run.number]
        trial.state, trial.datetime_complete = TrialState.RUNNING, None
        trial.set_user_attr("owner", self._me)
        self._study.add_trial(trial)

    def end(self, name: str, state: State) -> None:
        """Store the end of a run."""
        states = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
        self._study.tell(
            self._mine()[name].number, state.score, state=states.get(state.kind, TrialState.FAIL), skip_if_finished=True
        )

    def wants_more(self) -> bool:
        """Return whether fewer runs have begun than were asked for."""
        return len(self.tried()) < self._most

    def ended(self) -> int:
        """Return how many runs have ended."""
        return sum(run.state != "running" for run in self.tried())

    def is_hopeless(self, name: str, scores: Sequence[float]) -> bool:
        """Store the scores of the epochs of a run so far; return whether to prune it."""
        id_ = self._id(self._mine()[name])
        known = self._storage.get_trial(id_).intermediate_values
        for epoch, score in enumerate(scores, start=1):
            if epoch not in known:
                self._storage.set_trial_intermediate_value(id_, epoch, score)
                if self._study.pruner.prune(self._study, self._storage.get_trial(id_)):
                    return True
        return False

    def _mine(self) -> dict[str, Tried]:
        return {run.name: run for run in self.tried() if run.state == "running" and run.owner == self._me}

    def _look_after(self) -> None:
        """Say that this driver lives, and let runs of drivers that have not said so for an hour be tried again."""
        if time.monotonic() - self._looked < _LOOKED_EVERY_S and self._looked:
            return
        self._looked = time.monotonic()
        self._study.set_user_attr(f"seen {self._me}", time.time())
        seen = self._study.user_attrs
        for run in self.tried():
            silent_s = time.time() - float(seen.get(f"seen {run.owner}", 0))
            if run.state == "running" and run.owner != self._me and silent_s > _SILENT_S:
                self._storage.set_trial_user_attr(self._id(run), "owner", self._me)

    def _id(self, run: Tried) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, run.number)


def open_storage(place: str) -> BaseStorage:
    """Open the storage of a study: a database by its URL, or a file that several machines may share."""
    try:
        if "://" not in place:
            # SQLite's locks do not work on many network disks; this file's do. Its lock is a link to the absolute path.
            return JournalStorage(JournalFileBackend(str(_mended(Path(place).absolute()))))
        # SQLite: a second driver waits for the first.
        more = {"connect_args": {"timeout": 60}} if place.startswith("sqlite:") else {"pool_pre_ping": True}
        return RDBStorage(place, engine_kwargs=more)
    except (SQLAlchemyError, OptunaError, ImportError, OSError, RuntimeError, ValueError) as error:
        raise CocosegError(
            f"--study {without_secrets(place)}: cannot be opened ({one_line(error, {})}); expected a file, or a "
            "database such as postgresql://user@host/name"
        ) from None


def _mended(journal: Path) -> Path:
    """Cut off the half line that a kill or a full disk left at the end: the next line would be unreadable too."""
    journal.parent.mkdir(parents=True, exist_ok=True)
    lock = JournalFileSymlinkLock(str(journal))
    lock.acquire()
    try:
        content = journal.read_bytes() if journal.exists() else b""
        if not content.endswith(b"\n") and content:
            os.truncate(journal, content.rfind(b"\n") + 1)
    finally:
        lock.release()
    return journal


def run_name(commit: str, values: Values) -> str:
    """Return the name of the experiment with these values at this commit."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    return f"sweep-{commit[:7]}-{digest[:10]}"


def _tried(trial: FrozenTrial) -> Tried:
    states = {TrialState.COMPLETE: "done", TrialState.FAIL: "failed", TrialState.PRUNED: "pruned"}
    known = trial.user_attrs
    state: Any = states.get(trial.state, "running")
    score = trial.value if state == "done" else None
    return Tried(trial.number, known["name"], known["values"], state, score, known["owner"])


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    # As JSON: Optuna takes no lists.
    listed = {**space.grid, **space.choices}
    texts = {key: CategoricalDistribution([json.dumps(value) for value in values]) for key, values in listed.items()}
    return {**texts, **{key: _distribution(one) for key, one in space.ranges.items()}}


def _distribution(one: Range) -> BaseDistribution:
    log = one.kind.startswith("log")
    if one.is_whole:
        return IntDistribution(int(one.low), int(one.high), log=log)
    return FloatDistribution(one.low, one.high, log=log)


def _values(params: dict[str, Any], space: Space) -> Values:
    """Return the values of a run: numbers with four digits, so that people can read and repeat them."""
    values = {}
    for key, param in params.items():
        if (one := space.ranges.get(key)) is None:
            values[key] = json.loads(param)
        else:
            values[key] = param if one.is_whole else min(max(float(f"{param:.4g}"), one.low), one.high)
    return values
