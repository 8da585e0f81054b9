"""What a test does on a machine that lacks what it needs."""

import os
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """Skip by this name; fail where every test has to run, as `.ci/run` says."""
    if os.environ.get("COCOSEG_TESTS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)
