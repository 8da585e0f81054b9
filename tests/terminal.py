"""A pseudo-terminal in which Ctrl-C is pressed."""

import fcntl
import os
import pty
import select
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple


class Interrupted(NamedTuple):
    """What a command did after Ctrl-C."""

    status: int  # negative: ended by this signal
    seconds: float
    lines: list[str]  # without the echo of the key


def press_ctrl_c(
    command: Sequence[str], folder: Path, environment: Mapping[str, str], at: str = "", then_s: float = 0.0
) -> Interrupted:
    """Run a command in a terminal, and press Ctrl-C `then_s` after it has written `at`."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execvpe(command[0], list(command), environment)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # else there are no progress bars
    said = b""
    while at.encode() not in said:
        said += (pending := _pending(terminal))
        assert pending or os.waitpid(pid, os.WNOHANG) == (0, 0), f"it ended without {at!r}: {said.decode()}"
    time.sleep(then_s)
    said += _pending(terminal)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0), f"it ended before Ctrl-C: {said.decode()}"
    pressed = time.monotonic()
    os.write(terminal, b"\x03")
    status = _ended(pid, pressed + 60, said_after := [b""], terminal)
    seconds = time.monotonic() - pressed
    said_after.append(_pending(terminal, 0.5))  # what processes say that it left behind, until the last has ended
    os.close(terminal)
    lines = b"".join(said_after).decode(errors="replace").replace("\r\n", "\n").split("\n")
    shown = [line.rpartition("\r")[2].removeprefix("^C") for line in lines]  # of a progress bar, what stays on screen
    return Interrupted(status, seconds, [line for line in shown if line.strip()])


def _ended(pid: int, deadline: float, said: list[bytes], terminal: int) -> int:
    while time.monotonic() < deadline:
        said.append(_pending(terminal))
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
    os.kill(pid, 9)
    os.waitpid(pid, 0)
    raise AssertionError("it did not end within 60 s of Ctrl-C")


def _pending(terminal: int, silence_s: float = 0.02) -> bytes:
    said = b""
    try:
        while select.select([terminal], [], [], silence_s)[0]:
            said += os.read(terminal, 65536)
    except OSError:  # Linux's end of file: the last process has ended
        pass
    return said
