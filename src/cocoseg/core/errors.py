"""The exceptions, and helpers that word their messages.

CocosegError             a mistake that the user can fix; one line on the terminal
├── InUseError           another stage holds the work tree (core/work_tree.py)
├── TransferError        a file could not be fetched, but a later attempt may succeed (download/remote/source.py)
├── AbsentError          the server has no such file, or denies access to it
├── TooLargeError        a file is larger than any file of its kind can be
└── RedirectError        a server redirects to an address that is not followed (download/remote/http.py)

Exception
├── ImageDefect          why an image file cannot be used; counted (images/headers.py)
└── SegmentationDefect   why an annotation paints nothing; counted (mask/segmentation.py)
"""

import difflib
import re
from collections.abc import Iterable


class CocosegError(Exception):
    """A mistake that the user can fix: one line with the place, what was found, what is allowed, and the fix."""


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return "did you mean …?" with the closest of the `known` names, or `otherwise` if none is close."""
    as_written = {other.lower(): other for other in known}
    near = difflib.get_close_matches(name.lower(), list(as_written), n=1)
    return f"did you mean {as_written[near[0]]}?" if near else otherwise


def counted(count: int, noun: str, plural: str = "") -> str:
    """Return a number of things in words: "1 pair", "1,200 pairs"."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error message, or the name of its type if it has no message."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def missing_extra(error: BaseException) -> str | None:
    """Return the message for a module that is not installed but belongs to an extra of this package, else None."""
    from importlib.metadata import requires  # here: stages start faster without it

    if isinstance(error, ModuleNotFoundError) and error.name:
        distribution = re.escape(error.name).replace("_", "[-_]")
        for requirement in requires("cocoseg") or ():
            if found := re.match(rf"{distribution}(?![-\w]).*extra == '([^']+)'", requirement):
                extra = found[1]
                return (
                    f"{error.name} is not installed; it comes with the extra '{extra}': "
                    f"pip install 'cocoseg[{extra}]', or in a clone: uv sync --inexact --no-dev --extra {extra}"
                )
    return None
