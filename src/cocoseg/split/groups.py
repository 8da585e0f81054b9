"""Find which images belong together, such as those of one patient, video or site: they stay on one side."""

import csv
import io
import itertools
import re
import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from cocoseg.coco.file_names import same_name
from cocoseg.core.errors import CocosegError, counted
from cocoseg.core.files import read_regular
from cocoseg.split.params import SplitParams

PLACEHOLDER = "data/custom/groups.csv"
"""As it comes, it has a header and no lines, which means: no groups. Whether it is there, DVC checks."""
_EXPECTED = "expected a CSV file with the columns file_name and group"
_MOST_BYTES = 2**31  # forty million lines
_PATIENCE_S = 2.0  # of computing, for one file name; a sane expression takes microseconds


class Groups(msgspec.Struct, frozen=True, kw_only=True):
    """The groups of images. With none, nothing was asked."""

    of_image: dict[int, str] = {}
    """The group of each image that is in one, by id."""
    alone: int = 0
    """Images that are in none, each of which goes its own way."""
    unknown: int = 0
    """Names in the file that are no image here."""

    def unit(self, image_id: int) -> int | str:
        """Return what an image stays on one side with: its group, or only itself."""
        return self.of_image.get(image_id, image_id)

    def members(self) -> dict[str, list[int]]:
        """Return the image ids of each group, in ascending order."""
        members: dict[str, list[int]] = defaultdict(list)
        for image_id in sorted(self.of_image):
            members[self.of_image[image_id]].append(image_id)
        return dict(members)

    def pairs(self) -> Iterator[tuple[int, int]]:
        """Yield pairs of images of one group, which form a chain over all that it has."""
        return itertools.chain.from_iterable(map(itertools.pairwise, self.members().values()))


def find_groups(names: Mapping[int, str], params: SplitParams) -> Groups:
    """Return the groups of images, given their file names by id, as `group_pattern` or the file `groups` says.

    Raises `CocosegError` if both say something, or if no image is in a group.
    """
    listed = read_groups(params.groups)
    if params.group_pattern is None:
        return _by_list(names, listed, params.groups) if listed else Groups()
    if listed:
        raise CocosegError(f"params.yaml: group_pattern is set, and {params.groups} names groups; expected one of them")
    found = _by_pattern(names, params.group_pattern)
    if names and not found:
        raise CocosegError(
            f"params.yaml: group_pattern is {params.group_pattern!r}, which finds a group in none of "
            f"{counted(len(names), 'file name')}, such as {min(names.values())!r}"
        )
    return Groups(of_image=found, alone=len(names) - len(found))


def read_groups(place: str) -> dict[str, str]:
    """Return the group of each file that a CSV file names, both as they are written there.

    Commas, semicolons and tabs separate columns; others than the two may stand there. A line without a group does not
    count. Raises `CocosegError` for a file that is no such table, has no lines, or gives two groups
    to one file.
    """
    if place == PLACEHOLDER and not Path(place).exists():
        return {}
    try:
        text = read_regular(Path(place), _MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise CocosegError(f"{place}: {error.strerror}; {_EXPECTED}, or groups: {PLACEHOLDER}") from None
    except UnicodeDecodeError:
        raise CocosegError(f"{place}: not UTF-8 text; save it as CSV UTF-8") from None
    head = text.partition("\n")[0]
    separator = max(",;\t", key=head.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    groups: dict[str, str] = {}
    try:
        columns = [name.strip() for name in rows.fieldnames or []]
        if columns.count("file_name") != 1 or columns.count("group") != 1:
            raise CocosegError(f"{place}: has the columns {', '.join(columns) or 'of an empty file'}; {_EXPECTED}")
        rows.fieldnames = columns
        for row in rows:
            name, group = (str(row[column] or "").strip() for column in ("file_name", "group"))
            if group and groups.setdefault(name, group) != group:
                raise CocosegError(
                    f"{place}:{rows.line_num}: {name} is in the group {group}, and before in {groups[name]}; "
                    "expected one"
                )
    except csv.Error as error:
        raise CocosegError(f"{place}:{rows.line_num}: {error}; {_EXPECTED}") from None
    if not groups and place != PLACEHOLDER:
        raise CocosegError(f"{place}: names no group; {_EXPECTED}, or groups: {PLACEHOLDER}")
    return groups


def _by_list(names: Mapping[int, str], listed: Mapping[str, str], place: str) -> Groups:
    known: dict[str, tuple[str, str]] = {}
    for name, group in listed.items():
        key = same_name(name.replace("\\", "/").removeprefix("./"))
        if known.setdefault(key, (name, group))[1] != group:
            raise CocosegError(f"{place}: {name} and {known[key][0]} are one file in two groups; expected one")
    found = {image_id: known[key][1] for image_id, name in names.items() if (key := same_name(name)) in known}
    if names and not found:
        raise CocosegError(
            f"{place}: none of its {counted(len(known), 'name')}, such as {min(listed)!r}, is an image; those have "
            f"names such as {min(names.values())!r}"
        )
    return Groups(of_image=found, alone=len(names) - len(found), unknown=len(known) - len(found))


def _by_pattern(names: Mapping[int, str], pattern: str) -> dict[int, str]:
    expression = re.compile(pattern)
    found = {}
    for image_id, name in names.items():
        with _time_limit(pattern, name):
            match = expression.search(name)
        if match is not None and (group := match[1 if expression.groups else 0]):
            found[image_id] = group
    return found


@contextmanager
def _time_limit(pattern: str, name: str) -> Iterator[None]:
    """Raise `CocosegError` if the block computes for more than `_PATIENCE_S`, whatever else the machine does."""

    def stop(*_: Any) -> None:
        raise CocosegError(
            f"params.yaml: group_pattern is {pattern!r}, which takes more than {_PATIENCE_S:g} s on {name!r}; expected "
            "an expression without a repetition inside a repetition, such as (a+)+"
        )

    if not hasattr(signal, "setitimer"):  # Windows, where DVC cannot start the stages either
        yield
        return
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, _PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
