"""What holds for every test."""

import os
from collections.abc import Callable
from pathlib import Path

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
    """With `--strangers`, a table of what `Sandbox.tell` was told."""
    if config.getoption("--strangers"):
        passed: list[pytest.TestReport] = terminalreporter.stats.get("passed", [])
        told = [row for report in passed for name, row in report.user_properties if name == "stranger"]
        rows = [row for row in told if isinstance(row, tuple | list)]
        table = tabulate(
            rows, headers=("kind", "input", "what the user sees"), tablefmt="github", disable_numparse=True
        )
        terminalreporter.write_line(f"\n{table}\n\n{len(rows)} hostile inputs")
