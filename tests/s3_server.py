"""A real S3 server on the loopback interface that checks signatures: OpenStack Swift with its S3 interface.

uv installs it once in its own environment, so that its libraries do not mix with ours. It consists of one account, one
container and one object server, a proxy in front of them, and one folder as the only disk, which must support extended
attributes.
"""

import ctypes
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import ClassVar

ROOT = Path(__file__).parents[1]
SWIFT = "swift==2.38.3"
KEY, SECRET = "test:tester", "testing"
REGION = "us-east-1"
PARTS = ("account", "container", "object", "proxy")

# These would mix the environment of the tests into that of the server; with the last each start of a part compiles it.
_NOT_INHERITED = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE")

PROXY = f"""
[pipeline:main]
pipeline = catch_errors gatekeeper listing_formats s3api tempauth slo proxy-logging proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = {REGION}
[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = {SECRET} .admin
[filter:slo]
use = egg:swift#slo
[filter:proxy-logging]
use = egg:swift#proxy_logging
"""
STORAGE = """
[pipeline:main]
pipeline = {part}-server
[app:{part}-server]
use = egg:swift#{part}
"""
# `swift-ring-builder` for each list of arguments, in one process: to start it takes longer than what it does.
RINGS = """
import json, sys
from swift.cli.ringbuilder import main
for arguments in json.loads(sys.argv[1]):
    try:
        main(["swift-ring-builder", *arguments])
    except SystemExit as end:
        if (end.code or 0) > 1:  # 1 is a warning
            raise
"""


class NoServer(Exception):
    """The reason why no S3 server can run on this machine."""


class S3Server:
    """The server, a context manager, with its data in `folder`. The data survives a stop and a kill."""

    credentials: ClassVar = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REQUEST_CHECKSUM_CALCULATION": "WHEN_REQUIRED",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "",
        "AWS_SHARED_CREDENTIALS_FILE": "",
    }
    """The environment of a user who may read and write, for a server other than AWS."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = dict(zip(PARTS, free_ports(len(PARTS)), strict=True))
        self._processes: list[subprocess.Popen[bytes]] = []
        self._programs = _installed()
        self._configure()

    def __enter__(self) -> "S3Server":
        self.start()
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"http://127.0.0.1:{self._ports['proxy']}"

    def start(self) -> None:
        """Start all parts. Raises `NoServer` if one of them does not start."""
        for part in PARTS:
            with (self.folder / f"{part}.log").open("ab") as log:
                command = [self._program("python"), self._program(f"swift-{part}-server"), f"{part}.conf", "--verbose"]
                process = subprocess.Popen(
                    command, cwd=self.folder, env=_environment(), stdout=log, stderr=log, preexec_fn=die_with_parent
                )
                self._processes.append(process)
        deadline = time.monotonic() + 60
        for part, process in zip(PARTS, self._processes, strict=True):
            while not _answers(self._ports[part]):
                if process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    last = (self.folder / f"{part}.log").read_text(errors="replace").strip().splitlines()[-1:]
                    raise NoServer(f"swift's {part} server did not start: {' '.join(last)}")
                time.sleep(0.05)

    def kill(self) -> None:
        """Kill all parts at once, like a power cut; `start` starts them again with their data."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()
        self._processes.clear()

    @property
    def pids(self) -> list[int]:
        """The ids of its processes."""
        return [process.pid for process in self._processes]

    @property
    def kept(self) -> int:
        """The number of objects on its disk."""
        return sum(1 for _ in (self.folder / "devices/disk").glob("objects/*/*/*/*.data"))

    def _program(self, name: str) -> str:
        return str(self._programs / name)

    def _configure(self) -> None:
        (self.folder / "devices/disk").mkdir(parents=True, exist_ok=True)
        try:
            os.setxattr(self.folder, "user.cocoseg", b"")
        except (AttributeError, OSError):
            raise NoServer(f"{self.folder} supports no extended attributes, which swift needs") from None
        (self.folder / "swift.conf").write_text("[swift-hash]\nswift_hash_path_prefix = cocoseg\n")
        rings: list[list[str]] = []
        for part in PARTS:
            port = self._ports[part]
            common = (
                f"[DEFAULT]\nuser = {getpass.getuser()}\nbind_ip = 127.0.0.1\nbind_port = {port}\nworkers = 0\n"
                f"swift_dir = {self.folder}\ndevices = {self.folder / 'devices'}\nmount_check = false\n"
                "disable_fallocate = true\nfallocate_reserve = 0\n"
            )
            text = PROXY if part == "proxy" else STORAGE.format(part=part)
            (self.folder / f"{part}.conf").write_text(common + text)
            if part == "proxy":
                continue
            disk = ["--region", "1", "--zone", "1", "--ip", "127.0.0.1", "--port", str(port), "--device", "disk"]
            steps = (["create", "6", "1", "1"], ["add", *disk, "--weight", "1"], ["rebalance"])
            rings += [[f"{part}.builder", *arguments] for arguments in steps]
        command = [self._program("python"), "-c", RINGS, json.dumps(rings)]
        built = subprocess.run(command, cwd=self.folder, env=_environment(), capture_output=True, check=False)
        if built.returncode:
            raise NoServer(f"swift-ring-builder failed: {built.stdout.decode(errors='replace').strip()[-200:]}")


def _installed() -> Path:
    """Return the folder of its programs, which uv installs once and keeps."""
    uv = os.environ.get("UV") or shutil.which("uv")
    if uv is None:
        raise NoServer("uv, which installs it, was not found")
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["uv"]
    day = settings["exclude-newer"]  # of the other packages, which `uv tool` does not look up
    command = [uv, "tool", "run", "--exclude-newer", day, "--python", sys.executable, "--from", SWIFT]
    finished = subprocess.run(
        [*command, "python", "-c", "import sys; print(sys.prefix)"],
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if finished.returncode:
        raise NoServer(f"uv tool run failed: {finished.stderr.strip()[-200:]}")
    return Path(finished.stdout.strip(), "bin")


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _NOT_INHERITED}


def die_with_parent() -> None:
    """End with the parent, so that a killed test run leaves no server behind; on Linux only."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
