"""The web as a source of files: redirects are judged, and answers are read up to a bound."""

import base64
import hashlib
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
from aiohttp.tracing import Trace
from yarl import URL

from cocoseg.core.errors import CocosegError

MOST_REDIRECTS = 10

_MD5_BYTES = 16
_S3_ENCRYPTION = "x-amz-server-side-encryption"
_CONNECT_TIMEOUT_S = 20.0
_REDIRECTS = (301, 302, 303, 307, 308)
_TRUST = "if you trust it, name that address itself, or download the file and name its path"
_LOOK = "open it in a browser, download the file there and name its path"
_NAT64 = ip_network("64:ff9b::/96")
_GLOBAL_UNICAST = ip_network("2000::/3")
_VPN = ip_network("198.18.0.0/15")  # of tests, from which VPNs in "fake IP" mode give every name an address
# Not public by IANA's registries either, which `is_global` of Python 3.11.7 does not know yet.
_SPECIAL = (ip_network("192.0.0.0/24"), ip_network("2002::/16"))


class RedirectError(CocosegError):
    """A server redirects to a place that is not followed."""


@dataclass
class _Hop:
    """One request, and the one whose answer redirected to it."""

    url: URL
    sender: "_Hop | None" = None
    number: int = 0  # of redirects before
    own: bool = True  # the server that the user named, and nothing but it before: passwords are for it alone
    address: str | None = field(init=False)  # of the server; that of a name which a proxy looks up is not known
    proxied: bool = False
    barred: str | None = None  # the last address that was not connected to

    def __post_init__(self) -> None:
        self.address = _literal(self.url.host or "")

    def bars(self, address: str) -> bool:
        """Return whether a redirect leads to an address that is not public.

        A private server may lead to itself. Where a VPN hides what names mean, it alone knows, as a proxy does.
        """
        if self.sender is None or is_public(address):
            return False
        before = self.sender.address
        if before is None or is_public(before):
            return True
        is_hidden = _literal(self.url.host or "") is None and ip_address(before) in _VPN and ip_address(address) in _VPN
        return not is_hidden and self.sender.url.raw_host != self.url.raw_host

    def refusal(self, address: str) -> RedirectError:
        """Return the error for an address that is barred."""
        assert self.sender is not None
        where = f"{_origin(self.url)}, which is at {address}, not a public address"
        return self.sender.error(f"redirects to {where}; this is not followed")

    def error(self, what: str, way_out: str = _TRUST) -> RedirectError:
        """Return the error that says what this server did, and its name if it is not the one that the user named."""
        return RedirectError(f"{_origin(self.url) + ' ' if self.sender else ''}{what}; {way_out}")


_HOP: ContextVar[_Hop] = ContextVar("hop")


class _Connector(aiohttp.TCPConnector):
    """Connections that are judged by the address they lead to: what a name means may change between two look-ups."""

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
            if hop.bars(hop.address):  # a connection that an earlier request has left open
                connection.close()
                raise hop.refusal(hop.address)
        return connection


def _socket(info: aiohttp.AddrInfoType) -> socket.socket:
    hop, address = _HOP.get(), str(info[4][0])
    if not hop.proxied and hop.bars(address):
        hop.barred = address
        raise OSError(f"{address} is not a public address")  # the one error after which other addresses are tried
    return socket.socket(*info[:3])


async def client(read_timeout_s: float, **_: Any) -> aiohttp.ClientSession:
    """Return a session for `fsspec`'s file system of the web.

    `trust_env`: proxies, and passwords from `~/.netrc`. `unsafe`: cookies of servers without a name, too.
    """
    return aiohttp.ClientSession(
        connector=_Connector(),
        cookie_jar=aiohttp.CookieJar(unsafe=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=read_timeout_s),
        trust_env=True,
    )


async def read(files: Any, url: str, start: int | None, end: int | None, most_bytes: int) -> bytes:
    """The bytes behind a URL, or those from `start` to before `end`, by way of fsspec's file system of the web.

    Of an answer of more than `most_bytes`, counted after decompression, only so many and a few more. Raises
    `RedirectError`, and what aiohttp raises, `ClientPayloadError` also for a whole answer with another MD5 than its
    head says.
    """
    headers = {} if end is None else {"Range": f"bytes={start or 0}-{end - 1}"}
    async with _answer(files, "GET", url, headers) as response:
        chunks: list[bytes] = []
        size = 0
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if size > most_bytes:
                break
        content = b"".join(chunks)
        said = said_md5(response.headers) if response.status == 200 and size <= most_bytes else None
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if said not in (None, found):
            raise aiohttp.ClientPayloadError(f"the MD5 of what came is {found}, of what was sent {said}")
        return content


async def version(files: Any, url: str) -> dict[str, str]:
    """Return what the head of an answer says of a file: `ETag`, `Last-Modified` and `size`, as far as it does.

    Addresses that are signed for GET refuse HEAD, and some servers forget the size in it.
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
    """The MD5 of a file, in hexadecimal digits, if the head of an answer gives it: as `Content-MD5` (RFC 1864), or as
    the ETag of an object on Amazon S3 that was put there in one part and is not encrypted with a key of one's own
    («Object» in the S3 API Reference). COCO's images are such.
    """
    if "Content-Encoding" in headers:  # then it is of what was packed
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
    """The answer to a request, where it is after redirects. Raises `RedirectError`, and what aiohttp raises."""
    session = await files.set_session()
    hop = _Hop(files.encode_url(url))
    while True:
        _HOP.set(hop)
        bare = () if hop.own else (_without_password,)
        async with session.request(
            method, hop.url, headers=headers, allow_redirects=False, middlewares=bare
        ) as response:
            if not 300 <= response.status < 400:
                response.raise_for_status()
                yield response
                return
            hop = _next(hop, response)


async def _without_password(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    request.headers.pop("Authorization", None)  # from ~/.netrc, whose `default` is for every host
    return await handler(request)


def _next(hop: _Hop, response: aiohttp.ClientResponse) -> _Hop:
    """The request that an answer redirects to. Raises `RedirectError`."""
    location = response.headers.get("Location")
    if response.status not in _REDIRECTS or not location:
        raise hop.error(f"answered {response.status} without an address to go on to", _LOOK)
    if hop.number == MOST_REDIRECTS:
        raise hop.error(f"redirects once more after {MOST_REDIRECTS} redirects", _LOOK)
    # As it is, byte for byte: a signature may be of its very spelling. Only what no address may hold is quoted.
    ascii_location = quote(location.encode("utf-8", "surrogateescape"), safe=string.punctuation)
    source = hop.url.with_user(None)
    try:
        target = URL(urljoin(str(source), ascii_location), encoded=True)
        defect = redirect_defect(source, target)
        if defect is None:
            target = target.with_user(None)
    except ValueError:
        defect = "redirects to what is not a valid URL"
    if defect is not None:
        raise hop.error(defect)
    own = hop.own and _is_same_server(source, target)
    if own and hop.url.user is not None:
        target = target.with_user(hop.url.user).with_password(hop.url.password)
    return _Hop(target, sender=hop, number=hop.number + 1, own=own)


def redirect_defect(source: URL, target: URL) -> str | None:
    """Return why a redirect is not followed, as far as its text tells, or `None`.

    https may lead to any host, since its certificate vouches for the redirect; http to its own host, or to https. On
    http anyone on the way may have written the redirect, so nothing vouches for another host that has no certificate
    either.
    """
    if target.scheme not in ("http", "https"):
        return f"redirects to {target.scheme[:20]}:, another scheme; this is not followed"
    there = f"redirects to {_origin(target)}"
    if not target.host:
        return "redirects to what is not a valid URL"
    if (source.scheme, target.scheme) == ("https", "http"):
        return f"{there}, from https to http, where anyone on the way could change the file; this is not followed"
    if target.scheme == "http" and source.raw_host != target.raw_host:
        return f"{there}, another host without https, for which nothing vouches; this is not followed"
    return None


def is_public(address: str) -> bool:
    """Return whether an address is a single host's on the public internet, also one that another one stands for."""
    ip = ip_address(address)
    if isinstance(ip, IPv6Address):
        inside = ip.ipv4_mapped or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        if inside is None and ip not in _GLOBAL_UNICAST:
            return False
        ip = inside or ip
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _SPECIAL)


def _literal(host: str) -> str | None:
    """Return the address that a host is written as, also `2130706433`, `0x7f.1` or `127.1`; `None` if it is a name."""
    with suppress(ValueError):
        return str(ip_address(host))
    with suppress(OSError):
        return socket.inet_ntoa(socket.inet_aton(host))
    return None


def _is_same_server(source: URL, target: URL) -> bool:
    ports = source.is_default_port() and target.is_default_port()  # http://a.org may send us to https://a.org
    return source.raw_host == target.raw_host and (
        ports or (source.scheme, source.port) == (target.scheme, target.port)
    )


def _origin(url: URL) -> str:
    """The part of an address that may always be shown: a path may hold a secret too."""
    host = f"[{url.raw_host}]" if ":" in (url.raw_host or "") else url.raw_host
    return f"{url.scheme}://{host}"[:100] + ("" if url.is_default_port() else f":{url.port}")
