"""End at Ctrl-C: soon, with one line, and with no traceback from whatever is under way."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import RLock, Thread, current_thread, main_thread
from types import FrameType
from typing import NoReturn

STATUS = 128 + signal.SIGINT
_IMPORTING = "<frozen importlib._bootstrap>"
_GRACE_S = 1.0  # to remove temporary files; threads and C code that take longer are cut off


def end_silently_at_ctrl_c() -> None:
    """Let the system end this process at Ctrl-C, so that there is no traceback from an import."""
    # Another handler: it is ignored, as after nohup. Another thread may not set one.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler and current_thread() is main_thread():
        signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def one_line_at_ctrl_c(line: str) -> Iterator[None]:
    """Write `line` and end with status 130 at Ctrl-C, whatever the code within does about it."""
    handled = (signal.default_int_handler, signal.SIG_DFL)
    if current_thread() is not main_thread() or signal.getsignal(signal.SIGINT) not in handled:
        yield
        return
    ending = _Ending(line)
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    Thread(target=ending.cut_off, args=(reader,), daemon=True).start()
    handler_before = signal.signal(signal.SIGINT, ending.begin_in_main_thread)
    # The system writes to it at once. Python calls the handler only when the main thread is back from C code.
    descriptor_before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        if ending.has_begun:
            os._exit(STATUS)  # an interpreter that shuts down can hang, or abort where a library is half imported
        signal.set_wakeup_fd(descriptor_before)
        signal.signal(signal.SIGINT, handler_before)
        writer.close()


@contextmanager
def children_without_ctrl_c() -> Iterator[None]:
    """Start processes within that Ctrl-C does not reach: they end with this one, and have nothing to say about it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Ending:
    """The end of a process at Ctrl-C. It begins in the main thread or beside it, whichever comes first."""

    def __init__(self, line: str) -> None:
        self.has_begun = False
        self._line = line
        self._lock = RLock()  # reentrant: a second Ctrl-C may interrupt the first

    def begin_in_main_thread(self, number: int, frame: FrameType | None) -> NoReturn:
        self._begin()
        # C++ code that imports modules, as in torch, does not expect an exception: it aborts, or clears it and goes on.
        while frame is not None:
            if frame.f_code.co_filename == _IMPORTING:
                os._exit(STATUS)
            frame = frame.f_back
        raise KeyboardInterrupt

    def cut_off(self, reader: socket.socket) -> None:
        """Wait for Ctrl-C, and then for a second one or the end of the grace."""
        while (received := reader.recv(1)) != bytes([signal.SIGINT]):
            if not received:  # the code has ended
                reader.close()
                return
        self._begin()
        reader.settimeout(_GRACE_S)
        with suppress(TimeoutError):
            reader.recv(1)
        os._exit(STATUS)

    def _begin(self) -> None:
        with self._lock:
            if self.has_begun:
                return
            self.has_begun = True
            with suppress(OSError):
                after_echo = "\n" if os.isatty(2) else ""  # a terminal shows ^C, maybe behind a progress bar
                os.write(2, f"{after_echo}{self._line}\n".encode() if self._line else b"")
            # What threads and libraries say about being interrupted is of no use to anyone.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in (1, 2):
                os.dup2(nowhere, stream)
            with suppress(Exception):  # such as where multiprocessing is half imported
                for child in sys.modules["multiprocessing"].active_children():
                    child.kill()
