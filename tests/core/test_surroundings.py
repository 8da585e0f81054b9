"""A process of ours does not depend on streams that are closed or full, or on variables of other programs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src"
# What a training does: it opens a file, and it and its libraries write lines.
STAGE = """\
import os, time
import cocoseg
from cocoseg.core.stage import say
with open("made", "w") as file:
    time.sleep(0.2)  # until nobody reads
    for number in range(3):
        say(f"epoch {number}")
        print("a line of ±")
        os.write(1, b"of a library")
        os.write(2, b"of a library") if os.environ["STREAMS"] == "<&- >&- 2>&-" else None
    file.write("whole")
"""
# As the command `cocoseg`.
COMMAND = "import sys; sys.argv = ['bin/cocoseg']; import os, cocoseg; {}"


def run(line: str, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    named = {"PYTHON": sys.executable, "PYTHONPATH": str(SOURCE), "PYTHONUNBUFFERED": ""}
    return subprocess.run(
        ["bash", "-c", line], env=os.environ | named | environment, capture_output=True, timeout=60, check=False
    )


@pytest.mark.parametrize("streams", ["<&- >&- 2>&-", "2>/dev/full", "2> >(true)"])
def test_a_stage_ends_well_where_nobody_reads_its_lines(
    streams: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/toy.py").write_text(STAGE)
    assert run(f"$PYTHON stages/toy.py {streams}", STREAMS=streams).returncode == 0
    assert (tmp_path / "made").read_text() == "whole"


@pytest.mark.parametrize("command", ["--help", "--version", "compare --help"])
def test_output_that_cannot_be_written_is_one_line(command: str) -> None:
    finished = run(f"$PYTHON -m cocoseg {command} >/dev/full")
    assert (finished.returncode, finished.stderr.count(b"\n")) == (1, 1)
    assert finished.stderr.endswith(b": standard output: No space left on device\n")


def test_output_that_nobody_reads_on_is_no_fault_to_tell_of() -> None:
    assert run("$PYTHON -m cocoseg compare --help | true").stderr == b""


@pytest.mark.parametrize("code", ["print('± caf\\udce9', end='')", "sys.stdout.write('± caf\\udce9')"])
def test_output_is_utf_8_whatever_the_locale(code: str) -> None:
    finished = run(f'$PYTHON -c "{COMMAND.format(code)}"', PYTHONIOENCODING="ascii")
    assert finished.stdout == b"\xc2\xb1 caf\xe9", finished.stderr


def test_variables_of_git_hooks_and_of_notebooks_do_not_reach_what_we_start() -> None:
    code = "print([os.environ.get(name) for name in ('GIT_DIR', 'GIT_INDEX_FILE', 'MPLBACKEND')], end='')"
    named = {"GIT_DIR": "/elsewhere", "GIT_INDEX_FILE": "/lock", "MPLBACKEND": "module://matplotlib_inline"}
    assert run(f'$PYTHON -c "{COMMAND.format(code)}"', **named).stdout == b"[None, None, None]"


def test_the_streams_of_a_notebook_are_its_own() -> None:
    script = "import io, sys; sys.stderr = own = io.StringIO(); " + COMMAND.format("assert sys.stderr is own")
    assert subprocess.run([sys.executable, "-c", script], env={"PYTHONPATH": str(SOURCE)}, check=False).returncode == 0


def test_a_python_without_docstrings_is_refused_in_one_line() -> None:
    finished = run("$PYTHON -m cocoseg --version", PYTHONOPTIMIZE="2")
    assert (finished.returncode, finished.stderr.count(b"\n")) == (1, 1)
    assert finished.stderr.startswith(b"PYTHONOPTIMIZE is 2")
