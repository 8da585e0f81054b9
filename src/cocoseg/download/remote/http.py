"""Fetch files over HTTP: check redirects, and read answers up to a limit."""

import asyncio
import base64
import hashlib
import logging
import re
import socket
import string
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any
from urllib.parse import quote, urljoin

import aiohttp
from aiohttp.connector import Connection
from aiohttp.log import client_logger
from aiohttp.tracing import Trace
from yarl import URL

from cocoseg.core.errors import CocosegError

MOST_REDIRECTS = 10

# A mobile connection of the second generation has about 5,000 bytes/s, and 24 requests may share it.
LEAST_BYTES_PER_S = 100
WINDOW_S = 30.0
ANSWER_S = 60.0  # until the head of an answer is complete; the time limit of most servers and proxies, too
# A file may take an hour, and a second more for each 10,000 bytes that came: 8 MB at 5,000 bytes/s take half an hour.
FILE_S = 3600.0
MEAN_BYTES_PER_S = 10_000

_MD5_BYTES = 16
_S3_ENCRYPTION = "x-amz-server-side-encryption"
_CONNECT_TIMEOUT_S = 20.0
_REDIRECTS = (301, 302, 303, 307, 308)
_TRUST = "if you trust it, name that address itself, or download the file and name its path"
_LOOK = "open it in a browser, download the file there and name its path"
_NAT64 = ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ip_network("2000::/3")
_VPN = ip_network("198.18.0.0/15")  # for benchmarks; VPNs in "fake IP" mode resolve every name to it
# Not public either by IANA's registries, but `is_global` of Python 3.11.7 does not know them yet. The last is Azure's
# own: the host of a virtual machine answers there.
_SPECIAL = tuple(map(ip_network, ("192.0.0.0/24", "192.88.99.0/24", "2002::/16", "3fff::/20", "168.63.129.16/32")))


class RedirectError(CocosegError):
    """A server redirects to an address that is not followed."""


class SlowError(TimeoutError):
    """A server sends less than any usable connection carries."""


@dataclass
class _Hop:
    """A request, and the request whose answer redirected to it."""

    url: URL
    sender: "_Hop | None" = None
    number: int = 0  # of redirects before this request
    own: bool = True  # to the server that the user named, as all before: only it gets passwords
    address: str | None = field(init=False)  # of the server; unknown if a proxy resolves its name
    proxied: bool = False
    barred: str | None = None  # the last address that was refused

    def __post_init__(self) -> None:
        self.address = _literal(self.url.host or "")

    def bars(self, address: str) -> bool:
        """Return whether a redirect leads to an address that is not public.

        A private server may redirect to itself. If a VPN resolves all names to addresses of its own, their real
        addresses are unknown, as with a proxy, and the redirect is allowed.
        """
        if self.sender is None or is_public(address):
            return False
        before = self.sender.address
        if before is None or is_public(before):
            return True
        is_hidden = _literal(self.url.host or "") is None and ip_address(before) in _VPN and ip_address(address) in _VPN
        return not is_hidden and _host(self.sender.url) != _host(self.url)

    def refusal(self, address: str) -> RedirectError:
        """Return the error for an address that `bars` refuses."""
        assert self.sender is not None
        where = f"{_origin(self.url)}, which is at {address}, not a public address"
        return self.sender.error(f"redirects to {where}; this is not followed")

    def error(self, what: str, way_out: str = _TRUST) -> RedirectError:
        """Return the error for `what` this server did. Names the server, unless the user named it."""
        return RedirectError(f"{_origin(self.url) + ' ' if self.sender else ''}{what}; {way_out}")


_HOP: ContextVar[_Hop] = ContextVar("hop")


class _Connector(aiohttp.TCPConnector):
    """Connections that are checked by IP address: a name may resolve differently in the next lookup."""

    def __init__(self) -> None:
        super().__init__(socket_factory=_socket)

    async def connect(
        self, req: aiohttp.ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        hop = _HOP.get()
        hop.proxied = req.proxy is not None
        if hop.address is not None and hop.bars(hop.address):
            raise hop.refusal(hop.address)
        try:
            connection = await super().connect(req, traces, timeout)
        except aiohttp.ClientConnectorError:
            if hop.barred is not None:
                raise hop.refusal(hop.barred) from None
            raise
        if not hop.proxied and connection.transport and (peer := connection.transport.get_extra_info("peername")):
            hop.address = str(peer[0])
            if hop.bars(hop.address):  # a connection that an earlier request left open
                connection.close()
                raise hop.refusal(hop.address)
        return connection


def _socket(info: aiohttp.AddrInfoType) -> socket.socket:
    hop, address = _HOP.get(), str(info[4][0])
    if not hop.proxied and hop.bars(address):
        hop.barred = address
        raise OSError(f"{address} is not a public address")  # after an OSError, the other addresses are tried
    return socket.socket(*info[:3])


async def client(read_timeout_s: float, **_: Any) -> aiohttp.ClientSession:
    """Return a session for fsspec's HTTP file system.

    `trust_env`: use proxies of the environment, and passwords of `~/.netrc`. `unsafe`: accept cookies of servers
    without a name, too.
    """
    client_logger.setLevel(logging.ERROR)  # for each request, it says that it ignores a proxy on https; see `_failure`
    return aiohttp.ClientSession(
        connector=_Connector(),
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=read_timeout_s),
        trust_env=True,
    )


async def read(files: Any, url: str, start: int | None, end: int | None, most_bytes: int) -> bytes:
    """Return the bytes at a URL, or those from `start` to before `end`, through fsspec's HTTP file system.

    Stops reading soon after `most_bytes`, counted after decompression. Raises `RedirectError`, `SlowError` and
    aiohttp's errors, of which `ClientPayloadError` also for a complete answer whose MD5 is not the one in its headers.
    """
    headers = {} if end is None else {"Range": f"bytes={start or 0}-{end - 1}"}
    async with _answer(files, "GET", url, headers) as response:
        sent = response.headers.get("Content-Range", "")
        if response.status == 206 and not sent.startswith(f"bytes {start or 0}-"):
            # Some caches align ranges to blocks of their own.
            raise aiohttp.ClientResponseError(response.request_info, (), status=416, message=f"sent {sent}")
        chunks: list[bytes] = []
        size = 0
        async for chunk in _paced(response.content):
            chunks.append(chunk)
            size += len(chunk)
            if size > most_bytes:
                break
        content = b"".join(chunks)
        said = said_md5(response.headers) if response.status == 200 and size <= most_bytes else None
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if said not in (None, found):
            raise aiohttp.ClientPayloadError(f"the MD5 of the content is {found}, but the server announced {said}")
        return content


async def _paced(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the chunks of a body. Raises `SlowError` below the least rate, and beyond the time that a file may take."""
    now = asyncio.get_running_loop().time
    started = opened = now()
    size = size_before = 0
    while True:
        pace = asyncio.timeout_at(opened + WINDOW_S)
        try:
            async with pace:
                chunk = await content.readany()
        except TimeoutError:
            if not pace.expired():
                raise
        else:
            if not chunk:
                return
            size += len(chunk)
            yield chunk
        if (seconds := now() - opened) >= WINDOW_S:
            if size - size_before < (least := LEAST_BYTES_PER_S * WINDOW_S):
                raise SlowError(f"sent {size - size_before:,} bytes in {seconds:.0f} s, expected at least {least:,.0f}")
            if now() - started > (most := most_seconds(size)):
                raise SlowError(f"sent {size:,} bytes in {now() - started:,.0f} s, expected at most {most:,.0f} s")
            opened, size_before = now(), size


def most_seconds(size_bytes: int) -> float:
    """Return how long a file of this size may take."""
    return FILE_S + size_bytes / MEAN_BYTES_PER_S


async def version(files: Any, url: str) -> dict[str, str]:
    """Return what the headers of an answer say about a file: `ETag`, `Last-Modified` and `size`, if they are there.

    URLs that are signed for GET refuse HEAD, and some servers omit the size in it.
    """
    said: dict[str, str] = {}
    for method in ("HEAD", "GET"):
        with suppress(aiohttp.ClientError):
            async with _answer(files, method, url, {"Accept-Encoding": "identity"}) as response:
                names = {"ETag": "ETag", "Last-Modified": "Last-Modified", "Content-Length": "size"}
                said = {key: response.headers[name] for name, key in names.items() if name in response.headers}
        if "size" in said:
            break
    return said


def said_md5(headers: Mapping[str, str]) -> str | None:
    """Return the MD5 of a file, in hex digits, if the headers of an answer give it.

    They give it as `Content-MD5` (RFC 1864), or as the ETag of an object on Amazon S3 that was uploaded in one part and
    is not encrypted with a customer's key ("Object" in the S3 API Reference). COCO's images are such objects.
    """
    if "Content-Encoding" in headers:  # then it is that of the compressed content
        return None
    with suppress(ValueError):
        if len(digest := base64.b64decode(headers.get("Content-MD5", ""), validate=True)) == _MD5_BYTES:
            return digest.hex()
    etag = re.fullmatch(r'"([0-9a-f]{32})"', headers.get("ETag", ""))
    encrypted = any(name.lower().startswith("x-amz-server-side-encryption") for name in headers)
    if etag and headers.get("Server") == "AmazonS3" and (not encrypted or headers.get(_S3_ENCRYPTION) == "AES256"):
        return etag[1]
    return None


@asynccontextmanager
async def _answer(
    files: Any, method: str, url: str, headers: Mapping[str, str]
) -> AsyncIterator[aiohttp.ClientResponse]:
    """Yield the answer to a request, after redirects. Raises `RedirectError` and the errors of aiohttp."""
    session = await files.set_session()
    hop = _Hop(files.encode_url(url))
    while True:
        _HOP.set(hop)
        bare = () if hop.own else (_without_password,)
        request = session.request(method, hop.url, headers=headers, allow_redirects=False, middlewares=bare)
        async with _begun(request) as response:
            if not 300 <= response.status < 400:
                response.raise_for_status()
                yield response
                return
            hop = _next(hop, response)


@asynccontextmanager
async def _begun(request: Any) -> AsyncIterator[aiohttp.ClientResponse]:
    """Yield the answer to a request once its head is complete. Raises `SlowError` if that takes too long."""
    limit = asyncio.timeout(ANSWER_S)
    try:
        async with limit:
            response = await request
    except TimeoutError:
        if limit.expired():
            raise SlowError(f"sent no complete answer in {ANSWER_S:.0f} s") from None
        raise
    async with response:
        yield response


async def _without_password(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    request.headers.pop("Authorization", None)  # from ~/.netrc, whose entry `default` is for every host
    return await handler(request)


def _next(hop: _Hop, response: aiohttp.ClientResponse) -> _Hop:
    """Return the request that an answer redirects to. Raises `RedirectError`."""
    location = response.headers.get("Location")
    if response.status not in _REDIRECTS or not location:
        raise hop.error(f"answered {response.status} without an address to follow", _LOOK)
    if hop.number == MOST_REDIRECTS:
        raise hop.error(f"redirects more than {MOST_REDIRECTS} times", _LOOK)
    # Kept byte for byte, since a signature may cover the spelling. Only what no URL may contain is quoted.
    ascii_location = quote(location.encode("utf-8", "surrogateescape"), safe=string.punctuation)
    source = hop.url.with_user(None)
    try:
        target = URL(urljoin(str(source), ascii_location), encoded=True)
        defect = redirect_defect(source, target)
        if defect is None:
            target = target.with_user(None)
    except ValueError:
        defect = "redirects to an invalid URL"
    if defect is not None:
        raise hop.error(defect)
    own = hop.own and _is_same_server(source, target)
    if own and hop.url.user is not None:
        target = target.with_user(hop.url.user).with_password(hop.url.password)
    return _Hop(target, sender=hop, number=hop.number + 1, own=own)


def redirect_defect(source: URL, target: URL) -> str | None:
    """Return why a redirect is not followed, judging by its URLs alone, or `None`.

    A server on https may redirect to any host, since its certificate vouches for the redirect. A server on http may
    redirect to its own host or to https. Anyone on the way could have written the redirect, so another host without a
    certificate is not trusted.
    """
    if target.scheme not in ("http", "https"):
        return f"redirects to {target.scheme[:20]}:, another scheme; this is not followed"
    there = f"redirects to {_origin(target)}"
    if not target.host:
        return "redirects to an invalid URL"
    if (source.scheme, target.scheme) == ("https", "http"):
        return f"{there}, from https to http, where anyone on the way could change the file; this is not followed"
    if target.scheme == "http" and _host(source) != _host(target):
        return f"{there}, another host without https, which cannot be verified; this is not followed"
    return None


def is_public(address: str) -> bool:
    """Return whether an address is of a single host on the public internet. An embedded IPv4 address counts instead."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        inside = ip.ipv4_mapped or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        if inside is None and ip not in _GLOBAL_UNICAST:
            return False
        ip = inside or ip
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _SPECIAL)


def _literal(host: str) -> str | None:
    """Return the IP address that a host is, also if written `2130706433`, `0x7f.1` or `127.1`; `None` for a name."""
    with suppress(ValueError):
        return str(ip_address(host))
    with suppress(OSError):
        return socket.inet_ntoa(socket.inet_aton(host))
    return None


def _is_same_server(source: URL, target: URL) -> bool:
    ports = source.is_default_port() and target.is_default_port()  # http://a.org may redirect to https://a.org
    return _host(source) == _host(target) and (ports or (source.scheme, source.port) == (target.scheme, target.port))


def _host(url: URL) -> str:
    return (url.raw_host or "").lower()  # yarl keeps the case of a URL that is encoded already


def _origin(url: URL) -> str:
    """Return the part of a URL that is always safe to show: a path may hold a secret too."""
    host = f"[{url.raw_host}]" if ":" in (url.raw_host or "") else url.raw_host
    return f"{url.scheme}://{host}"[:100] + ("" if url.is_default_port() else f":{url.port}")
