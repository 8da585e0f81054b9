"""A folder that a user names for what a command writes."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cocoseg.core.errors import CocosegError


@contextmanager
def prepared_folder(out: Path) -> Iterator[None]:
    """Make the folder, before anything slow; if nothing comes into it, it goes again.

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
        with suppress(OSError):  # the first that is not empty
            for folder in made:
                folder.rmdir()


def unwritable(out: Path, error: OSError) -> CocosegError:
    """The line for a folder that cannot be written, or no longer."""
    return CocosegError(f"{out}: cannot be written ({error.strerror}); expected a folder of yours after --out")
