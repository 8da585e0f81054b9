"""Whether the results of a run are its own: where `dvc repro` was forgotten or stopped, they are those of another."""

import hashlib
from pathlib import Path

from ruamel.yaml.error import YAMLError

from cocoseg.commands.compare.history import files_changed_since_lock, python_files_below
from cocoseg.commands.compare.runs import params_of, stages_of_results
from cocoseg.commands.dvc_adapter import folder_list
from cocoseg.commands.lock_yaml import loaded
from cocoseg.commands.revisions import CODE, PARAMS, Revision, read_blobs
from cocoseg.core.errors import CocosegError


def changed_since_results(revision: Revision) -> list[str]:
    """Return remarks on parameters and code that have changed since the results of a run were made."""
    said = []
    if names := _params_since(revision):
        have, values = ("have", "values") if len(names) > 1 else ("has", "value")
        listed = " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])
        said.append(
            f"{listed} in params.yaml {have} changed since this run of {revision.name}; its scores are of the old "
            f"{values}; dvc repro updates them"
        )
    if names := _code_since(revision):
        listed = ", ".join(names)
        said.append(f"code has changed since these results of {revision.name} ({listed}); dvc repro updates them")
    return said


def _params_since(revision: Revision) -> list[str]:
    """Return the parameters of a run's `params.yaml` that differ from those of its results."""
    try:
        here = loaded(revision.tracked(PARAMS).decode())
    except (CocosegError, OSError, YAMLError, ValueError, RecursionError):
        return []  # the next dvc repro says what is wrong
    made_with = {
        key: value for entry in stages_of_results(revision).values() for key, value in params_of(entry).items()
    }
    return sorted(key for key, value in made_with.items() if isinstance(here, dict) and here.get(key, value) != value)


def _code_since(revision: Revision) -> list[str]:
    """Return the code that `dvc.lock` names with another hash. Only what git shows as changed is hashed."""
    locked = {dep.path: dep.md5 for stage in stages_of_results(revision).values() for dep in stage.deps}
    code = {path: md5 for path, md5 in locked.items() if md5 and path.split("/")[0] in CODE}
    changed = files_changed_since_lock(revision, [*code])
    touched = [path for path in code if any(f"{name}/".startswith(f"{path.rstrip('/')}/") for name in changed)]
    hashes = {path: _md5_of_code(revision, path, code[path].endswith(".dir")) for path in touched}
    return sorted(path for path, md5 in hashes.items() if md5 not in (None, code[path]))


def _md5_of_code(revision: Revision, path: str, is_folder: bool) -> str | None:
    """Return the hash of a file or folder of code as DVC would note it; `None` for a folder of unknown files."""
    names = python_files_below(revision, path) if is_folder else [path]
    if names is None:
        return None
    if revision.commit is None:
        contents = [Path(name).read_bytes() if Path(name).is_file() else None for name in names]
    else:
        contents = list(read_blobs(f"{revision.commit}:{name}" for name in names))
    hashes = [hashlib.md5(content or b"", usedforsecurity=False).hexdigest() for content in contents]
    if not is_folder:
        return hashes[0]
    inside = (name.removeprefix(f"{path.rstrip('/')}/") for name in names)
    listed = folder_list(dict(zip(inside, hashes, strict=True)))
    return f"{hashlib.md5(listed, usedforsecurity=False).hexdigest()}.dir"
