"""The outputs that `dvc.lock` names, and the files of each folder among them."""

import re
from typing import Annotated

import msgspec

from cocoseg.commands.dvc_adapter import Output, Repository
from cocoseg.core.errors import CocosegError

_OBJECT = re.compile(r"[0-9a-f]{32}(\.dir)?")
# A folder or file named "..", also between backslashes, or "." or nothing; a character that no name has.
_OUTSIDE = re.compile(r"(^|[/\\])\.\.([/\\]|\Z)|(^|/)\.?(/|\Z)|\0")


class _Listed(msgspec.Struct):
    md5: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$")]
    relpath: str


def locked_outputs(repository: Repository, remote: str | None = None) -> list[Output]:
    """Return the outputs that have been made; raise `CocosegError` for a hash that is not a valid MD5.

    `remote` stands for the default one.
    """
    outputs = repository.outputs(remote)
    for out in outputs:
        if out.hash_name != "md5":
            raise CocosegError(
                f"{out.path}: hashed with {out.hash_name}; expected md5; run dvc cache migrate --dvc-files"
            )
        if not _OBJECT.fullmatch(out.object):
            raise CocosegError(
                f"dvc.lock: the hash of {out.path} is {out.object[:40]!r}; expected 32 hexadecimal digits; "
                "restore the last good one with: git checkout -- dvc.lock"
            )
    return outputs


def listed_files(content: bytes, output: Output) -> dict[str, str]:
    """Return the files of a folder, name → MD5, from the list that DVC keeps of it."""
    try:
        entries = msgspec.json.decode(content, type=list[_Listed])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CocosegError(f"{output.path}: {output.object} is not a valid list of files: {error}") from None
    for entry in entries:
        if _OUTSIDE.search(entry.relpath):
            raise CocosegError(f"{output.path}: {output.object} names {entry.relpath!r}, outside the folder")
    return {entry.relpath: entry.md5 for entry in entries}
