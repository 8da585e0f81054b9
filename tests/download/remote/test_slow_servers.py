"""Servers that are slow, that hang, or that ask for patience; they are real, on the loopback interface."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from loopback import LoopbackServer

from cocoseg.download.remote import http as web
from cocoseg.download.remote.failures import certificate_defect
from cocoseg.download.remote.source import Source, TransferError

AT_ONCE = (0.0, 0.0, 0.0)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


@pytest.fixture
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "WINDOW_S", 0.3)
    monkeypatch.setattr(web, "ANSWER_S", 0.3)


def dripping(head: bytes, pause_s: float, drop: bytes) -> Callable[[], Iterable[bytes]]:
    def answer() -> Iterator[bytes]:
        yield head
        while True:
            time.sleep(pause_s)
            yield drop

    return answer


@pytest.mark.parametrize(
    ("answer", "line"),
    [
        (dripping(HEAD, 0.1, b" "), r"sent \d+ bytes in \d s, expected at least 30"),
        (dripping(HEAD[:20], 0.1, b"a"), "sent no complete answer in 0 s"),
        (dripping(b"", 0.1, b""), "sent no complete answer in 0 s"),
    ],
    ids=["body", "head", "nothing"],
)
@pytest.mark.usefixtures("short_windows")
def test_a_server_that_drips_is_one_line_after_three_attempts(answer: Callable[[], Iterable[bytes]], line: str) -> None:
    with LoopbackServer({}) as server, Source(server.url, AT_ONCE) as source:
        server.answers["a.jpg"] = answer
        line = rf"a\.jpg: the server {line}, after 3 attempts; run again later: what has arrived is kept"
        with pytest.raises(TransferError, match=line):
            source.fetch("a.jpg")
        assert server.asked_for() == ["a.jpg"] * 3


def test_a_slow_connection_that_goes_on_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "WINDOW_S", 0.5)
    monkeypatch.setattr(web, "LEAST_BYTES_PER_S", 20)  # one of these drops a window: the machine may be busy

    def answer() -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\n"
        for _ in range(20):
            time.sleep(0.05)
            yield b"0123456789"

    with LoopbackServer({}) as server, Source(server.url, AT_ONCE) as source:
        server.answers["a.jpg"] = answer
        assert source.fetch("a.jpg") == b"0123456789" * 20
        assert server.asked_for() == ["a.jpg"]


@pytest.mark.usefixtures("short_windows")
def test_a_file_may_take_a_time_that_grows_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "FILE_S", 0.5)
    with LoopbackServer({}) as server, Source(server.url, ()) as source:
        server.answers["a.jpg"] = dripping(HEAD, 0.05, bytes(100))
        with pytest.raises(TransferError, match=r"the server sent [0-9,]+ bytes in \d s, expected at most 1 s, at the"):
            source.fetch("a.jpg")
    monkeypatch.setattr(web, "FILE_S", 3600.0)
    assert [web.most_seconds(size) for size in (0, 8_000_000)] == [3600, 4400]


def waits(source: Source) -> list[float]:
    """The seconds that `source` waits from now on; it does not wait them."""
    waited: list[float] = []

    class Clock(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0)
            return False

    source._left = Clock()
    return waited


def busy(server: LoopbackServer, status: int, headers: str) -> Callable[[], Iterable[bytes]]:
    def answer() -> Iterator[bytes]:
        del server.answers["a.jpg"]
        yield f"HTTP/1.1 {status} Busy\r\nContent-Length: 0\r\n{headers}\r\n".encode()

    return answer


NOW = "Date: Wed, 21 Oct 2015 07:28:00 GMT\r\n"


@pytest.mark.parametrize(
    ("status", "headers", "waited"),
    [
        (429, "Retry-After: 7\r\n", 7),
        (503, f"{NOW}Retry-After: Wed, 21 Oct 2015 07:28:09 GMT\r\n", 9),  # by the clock of the server
        (503, f"{NOW}Retry-After: Wed, 21 Oct 2015 07:27:00 GMT\r\n", 0.5),
        (503, "Retry-After: soon\r\n", 0.5),
        (503, "Retry-After: -1\r\n", 0.5),
        (503, "", 0.5),
    ],
)
def test_a_server_is_asked_again_when_it_says(
    status: int, headers: str, waited: float, capsys: pytest.CaptureFixture[str]
) -> None:
    with LoopbackServer({"a.jpg": b"content"}) as server, Source(server.url, (0.5,)) as source:
        found = waits(source)
        server.answers["a.jpg"] = busy(server, status, headers)
        assert source.fetch("a.jpg") == b"content"
        assert found == [waited]
    line = f"a.jpg: the server answered {status} and asks to wait {waited} s"
    assert (line in capsys.readouterr().err) is (waited > 5)


def test_a_date_to_retry_after_counts_from_now_if_the_server_says_no_time() -> None:
    until = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    with LoopbackServer({"a.jpg": b"content"}) as server, Source(server.url, (0.5,)) as source:
        found = waits(source)
        server.answers["a.jpg"] = busy(server, 503, f"Retry-After: {until}\r\n")
        source.fetch("a.jpg")
        assert 50 < found[0] <= 60


@pytest.mark.parametrize("asked", ["301", f"{NOW}".replace("Date: ", "").replace("2015", "2016").strip(), "9" * 400])
def test_a_server_that_asks_for_more_than_five_minutes_is_one_line(asked: str) -> None:
    with LoopbackServer({"a.jpg": b"content"}) as server, Source(server.url) as source:
        server.answers["a.jpg"] = busy(server, 503, f"{NOW}Retry-After: {asked}\r\n")
        line = r"a\.jpg: the server answered 503 and asks to wait (301|31,622,400|inf) s, expected at most 300 s; run"
        with pytest.raises(TransferError, match=line):
            source.fetch("a.jpg")
        assert server.asked_for() == ["a.jpg"]


@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_leaving_a_source_ends_its_transfers(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setattr(web, "WINDOW_S", 60.0)
    failures: list[str] = []

    def fetch() -> None:
        try:
            source.fetch("a.jpg")
        except TransferError as error:
            failures.append(str(error))

    with LoopbackServer({"bucket/a.jpg": bytes(1000)}, delay_s=3) as server:
        url = f"{server.url}/bucket"
        if scheme == "s3":
            url = "s3://bucket"
            s3_environment(monkeypatch, server)
        else:
            server.delay_s, server.answers["bucket/a.jpg"] = 0, dripping(HEAD, 0.1, b" ")
        with Source(url) as source:
            thread = threading.Thread(target=fetch)
            thread.start()
            server.wait_for_requests(1)
        started = time.monotonic()
        thread.join(10)
        assert time.monotonic() - started < 5
    assert failures == [f"{url}/a.jpg: given up"]


def test_an_invalid_certificate_of_a_store_is_named_too() -> None:
    text = "SSL validation failed for https://a/b [SSLCertVerificationError: (1, '[SSL: CERTIFICATE_VERIFY_FAILED] "
    error = OSError(f"{text}certificate verify failed: certificate has expired (_ssl.c:1006)')]")
    line = certificate_defect(error)
    assert line is not None
    assert line.startswith("the server shows an invalid certificate (certificate has expired), expected one of a known")


def s3_environment(monkeypatch: pytest.MonkeyPatch, server: LoopbackServer) -> None:
    pytest.importorskip("s3fs")
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "DEFAULT_REGION": "x"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("a b.jpg", "a%20b.jpg"),
        ("a+b.jpg", "a%2Bb.jpg"),  # S3 takes a bare + for a space
        ("100%.jpg", "100%25.jpg"),
        ("%41.jpg", "%2541.jpg"),
        ("straße/ü.jpg", "stra%C3%9Fe/%C3%BC.jpg"),
        ("a#1?x.jpg", "a%231%3Fx.jpg"),
        ("empty.jpg", "empty.jpg"),
    ],
)
@pytest.mark.parametrize("scheme", ["http", "s3"])
def test_a_key_of_a_store_reaches_it_as_it_is(
    monkeypatch: pytest.MonkeyPatch, scheme: str, name: str, asked: str
) -> None:
    content = b"" if name == "empty.jpg" else name.encode()
    with LoopbackServer({f"bucket/my set/{name}": content}) as server:
        s3_environment(monkeypatch, server)
        with Source(f"{scheme}://bucket/my set" if scheme == "s3" else f"{server.url}/bucket/my set") as source:
            assert source.fetch(name) == content
            assert {path for _, path, _ in server.requests} == {f"/bucket/my%20set/{asked}"}
            assert str(source.version(name)).startswith("ETag=")
