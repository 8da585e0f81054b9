"""What holds for every test."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sandbox import Sandbox
from tabulate import tabulate

# Two tests run at a time, and start processes of their own: threads of several would wait for each other's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def sandbox(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> Sandbox:
    """A place for what strangers send."""
    return Sandbox(tmp_path, monkeypatch, capfd, record_property)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--strangers", action="store_true", help="print the hostile inputs that were tried, and the lines")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The figures that tests have recorded, and with `--strangers` a table of what `Sandbox.tell` was told."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    recorded: list[tuple[str, Any]] = [
        pair for report in reports if isinstance(report, pytest.TestReport) for pair in report.user_properties
    ]
    for line in sorted({value for name, value in recorded if name == "figures"}):
        terminalreporter.write_line(line)
    if config.getoption("--strangers"):
        rows = [value for name, value in recorded if name == "stranger"]
        headers = ("kind", "input", "what the user sees")
        table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
        terminalreporter.write_line(f"\n{table}\n\n{len(rows)} hostile inputs")
