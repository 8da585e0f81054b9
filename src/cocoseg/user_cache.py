"""The user's cache: what outlives a kill and serves every run.

It is a cache only: deleting it loses time, never a result.
"""

import os
from pathlib import Path

import platformdirs

from cocoseg.core.errors import CocosegError


def cache_folder() -> Path:
    """The cache, made if it is not there: the user's cache folder, or what `COCOSEG_CACHE` says."""
    asked = os.environ.get("COCOSEG_CACHE")
    folder = Path(asked).expanduser().absolute() if asked else Path(platformdirs.user_cache_dir("cocoseg", False))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CocosegError(
            f"{folder}: {error.strerror}; expected a folder for downloads; name another one with COCOSEG_CACHE"
        ) from None
    return folder
