"""The list of a folder's files names files of that folder only."""

import json

import pytest

from cocoseg.commands.dvc_adapter import Output
from cocoseg.commands.verify.outputs import listed_files
from cocoseg.core.errors import CocosegError

MD5 = "0" * 32
FOLDER = Output("masks", f"{MD5}.dir", "mask", in_cache=True, remote=None)


def listed(name: str) -> bytes:
    return json.dumps([{"md5": MD5, "relpath": name}]).encode()


@pytest.mark.parametrize("name", ["a.png", "a/b.png", "..a", "a..", "a/..b", "a/...", ".a", "a.", "a\\b", "..\n", "ä"])
def test_a_file_of_the_folder_may_have_any_name(name: str) -> None:
    assert listed_files(listed(name), FOLDER) == {name: MD5}


@pytest.mark.parametrize(
    "name",
    ["..", "../a", "a/../b", "a/..", "a\\..\\b", "a\\..", "..\\a", "", ".", "./a", "a/.", "/a", "a//b", "a/", "a\0"],
)
def test_what_may_lie_outside_is_refused(name: str) -> None:
    with pytest.raises(CocosegError, match="outside the folder"):
        listed_files(listed(name), FOLDER)
