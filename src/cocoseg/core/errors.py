"""What goes wrong outside the code, and how it is said.

CocosegError             what a user can fix; each is one line on the terminal
├── TransferError        a file could not be fetched, and may be there the next time (download/remote/source.py)
├── AbsentError          the server has no such file, or does not give it to us
├── TooLargeError        a file has more bytes than such a file can have
└── RedirectError        a server sends us on to where we do not go (download/remote/http.py)

Exception
├── ImageDefect          why an image file cannot be used; counted (images/headers.py)
└── SegmentationDefect   why an annotation paints nothing; counted (mask/segmentation.py)
"""

import difflib
import re
from collections.abc import Iterable


class CocosegError(Exception):
    """A mistake outside the code: one line with the place, what was found, what is allowed, and the way out."""


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """Return "did you mean …?" with the nearest of the `known` names, or `otherwise` if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {near[0]}?" if near else otherwise


def first_line(error: BaseException) -> str:
    """Return the first line that an error of a library says, or its type's name if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def missing_extra(error: BaseException) -> str | None:
    """Return the line on a module that is not installed but would come with an extra of this package, else None."""
    from importlib.metadata import requires  # here: stages start faster without it

    if isinstance(error, ModuleNotFoundError) and error.name:
        distribution = re.escape(error.name).replace("_", "[-_]")
        for requirement in requires("cocoseg") or ():
            if found := re.match(rf"{distribution}(?![-\w]).*extra == '([^']+)'", requirement):
                extra = found[1]
                return (
                    f"{error.name} is not installed; expected the extra {extra}: pip install 'cocoseg[{extra}]', or "
                    f"uv sync --extra {extra} in a clone"
                )
    return None
