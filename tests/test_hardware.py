import os
from pathlib import Path

import pytest

from cocoseg.core.errors import CocosegError
from cocoseg.train.devices import deterministic, device_count, full_precision, node_count
from cocoseg.train.memory import free_memory_bytes
from cocoseg.workers import worker_count

VARIABLES = ("COCOSEG_WORKERS", "COCOSEG_DEVICES", "COCOSEG_NODES", "COCOSEG_PRECISION", "COCOSEG_DETERMINISTIC")


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


def test_unasked_it_takes_what_is_there() -> None:
    assert 1 <= worker_count() <= (os.cpu_count() or 1)
    assert (device_count(), node_count(), full_precision(), deterministic()) == ("auto", 1, False, False)


def test_asked_it_takes_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in zip(VARIABLES, ("3", "2", "4", "32", "1"), strict=True):
        monkeypatch.setenv(variable, value)
    assert (worker_count(), device_count(), node_count()) == (3, 2, 4)
    assert (full_precision(), deterministic()) == (True, True)


@pytest.mark.parametrize("value", ["00", "-1", "two", "", "1.5"])
@pytest.mark.parametrize(
    ("variable", "ask"),
    list(zip(VARIABLES, (worker_count, device_count, node_count, full_precision, deterministic), strict=True)),
)
def test_anything_else_is_one_line(monkeypatch: pytest.MonkeyPatch, variable: str, ask: object, value: str) -> None:
    monkeypatch.setenv(variable, value)
    assert callable(ask)
    with pytest.raises(CocosegError, match=f"^{variable} is '{value}'; expected"):
        ask()


def test_free_memory_is_some_and_not_absurd() -> None:
    assert 2**20 < free_memory_bytes() < 2**50


def test_a_container_has_what_it_may_take_less_what_it_uses_but_for_cached_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cocoseg.train.memory._CGROUP_MEMORY", ((tmp_path, "max", "current", "inactive_file"),))
    unlimited = free_memory_bytes()
    for name, text in (("max", "1000\n"), ("current", "900\n"), ("memory.stat", "anon 500\ninactive_file 300\n")):
        (tmp_path / name).write_text(text)
    assert free_memory_bytes() == 400
    (tmp_path / "max").write_text("max\n")
    assert free_memory_bytes() == pytest.approx(unlimited, rel=0.2)
