"""Skip a test, or fail it, on a machine that lacks what it needs."""

import os
from typing import NoReturn

import pytest


def lacking(reason: str) -> NoReturn:
    """Skip the test for `reason`; fail it if every test must run, as in `.ci/run`."""
    if os.environ.get("COCOSEG_TESTS") == "required":
        pytest.fail(reason)
    pytest.skip(reason)
