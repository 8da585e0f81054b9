"""The folder that a command writes into, named by the user."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cocoseg.core.errors import CocosegError
from cocoseg.core.work_tree import is_locked


@contextmanager
def prepared_folder(out: Path) -> Iterator[None]:
    """Make the folder before anything slow starts, hold it alone, and remove it again if it stays empty.

    Raises `CocosegError` if it cannot be written, or if another command is writing there.
    """
    made: list[Path] = []
    lock = None
    try:
        try:
            made += [folder for folder in (out, *out.parents) if not folder.exists()]
            out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=out):
                pass
            lock = os.open(out, os.O_RDONLY)
        except OSError as error:
            raise unwritable(out, error) from None
        if not is_locked(lock):
            raise CocosegError(
                f"{out}: another cocoseg command is writing there; wait until it ends, or choose another folder"
            )
        yield
    finally:
        if lock is not None:
            os.close(lock)
        with suppress(OSError):  # it is not empty
            for folder in made:
                folder.rmdir()


def unwritable(out: Path, error: OSError) -> CocosegError:
    """Return the error for a folder that cannot be written."""
    return CocosegError(f"{out}: cannot be written ({error.strerror}); expected a writable folder after --out")
