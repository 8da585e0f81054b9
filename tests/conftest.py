"""Fixtures and options for all tests."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lacking import lacking
from own_environment import at_end, set_up
from s3_server import NoServer, S3Server
from sandbox import Sandbox
from tabulate import tabulate

set_up()
# Shells make background jobs, such as these tests, ignore Ctrl-C. Processes that tests start would ignore it, too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# By the time that they take, longest first.
LONGEST = (
    "test_pipeline.py",
    "commands/compare/test_compare.py",
    "train/test_loop.py",
    "commands/test_sweep.py",
    "commands/verify/test_verify.py",
    "test_workflows.py",
    "faults/test_kills.py",
    "test_s3.py",
    "commands/export/test_export.py",
    "faults/test_remote_network.py",
    "test_recipes.py",
    "test_secrets.py",
    "test_resume.py",
    "test_gate.py",
    "faults/test_full_disk.py",
    "faults/test_network.py",
    "test_readme.py",
    "test_label_map_runs.py",
    "core/test_interrupt.py",
    "model/test_architectures.py",
    "train/test_initial_weights.py",
)


@pytest.fixture
def sandbox(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> Sandbox:
    """Return a sandbox for hostile input."""
    return Sandbox(tmp_path, monkeypatch, capfd, record_property)


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """Yield a server for all tests of a process. `server` adds its credentials to the environment."""
    try:
        server = S3Server(tmp_path_factory.mktemp("s3"))
        server.start()
    except NoServer as reason:
        lacking(f"no S3 server: {reason}")
    yield server
    server.kill()


@pytest.fixture(scope="module")
def server(s3_server: S3Server) -> Iterator[S3Server]:
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (s3_server.credentials | {"NO_PROXY": "127.0.0.1"}).items():
            environment.setenv(name, value)
        yield s3_server


def pytest_unconfigure() -> None:
    at_end.close()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files that take longest first: what workers start last is short, so that they end together."""
    ranks = {Path(__file__).parent / name: rank for rank, name in enumerate(LONGEST)}
    items.sort(key=lambda item: ranks.get(item.path, len(ranks)))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--strangers", action="store_true", help="print the hostile inputs and the messages they caused")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the figures that tests recorded, and with `--strangers` a table of the calls of `Sandbox.tell`."""
    reports = [report for some in terminalreporter.stats.values() for report in some]
    recorded: list[tuple[str, Any]] = [
        pair
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"  # the other phases repeat them
        for pair in report.user_properties
    ]
    for line in sorted({value for name, value in recorded if name == "figures"}):
        terminalreporter.write_line(line)
    if config.getoption("--strangers"):
        rows = [value for name, value in recorded if name == "stranger"]
        headers = ("kind", "input", "what the user sees")
        table = tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True)
        terminalreporter.write_line(f"\n{table}\n\n{len(rows)} hostile inputs")
