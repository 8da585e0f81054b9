"""The user's cache folder: files that survive a kill and are shared by all runs.

It is a cache only: deleting it loses time, never a result.
"""

import os
from pathlib import Path

import platformdirs

from cocoseg.core.errors import CocosegError


def cache_folder() -> Path:
    """Return the cache folder, `COCOSEG_CACHE` or one in the user's cache, and create it if it is missing."""
    asked = os.environ.get("COCOSEG_CACHE")
    folder = Path(asked).expanduser().absolute() if asked else Path(platformdirs.user_cache_dir("cocoseg", False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CocosegError(
            f"{folder}: {error.strerror}; expected a folder for the cache; choose another with COCOSEG_CACHE"
        ) from None
    return folder
