"""What all tests of training share."""

import pytest


@pytest.fixture(autouse=True)
def no_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a cache use the last tenth of a disk, so that no test depends on how full that of this machine is."""
    monkeypatch.setattr("cocoseg.train.sample_cache.DISK_RESERVE", 0.0)
