"""Check that the dvc.lock of this folder is up to date, and that the remote has the data that it names.

Prints one line per finding, and exits 1 if any of them is red. A yellow one says that the data was not checked. No data
is needed or fetched: dvc.lock is compared with itself, with the files in git, and with the default remote. Of a folder
only the list of its files is read, into memory.

`dvc repro --dry --allow-missing` of DVC 3.67 does not answer this:
- it exits 0 although it names stages that would run;
- it treats everything missing as data to be pulled: lost code, metrics and params.yaml, and new outputs too;
- it misses that a file in a folder of another stage is not the one that was read;
- it stops with `No such file or directory` if the first stage to run reads data.
Nor does `dvc status --cloud`: it exits 0 with objects missing, treats a web server that is down as an empty remote, and
a folder as complete once its list is there.
"""

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any, Literal, NamedTuple

from dvc.dependency import ParamsDependency
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc_data.hashfile.db.local import LocalHashFileDB
from dvc_data.hashfile.tree import Tree
from dvc_objects.db import ObjectDB
from dvc_objects.errors import ObjectFormatError

from cocoseg.core.redaction import one_line

REPRO = "run dvc repro and commit dvc.lock, metrics and plots"
PUSH = "run dvc push where the data is"
TAKE_OURS = f"git checkout HEAD -- dvc.lock metrics plots, then {REPRO}"
NAMED = 6  # changes that a line lists


class Finding(NamedTuple):
    """One line of the report."""

    line: str
    color: Literal["green", "yellow", "red"] = "red"


class Unreachable(Exception):
    """The remote did not answer, or denied access."""

    def __init__(self, error: Exception, config: Any) -> None:
        super().__init__(one_line(error, config))
        self.no_credentials = type(error).__name__ == "NoCredentialsError"  # botocore's


class _NothingThere(Exception):
    """A remote that is a folder has no object at all: it was never pushed to, or its disk is not mounted."""


class Remote:
    """The default remote of a repository, if it has one; it is only read."""

    def __init__(self, repo: Any) -> None:
        self.repo = repo
        self.name: str | None = repo.config["core"].get("remote")
        self._lists: dict[str, Tree] = {}

    def store(self, out: Any) -> Any:
        """Return the store for the objects of an output."""
        with self._asking():
            store = self.repo.cloud.get_remote_odb(out.remote or self.name, "push", out.hash_name)
            if isinstance(store, LocalHashFileDB) and not any(Path(store.path).glob("??/*")):
                # As `cocoseg verify` says.
                raise _NothingThere(f"nothing found in {store.path}; if the disk is mounted, run: dvc push")
            return store

    def files_in(self, out: Any) -> Tree:
        """Return the list of a folder's files. Raises `FileNotFoundError` or `ObjectFormatError` if there is none."""
        name = out.hash_info.value
        if name not in self._lists:
            try:
                self._lists[name] = _checked_list(out.cache, out.hash_info)
            except (FileNotFoundError, ObjectFormatError):
                if self.name is None:
                    raise
                store = self.store(out)
                with self._asking(FileNotFoundError, ObjectFormatError):
                    self._lists[name] = _checked_list(store, out.hash_info)
        return self._lists[name]

    def missing(self, store: Any, names: set[str]) -> set[str]:
        """Return the names of the objects that the store lacks."""
        with self._asking():
            if isinstance(store, LocalHashFileDB):
                # Its own `oids_exist` reads every object that is not read-only, and removes it if its content is wrong.
                absent = names - set(ObjectDB.list_oids_exists(store, list(names)))
            else:
                absent = names - set(store.oids_exist(names))
            if absent:
                # To DVC, a web server that is down or asks for a password looks empty. Reading an object tells.
                with suppress(FileNotFoundError):
                    store.fs.fs.cat_file(store.oid_to_path(min(absent)), start=0, end=1)
            return absent

    @contextmanager
    def _asking(self, *expected: type[Exception]) -> Iterator[None]:
        try:
            yield
        except expected:
            raise
        except Exception as error:  # each kind of remote has errors of its own
            raise Unreachable(error, self.repo.config) from error


def _checked_list(store: Any, hash_info: Any) -> Tree:
    files = Tree.load(store, hash_info)
    files.digest()  # recomputes hash_info from the content
    if files.hash_info.value != hash_info.value:
        raise ObjectFormatError(f"{hash_info.value} is not what its name says")
    return files


def stale_stages(repo: Any, remote: Remote) -> Iterator[Finding]:
    """Yield what `dvc repro` would run on this code if all data were there: one red finding per stage."""
    stages = repo.index.stages
    makers = {out.fs_path: out for stage in stages for out in stage.outs}
    stale = False
    for stage in stages:
        changes: list[str] = []
        if not any(item.hash_info for item in (*stage.deps, *stage.outs)):
            changes = ["not in dvc.lock"]
        else:
            if getattr(stage, "cmd_changed", False):  # a .dvc file has no command
                changes.append("cmd")
            # DVC ignores the dependencies of a frozen stage.
            for dep in () if stage.frozen else stage.deps:
                found = changes_of(dep, makers, remote)
                if isinstance(found, Finding):
                    yield found
                else:
                    changes += found
            for out in stage.outs:
                if not out.hash_info:
                    changes.append(f"{out} (new)")
                elif not out.use_cache:  # git has it
                    changes += _workspace_changes(out)
        if changes:
            stale = True
            named = ", ".join(changes[:NAMED]) + (f" and {len(changes) - NAMED} more" if changes[NAMED:] else "")
            yield Finding(f"dvc.lock: stage {stage.addressing} is out of date: {named}; {REPRO}")
    if not stale:
        yield Finding(f"dvc.lock is up to date, {len(stages)} stages", "green")


def changes_of(dep: Any, makers: dict[str, Any], remote: Remote) -> list[str] | Finding:
    """Return what changed in a dependency since dvc.lock was written, or a finding that says why it is unknown."""
    if isinstance(dep, ParamsDependency):
        return _changed_params(dep)
    if not dep.hash_info:
        return [f"{dep} (new)"]
    made_anew = [f"{dep} (made anew)"]
    for path in (dep.fs_path, *map(str, PurePath(dep.fs_path).parents)):
        maker = makers.get(path)
        if maker is None or not maker.use_cache:  # if git has it, it is compared below
            continue
        if path == dep.fs_path:
            return [] if maker.hash_info == dep.hash_info else made_anew
        try:
            parts: Any = PurePath(dep.fs_path).relative_to(path).parts  # Any: get_obj is typed to take a single one
            inside = remote.files_in(maker).get_obj(maker.cache, parts)
        except (FileNotFoundError, ObjectFormatError, Unreachable):
            return Finding(f"{dep} was not compared: the list of files in {maker} is not here", "green")
        return [] if inside and inside.hash_info.value == dep.hash_info.value else made_anew
    try:
        changes = _workspace_changes(dep)
    except Exception:  # a remote dependency may fail in many ways
        if dep.is_in_repo:
            raise
        return Finding(f"{dep} was not compared: it cannot be reached from here", "green")
    if changes and _is_data(dep, makers):
        return Finding(f"{dep} was not compared: git does not have it", "green")
    return changes


def _changed_params(dep: Any) -> list[str]:
    status = dep.workspace_status().get(str(dep), {})
    if isinstance(status, str):  # of the whole file
        return [f"{dep} ({status})"]
    return [f"{dep}:{name} ({how})" for name, how in status.items()]


def _workspace_changes(item: Any) -> list[str]:
    return [f"{name} ({how})" for name, how in item.workspace_status().items()]


def _is_data(dep: Any, makers: dict[str, Any]) -> bool:
    """Return whether a clone may lack a dependency: it is elsewhere, git ignores it, or stages make part of it."""
    if not dep.is_in_repo:
        return not dep.exists
    ignored = any(dep.repo.scm.is_ignored(path) for path in (dep.fs_path, f"{dep.fs_path}/any"))
    return ignored or any(out.use_cache and PurePath(path).is_relative_to(dep.fs_path) for path, out in makers.items())


def missing_objects(repo: Any, remote: Remote) -> Iterator[Finding]:
    """Yield what dvc.lock names and the remote lacks: one red finding per output."""
    if remote.name is None:
        yield Finding("data not checked: no default remote is set", "yellow")
        return
    try:
        yield from _missing_objects(repo, remote)
    except Unreachable as error:
        if error.no_credentials:  # as in a pull request from a fork, which gets no secrets
            yield Finding(f"data not checked: there are no credentials for remote {remote.name!r} here", "yellow")
        elif isinstance(error.__cause__, _NothingThere):
            yield Finding(f"remote {remote.name!r}: {error}")
        else:
            yield Finding(f"remote {remote.name!r} cannot be reached: {error}; check its address and credentials")


def _missing_objects(repo: Any, remote: Remote) -> Iterator[Finding]:
    stores: dict[Any, dict[Any, set[str]]] = {}  # store → output → names of its objects
    unlisted: set[Any] = set()
    for stage in repo.index.stages:
        for out in stage.outs:
            # As `dvc push` does: what is imported from a repository stays there.
            if not (out.hash_info and out.use_cache and out.can_push) or stage.is_repo_import:
                continue
            names = stores.setdefault(remote.store(out), {})[out] = {out.hash_info.value}
            if out.hash_info.isdir:
                try:
                    names |= {hash_info.value for _, _, hash_info in remote.files_in(out)}
                except (FileNotFoundError, ObjectFormatError):
                    unlisted.add(out)
    complete = True
    for store, outs in stores.items():
        absent = remote.missing(store, set().union(*outs.values()))
        for out, names in outs.items():
            gone, name = names & absent, out.hash_info.value
            if out in unlisted:
                line = f"the list of its files is {'not' if gone else 'broken'} on remote {remote.name!r}"
            elif gone:
                line = f"{len(gone)} of {len(names)} objects are not on remote {remote.name!r}"
            else:
                continue
            complete = False
            # `dvc push` treats a folder as complete if its list is there, even if files are missing.
            path = PurePath(store.oid_to_path(name)).relative_to(PurePath(store.path).parents[1])
            yield Finding(f"{out}: {line}; {PUSH if name in gone else f'remove {path} from it, then {PUSH}'}")
    if complete:
        count = len({name for outs in stores.values() for names in outs.values() for name in names})
        yield Finding(f"remote {remote.name!r} has all {count} objects that dvc.lock names", "green")


def _conflicts(folder: Path) -> Iterator[Finding]:
    by_hand = "resolve it by hand"
    for name, way_out in (("params.yaml", by_hand), ("dvc.yaml", by_hand), ("dvc.lock", TAKE_OURS)):
        text = (folder / name).read_text(errors="replace") if (folder / name).is_file() else ""
        if conflict := re.search("^<{7} ", text, re.MULTILINE):
            line = text.count("\n", 0, conflict.start()) + 1
            yield Finding(f"{name}: has the conflict markers of a merge, from line {line}; {way_out}")


def findings(folder: Path) -> Iterator[Finding]:
    """Yield all findings about the repository in `folder`."""
    lock = folder / "dvc.lock"
    if not lock.is_file():
        yield Finding(f"dvc.lock: not found; {REPRO}")
        return
    conflicts = list(_conflicts(folder))
    if conflicts:
        yield from conflicts
        return
    try:
        with Repo(str(folder)) as repo:
            remote = Remote(repo)
            yield from stale_stages(repo, remote)
            yield from missing_objects(repo, remote)
    except (DvcException, OSError) as error:
        text = one_line(error, {})
        broken = isinstance(error, OSError) or lock.name in text  # such as a link to nothing among the modules
        yield Finding(f"{text}; fix or delete it, then {REPRO}" if broken else text)


def main() -> int:
    """Print the findings. Return 1 if any of them is red."""
    logging.disable()  # the findings replace DVC's warnings
    said = list(findings(Path.cwd()))
    sys.stdout.writelines(f"{'' if color == 'green' else f'{color}: '}{line}\n" for line, color in said)
    return int(any(finding.color == "red" for finding in said))


if __name__ == "__main__":
    sys.exit(main())
