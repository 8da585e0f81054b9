"""All that reaches inside DVC, in the words of this project.

`tests/commands/test_dvc_adapter.py` checks it against the installed DVC and names the version that it was written for.
DVC takes a second to import, so each function imports what it needs.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from functools import cache, cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from cocoseg.core.errors import CocosegError
from cocoseg.core.redaction import one_line


class Output(NamedTuple):
    """A file or folder that a stage writes, or that a `.dvc` file names, and that has been made."""

    path: str  # from the root of the repository
    object: str  # its MD5; with `.dir` behind it, that of the list of a folder's files
    stage: str  # as `dvc repro` takes it
    in_cache: bool  # else git has it
    remote: str | None  # the one that `dvc push` sends it to
    hash_name: str = "md5"
    source: Literal["stage", "import", "user"] = "stage"
    record: Any = None  # DVC's own

    @property
    def is_folder(self) -> bool:
        """Whether its object is a list of files."""
        return self.object.endswith(".dir")

    def set_executable(self) -> None:
        """Make the file in the workspace executable if it was when DVC hashed it."""
        self.record.set_exec()


class ObjectStore:
    """The cache or a remote: files, each under the name of its content.

    `open_` gives DVC's own. It is called at the first use, which raises what DVC or a remote's library raises.
    """

    def __init__(self, open_: Callable[[], Any]) -> None:
        self._open = open_

    @cached_property
    def _odb(self) -> Any:
        return self._open()

    @property
    def folder(self) -> str:
        """The path that all objects lie below."""
        folder: str = self._odb.path
        return folder

    @property
    def is_local(self) -> bool:
        """Whether the objects are files of this machine."""
        return bool(self._odb.fs.protocol == "local")

    def path(self, name: str) -> str:
        """Return where an object lies, or would."""
        path: str = self._odb.oid_to_path(name)
        return path

    def sizes(self) -> dict[str, int | None]:
        """Return the bytes of each file that lies where an object would, by its name; `None` where the list has none.

        The list of a web server is empty, or has no sizes; that of a folder has none because none are needed.
        """
        if self.is_local:  # not by `path_to_oid`, which takes longer than to hash a small file
            names = (path[len(self.folder) + 1 :] for path in self._odb.fs.find(self.folder))
            return {name[:2] + name[3:]: None for name in names if name.find(os.sep) == 2 == name.rfind(os.sep)}
        sizes = {}
        for path, info in self._odb.fs.fs.find(self.folder, detail=True).items():
            with suppress(ValueError):  # not where an object would lie
                sizes[self._odb.path_to_oid(path)] = info["size"]
        return sizes

    def size(self, name: str) -> int:
        """Return the bytes of an object; raise `FileNotFoundError`, or what the remote's library raises."""
        try:
            size: int = self._odb.fs.info(self.path(name))["size"]
        except FileNotFoundError as error:
            # fsspec calls a file of a web server not found, too, if the server cannot be reached.
            if isinstance(error.__cause__, OSError) and not isinstance(error.__cause__, FileNotFoundError):
                raise error.__cause__ from None
            raise
        return size

    def read(self, name: str, start: int, end: int) -> bytes:
        """Return a part of an object on a remote; raise as `size` does."""
        part: bytes = self._odb.fs.fs.cat_file(self.path(name), start=start, end=end)
        return part

    def make_folder(self, folder: Path) -> None:
        """Make a folder for objects, with the mode that DVC gives those of a local store."""
        self._odb.makedirs(str(folder))

    def upload(self, name: str, file: Path) -> None:
        """Send a file to a remote as this object, over what is there."""
        self._odb.fs.put_file(str(file), self.path(name))

    def check_out(self, name: str, target: Path) -> None:
        """Place an object of the cache at `target`, by the first kind of link in DVC's settings that this disk can."""
        from dvc_objects.fs.generic import transfer

        transfer(self._odb.fs, self.path(name), self._odb.fs, str(target), links=list(self._odb.cache_types))


class Repository:
    """A DVC repository and its working tree."""

    def __init__(self, repo: Any) -> None:
        self._repo = repo
        self.root = Path(repo.root_dir)
        self.lock_file = self.root / "dvc.lock"
        self.running_file = Path(repo.tmp_dir, "rwlock")  # which process reads and writes what
        self.run_cache = Path(repo.stage_cache.cache_dir)
        self.config: Mapping[str, Any] = repo.config

    def outputs(self, remote: str | None = None) -> list[Output]:
        """Return the outputs below the root that have been made. `remote` stands for the default one."""
        default = remote or self.config["core"].get("remote")
        outputs = []
        for stage, out in self._outs():
            if out.hash_info:
                pushed = out.use_cache and out.can_push and not stage.is_repo_import
                outputs.append(
                    Output(
                        path=self._relative(out.fs_path),
                        object=str(out.hash_info.value),  # an odd lock may have a number there
                        stage=stage.addressing,
                        in_cache=bool(out.use_cache),
                        remote=(out.remote or default) if pushed else None,
                        hash_name=out.hash_name,
                        source="import" if stage.is_import else "user" if stage.is_data_source else "stage",
                        record=out,
                    )
                )
        return outputs

    def unmade_outputs(self) -> list[str]:
        """Return the outputs that `dvc.lock` does not name: not made yet, or lost with the end of a cut-off lock."""
        return sorted(self._relative(out.fs_path) for _, out in self._outs() if not out.hash_info)

    def stages_up_to(self, name: str) -> dict[str, list[str]]:
        """Return a stage and all that it depends on, as `dvc repro` takes them, each with its keys of `params.yaml`."""
        if name not in {stage.addressing for stage in self._repo.index.stages}:
            return {}
        return {
            stage.addressing: [str(key) for dep in stage.deps for key in getattr(dep, "params", ())]
            for stage in self._repo.stage.collect(name, with_deps=True)
        }

    @property
    def cache_folder(self) -> str:
        """The folder of the cache, as `cache.dir` in DVC's settings would name it."""
        folder: str = self._repo.cache.local_cache_dir
        return folder

    def files_in(self, folder: Path) -> list[str]:
        """Return the files below a folder, by their name there, without those that `.dvcignore` names."""
        found = self._repo.dvcignore.find(self._repo.fs, str(folder))
        return sorted(path[len(str(folder)) + 1 :].replace(os.sep, "/") for path in found)

    def cache(self) -> ObjectStore:
        """Return the cache of this repository."""
        return ObjectStore(lambda: self._repo.cache.local)

    def remote(self, name: str) -> ObjectStore:
        """Return a remote. One that keeps versions, or whose library is not installed, raises at its first use."""
        return ObjectStore(partial(self._repo.cloud.get_remote_odb, name))

    def lock_is_valid(self) -> bool:
        """Return whether DVC can read `dvc.lock`. A missing one is valid."""
        from dvc.dvcfile import Lockfile
        from dvc.exceptions import DvcException

        try:
            Lockfile(self._repo, str(self.lock_file)).load()
        except DvcException:
            return False
        return True

    @contextmanager
    def no_stage_running(self, command: str) -> Iterator[None]:
        """Keep DVC from starting a stage, in the name of `command`; raise `LockError` if one runs.

        The lock of the repository is not enough, because DVC releases it while a stage runs. DVC does not know of
        stages that were started by hand.
        """
        from dvc.rwlock import rwlock

        hard = self.config["core"].get("hardlink_lock", False)
        folder, everything = str(self.running_file.parent), [str(self.root)]
        with rwlock(folder, self._repo.fs, command, [], everything, hard):
            yield

    def forget_folders(self) -> None:
        """Drop what DVC noted about the content of folders.

        A killed pull leaves half of it, which the next pull takes for all.
        """
        self._repo.drop_data_index()

    def _outs(self) -> Iterator[tuple[Any, Any]]:
        try:
            stages = self._repo.index.stages
        except (AssertionError, AttributeError, TypeError, ValueError):  # such as of a hash that is a number
            raise CocosegError(
                "dvc.lock: DVC cannot read an entry; restore the last good one with: git checkout -- dvc.lock"
            ) from None
        return ((stage, out) for stage in stages for out in stage.outs if out.is_in_repo)

    def _relative(self, path: str) -> str:
        relative: str = self._repo.fs.relpath(path, self._repo.root_dir)
        return relative


@contextmanager
def open_repository(*, locked: bool = False) -> Iterator[Repository]:
    """Open the repository of the current folder, and with `locked` keep every other DVC out of it.

    Raises `CocosegError` for what DVC raises, here or in the block.
    """
    from dvc.exceptions import DvcException, NotDvcRepoError, PrettyDvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(".") as repo, repo.lock if locked else nullcontext():
            yield Repository(repo)
    except LockError as error:
        raise CocosegError(f"{one_line(error, {})}; run again when it has finished") from None
    except DvcException as error:
        merge = Path("dvc.lock").is_file() and b"\n<<<<<<< " in Path("dvc.lock").read_bytes()
        way_out = "; to end the merge: git checkout HEAD -- dvc.lock metrics plots, then dvc repro" if merge else ""
        if isinstance(error, NotDvcRepoError):
            way_out = "; run from the root of a clone"
        if isinstance(error, PrettyDvcException) and not merge:  # of a file whose place it prints on its own
            way_out = "; dvc status says where"
        raise CocosegError(f"{one_line(error, {})}{way_out}") from None


class _Listed(msgspec.Struct):
    """A file in the list that DVC keeps of a folder."""

    relpath: str
    md5: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]


def cached_object(md5: str, name: str = "") -> bytes | None:
    """Return an object of the cache of this folder's repository, or the file `name` of one that is a folder.

    `None` where it is not there, or not as expected.
    """
    if not re.fullmatch(r"[0-9a-f]{32}(\.dir)?", md5) or md5.endswith(".dir") != bool(name):
        return None
    try:
        cache = _cache_of(Path.cwd())
        if name:
            listed = msgspec.json.decode(Path(cache.path(md5)).read_bytes(), type=list[_Listed])
            md5 = next(one.md5 for one in listed if one.relpath == name)
        return Path(cache.path(md5)).read_bytes()
    except (CocosegError, OSError, msgspec.DecodeError, StopIteration, RecursionError):
        return None


@cache
def _cache_of(folder: Path) -> ObjectStore:
    """Return the cache of the repository of this folder, which is the current one."""
    with open_repository() as repository:
        return repository.cache()


def run_dvc(*arguments: str) -> int:
    """Run DVC in this process, so that it ends with it. Return its exit status."""
    from dvc.cli import main

    return int(main(list(arguments)))


class QueuedRun(NamedTuple):
    """An experiment of the queue of this repository that has no results."""

    name: str | None
    commit: str
    """Of what is to be run."""
    state: str
    """A key of `QUEUE_STATES`."""


QUEUE_STATES = {
    "waits": "is queued; dvc queue start runs it",
    "runs": "runs now; dvc queue status says when it is done",
    "failed": "failed; dvc queue logs {name} says why",
}


def queued_runs() -> list[QueuedRun]:
    """Return the experiments of this repository that wait in the queue, run from it, or failed."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(".") as repo:
            queue, at_once = repo.experiments.celery_queue, repo.experiments.tempdir_queue
            found = {"waits": queue.iter_queued(), "runs": chain(queue.iter_active(), at_once.iter_active()),
                     "failed": (done.entry for done in queue.iter_failed())}  # fmt: skip
            return [QueuedRun(one.name, one.stash_rev, state) for state, entries in found.items() for one in entries]
    except (DvcException, OSError, ValueError):  # of a queue that is being written, or of another version of DVC
        return []


class TrackedFiles:
    """The files of a run as git and DVC have them: in git, in the workspace, in the cache or on a remote.

    Reading raises whatever the library of a remote raises.
    """

    def __init__(self, files: Any) -> None:
        self._files = files

    def has(self, path: str) -> bool:
        """Return whether git or DVC knows a file or folder, wherever its content may be."""
        return bool(self._files.exists(path))

    def read(self, path: str) -> bytes:
        """Return the content of a file."""
        content: bytes = self._files.read_bytes(path)
        return content

    def hashes(self, folder: str) -> dict[str, str]:
        """Return the MD5 of every file below a folder that DVC has, by its name there; no file is read."""
        found = self._files.find(folder, detail=True, dvc_only=True)
        return {path.removeprefix(f"{folder}/"): info["md5"] for path, info in found.items() if info.get("md5")}


def files_of_run(commit: str | None, folder: str | None, place: str = ".") -> TrackedFiles:
    """Return the files of a commit, or of the working tree for `None`, of the repository that has the folder `place`.

    `folder` is `place` as seen from the root of git. Remotes are those of today, not those of the commit, which may
    have had none or others.
    """
    from dvc.api import DVCFileSystem
    from dvc.repo import Repo
    from fsspec.implementations.dirfs import DirFileSystem

    with Repo(place) as repository:
        config = dict(repository.config)
        if (remote := config["core"].get("remote")) and remote not in config["remote"]:  # DVC could open no file
            raise CocosegError(f"DVC's settings: core.remote is {remote}, which is no remote; see dvc remote list")
        if commit is None:
            folder = os.path.relpath(os.path.realpath(place), repository.root_dir)
    if folder in (None, "", "."):
        return TrackedFiles(DVCFileSystem(place, rev=commit, config=config))
    # The root of a commit is that of git, which lies above this folder.
    factory = partial(Repo, config=config)
    files = DVCFileSystem(place, rev=commit, config=config, subrepos=True, repo_factory=factory)
    files.info("/")  # as below
    return TrackedFiles(DirFileSystem(f"/{folder}", files))


def files_of_repository(url: str, revision: str | None) -> TrackedFiles:
    """Return the files of a repository elsewhere, of its newest commit for `None`, or of a local folder's working tree.

    Paths begin at its root, as for `dvc get`, also where projects of DVC lie below that. Raises whatever git, the
    network or DVC raises.
    """
    from dvc.api import DVCFileSystem

    files = DVCFileSystem(url, rev=revision, subrepos=True)
    files.info("/")  # now, because `exists` takes a revision that is not there for a file that is not
    return TrackedFiles(files)


def folder_list(files: Mapping[str, str]) -> bytes:
    """Return the list that DVC keeps of a folder with these files, name → MD5; its MD5 names the folder."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    tree: Any = Tree()  # type: ignore[no-untyped-call]
    for name, md5 in files.items():
        tree.add(tuple(name.split("/")), None, HashInfo("md5", md5))
    content: bytes = tree.as_bytes()
    return content
