"""A run as git and DVC keep it: of a commit, a branch, an experiment, or of the working tree as it lies.

Small files come from git. Of what DVC tracks only the single files that are asked for are read, from the workspace, the
cache or the remote, so a comparison needs no `dvc pull`.
"""

import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cocoseg.commands.dvc_adapter import TrackedFiles, files_of_repository, files_of_run
from cocoseg.core.errors import CocosegError
from cocoseg.core.redaction import without_secrets

T = TypeVar("T")

LOCK = "dvc.lock"
EXPERIMENTS = "refs/exps/"


class Revision:
    """One run, lazily read. `commit` is `None` for the working tree."""

    def __init__(self, name: str, commit: str | None) -> None:
        self.name = name
        self.commit = commit

    def has(self, path: str) -> bool:
        """Whether git or DVC knows a file or folder of that name, wherever its content may be."""
        return self._files.has(path)

    @cached_property
    def lock(self) -> dict[str, Any]:
        """The stages of `dvc.lock`, which say what made every output."""
        return stages_of_lock(self.tracked(LOCK), f"{self.name}: {LOCK}")

    def tracked(self, path: str) -> bytes:
        """A file that git has, `CocosegError` if it has none."""
        if self.commit is None:
            try:
                return Path(path).read_bytes()
            except FileNotFoundError:
                raise CocosegError(f"{path}: not there; make it with: dvc repro") from None
        found = next(read_blobs([f"{self.commit}:{path}"]))
        if found is None:
            raise CocosegError(f"{self.name}: has no {path}; run dvc repro there and commit what it writes")
        return found

    def tracked_json(self, path: str, type_: type[T]) -> T:
        """The content of a JSON file that git has."""
        try:
            return msgspec.json.decode(self.tracked(path), type=type_)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise CocosegError(f"{self.name}: {path}: {error}; run dvc repro there and commit what it writes") from None

    def cached(self, path: str) -> bytes:
        """A file that DVC has, `CocosegError` if it is in no workspace, cache or remote that can be reached."""
        try:
            return self._files.read(path)
        except Exception as error:  # every kind of remote has errors of its own library
            raise self._missing(path, error) from None

    def hashes(self, folder: str) -> dict[str, str]:
        """The MD5 of every file below a folder that DVC has, by its name there; the files themselves are not read."""
        try:
            found = self._files.hashes(folder)
        except Exception as error:  # every kind of remote has errors of its own library
            raise self._missing(folder, error) from None
        if not found:
            raise self._missing(folder)
        return found

    def output_hash(self, stage: str, path: str) -> str | None:
        """What `dvc.lock` says of an output of a stage."""
        outs = self.lock.get(stage, {}).get("outs", [])
        return next((out.get("md5") for out in outs if out["path"] == path), None)

    @cached_property
    def _files(self) -> TrackedFiles:
        return files_of_run(self.commit, _git("rev-parse", "--show-prefix"))

    def _missing(self, path: str, error: BaseException | None = None) -> CocosegError:
        while error is not None and error.__cause__ is not None:  # DVC wraps what the remote's library raised
            error = error.__cause__
        # Its kind and not its words: some repeat the address that was asked for, password and all.
        why = "" if error is None or isinstance(error, FileNotFoundError | KeyError) else f" ({type(error).__name__})"
        return CocosegError(
            f"{self.name}: {path} is neither in the cache nor on the remote{why}; where it was made run dvc push, "
            "or here dvc repro at that commit"
        )


class OtherRepository(Revision):
    """A run of a repository elsewhere, of which only what DVC has is read; `rev` of `None` is its newest commit, or the
    working tree of a folder on this machine.
    """

    def __init__(self, url: str, rev: str | None) -> None:
        shown = without_secrets(url)
        super().__init__(shown if rev is None else f"{shown}@{rev}", rev)
        self.url = url

    @cached_property
    def _files(self) -> TrackedFiles:
        try:
            return files_of_repository(self.url, self.commit)
        except Exception as error:  # of git, of the network, of DVC
            raise CocosegError(
                f"{self.name}: cannot be opened ({type(error).__name__}); expected the path or URL of a git repository "
                "with DVC, and a revision that it has"
            ) from None


def find_revision(name: str | None) -> Revision:
    """The run of a git revision or of an experiment's name; of the working tree for `None`."""
    if _git("rev-parse", "--git-dir") is None:
        raise CocosegError("this folder is in no git repository; run from the root of a clone")
    if not Path("dvc.yaml").is_file():
        raise CocosegError("this folder has no dvc.yaml; run from the root of the repository")
    if name is None:
        return Revision("the working tree", None)
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if commit is None:
        commit = _experiment_of_name(name)
    if commit is None:
        shallow = _git("rev-parse", "--is-shallow-repository") == "true"
        way_out = "this clone is shallow: git fetch --unshallow" if shallow else "see git branch -a and dvc exp list"
        raise CocosegError(f"{name}: neither a git revision nor an experiment; {way_out}")
    return Revision(name, commit)


class Experiment(msgspec.Struct, frozen=True, order=True):
    """One experiment of DVC's; `baseline` is the commit that it was started from."""

    name: str
    baseline: str
    commit: str


def experiments() -> list[Experiment]:
    """Every experiment that this clone has, by name."""
    listed = _git("for-each-ref", "--format=%(refname) %(objectname)", EXPERIMENTS) or ""
    found = []
    for line in listed.splitlines():
        ref, commit = line.split()
        # refs/exps/ab/cdef…/name; others there (exec, stash, celery) are no experiments
        parts = ref.removeprefix(EXPERIMENTS).split("/")
        if len(parts) == 3 and len(parts[0] + parts[1]) == 40:
            found.append(Experiment(parts[2], parts[0] + parts[1], commit))
    return sorted(found)


def _experiment_of_name(name: str) -> str | None:
    """The commit of an experiment; of several with one name, as DVC has it, that of the checked-out commit."""
    found = [one for one in experiments() if one.name == name]
    if len(found) > 1:
        head = _git("rev-parse", "HEAD")
        here = [one for one in found if one.baseline == head]
        if len(here) != 1:
            commits = ", ".join(one.commit[:7] for one in found)
            raise CocosegError(f"{name}: {len(found)} experiments have this name; name the commit of one: {commits}")
        found = here
    return found[0].commit if found else None


def commits_of_lock() -> list[str]:
    """Every commit of every branch that changed `dvc.lock`."""
    listed = _git("log", "--branches", "--remotes", "--tags", "--full-history", "--format=%H", "--", LOCK)
    return (listed or "").split()


def tracked_files_changed() -> bool:
    """Whether the working tree has changes to what git tracks."""
    return bool(_git("status", "--porcelain", "--untracked-files=no"))


def changed_files(base: Revision, new: Revision, patterns: Sequence[str]) -> list[str]:
    """Return the files that match and differ between two runs, as far as git has them, relative to this folder; of the
    working tree also those that git does not track yet.
    """
    ends = [run.commit for run in (base, new) if run.commit is not None]
    listed = _git("diff", "--name-only", "--no-renames", "--relative", "-z", *ends, "--", *patterns) or ""
    if len(ends) < 2:
        listed += _git("ls-files", "--others", "--exclude-standard", "-z", "--", *patterns) or ""
    return sorted({name for name in listed.split("\0") if name})


def read_blobs(names: Iterable[str]) -> Iterator[bytes | None]:
    """Content of each of git's objects, named like `commit:path`, seen from here; `None` for one that is not there."""
    names = [name.replace(":", ":./", 1) for name in names]
    request = "".join(f"{name}\n" for name in names).encode()
    output = subprocess.run(["git", "cat-file", "--batch"], input=request, capture_output=True, check=True).stdout
    place = 0
    for _ in names:
        end = output.index(b"\n", place)
        header = output[place:end].split()
        place = end + 1
        if len(header) != 3 or not header[2].isdigit():  # «<name> missing»
            yield None
            continue
        size = int(header[2])
        yield output[place : place + size]
        place += size + 1


def hash_in_lock(text: bytes, path: str) -> str | None:
    """What a `dvc.lock` says of an output, without parsing it, which takes a fifth of a second."""
    found = re.search(rb"- path: %s\n +hash: md5\n +md5: (\S+)" % re.escape(path.encode()), text)
    return found[1].decode() if found else None


def stages_of_lock(text: bytes, place: str) -> dict[str, Any]:
    """The stages of a `dvc.lock`; `CocosegError` if it is none."""
    try:
        content = YAML(typ="safe", pure=True).load(text.decode())
    except (YAMLError, UnicodeDecodeError, RecursionError):
        content = None
    stages = content.get("stages") if isinstance(content, Mapping) else None
    if not isinstance(stages, dict):
        raise CocosegError(f"{place}: not what DVC writes; bring it back with git checkout, or run dvc repro")
    return stages


def _git(*arguments: str) -> str | None:
    """What git prints, or `None` if it fails."""
    finished = subprocess.run(["git", *arguments], capture_output=True, text=True, errors="replace", check=False)
    return finished.stdout.strip() if finished.returncode == 0 else None
