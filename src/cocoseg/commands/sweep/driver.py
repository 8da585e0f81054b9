"""`cocoseg sweep`: keep jobs running until the study has what was asked for, then confirm the best on fresh seeds.

All that is known lies on disk, in the study, in the notes of the jobs and in the references of git. So a driver that
was killed, and the jobs that it left, are no special case: the next one looks, and goes on.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from optuna.exceptions import StorageInternalError
from ruamel.yaml import YAML

from cocoseg.commands.compare.compare import compare
from cocoseg.commands.compare.report import report
from cocoseg.commands.dvc_adapter import open_repository
from cocoseg.commands.revisions import PARAMS, find_revision
from cocoseg.commands.sweep.jobs import Jobs, State, parse_place
from cocoseg.commands.sweep.report import Progress, closing_report
from cocoseg.commands.sweep.space import Space, Values, check_space, parse_space
from cocoseg.commands.sweep.study import Pruning, Study, Tried, open_storage, run_name
from cocoseg.commands.sweep.trial import experiment_commit, experiment_ref, git
from cocoseg.core.errors import CocosegError, counted, first_line
from cocoseg.core.files import write_bytes
from cocoseg.core.redaction import without_secrets
from cocoseg.core.work_tree import InUseError, work_tree_held

FOLDER = Path(".dvc/tmp/sweep")
_LOOK_EVERY_S = 0.5
_MOST_NAMED = 5


class Base(NamedTuple):
    """The commit that a sweep starts from."""

    commit: str
    values: Values
    stages: dict[str, list[str]]
    """`train` and all before it, with their parameters."""
    cache: str
    has_remote: bool


def sweep(
    texts: list[str], *, most: int | None, on: str, study: str | None, pruning: Pruning, confirm: int, retry: bool
) -> str:
    """Run the sweep and return its report. Raises `CocosegError` for a mistake, and for trouble that ends it."""
    place, space = parse_place(on), parse_space(texts)
    base = _base()
    check_space(space, base.values, base.stages)
    points = len(space.combinations())
    if space.is_grid and most is not None and most > points:
        sys.stderr.write(f"--trials is {most}, but there are no more than {counted(points, 'combination')}\n")
    most = min(most or points, points) if space.is_grid else most
    if most is None:
        raise CocosegError("--trials is missing; expected a number of runs, since a range has no end")
    if confirm and "seed" not in base.stages["train"]:
        raise CocosegError("--confirm: train has no parameter seed to confirm with; expected --confirm 0")
    try:
        with work_tree_held(FOLDER / "held", "cocoseg sweep", patience_s=0):
            jobs = Jobs(place, Path.cwd() / FOLDER / "runs", base.commit, _settings(base))
            default = f"sqlite:///{FOLDER}/{run_name(base.commit, {'space': space.text()})}.db"
            epochs = int(base.values.get("epochs", 1))
            kept = Study(open_storage(study or default), base.commit, space, most, pruning, epochs, _me())
            _make_data(base)
            for run in kept.tried() if retry else []:
                if run.state == "failed":
                    jobs.forget(run.name)
                    kept.revive(run)
            after = f", then {2 * confirm} to confirm the best" if confirm else ""
            sys.stderr.write(f"{counted(most, 'run')}, {kept.ended()} ended, {place.at_once} at a time{after}; "
                             f"logs: {FOLDER}/runs/NAME/log\n")  # fmt: skip
            _drive(jobs, kept, most)
            return _confirmed(jobs, base, space, kept.tried(), confirm, retry=retry)
    except InUseError as error:
        raise CocosegError(f"a sweep runs in this clone already; {error}") from None
    except StorageInternalError as error:  # a full disk, a database that is gone
        why = first_line(error.__cause__ or error)
        raise CocosegError(f"the study cannot be used ({without_secrets(why)}); what runs goes on; fix that, "
                           "then run the same line again") from None  # fmt: skip


def _confirmed(jobs: Jobs, base: Base, space: Space, tried: list[Tried], confirm: int, *, retry: bool) -> str:
    """Train the best and the base on fresh seeds; return the report."""
    lacking = _share(base, [run.name for run in tried if run.state == "done"])
    if removed := [run for run in tried if run.name in lacking and run.owner == _me()]:
        sys.stderr.write(f"{counted(len(removed), 'experiment')} of this sweep removed or renamed here; the study "
                         "still counts the scores\n")  # fmt: skip
    if len(lacking) > len(removed):
        sys.stderr.write(f"{counted(len(lacking) - len(removed), 'run')} in other clones alone; expected a remote of "
                         "git and a default one of DVC, to which the same line there sends them\n")  # fmt: skip
    if elsewhere := [run for run in tried if run.state == "running"]:
        owners = ", ".join(sorted({run.owner for run in elsewhere}))
        return f"{counted(len(elsewhere), 'run')} of {owners} not done; run the same line again after that\n"
    best = max((run for run in tried if run.state == "done"), key=lambda run: run.score or 0, default=None)
    if best is None or not confirm:
        return closing_report(tried, best, [], lacking)
    used = [*space.grid.get("seed", []), *space.choices.get("seed", []), base.values["seed"]]
    first = int(max([*used, space.ranges["seed"].high] if "seed" in space.ranges else used)) + 1
    groups = [[values | {"seed": first + more} for more in range(confirm)] for values in ({}, best.values)]
    named = [{run_name(base.commit, values): values for values in group} for group in groups]
    _share(base, [name for group in named for name in group])
    for name in named[0] | named[1]:
        if retry and jobs.state(name).kind == "failed":
            jobs.forget(name)
    agenda = Listed(jobs, named[0] | named[1])
    sys.stderr.write(f"{best.name} is the best; it and the commit are trained on {counted(confirm, 'fresh seed')}: "
                     f"{counted(len(agenda.values), 'run')} more\n")  # fmt: skip
    _drive(jobs, agenda, len(agenda.values))
    if agenda.failed:
        raise CocosegError(f"the best was not confirmed: {agenda.failed[0]}; --retry-failed tries that again")
    old, new = ([find_revision(name) for name in group] for group in named)
    try:
        compared = report(compare(old[0], new[0], among=agenda.values), "text")
    except CocosegError as error:
        compared = f"Not compared: {error}\n"
    return closing_report(tried, best, [agenda.scores[name] for name in named[1]], lacking) + "\n" + compared


class Listed:
    """An agenda of known runs."""

    def __init__(self, jobs: Jobs, values: Mapping[str, Values]) -> None:
        self.values = dict(values)
        self.scores: dict[str, float] = {}
        self.failed: list[str] = []
        self._left = dict(values)
        self._begun = {name: one for name, one in values.items() if jobs.state(name).kind != "absent"}

    def running(self) -> dict[str, Values]:
        """Return the runs that have begun and not ended."""
        return {name: one for name, one in self._begun.items() if name in self._left}

    def next(self) -> tuple[str, Values] | None:
        """Begin another run."""
        one = next((one for one in self._left.items() if one[0] not in self._begun), None)
        if one is not None:
            self._begun[one[0]] = one[1]
        return one

    def wants_more(self) -> bool:
        """Return whether a run has not begun."""
        return len(self._begun) < len(self.values)

    def ended(self) -> int:
        """Return 0: each is counted again."""
        return 0

    def is_hopeless(self, name: str, scores: Sequence[float]) -> bool:
        """Return `False`: what is to be confirmed is trained to its end."""
        return False

    def end(self, name: str, state: State) -> None:
        """Note how a run ended."""
        del self._left[name]
        if state.score is None:
            self.failed.append(f"{name}: {state.why}")
        else:
            self.scores[name] = state.score


def _me() -> str:
    """Return the name of this clone among those that share a study. Nodes that share its disk share the name."""
    name = FOLDER / "name"
    if not name.exists():
        write_bytes(name, f"{socket.gethostname()}:{Path.cwd()} ({os.urandom(3).hex()})".encode())
    return name.read_text()


def _settings(base: Base) -> dict[str, Any]:
    """Return what every job needs to know."""
    return {
        "needs": [stage for stage in base.stages if stage != "train"],
        "repository": git("rev-parse", "--show-toplevel"),
        "project": git("rev-parse", "--show-prefix"),
        "cache": base.cache,
    }


def _share(base: Base, names: Sequence[str]) -> set[str]:
    """Send experiments to the remotes, and fetch those that other clones sent, if git and DVC each have a remote.

    Return those that only other clones have.
    """
    remotes = git("remote").split()
    remote = "origin" if "origin" in remotes else next(iter(remotes), None)
    here = {name for name in names if experiment_commit(".", base.commit, name) is not None}
    if remote is None or not base.has_remote:
        return set(names) - here
    listed = git("ls-remote", remote, experiment_ref(base.commit, "*")).split()
    there = {ref.rpartition("/")[2] for ref in listed if ref.startswith("refs/")}
    for verb, some in (("push", here - there), ("pull", {*names} & there - here)):
        command = [sys.executable, "-m", "dvc", "exp", verb, "--quiet", remote, *sorted(some)]
        if some and subprocess.run(command, check=False).returncode:
            sys.stderr.write(f"{len(some)} experiments not {verb}ed, see above; later: dvc exp {verb} -A {remote}\n")
    return {*names} - here - there


def _base() -> Base:
    """Return the commit that is checked out. Raises `CocosegError` if something here is not in it."""
    commit = find_revision("HEAD").commit
    assert commit is not None
    _refuse_uncommitted("a run gets what is committed")
    with open_repository() as repository:
        stages, cache = repository.stages_up_to("train"), repository.cache_folder
        has_remote = "remote" in repository.config["core"]
    if "train" not in stages:
        raise CocosegError("dvc.yaml has no stage train, whose score in validation a sweep needs")
    return Base(commit, YAML(typ="safe", pure=True).load(Path(PARAMS)), stages, cache, has_remote)


def _refuse_uncommitted(why: str) -> None:
    changed = [
        line.split(maxsplit=1)[1] for line in git("status", "--porcelain", "--untracked-files=normal").splitlines()
    ]
    if changed:
        more = f" and {len(changed) - _MOST_NAMED} more" if len(changed) > _MOST_NAMED else ""
        raise CocosegError(f"not committed: {', '.join(changed[:_MOST_NAMED])}{more}; {why}: git add and git commit, "
                           "or git stash -u, then run the same line again")  # fmt: skip


def _make_data(base: Base) -> None:
    """Bring the data up to date, so that no run has to make it."""
    sources = [path for key in ("annotations", "images") if isinstance(path := base.values.get(key), str)]
    # Else `download` would run, and fail: the data was made on another machine.
    elsewhere = any("://" not in path and not Path(path).exists() for path in sources)
    stages = [stage for stage in base.stages if stage != "train"]
    repro = ["repro", "--quiet", *(["--allow-missing"] if elsewhere else []), *stages]
    sys.stderr.write("checking the data; its stages that are out of date run first\n")
    if stages and subprocess.run([sys.executable, "-m", "dvc", *repro], check=False).returncode:
        raise CocosegError(f"the data could not be made; see above, and: dvc {' '.join(repro)}")
    _refuse_uncommitted("the data was made anew, and runs take it from the commit")


def _drive(jobs: Jobs, agenda: "Study | Listed", most: int) -> None:
    """Run what is on the agenda. Raises `CocosegError` after the last job for what stopped the start of others."""
    trouble = ""
    progress = Progress(most, agenda.ended())
    if left := jobs.left_running() - agenda.running().keys():
        progress.say(f"still running, from another sweep: {', '.join(sorted(left))}; each takes one of the places")
    while True:
        active = dict(agenda.running())
        left = {name for name in left if jobs.state(name).kind == "running"}
        states = {name: jobs.state(name) for name in active}
        places = jobs.place.at_once - len(left) - sum(state.kind == "running" for state in states.values())
        for name, state in states.items():
            if state.kind == "running":
                if agenda.is_hopeless(name, jobs.scores(name)):
                    jobs.stop(name)
            elif state.kind not in ("absent", "lost") or trouble:
                trouble = _ended(name, active.pop(name), state, agenda, progress) or trouble
            elif places > 0:
                if state.why:
                    progress.say(f"{name}: {state.why}; it starts again")
                jobs.start(name, active[name], {*active, *left} - {name})
                places -= 1
        while not trouble and places > 0 and (one := agenda.next()) is not None:
            jobs.start(*one, {*active, *left})
            active[one[0]] = one[1]
            places -= 1
        if not active and not (left and not trouble and agenda.wants_more()):
            break
        progress.show({name: (values, jobs.scores(name)) for name, values in active.items()})
        time.sleep(_LOOK_EVERY_S)
    progress.show({})
    if trouble:
        raise CocosegError(f"{trouble}; fix that, then run the same line again")


def _ended(name: str, values: Values, state: State, agenda: "Study | Listed", progress: Progress) -> str:
    """Note how a run ended; return the trouble that it met, if so."""
    if state.kind in ("done", "failed", "pruned"):
        agenda.end(name, state)
        progress.end(name, values, state)
    return f"{name}: {state.why}" if state.kind == "trouble" else ""
