"""A folder that a user names for what a command writes."""

import tempfile
from pathlib import Path

from cocoseg.errors import CocosegError


def prepared_folder(out: Path) -> None:
    """Make the folder, before anything slow; `CocosegError` if it cannot be written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out):
            pass
    except OSError as error:
        raise unwritable(out, error) from None


def unwritable(out: Path, error: OSError) -> CocosegError:
    """The line for a folder that cannot be written, or no longer."""
    return CocosegError(f"{out}: cannot be written ({error.strerror}); expected a folder of yours after --out")
