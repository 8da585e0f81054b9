"""A faulty network between a client and an S3 server.

It is slow, cuts and resets connections, answers in place of the server, and changes what passes.
"""

import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO, Literal, NamedTuple, NoReturn
from urllib.parse import urlsplit

Kind = Literal["slow", "silent", "cut", "reset", "busy", "shorter", "longer", "flip"]
Way = Literal["up", "down"]

_PIECES = 20  # of a slow body
_PAUSE_S = 0.05  # between them
_OBJECTS = b"/files/md5/"  # in the path of objects of DVC, but not in its requests for lists
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_NO_LINGER = struct.pack("ii", 1, 0)  # closing sends a reset


class Fault(NamedTuple):
    """A fault in the transfer of every `every`th object, `up` (PUT) or `down` (GET)."""

    kind: Kind
    way: Way
    every: int = 1
    lists: bool = True  # whether it also affects the lists of folders


class _Message(NamedTuple):
    """A request or an answer: its first line and headers with the empty line after them, and its body."""

    head: bytes
    body: bytes

    def header(self, name: bytes) -> bytes:
        for line in self.head.split(b"\r\n")[1:]:
            found, _, value = line.partition(b":")
            if found.strip().lower() == name:
                return value.strip().lower()
        return b""

    def with_body(self, body: bytes) -> "_Message":
        lines = [
            b"Content-Length: %d" % len(body) if line.lower().startswith(b"content-length:") else line
            for line in self.head.split(b"\r\n")
        ]
        return _Message(b"\r\n".join(lines), body)


class _Ended(Exception):
    """The connection has ended."""


class LyingProxy:
    """Passes bytes between clients and the server at `url`, changed only by `fault`, which may be set at any time.

    A context manager: leaving closes it and every connection.
    """

    def __init__(self, url: str) -> None:
        server = urlsplit(url)
        assert server.hostname is not None
        assert server.port is not None
        self.fault: Fault | None = None
        self.passed = self.lies = 0  # objects since the start, and how many had a fault
        self._server = (server.hostname, server.port)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> "LyingProxy":
        self._threads[0].start()
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closed.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        with self._lock:
            for each in self._open:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    @property
    def url(self) -> str:
        """The URL for clients."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def _accept(self) -> None:
        while not self._closed.is_set():
            with suppress(OSError):
                client = self._listener.accept()[0]
                self._threads.append(threading.Thread(target=self._serve, args=(client,)))
                self._threads[-1].start()

    def _serve(self, client: socket.socket) -> None:
        with (
            client,
            socket.create_connection(self._server) as server,
            client.makefile("rb") as asked,
            server.makefile("rb") as answers,
        ):
            both = {client, server}
            with self._lock:
                self._open |= both
            with suppress(OSError, _Ended):
                while not self._closed.is_set():
                    self._exchange(client, asked, server, answers)
            with self._lock:
                self._open -= both

    def _exchange(self, client: socket.socket, asked: BinaryIO, server: socket.socket, answers: BinaryIO) -> None:
        """Pass on one request and its answer."""
        request = _read(asked, asks=client)
        fault = self._lie_about(request)
        if fault is not None and fault.kind == "busy":
            client.sendall(_BUSY)
            raise _Ended
        self._send(server, client, request, fault if fault and fault.way == "up" else None)
        answer = _read(answers, request.head.split(b" ")[0])
        self._send(client, server, answer, fault if fault and fault.way == "down" else None)

    def _lie_about(self, request: _Message) -> Fault | None:
        fault = self.fault
        method, path = request.head.split(b" ")[:2]
        if _OBJECTS not in path or fault is None or method != {"up": b"PUT", "down": b"GET"}[fault.way]:
            return None
        if path.endswith(b".dir") and not fault.lists:
            return None
        with self._lock:
            self.passed += 1
            if self.passed % fault.every:
                return None
            self.lies += 1
        return fault

    def _send(self, to: socket.socket, other: socket.socket, message: _Message, fault: Fault | None) -> None:
        """Send a message, with the fault."""
        head, body = message
        half = len(body) // 2
        match fault.kind if fault else None:
            case "slow":
                to.sendall(head)
                step = max(1, -(-len(body) // _PIECES))
                for start in range(0, len(body), step):
                    self._closed.wait(_PAUSE_S)
                    to.sendall(body[start : start + step])
            case "silent":
                to.sendall(head + body[:half])
                self._closed.wait()
                raise _Ended
            case "cut":
                to.sendall(head + body[:half])
                raise _Ended
            case "reset":
                to.sendall(head + body[:half])
                time.sleep(_PAUSE_S)  # let what was sent arrive
                for each in (to, other):
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                raise _Ended
            case "shorter":
                to.sendall(b"".join(message.with_body(body[:half])))
            case "longer":
                to.sendall(b"".join(message.with_body(body + body[:half] + b"\0")))
            case "flip":
                to.sendall(head + body[:half] + bytes([body[half] ^ 1]) + body[half + 1 :])
            case _:
                to.sendall(head + body)


def _read(source: BinaryIO, method: bytes = b"", asks: socket.socket | None = None) -> _Message:
    """Return the next message.

    A client that waits for "100 Continue" gets it from here, not from the server. An answer to HEAD has no body.
    """
    lines = [line for line in iter(source.readline, b"\r\n") if line or _end()]
    if lines[0].startswith(b"HTTP/1.1 100"):
        return _read(source, method)
    head = b"".join([*lines, b"\r\n"])
    message = _Message(head, b"")
    if asks is not None and message.header(b"expect") == b"100-continue":
        asks.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
    if method == b"HEAD":
        return message
    if message.header(b"transfer-encoding") == b"chunked":
        return _Message(head, b"".join(_chunks(source)))
    size = int(message.header(b"content-length") or 0)
    body = source.read(size)
    return _Message(head, body) if len(body) == size else _end()


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    """Yield the parts of a chunked body as they came."""
    while True:
        size = source.readline()
        yield size + source.read(int(size, 16) + 2)
        if not int(size, 16):
            return


def _end() -> NoReturn:
    raise _Ended
