"""`cocoseg verify`: find and repair what is missing, corrupt or extra in the workspace, the cache and the remote."""

import os
from collections import defaultdict
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import msgspec
from tabulate import tabulate

from cocoseg.commands.dvc_adapter import Repository, open_repository
from cocoseg.commands.verify.dvc_state import all_notes, broken_notes, mend_note, writers
from cocoseg.commands.verify.repair import repair
from cocoseg.commands.verify.survey import Survey, survey
from cocoseg.commands.verify.workspace import SET_ASIDE, Workspace
from cocoseg.core.errors import CocosegError
from cocoseg.core.work_tree import work_tree_held
from cocoseg.paths import LOCK

_MOST_NAMES = 4  # in a line
_ENDS = {"corrupt": "repaired", "extra": "set aside"}  # where no copy is restored
_NOTES = "DVC's notes"
_TRAIN = "train"  # the one stage whose output another machine, or another run, makes otherwise
_REPAIR = "cocoseg verify --repair"
_NOTE_WAY_OUT = "left by a kill, a full disk or an edit, and dvc repro fails on it; cocoseg verify --repair repairs it"


class Fault(msgspec.Struct, frozen=True):
    """What is not as `dvc.lock` says. `path` is a file of the workspace, or the one that an object belongs to."""

    place: str  # workspace, cache, or remote 'NAME'
    kind: Literal["missing", "corrupt", "unreadable", "extra"]
    path: str | None  # None: an object of another commit
    object: str | None
    output: str | None
    right_copy: str | None  # the place that has an intact one
    repaired: bool = False
    way_out: str | None = None


class Place(msgspec.Struct, frozen=True):
    """The counts of one place: of files in the workspace, of objects elsewhere."""

    name: str
    named: int  # by dvc.lock and the lists of folders
    missing: int
    corrupt: int  # or unreadable
    extra: int  # in cache and remote not a fault: they belong to other commits
    not_checked: str | None = None  # the reason, if so


class Report(msgspec.Struct, frozen=True):
    """What was found and what was repaired."""

    places: list[Place]
    faults: list[Fault]
    unmade: list[str] = []  # outputs of dvc.yaml that dvc.lock does not have
    written: dict[str, str] = {}
    """Outputs that a stage writes at this moment, which were not checked in the workspace, and who writes them."""
    data_looked_at: bool = True
    nothing_here: bool = False  # workspace and cache have none of the data, as in a new clone

    @property
    def exit_status(self) -> int:
        """0 if no faults remain; 1 if some do; 3 if none remain but a place, or what a stage writes, is not checked."""
        if not all(fault.repaired for fault in self.faults):
            return 1
        whole = self.data_looked_at and not self.written and not any(place.not_checked for place in self.places)
        return 0 if whole else 3


def verify(
    remote: str | None = None, *, with_remote: bool = True, fix: bool = False, jobs: int | None = None
) -> Report:
    """Check all that `dvc.lock` names, and with `fix` restore it from any intact copy."""
    with open_repository(locked=fix) as repository:
        broken = broken_notes(repository)
        notes = Place(_NOTES, len(all_notes(repository)), 0, len(broken), 0)
        of_notes = [_fault_of(note, repository, repaired=fix) for note in broken]
        in_the_dark = fix and repository.running_file in broken
        alone = repository.no_stage_running(_REPAIR) if fix and not in_the_dark else nullcontext()
        lock = repository.root / LOCK
        by_hand = work_tree_held(lock, _REPAIR, patience_s=0) if fix and lock.parent.is_dir() else nullcontext()
        with alone, by_hand:
            for note in broken if fix else ():
                mend_note(repository, note, Workspace(repository).set_aside)
            if in_the_dark or repository.lock_file in broken:
                return Report([notes], of_notes, data_looked_at=False)
            unmade = repository.unmade_outputs()
            written = {} if fix else writers(repository, repository.outputs())
            found = survey(repository, remote, with_remote=with_remote, jobs=jobs)
            written |= {} if fix else writers(repository, found.outputs)  # a stage may have started meanwhile
            found.leave_out(written)
            of_data = _report(found, fix)
            if fix:
                repository.forget_folders()
    if not found.files and not broken:
        raise CocosegError("dvc.lock names no outputs; make them with: dvc repro")
    faults, nothing_here = of_data.faults + of_notes, of_data.nothing_here
    return Report([*of_data.places, notes], faults, unmade, written=written, nothing_here=nothing_here)


def _report(found: Survey, fix: bool) -> Report:
    """Return the faults of the data; with `fix`, repair them and say which are left."""
    faults, places, nothing_here = _faults(found), _places(found), not fix and _nothing_here(found)
    failed = repair(found) if fix else {}
    left = {(fault.place, fault.path, fault.object) for fault in _faults(found)}
    told = [
        msgspec.structs.replace(fault, repaired=True)
        if (fault.place, fault.path, fault.object) not in left
        else msgspec.structs.replace(fault, way_out=_way_out(found, fault, failed))
        for fault in faults
    ]
    return Report(places, told, nothing_here=nothing_here)


def verify_text(report: Report) -> str:
    """Return the report for a terminal: counts by place, faults by output, and what to do."""
    rows = [
        [place.name, place.named, place.missing, place.corrupt, place.extra]
        if place.not_checked is None
        else [place.name, place.named, "?", "?", "?"]
        for place in report.places
    ]
    lines = [tabulate(rows, ["", "named", "missing", "corrupt", "extra"]), ""]
    groups: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for fault in report.faults:
        if fault.repaired:
            end = f"restored from the {fault.right_copy}" if fault.right_copy else _ENDS[fault.kind]
        else:
            end = f"intact copy: {fault.right_copy}" if fault.right_copy else ""
            end = "; ".join(part for part in (end, fault.way_out) if part)
        groups[fault.kind, fault.place, fault.output, end].append(fault.path or f"object {fault.object}")
    for (kind, place, _, end), names in groups.items():
        if report.nothing_here and kind == "missing" and place in ("workspace", "cache"):
            continue  # the last line says so once
        lines.append(f"{kind} in {place}: {_some(names)}{f' ({end})' if end else ''}")
    lines += [f"{place.name} was not checked: {place.not_checked}" for place in report.places if place.not_checked]
    for who in dict.fromkeys(report.written.values()):
        paths = sorted(path for path, writer in report.written.items() if writer == who)
        lines.append(f"not checked in workspace: {_some(paths)}; written at this moment by {who}")
    if report.unmade:
        lines.append(f"not in dvc.lock, so not checked: {_some(report.unmade)}; make them with: dvc repro")
    return "\n".join([*lines, _conclusion(report)]) + "\n"


def _some(names: Sequence[str]) -> str:
    """Return the first few names, without line breaks in them, and the number of the others."""
    shown = ", ".join(name if name.isprintable() else ascii(name) for name in names[:_MOST_NAMES])
    return f"{shown} and {len(names) - _MOST_NAMES:,} more" if names[_MOST_NAMES:] else shown


def _conclusion(report: Report) -> str:
    if not report.faults:
        elsewhere = report.written or any(place.not_checked for place in report.places)
        return "no faults elsewhere" if elsewhere else "no faults"
    left = sum(not fault.repaired for fault in report.faults)
    count = f"{len(report.faults):,} fault{'s' if len(report.faults) > 1 else ''}"
    if left == len(report.faults):
        hint = "; none of the data is here: dvc pull fetches it from a remote, dvc repro makes it"
        return f"{count}{hint if report.nothing_here else ''}"
    replaced = any(fault.place == "workspace" and fault.repaired and fault.kind != "missing" for fault in report.faults)
    aside = f"; replaced files are in {SET_ASIDE}" if replaced else ""
    again = "" if report.data_looked_at else "; the data was not checked: run cocoseg verify again"
    return f"{count}, {f'{left:,} left' if left else 'all repaired'}{aside}{again}"


def _fault_of(note: Path, repository: Repository, *, repaired: bool) -> Fault:
    path = os.path.relpath(note, repository.root)
    return Fault(_NOTES, "corrupt", path, None, None, None, repaired, _NOTE_WAY_OUT)


def _faults(found: Survey) -> list[Fault]:
    right_files = found.right_files()

    def right_copy(object_: str) -> str | None:
        for place in found.stores:
            if place.is_right(object_):
                return place.name
        return found.workspace.name if object_ in right_files or object_ in found.rebuilt else None

    faults = []
    for path, state in found.wrong().items():
        object_, out = found.files[path], found.owners[path]
        copy = right_copy(object_) if out.in_cache else None  # else git has it
        faults.append(Fault(found.workspace.name, state, path, object_, out.path, copy))
    for path in found.extra:
        # A name may be any bytes, and JSON is UTF-8.
        shown = path.encode(errors="surrogateescape").decode(errors="replace")
        faults.append(Fault(found.workspace.name, "extra", shown, None, found.owners[path].path, None))
    for place in found.stores:
        for object_, state in place.wrong().items() if place.not_checked is None else ():
            named = place.named.get(object_)  # for a list, the path of its folder, which has no owner
            output = found.owners[named].path if named in found.owners else named
            faults.append(Fault(place.name, state, named, object_, output, right_copy(object_)))
    return faults


def _nothing_here(found: Survey) -> bool:
    """Return whether workspace and cache have none of the data, as in a new clone."""
    in_cache = any(state != "missing" for state in found.cache.states.values())
    in_workspace = any(state != "missing" and found.owners[path].in_cache for path, state in found.states.items())
    return not (in_cache or in_workspace or found.extra)


def _places(found: Survey) -> list[Place]:
    states = [*found.wrong().values()]
    workspace = Place(
        found.workspace.name,
        len(found.files),
        states.count("missing"),
        states.count("corrupt") + states.count("unreadable"),
        len(found.extra),
    )
    stores = []
    for place in found.stores:
        states = [*place.wrong().values()]
        stores.append(
            Place(
                place.name,
                len(place.named),
                states.count("missing"),
                states.count("corrupt") + states.count("unreadable"),
                len(place.others),
                place.not_checked,
            )
        )
    return [workspace, *stores]


def _way_out(found: Survey, fault: Fault, failed: dict[str, str]) -> str | None:
    if fault.place in failed:
        return f"not repaired: {failed[fault.place]}"
    if fault.kind == "extra":
        return "cocoseg verify --repair sets it aside"
    if fault.right_copy is not None:
        return None
    if fault.kind == "unreadable":
        return "it may be intact: check its permissions and the disk"
    if fault.path is None:
        return "belongs to another commit; a remote may have it"
    out = found.owners.get(fault.path) or next(out for out in found.outputs if out.path == fault.path)
    if not out.in_cache:
        return f"git has it: git checkout -- {out.path}, or dvc repro {out.stage}"
    if out.source == "import":
        return f"no intact copy is left here: dvc pull {out.stage} fetches it from its source"
    if out.source == "user":
        return "no intact copy is left: restore one from a backup; dvc add and dvc commit would accept it as it is"
    if out.stage == _TRAIN:
        return (
            "no intact copy is here or on the remote: first run cocoseg verify --repair in the clone where it was "
            "made; dvc repro --force train trains another model"
        )
    return f"no intact copy is left: dvc repro --force {out.stage} makes it again"
