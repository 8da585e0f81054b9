"""A real HTTP server on the loopback interface, with the faults that servers and networks have."""

import base64
import hashlib
import os
import socket
import ssl
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import unquote, urlsplit

# No proxy from the environment between a test and its own machine.
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1"

CUT = -1  # a fault: the connection drops in the middle of the body
STALL = -2  # a fault: nothing is sent for a second
RESET = -3  # a fault: the connection is reset in the middle of the body
FLIP = -4  # a fault: a bit in the middle of the body is flipped
SHORT = -5  # a fault: half of the body is declared as all of it


def redirect(target: str, status: int = 302, headers: str = "") -> Callable[[], Iterable[bytes]]:
    """Return an answer that redirects to `target`; `headers` are further lines, each with its line end."""
    head = f"HTTP/1.1 {status} Found\r\nLocation: {target}\r\n{headers}Content-Length: 0\r\n\r\n"
    return lambda: [head.encode()]


class LoopbackServer:
    """Serves `files` (path → bytes), with ranges, and logs every request for content as (path, range header).

    `faults[path]` lists the faults of the next requests for it, one each: a status or one of those above.
    `answers[path]` returns the raw bytes of every answer, including the head, until the client stops listening. With
    `digests` every answer has the MD5 of the file, and with `etags` that to HEAD a version. With `tls` it speaks https,
    under a `name` that a test resolves.
    It is also a proxy that answers for every host itself, and tunnels to the servers in `tunnels`. `requests` lists all
    requests as they came: method, address, headers.
    A context manager: leaving stops the server.
    """

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        delay_s: float = 0,
        ranges: bool = True,
        digests: bool = False,
        etags: bool = True,
        address: str = "127.0.0.1",
        name: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.files = dict(files)
        self.delay_s = delay_s
        self.ranges = ranges
        self.digests = digests
        self.etags = etags
        self.faults: dict[str, list[int]] = defaultdict(list)
        self.answers: dict[str, Callable[[], Iterable[bytes]]] = {}
        self.log: list[tuple[str, str | None]] = []
        self.passwords: list[str | None] = []
        self.requests: list[tuple[str, str, Message]] = []
        self.connections = 0
        self.tunnels: dict[str, LoopbackServer] = {}
        self._scheme, self._name = "https" if tls else "http", name or address
        self._server = _Server((address, 0), _Handler)
        if tls:
            # The handshake is for the thread of the connection, at its first byte.
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._server.loopback = self
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> "LoopbackServer":
        self._thread.start()
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The URL prefix of every file."""
        return f"{self._scheme}://{self._name}:{self.port}"

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def asked_for(self) -> list[str]:
        """Return the paths of all requests, in the order in which they came."""
        return [path for path, _ in self.log]

    def wait_for_requests(self, count: int) -> None:
        """Return after `count` requests have come."""
        deadline = time.monotonic() + 30
        while len(self.log) < count:
            assert time.monotonic() < deadline, f"only {len(self.log)} requests came, expected {count}"
            time.sleep(0.005)


class _Server(ThreadingHTTPServer):
    loopback: LoopbackServer
    request_queue_size = 128

    def get_request(self) -> Any:
        self.loopback.connections += 1
        return super().get_request()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: a client may have been killed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 5
    server: _Server

    def do_CONNECT(self) -> None:
        loopback = self.server.loopback
        loopback.requests.append((self.command, self.path, self.headers))
        there = loopback.tunnels[self.path.partition(":")[0]]
        self.close_connection = True
        with socket.create_connection(("127.0.0.1", there.port)) as far, suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_copy, args=(far, self.connection))
            back.start()
            _copy(self.connection, far)
            back.join()

    def do_HEAD(self) -> None:
        loopback = self.server.loopback
        loopback.requests.append((self.command, self.path, self.headers))
        path = unquote(urlsplit(self.path).path).lstrip("/")
        if path in loopback.answers:
            self._answer(path)
            return
        body = loopback.files.get(path)
        self.send_response(404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        if body is not None and loopback.etags:
            self.send_header("ETag", hashlib.sha256(body).hexdigest())
        self.end_headers()

    def do_GET(self) -> None:
        loopback = self.server.loopback
        path = unquote(urlsplit(self.path).path).lstrip("/")
        wanted = self.headers.get("Range")
        loopback.requests.append((self.command, self.path, self.headers))
        loopback.log.append((path, wanted))
        loopback.passwords.append(self.headers.get("Authorization"))
        time.sleep(loopback.delay_s)
        if path in loopback.answers:
            self._answer(path)
            return
        fault = loopback.faults[path].pop(0) if loopback.faults[path] else 0
        if fault == STALL:
            time.sleep(1)
            self.close_connection = True
            return
        if fault > 0 or path not in loopback.files:
            self.send_response(fault or 404)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = loopback.files[path]
        if wanted and loopback.ranges:
            first, last = wanted.removeprefix("bytes=").split("-")
            size = len(body)
            body = body[int(first) : int(last) + 1]
            if not body:
                self.send_response(416)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(body) - 1}/{size}")
        else:
            self.send_response(200)
        if loopback.digests:
            digest = hashlib.md5(loopback.files[path], usedforsecurity=False).digest()
            self.send_header("Content-MD5", base64.b64encode(digest).decode())
        middle = len(body) // 2
        if fault == SHORT:
            body = body[:middle]
        if fault == FLIP:
            body = body[:middle] + bytes([body[middle] ^ 1]) + body[middle + 1 :]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault in (CUT, RESET):
            body = body[:middle]
            self.close_connection = True
        self.wfile.write(body)
        if fault == RESET:
            self.wfile.flush()
            # To close without lingering is to reset.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _answer(self, path: str) -> None:
        self.close_connection = True
        with suppress(OSError):  # the client has heard enough
            for part in self.server.loopback.answers[path]():
                self.wfile.write(part)

    def log_message(self, *args: Any, **named: Any) -> None:
        """Log nothing: the server has its own log."""


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
