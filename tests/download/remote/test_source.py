"""Transfers over a network that fails now and then; the server is real, on the loopback interface."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from loopback import CUT, FLIP, RESET, SHORT, STALL, LoopbackServer
from stage_runs import ROOT

from cocoseg.core.errors import CocosegError
from cocoseg.download.remote.http import said_md5
from cocoseg.download.remote.source import AbsentError, Source, TransferError, local_path

AT_ONCE = (0.0, 0.0, 0.0)  # three more attempts, without a wait
CHUNK = 8 * 2**20

# Three chunks, the last of them short; no two bytes ranges are the same.
ARCHIVE = np.arange((2 * CHUNK + 4000) // 8, dtype=">u8").tobytes()
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()


def test_a_file_arrives_as_it_is() -> None:
    with LoopbackServer({"a/b.jpg": b"content"}) as server, Source(f"{server.url}/a") as source:
        assert source.fetch("b.jpg") == b"content"
    with LoopbackServer({"a.json": b"content"}) as server, Source(f"{server.url}/a.json") as source:
        assert source.fetch() == b"content"


@pytest.mark.parametrize("fault", [503, 500, 429, 408, CUT, STALL])
def test_a_failure_that_may_pass_is_tried_again(fault: int) -> None:
    with LoopbackServer({"a.jpg": b"content"}) as server:
        server.faults["a.jpg"] = [fault, fault]
        with Source(server.url, AT_ONCE, read_timeout_s=0.3 if fault == STALL else 30) as source:
            assert source.fetch("a.jpg") == b"content"
        assert server.asked_for() == ["a.jpg"] * 3


@pytest.mark.parametrize("fault", [FLIP, SHORT, RESET])
def test_an_answer_with_another_md5_than_its_head_says_is_asked_for_again(fault: int) -> None:
    with LoopbackServer({"a.jpg": b"content"}, digests=True) as server:
        server.faults["a.jpg"] = [fault]
        with Source(server.url, AT_ONCE) as source:
            assert source.fetch("a.jpg") == b"content"
            server.faults["a.jpg"] = [FLIP] * 4
            # of b"conuent": the bit that FLIP turns is the last of its fourth letter
            line = "a.jpg: ClientPayloadError: the MD5 of the content is 3b81e29048a60b9b3fe136c4f9ba4c7a, but the ser"
            with pytest.raises(TransferError, match=line):
                source.fetch("a.jpg")


MD5 = "9a0364b9e99bb480dd25e1f0284c8555"  # of b"content"
S3 = {"Server": "AmazonS3", "ETag": f'"{MD5}"'}


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Content-MD5": "mgNkuembtIDdJeHwKEyFVQ=="}, MD5),
        (S3, MD5),
        (S3 | {"x-amz-server-side-encryption": "AES256"}, MD5),
        (S3 | {"x-amz-server-side-encryption": "aws:kms"}, None),  # then the ETag is something else
        (S3 | {"ETag": f'"{MD5}-2"'}, None),  # of an upload in two parts
        (S3 | {"Server": "nginx"}, None),  # whose ETag may be anything
        (S3 | {"Content-Encoding": "gzip"}, None),
        ({"Content-MD5": "none"}, None),
        ({}, None),
    ],
)
def test_the_head_of_an_answer_says_the_md5_where_it_must_be_one(headers: dict[str, str], said: str | None) -> None:
    assert said_md5(headers) == said


@pytest.mark.parametrize("status", [404, 403, 410])
def test_what_the_server_does_not_have_is_absent_at_the_first_answer(status: int) -> None:
    with LoopbackServer({"a.jpg": b""}) as server, Source(server.url, AT_ONCE) as source:
        server.faults["a.jpg"] = [status]
        with pytest.raises(AbsentError, match=rf"{server.url}/a\.jpg: not found"):
            source.fetch("a.jpg")
        assert server.asked_for() == ["a.jpg"]


def test_a_server_that_goes_on_failing_is_one_line_with_its_status() -> None:
    with LoopbackServer({"a.jpg": b""}) as server, Source(server.url, AT_ONCE) as source:
        server.faults["a.jpg"] = [503] * 9
        with pytest.raises(TransferError, match="a.jpg: the server answered 503, after 4 attempts; run again later"):
            source.fetch("a.jpg")
        assert server.asked_for() == ["a.jpg"] * 4


def test_an_answer_that_will_not_change_is_not_asked_for_again() -> None:
    with LoopbackServer({"a.jpg": b""}) as server, Source(server.url, AT_ONCE) as source:
        server.faults["a.jpg"] = [401]
        with pytest.raises(TransferError, match="the server answered 401, at the first attempt"):
            source.fetch("a.jpg")


@pytest.mark.parametrize("proxy", ["", "http://me:secret@127.0.0.1:9", "127.0.0.1:9", "https://127.0.0.1:9"])
def test_a_host_that_cannot_be_reached_is_named_with_the_way_out(
    proxy: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    with LoopbackServer({}) as server:
        url = server.url
    check = r"the proxy of http_proxy \(expected http://host:port; .*\), the network" if proxy else "the network"
    with (
        Source(url, AT_ONCE) as source,
        pytest.raises(
            TransferError, match=rf"127\.0\.0\.1 cannot be reached \(.* attempts?\); check {check}"
        ) as caught,
    ):
        source.fetch("a.jpg")
    assert "secret" not in str(caught.value)
    assert not caplog.records  # such as one a request


def test_leaving_a_source_ends_the_waits_of_its_threads() -> None:
    with LoopbackServer({"a.jpg": b""}) as server:
        server.faults["a.jpg"] = [503] * 9
        failures: list[CocosegError] = []

        def fetch() -> None:
            try:
                source.fetch("a.jpg")
            except TransferError as error:
                failures.append(error)

        with Source(server.url, (60.0,)) as source:
            thread = threading.Thread(target=fetch)
            thread.start()
            server.wait_for_requests(1)
        thread.join(10)
        assert not thread.is_alive()
    assert str(failures[0]).endswith("a.jpg: given up")


def test_a_name_reaches_the_server_as_it_is() -> None:
    name = "straße/a b#1?100%.jpg"
    with LoopbackServer({f"p/{name}": b"content"}) as server, Source(f"{server.url}/p/?token=x") as source:
        assert source.fetch(name) == b"content"
        assert source.url(name) == f"{server.url}/p/stra%C3%9Fe/a%20b%231%3F100%25.jpg?token=x"


def test_any_file_system_of_fsspec_is_a_source(tmp_path: Path) -> None:
    (tmp_path / "a#1.jpg").write_bytes(b"content")

    with Source(f"file://{tmp_path}") as source:
        assert source.fetch("a#1.jpg") == b"content"
        with pytest.raises(AbsentError):
            source.fetch("b.jpg")


def test_an_unknown_protocol_is_one_line() -> None:
    with pytest.raises(CocosegError, match="htps://a: ValueError: Protocol not known: htps; expected a local path or"):
        Source("htps://a")


def test_a_location_is_local_unless_it_is_a_url() -> None:
    assert local_path("data/custom") == Path("data/custom")
    assert local_path("~/custom") == Path.home() / "custom"
    assert local_path("file:///data/custom") == Path("/data/custom")
    assert local_path("s3://bucket/custom") is None


def test_a_large_file_comes_in_ranges_and_is_checked(tmp_path: Path) -> None:
    with LoopbackServer({"a.zip": ARCHIVE}) as server, Source(server.url) as source:
        source.download("a.zip", tmp_path / "deep" / "a.zip", len(ARCHIVE), SHA256)

        assert (tmp_path / "deep" / "a.zip").read_bytes() == ARCHIVE
        assert server.log == [
            ("a.zip", f"bytes=0-{CHUNK - 1}"),
            ("a.zip", f"bytes={CHUNK}-{2 * CHUNK - 1}"),
            ("a.zip", f"bytes={2 * CHUNK}-{len(ARCHIVE) - 1}"),
        ]


def test_a_large_file_that_is_there_is_not_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(ARCHIVE)
    with LoopbackServer({}) as server, Source(server.url) as source:
        source.download("a.zip", tmp_path / "a.zip", len(ARCHIVE), SHA256)

        assert server.log == []


def test_a_drop_in_the_middle_costs_one_chunk(tmp_path: Path) -> None:
    with LoopbackServer({"a.zip": ARCHIVE}) as server, Source(server.url, AT_ONCE) as source:
        server.faults["a.zip"] = [0, CUT]
        source.download("a.zip", tmp_path / "a.zip", len(ARCHIVE), SHA256)

        assert (tmp_path / "a.zip").read_bytes() == ARCHIVE
        assert [wanted for _, wanted in server.log][1:3] == [f"bytes={CHUNK}-{2 * CHUNK - 1}"] * 2


def test_a_server_without_ranges_is_asked_once(tmp_path: Path) -> None:
    with LoopbackServer({"a.zip": ARCHIVE}, ranges=False) as server, Source(server.url) as source:
        source.download("a.zip", tmp_path / "a.zip", len(ARCHIVE), SHA256)

        assert (tmp_path / "a.zip").read_bytes() == ARCHIVE
        assert len(server.log) == 1


def test_a_checksum_that_differs_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with LoopbackServer({"a.zip": ARCHIVE[:-1] + b"x"}) as server, Source(server.url) as source:
        with pytest.raises(
            CocosegError, match=rf"a\.zip: its SHA-256 is [0-9a-f]{{64}}, expected {SHA256}; it was not"
        ):
            source.download("a.zip", tmp_path / "a.zip", len(ARCHIVE), SHA256)

        assert [path.name for path in tmp_path.iterdir()] == ["a.zip.lock"]


@pytest.mark.parametrize("size", [100, CHUNK, CHUNK + 100])
def test_a_file_of_another_size_is_one_line(tmp_path: Path, size: int) -> None:
    line = r"a\.zip: the server sent [0-9]+ bytes for bytes [0-9 to]+ of a file of 16781216; it is not the published"
    with (
        LoopbackServer({"a.zip": ARCHIVE[:size]}) as server,
        Source(server.url, AT_ONCE) as source,
        pytest.raises(CocosegError, match=line),
    ):
        source.download("a.zip", tmp_path / "a.zip", len(ARCHIVE), SHA256)


def test_a_server_that_refuses_ranges_with_416_is_asked_for_the_whole(tmp_path: Path) -> None:
    with LoopbackServer({"a.zip": ARCHIVE}, ranges=False) as server, Source(server.url, AT_ONCE) as source:
        server.faults["a.zip"] = [416]
        (tmp_path / "a.zip.part").write_bytes(ARCHIVE[:1000])
        source.download("a.zip", tmp_path / "a.zip", len(ARCHIVE), SHA256)
        assert server.log == [("a.zip", f"bytes=1000-{CHUNK + 999}"), ("a.zip", None)]
    assert (tmp_path / "a.zip").read_bytes() == ARCHIVE


def test_a_range_that_starts_elsewhere_is_not_taken_for_the_one_that_was_asked_for(tmp_path: Path) -> None:
    def answer() -> Iterable[bytes]:
        del server.answers["a.zip"]
        yield b"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-%d/%d\r\n" % (CHUNK - 1, len(ARCHIVE))
        yield b"Content-Length: %d\r\n\r\n" % CHUNK + ARCHIVE[:CHUNK]

    with LoopbackServer({"a.zip": ARCHIVE}) as server, Source(server.url, AT_ONCE) as source:
        server.answers["a.zip"] = answer
        (tmp_path / "a.zip.part").write_bytes(ARCHIVE[:1000])
        source.download("a.zip", tmp_path / "a.zip", len(ARCHIVE), SHA256)
        assert server.log == [("a.zip", f"bytes=1000-{CHUNK + 999}"), ("a.zip", None)]
    assert (tmp_path / "a.zip").read_bytes() == ARCHIVE


def test_a_file_that_is_replaced_between_two_ranges_is_not_kept_and_the_next_run_fetches_the_new_one(
    tmp_path: Path,
) -> None:
    class Replaced(dict[str, bytes]):
        def __getitem__(self, path: str) -> bytes:
            return bytes(len(ARCHIVE)) if len(server.log) == 1 else ARCHIVE

    with LoopbackServer({"a.zip": b""}) as server, Source(server.url, AT_ONCE) as source:
        server.files = Replaced(server.files)
        with pytest.raises(CocosegError, match=rf"expected {SHA256}; it was not kept; run again"):
            source.download("a.zip", tmp_path / "a.zip", len(ARCHIVE), SHA256)
        assert [path.name for path in tmp_path.iterdir()] == ["a.zip.lock"]
        source.download("a.zip", tmp_path / "a.zip", len(ARCHIVE), SHA256)
    assert (tmp_path / "a.zip").read_bytes() == ARCHIVE


def test_a_corrupt_archive_of_the_cache_is_said_and_fetched_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.zip").write_bytes(ARCHIVE[:-1] + b"x")
    with LoopbackServer({"a.zip": ARCHIVE}) as server, Source(server.url) as source:
        source.download("a.zip", tmp_path / "a.zip", len(ARCHIVE), SHA256)
    assert (tmp_path / "a.zip").read_bytes() == ARCHIVE
    assert f"{tmp_path / 'a.zip'}: is corrupt; it is fetched again" in capsys.readouterr().err


def test_a_damaged_part_is_fetched_afresh(tmp_path: Path) -> None:
    (tmp_path / "a.zip.part").write_bytes(bytes(1000))
    with LoopbackServer({"a.zip": ARCHIVE}) as server, Source(server.url) as source:
        source.download("a.zip", tmp_path / "a.zip", len(ARCHIVE), SHA256)

        assert (tmp_path / "a.zip").read_bytes() == ARCHIVE
        assert server.log[0] == ("a.zip", f"bytes=1000-{1000 + CHUNK - 1}")
        assert ("a.zip", f"bytes=0-{CHUNK - 1}") in server.log


DOWNLOAD = """
    import sys
    from pathlib import Path
    from cocoseg.download.remote.source import Source
    with Source(sys.argv[1]) as source:
        source.download("a.zip", Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
"""


def start_download(server: LoopbackServer, target: Path) -> "subprocess.Popen[bytes]":
    arguments = [server.url, str(target), str(len(ARCHIVE)), SHA256]
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(DOWNLOAD), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )


def test_a_killed_download_goes_on_where_it_was(tmp_path: Path) -> None:
    target = tmp_path / "a.zip"
    with LoopbackServer({"a.zip": ARCHIVE}, delay_s=0.3) as server:
        with start_download(server, target) as process:
            server.wait_for_requests(3)  # so two chunks have arrived
            process.send_signal(signal.SIGKILL)
        assert not target.exists()
        asked_before = len(server.log)

        with start_download(server, target) as process:
            assert process.wait(30) == 0
        assert target.read_bytes() == ARCHIVE
        assert server.log[asked_before:] == [("a.zip", f"bytes={2 * CHUNK}-{len(ARCHIVE) - 1}")]


def test_two_processes_fetch_a_file_once(tmp_path: Path) -> None:
    with (
        LoopbackServer({"a.zip": ARCHIVE}, delay_s=0.2) as server,
        start_download(server, tmp_path / "a.zip") as first,
        start_download(server, tmp_path / "a.zip") as second,
    ):
        assert (first.wait(30), second.wait(30)) == (0, 0)
        assert len(server.log) == 3
