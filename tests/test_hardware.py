import os

import pytest

from cocoseg.errors import CocosegError
from cocoseg.hardware import device_count, free_memory_bytes, full_precision, node_count
from cocoseg.workers import worker_count

VARIABLES = ("COCOSEG_WORKERS", "COCOSEG_DEVICES", "COCOSEG_NODES", "COCOSEG_PRECISION")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_unasked_it_takes_what_is_there() -> None:
    assert 1 <= worker_count() <= (os.cpu_count() or 1)
    assert (device_count(), node_count(), full_precision()) == ("auto", 1, False)


def test_asked_it_takes_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in zip(VARIABLES, ("3", "2", "4", "32"), strict=True):
        monkeypatch.setenv(variable, value)
    assert (worker_count(), device_count(), node_count(), full_precision()) == (3, 2, 4, True)


@pytest.mark.parametrize("value", ["0", "-1", "two", "", "1.5"])
@pytest.mark.parametrize(
    ("variable", "ask"),
    list(zip(VARIABLES, (worker_count, device_count, node_count, full_precision), strict=True)),
)
def test_anything_else_is_one_line(monkeypatch: pytest.MonkeyPatch, variable: str, ask: object, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert callable(ask)
    with pytest.raises(CocosegError, match=f"^{variable} is '{value}'; expected"):
        ask()


def test_free_memory_is_some_and_not_absurd() -> None:
    assert 2**20 < free_memory_bytes() < 2**50
