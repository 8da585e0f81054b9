"""The quick reader of `dvc.lock` against the slow one."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from cocoseg.commands.lock_yaml import loaded
from cocoseg.commands.revisions import stages_of_lock
from cocoseg.core.errors import CocosegError

ROOT = Path(__file__).parents[2]
VALUES = [
    "1e-5", "1e-05", "0.1", "1", "-3", "5.", ".5", "no", "on", "yes", "true", "False", "null", "~", "'1'", '"a\\n"',
    ".inf", "1:30", "[1, a]", "{a: 1}", "0", "+1.0", "[]",
]  # fmt: skip


def slowly(text: str) -> object:
    return YAML(typ="safe", pure=True).load(text)


def test_this_repositorys_own_lock_is_read_the_same() -> None:
    text = (ROOT / "dvc.lock").read_text()
    assert repr(loaded(text)) == repr(slowly(text))


@pytest.mark.parametrize("value", VALUES)
def test_a_value_has_the_type_of_yaml_1_2(value: str) -> None:
    text = f"a: {value}\nb:\n- {value}\nc:\n"
    assert repr(loaded(text)) == repr(slowly(text))


@pytest.mark.parametrize(
    "text",
    ["stages:\n  a: 1\n  a: 2\n", "stages: *nowhere", "stages: [1", "a: b: c", "stages: " + "[" * 100_000,
     "stages:\n" + "- " * 100_000, "stages:\n" + "? " * 100_000, "stages: " + "{a: " * 100_000],
)  # fmt: skip
def test_what_is_not_valid_or_deeper_than_a_lock_ends_in_an_error_and_not_the_process(text: str) -> None:
    with pytest.raises((ValueError, RecursionError, YAMLError)):
        loaded(text)
    with pytest.raises(CocosegError, match=re.escape("main: dvc.lock: not a valid lock file")):
        stages_of_lock(text.encode(), "main: dvc.lock")
