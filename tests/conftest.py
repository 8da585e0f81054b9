"""What holds for every test."""

import os

import pytest

# Two tests run at a time, and start processes of their own: threads of several would wait for each other's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures that tests have recorded, at the end."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    lines = [value for report in reports for name, value in getattr(report, "user_properties", []) if name == "figures"]
    if lines:
        terminalreporter.section("figures")
        for line in sorted(set(lines)):
            terminalreporter.write_line(line)
