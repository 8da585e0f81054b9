"""Fixtures for the tests of faults."""

import pytest
from faults.undisturbed import Undisturbed


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Return the states of an undisturbed run; skip if runs cannot be disturbed here."""
    return Undisturbed(tmp_path_factory.mktemp("faults"))
