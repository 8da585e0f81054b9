"""A run as git and DVC keep it: of a commit, a branch, an experiment, or the working tree.

Small files come from git. Of what DVC tracks, only the files that are asked for are read, from the workspace, the cache
or the remote, so a comparison needs no `dvc pull`.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from ruamel.yaml.error import YAMLError

from cocoseg.commands.dvc_adapter import (
    QUEUE_STATES,
    TrackedFiles,
    cached_object,
    files_of_repository,
    files_of_run,
    queued_runs,
)
from cocoseg.commands.lock_yaml import loaded
from cocoseg.core.errors import CocosegError, did_you_mean
from cocoseg.core.redaction import without_secrets

T = TypeVar("T")

LOCK = "dvc.lock"
PARAMS = "params.yaml"
CODE = ("src", "stages")
EXPERIMENTS = "refs/exps/"
_CONFLICT = ("has the marks of a merge conflict; take the files of one side (git checkout COMMIT -- dvc.lock metrics "
             "plots), then run dvc repro and commit the results")  # fmt: skip


class LockedFile(msgspec.Struct, frozen=True):
    """A file or folder that a stage read or wrote. `md5` is `None` for what DVC hashes in another way."""

    path: str
    md5: str | None = None


class LockedStage(msgspec.Struct, frozen=True):
    """What `dvc.lock` says of a stage. `params`: values by file and key."""

    deps: tuple[LockedFile, ...] = ()
    outs: tuple[LockedFile, ...] = ()
    params: dict[str, dict[str, Any]] = {}


class _Lock(msgspec.Struct):
    stages: dict[str, LockedStage]


class Revision:
    """One run, read as needed. `commit` is `None` for the working tree."""

    def __init__(self, name: str, commit: str | None) -> None:
        self.name = name
        self.commit = commit
        self.read: dict[str, bytes | None] = {}
        """What `read_ahead` has read."""

    def has(self, path: str) -> bool:
        """Return whether git or DVC knows a file or folder, wherever its content is."""
        return self._files.has(path)

    @cached_property
    def lock(self) -> dict[str, LockedStage]:
        """The stages of `dvc.lock`, which say what made each output."""
        return stages_of_lock(self.tracked(LOCK), f"{self.name}: {LOCK}")

    def tracked(self, path: str) -> bytes:
        """Return a file that git has; raise `CocosegError` if it has none."""
        if self.commit is None:
            try:
                return Path(path).read_bytes()
            except FileNotFoundError:
                raise CocosegError(f"{path}: not found; make it with: dvc repro") from None
        found = self.read[path] if path in self.read else next(read_blobs([f"{self.commit}:{path}"]))
        if found is None:
            raise CocosegError(f"{self.name}: {path} not found; run dvc repro there and commit the results")
        return found

    def tracked_json(self, path: str, type_: type[T]) -> T:
        """Return the content of a JSON file that git has."""
        try:
            return msgspec.json.decode(self.tracked(path), type=type_)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            if b"<<<<<<< " in self.tracked(path):
                raise CocosegError(f"{self.name}: {path}: {_CONFLICT}") from None
            raise CocosegError(f"{self.name}: {path}: {error}; run dvc repro there and commit the results") from None

    def cached(self, path: str) -> bytes:
        """Return a file that DVC tracks; raise `CocosegError` if neither workspace, cache nor remote has it."""
        if (content := self._in_cache(path)) is not None:
            return content
        try:
            return self._files.read(path)
        except CocosegError:
            raise
        except Exception as error:  # every kind of remote has errors of its own library
            raise self._missing(path, error) from None

    def hashes(self, folder: str) -> dict[str, str]:
        """Return the MD5 of each file below a folder that DVC tracks, by its name there. The files are not read."""
        try:
            found = self._files.hashes(folder)
        except CocosegError:
            raise
        except Exception as error:  # every kind of remote has errors of its own library
            raise self._missing(folder, error) from None
        if not found:
            raise self._missing(folder)
        return found

    def _in_cache(self, path: str) -> bytes | None:
        """Return a file of a commit if the cache has it; DVC itself would first parse `dvc.lock`, for twice as long."""
        if self.commit is None:  # the file in the workspace comes first
            return None
        try:
            stages = self.lock.values()
        except CocosegError:  # what `dvc add` tracks needs no lock
            return None
        for stage in stages:
            for out in stage.outs:
                if out.md5 and f"{path}/".startswith(f"{out.path}/"):
                    return cached_object(out.md5, path.removeprefix(out.path).removeprefix("/"))
        return None

    def output_hash(self, stage: str, path: str) -> str | None:
        """Return the hash of an output of a stage, as `dvc.lock` has it."""
        outs = self.lock.get(stage, LockedStage()).outs
        return next((out.md5 for out in outs if out.path == path), None)

    @cached_property
    def _files(self) -> TrackedFiles:
        return files_of_run(self.commit, git_output("rev-parse", "--show-prefix"))

    def _is_locked(self, path: str) -> bool:
        """Return whether `dvc.lock` names a file, or a folder above it. Raises `CocosegError` if it is not valid."""
        return any(f"{path}/".startswith(f"{out.path}/") for stage in self.lock.values() for out in stage.outs)

    def _missing(self, path: str, error: BaseException | None = None) -> CocosegError:
        if not self._is_locked(path):
            return CocosegError(f"{self.name}: {LOCK} does not name {path}; run dvc repro there and commit the results")
        while error is not None and error.__cause__ is not None:  # DVC wraps what the remote's library raised
            error = error.__cause__
        # Its type and not its message: some repeat the URL, with its password.
        why = "" if error is None or isinstance(error, FileNotFoundError | KeyError) else f" ({type(error).__name__})"
        return CocosegError(
            f"{self.name}: {path} is neither in the cache nor on the remote{why}; run dvc push where it was made, "
            "or dvc repro at that commit here"
        )


class OtherRepository(Revision):
    """A run of a repository elsewhere. Only what DVC tracks is read.

    `rev` of `None` is its newest commit, or the working tree of a folder on this machine.
    """

    def __init__(self, url: str, rev: str | None) -> None:
        shown = without_secrets(url)
        super().__init__(shown if rev is None else f"{shown}@{rev}", rev)
        self.url = url

    def _is_locked(self, path: str) -> bool:
        """Return `True`: its `dvc.lock` is not read."""
        return True

    def _in_cache(self, path: str) -> None:
        """Return `None`: its cache is not ours."""

    @cached_property
    def _files(self) -> TrackedFiles:
        folder = git_output("-C", self.url, "rev-parse", "--show-prefix")  # of a path that lies below the root of git
        try:
            return files_of_run(self.commit, folder, self.url) if folder else files_of_repository(self.url, self.commit)
        except Exception as error:  # of git, of the network, of DVC
            raise CocosegError(
                f"{self.name}: cannot be opened ({type(error).__name__}); expected the path or URL of a git repository "
                "with DVC, and one of its revisions"
            ) from None


def find_revision(name: str | None) -> Revision:
    """Return the run of a git revision or an experiment, or of the working tree for `None`.

    A working tree that has no changes is called by its commit.
    """
    if git_output("rev-parse", "--git-dir") is None:
        raise CocosegError(_distrust() or "this folder is not in a git repository; run from the root of a clone")
    if not Path("dvc.yaml").is_file():
        raise CocosegError("this folder has no dvc.yaml; run from the root of the repository")
    if name is None:
        return Revision(_unchanged_commit() or "the working tree", None)
    commit = git_output("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if commit is None:
        commit = _experiment_of_name(name)
        if commit is None:
            _refuse_queued(name, None)
            commit = _experiment_of_name(name)  # of a run that has ended meanwhile
    elif commit.startswith(name) and git_output(
        "rev-parse", "--verify", "--quiet", f"{commit}^2"
    ):  # as the queue's are
        _refuse_queued(name, commit)
    elif others := [one.commit[:12] for one in experiments() if one.name == name and one.commit != commit]:
        sys.stderr.write(f"{name}: is a branch or tag, and an experiment; this takes the first, as DVC does; the "
                         f"experiment is {' or '.join(others)}\n")  # fmt: skip
    if commit is None:
        shallow = git_output("rev-parse", "--is-shallow-repository") == "true"
        way_out = "this clone is shallow: git fetch --unshallow" if shallow else _near_name(name)
        raise CocosegError(f"{name or repr(name)}: neither a git revision nor an experiment; {way_out}")
    return Revision(name, commit)


def _distrust() -> str | None:
    """Return what git says of a repository of another user, with the way out; `None` if that is not why it fails."""
    said = subprocess.run(["git", "rev-parse"], capture_output=True, text=True, errors="replace", check=False).stderr
    return " ".join(said.split()) if "safe.directory" in said else None


def _refuse_queued(name: str, commit: str | None) -> None:
    """Raise `CocosegError` for a run of the queue that has no results, by its name or its number there."""
    if found := next((run for run in queued_runs() if name == run.name or run.commit == commit), None):
        yet = "" if found.state == "failed" else " yet"
        state = QUEUE_STATES[found.state].format(name=found.name or name)
        raise CocosegError(f"{name}: has no results{yet}: it {state}")


def _near_name(name: str) -> str:
    """Return the branch, tag or experiment that `name` may mean, in words, or where they are listed."""
    listed = git_output("for-each-ref", "--format=%(refname:short)", "refs/heads", "refs/remotes", "refs/tags") or ""
    known = [*listed.splitlines(), *(one.name for one in experiments())]
    on_remote = [one for one in known if one.endswith(f"/{name}")]  # a clone has a local branch of its own only
    return did_you_mean(on_remote[0] if on_remote else name, known, "see git branch -a and dvc exp list -A")


def _unchanged_commit() -> str | None:
    """Return the commit that is checked out, by its branch; `None` if something here differs from it."""
    untracked = git_output("ls-files", "--others", "--exclude-standard", "--", "src", "stages", "metrics", LOCK, PARAMS)
    commit = git_output("rev-parse", "--short=7", "HEAD")
    if commit is None or untracked or git_output("status", "--porcelain", "--untracked-files=no", "--", "."):
        return None
    return f"{git_output('symbolic-ref', '--quiet', '--short', 'HEAD') or 'HEAD'} ({commit})"


class Experiment(msgspec.Struct, frozen=True, order=True):
    """One DVC experiment. `baseline` is the commit that it started from."""

    name: str
    baseline: str
    commit: str


def experiments() -> list[Experiment]:
    """Return every experiment of this clone, sorted by name."""
    listed = git_output("for-each-ref", "--format=%(refname) %(objectname)", EXPERIMENTS) or ""
    found = []
    for line in listed.splitlines():
        ref, commit = line.split()
        # refs/exps/ab/cdef…/name; the others (exec, stash, celery) are not experiments
        parts = ref.removeprefix(EXPERIMENTS).split("/")
        if len(parts) == 3 and len(parts[0] + parts[1]) == 40:
            found.append(Experiment(parts[2], parts[0] + parts[1], commit))
    return sorted(found)


def _experiment_of_name(name: str) -> str | None:
    """Return the commit of an experiment. Of several with one name, DVC means that of the checked-out commit."""
    found = [one for one in experiments() if one.name == name]
    if len(found) > 1:
        head = git_output("rev-parse", "HEAD")
        here = [one for one in found if one.baseline == head]
        if len(here) != 1:
            commits = ", ".join(one.commit[:7] for one in found)
            raise CocosegError(f"{name}: {len(found)} experiments have this name; give the commit of one: {commits}")
        found = here
    return found[0].commit if found else None


def commits_of_lock() -> list[str]:
    """Return every commit of every branch that changed `dvc.lock`."""
    listed = git_output("log", "--branches", "--remotes", "--tags", "--full-history", "--format=%H", "--", LOCK)
    return (listed or "").split()


def tracked_files_changed() -> bool:
    """Return whether files that git tracks have changed in the working tree."""
    return bool(git_output("status", "--porcelain", "--untracked-files=no"))


def read_blobs(names: Iterable[str]) -> Iterator[bytes | None]:
    """Yield the content of each git object, named like `commit:path` from this folder; `None` for a missing one."""
    names = [name.replace(":", ":./", 1) for name in names]
    request = "".join(f"{name}\n" for name in names).encode()
    output = subprocess.run(["git", "cat-file", "--batch"], input=request, capture_output=True, check=True).stdout
    place = 0
    for _ in names:
        end = output.index(b"\n", place)
        header = output[place:end].split()
        place = end + 1
        if len(header) != 3 or not header[2].isdigit():  # "<name> missing"
            yield None
            continue
        size = int(header[2])
        yield output[place : place + size]
        place += size + 1


def read_ahead(revisions: Iterable[Revision], paths: Sequence[str]) -> None:
    """Read files that git has of several commits at once: to start git takes as long as to read a hundred files."""
    wanted = [(one, path) for one in revisions if one.commit is not None for path in paths]
    found = read_blobs(f"{one.commit}:{path}" for one, path in wanted)
    for (one, path), content in zip(wanted, found, strict=True):
        one.read[path] = content


def hash_in_lock(text: bytes, path: str) -> str | None:
    """Return the hash of an output in a `dvc.lock`, without parsing it."""
    found = re.search(rb"- path: %s\n +hash: md5\n +md5: (\S+)" % re.escape(path.encode()), text)
    return found[1].decode() if found else None


def stages_of_lock(text: bytes, place: str) -> dict[str, LockedStage]:
    """Return the stages of a `dvc.lock`; raise `CocosegError` if it is not valid."""
    try:
        return _stages(text)
    except (YAMLError, ValueError, RecursionError) as error:  # ValueError: of msgspec, of UTF-8, of a date
        if b"<<<<<<< " in text:
            raise CocosegError(f"{place}: {_CONFLICT}") from None
        why = f" ({error})" if isinstance(error, msgspec.ValidationError) else ""
        raise CocosegError(
            f"{place}: not a valid lock file{why}; restore it with git checkout, or run dvc repro"
        ) from None


@lru_cache(maxsize=1024)  # both sides of a comparison look through the same experiments
def _stages(text: bytes) -> dict[str, LockedStage]:
    return msgspec.convert(loaded(text.decode()), _Lock).stages


def git_output(*arguments: str) -> str | None:
    """Return what git prints, or `None` if it fails."""
    finished = subprocess.run(["git", *arguments], capture_output=True, text=True, errors="replace", check=False)
    return finished.stdout.strip() if finished.returncode == 0 else None
