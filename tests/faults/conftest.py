"""What the tests of faults begin with."""

import pytest
from faults.undisturbed import Undisturbed


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The states of a run that nothing disturbs; skipped where nothing can be disturbed."""
    return Undisturbed(tmp_path_factory.mktemp("faults"))
