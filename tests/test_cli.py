"""The command `cocoseg`, as a user types it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cocoseg.cli import main

ROOT = Path(__file__).parents[1]


def run(*command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_the_command_and_the_module_say_the_same() -> None:
    script = Path(sys.executable).parent / "cocoseg"
    by_name, by_module = run(str(script), "--help"), run(sys.executable, "-m", "cocoseg", "--help")
    assert by_name.returncode == 0
    assert by_name.stdout == by_module.stdout


@pytest.mark.parametrize("command", ["compare", "rank", "evaluate", "predict", "export", "verify", "sweep"])
def test_every_command_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert f"examples:\n  cocoseg {command} " in capsys.readouterr().out


@pytest.mark.parametrize("command", ["", "compare", "rank", "evaluate", "predict", "export", "verify", "sweep"])
def test_help_fits_into_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    assert [line for line in capsys.readouterr().out.splitlines() if len(line) >= 80] == []


@pytest.mark.parametrize("columns", [60, 120])
@pytest.mark.parametrize("command", ["compare", "rank", "evaluate", "predict", "export", "verify", "sweep"])
def test_the_prose_of_help_wraps_at_the_width_of_the_terminal(
    command: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        main([command, "--help"])
    description, examples = capsys.readouterr().out.split("\n\n", 1)[1].split("examples:")
    lines = [len(line) for line in description.splitlines()]
    assert columns * 0.7 < max(lines) < columns
    assert f"  cocoseg {command} " in examples.splitlines()[1]


def test_help_imports_neither_torch_nor_dvc_nor_numpy() -> None:
    asked = "import sys; from cocoseg.cli import _parser; _parser(); print(*sys.modules)"
    loaded = set(run(sys.executable, "-c", asked).stdout.split())
    assert "cocoseg.cli" in loaded
    assert not loaded & {"torch", "dvc", "numpy", "cv2", "scipy"}


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        ("None", 0, "done\nclosed by a library\n"),
        ("3", 3, "done\nclosed by a library\n"),
        ("'a line'", 1, "done\nclosed by a library\ntaken apart\n"),
    ],
)
def test_a_command_that_is_through_ends_at_once_but_for_what_libraries_close(end: str, status: int, said: str) -> None:
    command = f"lambda options: (atexit.register(print, 'closed by a library'), print('done'), sys.exit({end}))"
    script = (
        "import atexit, sys; atexit.register(print, 'taken apart'); import cocoseg.cli as cli; "
        f"cli._verify = {command}; sys.argv[1:] = ['verify']; cli.main()"
    )
    ended = run(sys.executable, "-c", script)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, said, "a line\n" if "line" in end else "")


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["compare"], ["nothing"], ["compare", "main", "--images", "-1"], ["compare", "main", "--claim", "change"],
        ["compare", "main", "--fail-if", "wrose"],
        ["rank", "main"],
    ],
)  # fmt: skip
def test_a_usage_error_exits_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_an_argument_too_many_shows_the_usage_of_its_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["verify", "main"])
    said = capsys.readouterr().err
    assert said.startswith("usage: cocoseg verify ")
    assert said.endswith("cocoseg verify: error: unrecognized arguments: main\n")


def test_outside_a_repository_compare_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="cocoseg compare: this folder is not in a git repository"):
        main(["compare", "main"])
    subprocess.run(["git", "init", "--quiet"], check=True)
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)  # that of the tests trusts every folder
    with pytest.raises(SystemExit, match="dubious ownership .* call: git config --global --add safe.directory"):
        main(["compare", "main"])
