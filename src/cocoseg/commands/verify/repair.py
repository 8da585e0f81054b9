"""Restore what a survey found missing or corrupt, from any intact copy.

First the cache, from a remote or the workspace; then the remotes and the workspace, from the cache. If no copy is
intact, a corrupt object still leaves the cache, so that DVC no longer takes it for the output.
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from cocoseg.commands.verify.stores import State, file_chunks
from cocoseg.commands.verify.survey import StoreSurvey, Survey, in_parallel
from cocoseg.core.redaction import one_line


def repair(found: Survey) -> dict[str, str]:
    """Restore what can be restored and note it in the survey; return the places that failed, and why."""
    failed: dict[str, str] = {}
    steps: list[tuple[str, Callable[[], None]]] = [
        (found.cache.name, partial(_repair_store, found.cache, partial(_restore_in_cache, found, found.right_files()))),
        *((remote.name, partial(_repair_store, remote, partial(_upload, found, remote))) for remote in found.remotes),
        (found.workspace.name, partial(_repair_workspace, found)),
    ]
    for place, step in steps:
        try:
            step()
        except Exception as error:  # a full disk, a read-only remote: the next file would fail too
            failed[place] = one_line(error, found.repository.config)
    return failed


def _repair_store(place: StoreSurvey, restored: Callable[[str], State]) -> None:
    if place.not_checked is not None:
        return
    wrong = place.wrong()
    # The lists of folders last: where a list is, DVC takes the folder for complete.
    for lists in (False, True):
        objects = [object_ for object_ in wrong if object_.endswith(".dir") == lists]
        place.states.update(in_parallel(restored, objects, place.jobs, f"repair {place.name}"))


def _restore_in_cache(found: Survey, right_files: Mapping[str, str], object_: str) -> State:
    content = _right_content(found, right_files, object_)
    state = found.cache.states[object_]
    if state == "corrupt":
        # The user may have edited the cached object through a link.
        found.workspace.set_object_aside(found.cache.store, object_)
        state = "missing"
    if content is not None:
        found.cache.store.write(object_, content)
        return "right"
    return state


def _right_content(found: Survey, right_files: Mapping[str, str], object_: str) -> Iterable[bytes] | None:
    for remote in found.remotes:
        if remote.is_right(object_):
            return remote.store.chunks(object_)
    if object_ in right_files:
        return file_chunks(found.workspace.path(right_files[object_]))
    if object_ in found.rebuilt:
        return [found.rebuilt[object_]]
    return None


def _upload(found: Survey, remote: StoreSurvey, object_: str) -> State:
    if not found.cache.is_right(object_):
        return remote.states[object_]
    remote.store.upload(object_, found.cache.store)
    return "right"


def _repair_workspace(found: Survey) -> None:
    for out in found.outputs:
        if out.is_folder:
            found.workspace.remove_unfinished(out.path)
    while found.extra:  # first: an empty folder is corrupt as long as they are there
        found.workspace.set_aside(found.extra[-1])
        found.extra.pop()
    wrong = list(found.wrong())
    found.states.update(in_parallel(partial(_restore_file, found), wrong, found.cache.jobs, "repair workspace"))


def _restore_file(found: Survey, path: str) -> State:
    object_, out = found.files[path], found.owners[path]
    state: State = "corrupt"
    if not found.workspace.is_behind_link(path, out):  # a link to a cached object is repaired with it
        state = found.workspace.state_of(path, object_)
    if state == "right" or not (out.in_cache and found.cache.is_right(object_)):
        return state
    found.workspace.restore(path, object_, found.cache.store, out)
    return found.workspace.state_of(path, object_)
