"""Look for all that `dvc.lock` names, in the workspace, the cache and the remotes.

Each file is read and hashed. DVC itself looks at times, sizes and modes, and takes a folder for complete if its list is
there.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from typing import Literal, TypeGuard, TypeVar

from tqdm import tqdm

from cocoseg.commands.dvc_adapter import Output, Repository
from cocoseg.commands.verify.outputs import listed_files, locked_outputs
from cocoseg.commands.verify.stores import State, Store, md5
from cocoseg.commands.verify.workspace import Workspace
from cocoseg.core.errors import CocosegError
from cocoseg.core.redaction import one_line
from cocoseg.workers import worker_count

T = TypeVar("T")
R = TypeVar("R")
Wrong = Literal["missing", "corrupt", "unreadable"]

_BATCH = 32  # files of this machine: to hand one to a thread takes as long as to hash it
_REQUESTS_A_CORE = 8  # to a remote: they wait for the network


@dataclass
class StoreSurvey:
    """What was found in the cache or on a remote, by object."""

    store: Store
    jobs: int
    named: dict[str, str] = field(default_factory=dict)  # object → the first path with this content
    others: set[str] = field(default_factory=set)  # objects of other commits
    states: dict[str, State] = field(default_factory=dict)
    not_checked: str | None = None  # why, where the store did not answer

    @property
    def name(self) -> str:
        """The name of the place, for people."""
        return self.store.name

    def is_right(self, object_: str) -> bool:
        """Return whether an object is here and intact."""
        return self.states.get(object_) == "right"

    def wrong(self) -> dict[str, Wrong]:
        """Return the named objects that are not intact."""
        return {object_: state for object_, state in self.states.items() if state != "right" and object_ in self.named}


@dataclass
class Survey:
    """What was found where. A repair notes in it what it restored."""

    repository: Repository
    workspace: Workspace
    cache: StoreSurvey
    remotes: list[StoreSurvey]
    outputs: list[Output]
    files: dict[str, str] = field(default_factory=dict)  # path → object, of what the workspace should have
    states: dict[str, State] = field(default_factory=dict)  # path → what was found there
    extra: list[str] = field(default_factory=list)
    owners: dict[str, Output] = field(default_factory=dict)  # path → output
    rebuilt: dict[str, bytes] = field(default_factory=dict)  # lists of folders that only the workspace gives

    @property
    def stores(self) -> list[StoreSurvey]:
        """The cache and the remotes, in the order in which an intact copy is looked for."""
        return [self.cache, *self.remotes]

    def wrong(self) -> dict[str, Wrong]:
        """Return the files that are not intact."""
        return {path: state for path, state in self.states.items() if state != "right"}

    def leave_out(self, outputs: Collection[str]) -> None:
        """Judge nothing that lies in these outputs in the workspace."""
        for path in [path for path in self.files if self.owners[path].path in outputs]:
            del self.files[path], self.states[path]
        self.extra = [path for path in self.extra if self.owners[path].path not in outputs]

    def right_files(self) -> dict[str, str]:
        """Return, by object, an intact file of the workspace."""
        return {object_: path for path, object_ in self.files.items() if self.states[path] == "right"}


def survey(
    repository: Repository, remote: str | None = None, *, with_remote: bool = True, jobs: int | None = None
) -> Survey:
    """Look for all that `dvc.lock` names, and change nothing.

    `remote` stands for the default one; `jobs` is the number of files at a time in each place.
    """
    outputs = locked_outputs(repository, remote)
    names = sorted({out.remote for out in outputs if out.remote}) if with_remote else []
    here = jobs or worker_count()
    away = jobs or _REQUESTS_A_CORE * worker_count()
    found = Survey(
        repository,
        Workspace(repository),
        StoreSurvey(Store("cache", repository.cache()), here),
        [_remote(repository, name, away) for name in names],
        outputs,
    )
    for place in found.stores:
        with _asking(place, repository):
            place.others = place.store.list_objects()
    for place in found.remotes:
        if place.not_checked is None and place.store.is_local and not place.others:
            place.not_checked = f"nothing found in {place.store.objects.folder}; if the disk is mounted, run: dvc push"
    for out in outputs:
        _name_files(found, out)
    for place in found.stores:
        place.others -= place.named.keys()
        _look_at(place, sorted(place.named.keys() - place.states.keys()), repository)
    _look_at_workspace(found, here)
    return found


def in_parallel(
    function: Callable[[T], R], items: Sequence[T], jobs: int, description: str, batch: int = 1
) -> Iterator[tuple[T, R]]:
    """Yield each item with its result, in order, with progress on a terminal. `batch`: how many a thread takes."""
    batches = [items[start : start + batch] for start in range(0, len(items), batch)]
    with ThreadPoolExecutor(jobs) as pool:
        found = pool.map(lambda own: [function(item) for item in own], batches)
        results = zip(items, chain.from_iterable(found), strict=True)
        yield from tqdm(results, desc=description, total=len(items), unit="file", disable=None, leave=False)


def _remote(repository: Repository, name: str, jobs: int) -> StoreSurvey:
    shown = f"remote {name!r}"
    if name not in (known := sorted(repository.config["remote"])):
        raise CocosegError(f"{shown} not found; expected one of {', '.join(known) or 'those of dvc remote add'}")
    return StoreSurvey(Store(shown, repository.remote(name)), jobs)


@contextmanager
def _asking(place: StoreSurvey, repository: Repository) -> Iterator[None]:
    """Note why a place did not answer; it is not asked again."""
    try:
        yield
    except Exception as error:  # every kind of remote has its own
        place.not_checked = one_line(error, repository.config)


def _name_files(found: Survey, out: Output) -> None:
    """Enter the files and objects of an output; those of a folder only if its list is found."""
    files = _files_of(found, out)
    paths = {f"{out.path}/{name}": object_ for name, object_ in files.items()} if files else {out.path: out.object}
    found.files |= paths
    found.owners |= dict.fromkeys(paths, out)
    if files is not None:
        names = found.workspace.files_in(out.path)
        extra = [path for name in names if (path := f"{out.path}/{name}") not in paths]
        found.extra += extra
        found.owners |= dict.fromkeys(extra, out)
    for place in found.stores:
        if out.in_cache if place is found.cache else place.name == f"remote {out.remote!r}":
            for path, object_ in {out.path: out.object, **paths}.items():
                place.named.setdefault(object_, path)


def _files_of(found: Survey, out: Output) -> dict[str, str] | None:
    """Return the files of a folder, name → object; `None` for a file, and for a folder whose list is lost."""
    if not out.is_folder or not out.in_cache:
        return None
    for place in found.stores:
        content = None
        if place.not_checked is None:
            with _asking(place, found.repository):
                place.states[out.object] = place.store.state_of(out.object)
                if place.is_right(out.object):
                    content = b"".join(place.store.chunks(out.object))
        if _is_right_list(content, out):
            return listed_files(content, out)
    content = found.workspace.list_of(out.path)
    if not _is_right_list(content, out):
        return None
    found.rebuilt[out.object] = content
    return listed_files(content, out)


def _is_right_list(content: bytes | None, out: Output) -> TypeGuard[bytes]:
    """Return whether this is the list of the folder's files, unchanged."""
    return content is not None and f"{md5([content])}.dir" == out.object


def _look_at(place: StoreSurvey, objects: Sequence[str], repository: Repository) -> None:
    if place.not_checked is None:
        with _asking(place, repository):
            batch = _BATCH if place.store.is_local else 1
            place.states |= in_parallel(place.store.state_of, objects, place.jobs, place.name, batch)


def _look_at_workspace(found: Survey, jobs: int) -> None:
    cache = found.cache

    def state_of(path: str) -> State:
        object_ = found.files[path]
        if found.workspace.is_behind_link(path, found.owners[path]):
            return "corrupt"
        # A link to a cached object has its state, and is not read again.
        if object_ in cache.states and found.workspace.is_link_to(path, cache.store, object_):
            return cache.states[object_]
        return found.workspace.state_of(path, object_)

    found.states |= in_parallel(state_of, list(found.files), jobs, found.workspace.name, _BATCH)
