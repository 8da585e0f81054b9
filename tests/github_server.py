"""A server on the loopback interface that answers like GitHub's API for comments on pull requests."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

TOKEN = "a-token-that-nobody-may-see"
PAGE = 30  # fewer than a client asks for, as a server may decide


class GitHub(ThreadingHTTPServer):
    """Serves the comments on pull request 7 of `team/cocoseg`. `refuse` (status, headers) is the answer to any write.

    A context manager: leaving stops the server.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.comments: list[dict[str, Any]] = []
        self.log: list[str] = []
        self.refuse: tuple[int, dict[str, str]] | None = None
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))

    def __enter__(self) -> "GitHub":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        """The value of GITHUB_API_URL."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def add(self, body: str, kind: str | None = "User") -> dict[str, Any]:
        """Add a comment of a "User" or a "Bot"; None is a user whose account was deleted."""
        number = len(self.comments) + 1
        user = None if kind is None else {"type": kind}
        comment = {"id": number, "user": user, "body": body, "html_url": f"{self.url}/team/cocoseg/pull/7#{number}"}
        self.comments.append(comment)
        return comment

    def bodies(self) -> list[str]:
        """Return the comments of bots, oldest first."""
        return [comment["body"] for comment in self.comments if (comment["user"] or {}).get("type") == "Bot"]


class _Handler(BaseHTTPRequestHandler):
    server: GitHub

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        asked = {name: int(values[0]) for name, values in parse_qs(address.query).items()}
        size = min(asked.get("per_page", PAGE), PAGE)
        first = (asked.get("page", 1) - 1) * size
        ours = address.path == "/repos/team/cocoseg/issues/7/comments"
        self._answer(200 if ours else 404, self.server.comments[first : first + size])

    def do_POST(self) -> None:
        content = self._content()
        if content is not None:
            self._answer(201, self.server.add(content["body"], "Bot"))

    def do_PATCH(self) -> None:
        content = self._content()
        if content is not None:
            comment = self.server.comments[int(self.path.rpartition("/")[2]) - 1]
            comment["body"] = content["body"]
            self._answer(200, comment)

    def _content(self) -> Any:
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.server.refuse is not None:
            self._answer(self.server.refuse[0], {"message": "no"}, self.server.refuse[1])
        elif len(content["body"]) > 65536:
            self._answer(422, {"message": "body is too long (maximum is 65536 characters)"})
        else:
            return content
        return None

    def _answer(self, status: int, content: object, headers: dict[str, str] | None = None) -> None:
        self.server.log.append(self.command)
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            status, content = 401, {"message": "Bad credentials"}
        body = json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any, **named: Any) -> None:
        """Log nothing: the server has its own log."""
