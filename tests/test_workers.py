"""How many things to do at once."""

import os

import pytest

from cocoseg.errors import CocosegError
from cocoseg.workers import counted_in, worker_count


def test_workers_are_as_many_as_asked_for_or_as_there_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOSEG_WORKERS", "3")
    assert worker_count() == 3
    monkeypatch.delenv("COCOSEG_WORKERS")
    assert 1 <= worker_count() <= (os.cpu_count() or 1)


@pytest.mark.parametrize("asked", ["0", "-1", "two", "", "1.5"])
def test_a_count_that_is_none_is_one_line(asked: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOSEG_WORKERS", asked)
    with pytest.raises(CocosegError, match=f"COCOSEG_WORKERS is '{asked}'; expected a whole number of at least 1"):
        counted_in("COCOSEG_WORKERS")
