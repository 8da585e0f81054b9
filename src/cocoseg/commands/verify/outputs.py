"""What `dvc.lock` says of the outputs of this folder: where they are, and under which names DVC keeps their content."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, NamedTuple

import msgspec

from cocoseg.core.errors import CocosegError

_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")


class Output(NamedTuple):
    """A file or folder that a stage writes, or that a `.dvc` file names."""

    path: str  # from the root of the repository
    object: str  # its MD5; with `.dir` behind it, that of the list of a folder's files
    stage: str
    in_cache: bool  # else git has it
    remote: str | None  # the one that is meant to have it
    entry: Any  # DVC's own record

    @property
    def is_folder(self) -> bool:
        """Whether its object is a list of files."""
        return self.object.endswith(".dir")


class _Listed(msgspec.Struct):
    md5: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    relpath: str


def locked_outputs(repository: Any, remote: str | None = None) -> list[Output]:
    """The outputs of DVC's `repository` that have been made. `remote` is asked in place of the default one for those
    that name none of their own.
    """
    default = repository.config["core"].get("remote")
    outputs = []
    for stage in repository.index.stages:
        for out in stage.outs:
            if not out.hash_info or not out.is_in_repo:
                continue
            path = repository.fs.relpath(out.fs_path, repository.root_dir)
            if out.hash_name != "md5":
                raise CocosegError(
                    f"{path}: kept under {out.hash_name}, expected md5; run dvc cache migrate --dvc-files"
                )
            # `dvc push` chooses so too: what is imported from a repository lies there.
            pushed = out.use_cache and out.can_push and not stage.is_repo_import
            asked = (out.remote or remote or default) if pushed else None
            if not _OBJECT.fullmatch(out.hash_info.value):
                raise CocosegError(
                    f"dvc.lock: {path} is kept under {out.hash_info.value[:40]!r}; expected 32 hexadecimal digits; "
                    "bring back the last good one with: git checkout -- dvc.lock"
                )
            outputs.append(Output(path, out.hash_info.value, stage.addressing, bool(out.use_cache), asked, out))
    return outputs


def unmade_outputs(repository: Any) -> list[str]:
    """The outputs of which `dvc.lock` says nothing: not made yet, or no longer in a lock that lost its end."""
    outs = (out for stage in repository.index.stages for out in stage.outs if out.is_in_repo and not out.hash_info)
    return sorted(repository.fs.relpath(out.fs_path, repository.root_dir) for out in outs)


def listed_files(content: bytes, output: Output) -> dict[str, str]:
    """The files of a folder, name → MD5, from the list that DVC keeps of it."""
    try:
        entries = msgspec.json.decode(content, type=list[_Listed])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CocosegError(f"{output.path}: {output.object} is no list of files: {error}") from None
    for entry in entries:
        parts = entry.relpath.split("/")
        climbs = ".." in re.split(r"[/\\]", entry.relpath)
        if climbs or not set(parts).isdisjoint({"", "."}) or "\0" in entry.relpath:
            raise CocosegError(f"{output.path}: {output.object} names {entry.relpath!r}, outside of the folder")
    return {entry.relpath: entry.md5 for entry in entries}


def list_of(files: Mapping[str, str]) -> bytes:
    """The list that DVC keeps of a folder with these files, name → MD5."""
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.tree import Tree

    tree: Any = Tree()  # type: ignore[no-untyped-call]
    for name, md5 in files.items():
        tree.add(tuple(name.split("/")), None, HashInfo("md5", md5))
    content: bytes = tree.as_bytes()
    return content
