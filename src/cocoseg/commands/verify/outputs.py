"""What `dvc.lock` says of the outputs of this folder: where they are, and under which names DVC keeps their content."""

import re
from typing import Annotated

import msgspec

from cocoseg.commands.dvc_adapter import Output, Repository
from cocoseg.core.errors import CocosegError

_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")


class _Listed(msgspec.Struct):
    md5: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    relpath: str


def locked_outputs(repository: Repository, remote: str | None = None) -> list[Output]:
    """The outputs of DVC's `repository` that have been made. `remote` is asked in place of the default one for those
    that name none of their own.
    """
    outputs = repository.outputs(remote)
    for out in outputs:
        if out.hash_name != "md5":
            raise CocosegError(
                f"{out.path}: kept under {out.hash_name}, expected md5; run dvc cache migrate --dvc-files"
            )
        if not _OBJECT.fullmatch(out.object):
            raise CocosegError(
                f"dvc.lock: {out.path} is kept under {out.object[:40]!r}; expected 32 hexadecimal digits; "
                "bring back the last good one with: git checkout -- dvc.lock"
            )
    return outputs


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
