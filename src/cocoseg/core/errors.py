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
import sys
from collections.abc import Iterable
from importlib.util import find_spec


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


_NO_MEMORY = re.compile("failed to map segment|annot allocate memory|bad_alloc|Unable to allocate|Insufficient memory")


def explained(error: BaseException) -> str | None:
    """Return the message for an error of the machine, or of how this process was started; `None` for any other."""
    said = f"({first_line(error)})"
    if isinstance(error, ModuleNotFoundError) and error.name and not _is_there(error.name.partition(".")[0]):
        return missing_extra(error) or (
            f"{error.name} is not installed for {sys.executable}; if that is the wrong Python, put the right one first "
            "on PATH, as source .venv/bin/activate or uv run does"
        )
    of_system = isinstance(error, OSError | ImportError | RuntimeError) or type(error).__module__ == "cv2"
    if isinstance(error, MemoryError) or (of_system and _NO_MEMORY.search(str(error))):
        return f"not enough memory {said}; allow more: ulimit -v, or the limit of the container or job"
    if "can't start new thread" in said:
        return f"no more threads are allowed {said}; allow more: ulimit -u, ulimit -v, or the container's limit of pids"
    if isinstance(error, RuntimeError) and "home directory" in said:
        return f"this user has no home folder {said}; name one that can be written in HOME"
    if isinstance(error, UnicodeEncodeError) and sys.getfilesystemencoding() != "utf-8":
        return f"the locale is not UTF-8 {said}; unset PYTHONUTF8, and set LC_ALL=C.UTF-8"
    if isinstance(error, Warning):
        return f"PYTHONWARNINGS or -W makes warnings of libraries errors {said}; unset it"
    return None


def _is_there(package: str) -> bool:
    """Return whether a package is installed: then a module of it that is missing is a fault, and not another Python."""
    return find_spec(package) is not None


def missing_extra(error: BaseException) -> str | None:
    """Return the message for a module that is not installed but belongs to an extra of this package, else None."""
    from importlib.metadata import distributions  # here: stages start faster without it

    if isinstance(error, ModuleNotFoundError) and error.name:
        distribution = re.escape(error.name).replace("_", "[-_]")
        ours = next(iter(distributions(name="cocoseg")), None)  # none: of another Python
        for requirement in (ours and ours.requires) or ():
            if found := re.match(rf"{distribution}(?![-\w]).*extra == '([^']+)'", requirement):
                extra = found[1]
                return (
                    f"{error.name} is not installed; it comes with the extra '{extra}': "
                    f"pip install 'cocoseg[{extra}]', or in a clone: uv sync --inexact --no-dev --extra {extra}"
                )
    return None
