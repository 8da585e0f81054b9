"""Folders of the user's that outlive a run: what they name outside DVC, and the cache.

The cache is shared by all runs. It is a cache only: deleting it loses time, never a result.
"""

import os
from pathlib import Path

import platformdirs

from cocoseg.core.errors import CocosegError


def kept_folder(named: str) -> Path:
    """Return the folder that the user named, absolute. A relative one starts at the root of the user's clone.

    DVC runs `--temp` and queued experiments in a folder of their own below the clone's `.dvc/tmp`, which it deletes
    with all that it does not track. In each stage `DVC_ROOT` is the clone's root.
    """
    here, clone = Path.cwd(), Path(os.environ.get("DVC_ROOT", "")).absolute()
    return (clone if here.is_relative_to((clone / ".dvc/tmp").resolve()) else here) / Path(named).expanduser()


def cache_folder() -> Path:
    """Return the cache folder, `COCOSEG_CACHE` or one in the user's cache, and create it if it is missing."""
    asked = os.environ.get("COCOSEG_CACHE")
    folder = kept_folder(asked) if asked else Path(platformdirs.user_cache_dir("cocoseg", False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CocosegError(
            f"{folder}: {error.strerror}; expected a folder for the cache; choose another with COCOSEG_CACHE"
        ) from None
    return folder
