"""The folder that a command writes into, named by the user."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cocoseg.core.errors import CocosegError


@contextmanager
def prepared_folder(out: Path) -> Iterator[None]:
    """Make the folder before anything slow starts, and remove it again if it stays empty.

    Raises `CocosegError` if it cannot be written.
    """
    made: list[Path] = []
    try:
        try:
            made += [folder for folder in (out, *out.parents) if not folder.exists()]
            out.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=out):
                pass
        except OSError as error:
            raise unwritable(out, error) from None
        yield
    finally:
        with suppress(OSError):  # it is not empty
            for folder in made:
                folder.rmdir()


def unwritable(out: Path, error: OSError) -> CocosegError:
    """Return the error for a folder that cannot be written."""
    return CocosegError(f"{out}: cannot be written ({error.strerror}); expected a writable folder after --out")
