"""Redirects as hosts of files send them, and where they do not lead; the servers are real, their names are not."""

import hashlib
import socket
import ssl
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from certificates import contexts
from loopback import CUT, LoopbackServer, redirect
from yarl import URL

from cocoseg.core.errors import CocosegError
from cocoseg.download.annotations import verify_instances
from cocoseg.download.remote import http as web
from cocoseg.download.remote.http import MOST_REDIRECTS, RedirectError, is_public, redirect_defect
from cocoseg.download.remote.source import AbsentError, Source, TransferError

AT_ONCE = (0.0, 0.0)
CHUNK = 8 * 2**20
ARCHIVE = np.arange((2 * CHUNK + 4000) // 8, dtype=">u8").tobytes()
SHA256 = hashlib.sha256(ARCHIVE).hexdigest()
PUBLIC, PRIVATE = "127.0.0.1", "127.0.0.2"  # as far as these tests go


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    return contexts(tmp_path_factory.mktemp("tls"), "hub.test", "cdn.test", "inner.test")


class Internet:
    """Servers with names of their own, on addresses that count as public or not."""

    def __init__(self, stack: ExitStack, tls: ssl.SSLContext) -> None:
        self._stack, self._tls = stack, tls
        self.look_ups: dict[str, list[list[str]]] = {}  # the addresses of a name, one list a look-up; the last stays

    def server(
        self, name: str, files: dict[str, bytes], *, address: str = PUBLIC, is_plain: bool = False, ranges: bool = True
    ) -> LoopbackServer:
        self.look_ups.setdefault(name, [[address]])
        tls = None if is_plain else self._tls
        return self._stack.enter_context(LoopbackServer(files, name=name, address=address, tls=tls, ranges=ranges))

    def getaddrinfo(self, host: str, port: int, *rest: Any, **named: Any) -> list[Any]:
        addresses = self.look_ups.get(host, [[host]])
        found = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


@pytest.fixture
def internet(tls: tuple[ssl.SSLContext, ssl.SSLContext], monkeypatch: pytest.MonkeyPatch) -> Iterator[Internet]:
    with ExitStack() as stack:
        internet = Internet(stack, tls[0])
        monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", tls[1])
        monkeypatch.setattr(socket, "getaddrinfo", internet.getaddrinfo)
        monkeypatch.setattr(web, "is_public", lambda address: address == PUBLIC or is_public(address))
        monkeypatch.setenv("no_proxy", "*")
        yield internet


def fetched(url: str) -> bytes:
    with Source(url, AT_ONCE) as source:
        return source.fetch()


def refused(url: str) -> str:
    with pytest.raises(RedirectError) as caught:
        fetched(url)
    return str(caught.value)


# The ways of Hugging Face, GitHub's releases, Dropbox and Zenodo, in small.


def test_a_signed_address_of_another_host_is_asked_for_byte_by_byte(internet: Internet) -> None:
    query = (
        "X-Amz-Signature=a%2Fb%3D%3d+c&response-content-disposition=inline%3B+filename*%3DUTF-8%27%27a%20b.json"
        "&Policy=eyJ~_-&path=/x%2fy;(z)&%41=%7e"
    )
    hub, cdn = internet.server("hub.test", {}), internet.server("cdn.test", {"b%2F c.json": b"content"})
    hub.answers["resolve/main/a.json"] = redirect(f"{cdn.url}/b%252F%20c.json?{query}")

    assert fetched(f"{hub.url}/resolve/main/a.json") == b"content"
    assert [asked for _, asked, _ in cdn.requests] == [f"/b%252F%20c.json?{query}"]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_http_may_lead_to_https_of_another_host(internet: Internet, status: int) -> None:
    hub, cdn = internet.server("hub.test", {}, is_plain=True), internet.server("cdn.test", {"b.json": b"content"})
    hub.answers["a.json"] = redirect(f"{cdn.url}/b.json", status)
    assert fetched(f"{hub.url}/a.json") == b"content"


def test_the_case_of_a_host_does_not_matter(internet: Internet) -> None:
    hub = internet.server("hub.test", {"b.json": b"content"}, is_plain=True)
    internet.look_ups["HUB.test"] = [[PUBLIC]]
    hub.answers["a.json"] = redirect(f"{hub.url.replace('hub', 'HUB')}/b.json")
    assert fetched(f"{hub.url.replace('//', '//me:word@')}/a.json") == b"content"
    assert hub.passwords == ["Basic bWU6d29yZA=="] * 2


@pytest.mark.parametrize(
    "location", ["/x/b.json", "b.json", "../x/b.json", "./b.json?dl=1", "//{}/x/b.json", "https:b.json", "b.json#top"]
)
def test_a_location_may_be_relative(internet: Internet, location: str) -> None:
    hub = internet.server("hub.test", {"x/b.json": b"content"})
    hub.answers["x/a.json"] = redirect(location.format(hub.url.removeprefix("https://")))
    assert fetched(f"{hub.url}/x/a.json") == b"content"


@pytest.mark.parametrize(("charset", "asked"), [("utf-8", "/stra%C3%9Fe%201.json"), ("latin-1", "/stra%DFe%201.json")])
def test_a_location_that_is_not_quoted_comes_back_as_the_bytes_that_it_was(
    internet: Internet, charset: str, asked: str
) -> None:
    hub = internet.server("hub.test", {})
    head = "HTTP/1.1 302 Found\r\nLocation: /straße 1.json\r\nContent-Length: 0\r\n\r\n".encode(charset)
    hub.answers["a.json"] = lambda: [head]
    with pytest.raises(AbsentError):
        fetched(f"{hub.url}/a.json")
    assert hub.requests[-1][1] == asked


@pytest.mark.parametrize("name", ["hub.test", ""])
def test_a_server_that_redirects_to_itself_until_its_cookie_comes_back_gets_it(internet: Internet, name: str) -> None:
    hub = internet.server(name or "hub.test", {}, is_plain=not name)
    cdn = internet.server("cdn.test", {"b.json": b"content"})

    def answer() -> Iterable[bytes]:
        if hub.requests[-1][2].get("Cookie") == "pass=1":
            return redirect(f"{cdn.url}/b.json")()
        return redirect("/a.json", headers="Set-Cookie: pass=1; Path=/\r\n")()

    hub.answers["a.json"] = answer
    assert fetched(f"{hub.url}/a.json" if name else f"http://{PUBLIC}:{hub.port}/a.json") == b"content"
    assert len(hub.requests) == 2
    assert cdn.requests[0][2].get("Cookie") is None


def test_a_download_asks_for_each_range_anew_and_goes_on_with_what_it_has(internet: Internet, tmp_path: Path) -> None:
    hub, cdn = internet.server("hub.test", {}), internet.server("cdn.test", {"b.zip": ARCHIVE})
    signed: list[str | None] = []

    def answer() -> Iterable[bytes]:  # signed for one request, and one range
        signed.append(hub.requests[-1][2]["Range"])
        return redirect(f"{cdn.url}/b.zip?signature={len(signed)}")()

    hub.answers["a.zip"] = answer
    cdn.faults["b.zip"] = [0, CUT, 503]
    (tmp_path / "a.zip.part").write_bytes(ARCHIVE[:1000])
    with Source(hub.url, AT_ONCE) as source:
        source.download("a.zip", tmp_path / "a.zip", len(ARCHIVE), SHA256)

    assert (tmp_path / "a.zip").read_bytes() == ARCHIVE
    first, second = f"bytes=1000-{CHUNK + 999}", f"bytes={CHUNK + 1000}-{2 * CHUNK + 999}"
    assert signed == [first, second, second, second, f"bytes={2 * CHUNK + 1000}-{len(ARCHIVE) - 1}"]
    assert [(asked, headers["Range"]) for _, asked, headers in cdn.requests] == [
        (f"/b.zip?signature={number}", wanted) for number, wanted in enumerate(signed, 1)
    ]


def test_a_host_without_ranges_behind_a_redirect_sends_the_file_once(internet: Internet, tmp_path: Path) -> None:
    hub, cdn = internet.server("hub.test", {}), internet.server("cdn.test", {"b.zip": ARCHIVE}, ranges=False)
    hub.answers["a.zip"] = redirect(f"{cdn.url}/b.zip")
    (tmp_path / "a.zip.part").write_bytes(ARCHIVE[:1000])
    with Source(hub.url, AT_ONCE) as source:
        source.download("a.zip", tmp_path / "a.zip", len(ARCHIVE), SHA256)
    assert (tmp_path / "a.zip").read_bytes() == ARCHIVE
    assert len(cdn.requests) == 1


@pytest.mark.parametrize("head", [200, 403, 405, 501])
def test_the_version_is_that_of_the_file_where_redirects_end_also_if_head_is_refused(
    internet: Internet, head: int
) -> None:
    hub, cdn = internet.server("hub.test", {}), internet.server("cdn.test", {})
    hub.answers["a.jpg"] = redirect(f"{cdn.url}/b.jpg")

    def answer() -> Iterable[bytes]:
        if (method := cdn.requests[-1][0]) == "HEAD" and head != 200:
            return [f"HTTP/1.1 {head} No\r\nContent-Length: 0\r\n\r\n".encode()]
        return [b'HTTP/1.1 200 OK\r\nETag: "1"\r\nContent-Length: 7\r\n\r\n', b"" if method == "HEAD" else b"content"]

    cdn.answers["b.jpg"] = answer
    with Source(hub.url, AT_ONCE) as source:
        assert source.version("a.jpg") == 'ETag="1" size=7'
    assert [method for method, _, _ in cdn.requests] == (["HEAD"] if head == 200 else ["HEAD", "GET"])


# Passwords


@pytest.mark.parametrize("where", ["netrc", "default", "address"])
def test_a_password_never_goes_on_to_another_host(
    internet: Internet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str
) -> None:
    lines = {"netrc": "machine hub.test login me password word\n", "default": "default login me password word\n"}
    (tmp_path / "netrc").write_text(lines.get(where, ""))
    (tmp_path / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    hub, cdn = internet.server("hub.test", {"d.json": b"mine"}), internet.server("cdn.test", {"b.json": b"content"})
    hub.answers["a.json"] = redirect(f"{hub.url.replace('//', '//you:canary@')}/b.json")  # its own: the password stays
    hub.answers["b.json"] = redirect(f"{cdn.url.replace('//', '//you:canary@')}/b.json")
    url = f"{hub.url}/a.json"

    assert fetched(url.replace("//", "//me:word@") if where == "address" else url) == b"content"
    assert hub.passwords == ["Basic bWU6d29yZA=="] * 2
    assert cdn.passwords == [None]  # with one, S3 answers 400 to an address that is signed

    hub.passwords.clear()
    cdn.answers["b.json"] = redirect(f"{hub.url}/c.json")  # nor to where another host leads on the first one
    hub.answers["c.json"] = redirect("/d.json")
    assert fetched(url.replace("//", "//me:word@") if where == "address" else url) == b"mine"
    assert hub.passwords == ["Basic bWU6d29yZA=="] * 2 + [None] * 2


@pytest.mark.parametrize(
    ("target", "is_same"),
    [
        ("http://a.org/y", True),
        ("http://a.org:80/y", True),
        ("https://a.org/y", True),
        ("https://A.ORG:443/y", True),
        ("http://a.org:8080/y", False),
        ("https://a.org:8443/y", False),
        ("https://www.a.org/y", False),
    ],
)
def test_a_password_is_for_one_server_also_where_it_moves_to_https(target: str, is_same: bool) -> None:
    assert web._is_same_server(URL("http://a.org/x"), URL(target)) is is_same


# What fails says where.


@pytest.mark.parametrize(
    ("status", "error", "line"),
    [
        (404, AbsentError, "/a.json: not found (cdn.test, to which it redirects without a password, answered 404)"),
        (403, AbsentError, "/a.json: not found (cdn.test, to which it redirects without a password, answered 403)"),
        (401, TransferError, "/a.json: cdn.test, to which it redirects without a password, answered 401, at the"),
        (503, TransferError, "/a.json: cdn.test, to which it redirects without a password, answered 503, after 3"),
    ],
)  # fmt: skip
def test_another_host_that_fails_is_named_without_what_may_be_secret(
    internet: Internet, status: int, error: type[CocosegError], line: str
) -> None:
    hub, cdn = internet.server("hub.test", {}), internet.server("cdn.test", {})
    hub.answers["a.json"] = redirect(f"{cdn.url}/get/canary-path/b.json?signature=canary-query")
    cdn.faults["get/canary-path/b.json"] = [status] * 3
    with pytest.raises(error) as caught:
        fetched(f"{hub.url}/a.json")
    assert str(caught.value).startswith(f"{hub.url}{line}")
    assert "canary-" not in str(caught.value)


def test_another_host_that_cannot_be_reached_is_named(internet: Internet) -> None:
    hub, cdn = internet.server("hub.test", {}), LoopbackServer({}, name="cdn.test")
    internet.look_ups["cdn.test"] = [[PUBLIC]]
    cdn._server.server_close()
    hub.answers["a.json"] = redirect(f"{cdn.url.replace('http:', 'https:')}/b.json?signature=canary-query")
    with pytest.raises(TransferError, match=r"/a\.json: cdn\.test cannot be reached") as caught:
        fetched(f"{hub.url}/a.json")
    assert "canary-" not in str(caught.value)


def test_another_host_without_a_certificate_that_counts_is_not_believed(
    internet: Internet, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub, cdn = internet.server("hub.test", {}, is_plain=True), internet.server("cdn.test", {"b.json": b"content"})
    hub.answers["a.json"] = redirect(f"{cdn.url}/b.json")
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", ssl.create_default_context())
    with pytest.raises(CocosegError, match=r"/a\.json: cdn\.test shows an invalid certificate \(unable to get local"):
        fetched(f"{hub.url}/a.json")
    assert cdn.requests == []


@pytest.mark.parametrize(
    ("defect", "reason"),
    [("is_expired", "certificate has expired"), ("is_self_signed", "self-signed certificate")],
)
def test_a_certificate_that_is_not_valid_is_one_line_at_the_first_attempt(
    internet: Internet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, defect: str, reason: str
) -> None:
    internet._tls, client = contexts(tmp_path, "hub.test", **{defect: True})
    monkeypatch.setattr("aiohttp.connector._SSL_CONTEXT_VERIFIED", client)
    hub = internet.server("hub.test", {"a.json": b"content"})
    with pytest.raises(CocosegError) as caught:
        fetched(f"{hub.url}/a.json")
    assert str(caught.value) == (
        f"{hub.url}/a.json: hub.test shows an invalid certificate ({reason}), expected one of a known authority; set "
        "the clock if it is wrong, name the file of your own authority in SSL_CERT_FILE (for S3 in AWS_CA_BUNDLE), or "
        "download the file and name its path"
    )
    assert (hub.connections, hub.requests) == (1, [])


def test_redirects_come_to_an_end(internet: Internet) -> None:
    hub = internet.server("hub.test", {f"{MOST_REDIRECTS}": b"content"})
    for number in range(MOST_REDIRECTS):
        hub.answers[str(number)] = redirect(f"/{number + 1}?token=canary")
    assert fetched(f"{hub.url}/0") == b"content"

    hub.answers["loop"] = redirect("/loop")
    hub.requests.clear()
    assert f"{hub.url}/loop: {hub.url} redirects more than 10 times; open" in refused(f"{hub.url}/loop")
    assert len(hub.requests) == MOST_REDIRECTS + 1  # and not tried again


@pytest.mark.parametrize(("status", "header"), [(300, "URI"), (301, "URI"), (302, "URI"), (304, "Location")])
def test_a_redirect_to_nowhere_is_no_file(internet: Internet, status: int, header: str) -> None:
    hub = internet.server("hub.test", {"b.json": b"content"})
    head = f"HTTP/1.1 {status} Found\r\n{header}: /b.json\r\nContent-Length: 0\r\n\r\n"
    hub.answers["a.json"] = lambda: [head.encode()]
    assert f"/a.json: answered {status} without an address to follow; " in refused(f"{hub.url}/a.json")


def test_a_page_at_the_end_of_a_redirect_is_said_to_be_one(internet: Internet) -> None:
    hub = internet.server("hub.test", {"b.json": b"<!DOCTYPE html><title>Redirecting...</title>"})
    hub.answers["a.json"] = redirect("/b.json")
    with pytest.raises(CocosegError, match="is a web page or XML, not JSON; check the address, and whether it needs a"):
        verify_instances(fetched(f"{hub.url}/a.json"), "a.json")


# Where redirects do not lead


@pytest.mark.parametrize(
    ("source", "target", "line"),
    [
        ("https://a.org/x", "https://b.org/x", None),
        ("https://a.org/x", "https://a.org:444/x", None),
        ("https://a.org/x", "https://A.ORG/y", None),
        ("http://a.org/x", "https://b.org/x", None),
        ("http://a.org/x", "http://A.org:8000/x", None),
        ("https://a.org/x", "http://a.org/x", "redirects to http://a.org, from https to http, where anyone on the way"),
        ("https://a.org/x", "http://b.org/x", "redirects to http://b.org, from https to http, where anyone on the way"),
        ("http://a.org/x", "http://b.org/x", "redirects to http://b.org, another host without https, which cannot"),
        ("http://a.org/x", "http://www.a.org/x", "redirects to http://www.a.org, another host without https, which "),
        ("https://a.org/x", "file:///etc/passwd", "redirects to file:, another scheme; this is not followed"),
        ("https://a.org/x", "ws://a.org/x", "redirects to ws:, another scheme; this is not followed"),
    ],
)  # fmt: skip
def test_https_leads_to_https_and_http_to_itself_or_to_https(source: str, target: str, line: str | None) -> None:
    defect = redirect_defect(URL(source), URL(target))
    assert defect is None if line is None else defect is not None and defect.startswith(line)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::8.8.8.8", True),  # how networks with IPv6 alone reach all others
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("192.0.0.192", False),
        ("192.88.99.1", False),
        ("168.63.129.16", False),  # Azure's host, seen from its virtual machines
        ("168.63.129.17", True),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("::127.0.0.1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b:1::8.8.8.8", False),  # of a network's own
        ("2002:7f00:1::", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        ("fc00::1", False),
        ("fd00:ec2::254", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fec0::1", False),
        ("ff02::1", False),
    ],
)
def test_an_address_is_public_or_not(address: str, expected: bool) -> None:
    assert is_public(address) is expected


@pytest.mark.parametrize(
    ("host", "address"),
    [
        (PRIVATE, PRIVATE),
        ("2130706434", PRIVATE),
        ("0x7f000002", PRIVATE),
        ("0177.0.0.02", PRIVATE),
        ("127.2", PRIVATE),
        ("[::1]", "::1"),
        ("[::ffff:7f00:2]", "::ffff:7f00:2"),
        ("[64:ff9b::a00:1]", "64:ff9b::a00:1"),
        ("[fe80::1%25lo]", "fe80::1%lo"),
        ("169.254.169.254", "169.254.169.254"),
        ("0", "0.0.0.0"),
    ],
)
def test_a_public_host_does_not_lead_to_an_address_that_is_not_however_it_is_written(
    internet: Internet, host: str, address: str
) -> None:
    hub, inner = internet.server("hub.test", {}), internet.server("inner.test", {}, address=PRIVATE)
    hub.answers["a.json"] = redirect(f"https://{host}:{inner.port}/b.json?token=canary")
    line = refused(f"{hub.url}/a.json")
    assert line.startswith(f"{hub.url}/a.json: redirects to https://")
    assert (
        f", which is at {address}, not a public address; this is not followed; if you trust it, name that address"
        in line
    )
    assert "canary" not in line
    assert inner.connections == 0


def test_a_public_host_does_not_lead_to_a_name_of_a_private_address(internet: Internet) -> None:
    hub, inner = internet.server("hub.test", {}), internet.server("inner.test", {}, address=PRIVATE)
    hub.answers["a.json"] = redirect(f"{inner.url}/b.json")
    assert f"redirects to {inner.url}, which is at 127.0.0.2, not a public address" in refused(f"{hub.url}/a.json")
    assert inner.connections == 0
    assert len(hub.requests) == 1  # and not tried again


def test_a_name_that_means_a_private_address_a_moment_later_is_not_connected_to(internet: Internet) -> None:
    hub, inner = internet.server("hub.test", {}), internet.server("hub.test", {"b.json": b""}, address=PRIVATE)
    hub.answers["a.json"] = redirect(f"{inner.url}/b.json")  # its own name, at another port: looked up again
    internet.look_ups["hub.test"] = [[PUBLIC], [PRIVATE]]
    assert "hub.test" in refused(f"{hub.url}/a.json")
    assert inner.connections == 0


def test_of_several_addresses_the_public_one_is_taken(internet: Internet) -> None:
    hub, cdn = internet.server("hub.test", {}), internet.server("cdn.test", {"b.json": b"content"})
    internet.look_ups["cdn.test"] = [[PRIVATE, PUBLIC]]
    hub.answers["a.json"] = redirect(f"{cdn.url}/b.json")
    assert fetched(f"{hub.url}/a.json") == b"content"

    internet.look_ups["cdn.test"] = [[PRIVATE, "10.0.0.1"]]
    assert "which is at 10.0.0.1, not a public address" in refused(f"{hub.url}/a.json")


def test_a_private_server_leads_to_itself_and_to_public_ones_and_not_back(internet: Internet) -> None:
    inner = internet.server("inner.test", {"b.json": b"mine"}, address=PRIVATE)
    other = internet.server("inner.test", {"c.json": b"its own"}, address=PRIVATE)
    hub = internet.server("hub.test", {"d.json": b"public"})
    inner.answers["a.json"] = redirect("/b.json")
    assert fetched(f"{inner.url}/a.json") == b"mine"
    inner.answers["a.json"] = redirect(f"{other.url}/c.json")  # another port
    assert fetched(f"{inner.url}/a.json") == b"its own"
    inner.answers["a.json"] = redirect(f"{hub.url}/d.json")
    assert fetched(f"{inner.url}/a.json") == b"public"

    hub.answers["d.json"] = redirect(f"{inner.url}/b.json")
    inner.delay_s = 0.2
    with Source(inner.url, AT_ONCE) as source, ThreadPoolExecutor(2) as pool:
        assert list(pool.map(source.fetch, ["b.json"] * 2)) == [b"mine"] * 2  # so two connections are open
        with pytest.raises(RedirectError) as caught:
            source.fetch("a.json")  # over one of them; the other is there for what hub.test makes of it
    line = f"{inner.url}/a.json: {hub.url} redirects to {inner.url}, which is at 127.0.0.2, not a public address"
    assert str(caught.value).startswith(line)
    assert [asked for _, asked, _ in inner.requests].count("/b.json") == 3


def test_a_private_server_does_not_lead_to_another_private_one(internet: Internet) -> None:
    inner, hub = internet.server("inner.test", {}, address=PRIVATE), internet.server("hub.test", {}, address=PRIVATE)
    inner.answers["a.json"] = redirect(f"{hub.url}/b.json")
    assert "which is at 127.0.0.2, not a public address" in refused(f"{inner.url}/a.json")


# Behind a proxy, which alone looks names up


def test_a_proxy_on_a_private_address_is_no_hindrance(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    hub, cdn = internet.server("hub.test", {}), internet.server("cdn.test", {"b.json": b"content"})
    hub.answers["a.json"] = redirect(f"{cdn.url}/b.json")
    internet.look_ups.clear()  # nobody here knows these names
    proxy = internet.server("proxy.test", {}, address=PRIVATE, is_plain=True)
    proxy.tunnels = {"hub.test": hub, "cdn.test": cdn}
    monkeypatch.setenv("https_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    assert fetched(f"{hub.url}/a.json") == b"content"
    assert [method for method, _, _ in proxy.requests] == ["CONNECT"] * 2

    hub.answers["a.json"] = redirect(f"https://2130706434:{cdn.port}/b.json")
    assert "which is at 127.0.0.2, not a public address" in refused(f"{hub.url}/a.json")


def test_the_answers_of_a_proxy_are_judged_like_others(internet: Internet, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = internet.server("proxy.test", {"b.json": b"content"}, address=PRIVATE, is_plain=True)
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("NO_PROXY", "")
    proxy.answers["a.json"] = redirect("/b.json")
    assert fetched("http://hub.test/a.json") == b"content"
    proxy.answers["a.json"] = redirect("http://cdn.test/b.json")
    assert "redirects to http://cdn.test, another host without https" in refused("http://hub.test/a.json")


@pytest.mark.parametrize(
    ("before", "target", "address", "is_barred"),
    [
        ("198.18.0.5", "https://cdn.test/", "198.19.0.6", False),
        ("198.18.0.5", "https://198.18.0.6/", "198.18.0.6", True),
        ("198.18.0.5", "https://cdn.test/", "10.0.0.1", True),
        ("10.0.0.1", "https://cdn.test/", "198.18.0.6", True),
        ("8.8.8.8", "https://cdn.test/", "198.18.0.6", True),
    ],
)
def test_a_vpn_that_gives_every_name_an_address_of_its_own_is_no_hindrance(
    before: str, target: str, address: str, is_barred: bool
) -> None:
    hub = web._Hop(URL("https://hub.test/"))
    hub.address = before
    assert web._Hop(URL(target), sender=hub).bars(address) is is_barred
