"""The web as a source of files: answers are read up to a bound, and no server sends us to another one unasked."""

import base64
import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import SplitResult, urljoin, urlsplit

import aiohttp

from cocoseg.core.errors import CocosegError

ALLOWED_HOSTS = "COCOSEG_ALLOWED_HOSTS"

_MD5_BYTES = 16
_S3_ENCRYPTION = "x-amz-server-side-encryption"
_CONNECT_TIMEOUT_S = 20.0
_PORTS = {"http": 80, "https": 443}


class RedirectError(CocosegError):
    """A server sent us to a place that the user did not name."""


def client_settings(read_timeout_s: float) -> dict[str, Any]:
    """What aiohttp's session is made with. `trust_env`: proxies, and passwords from `~/.netrc`."""
    trace = aiohttp.TraceConfig()
    trace.on_request_redirect.append(_judge_redirect)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S, sock_read=read_timeout_s)
    return {"timeout": timeout, "trust_env": True, "trace_configs": [trace]}


async def read(files: Any, url: str, start: int | None, end: int | None, most_bytes: int) -> bytes:
    """The bytes behind a URL, or those from `start` to before `end`, by way of fsspec's file system of the web.

    Of an answer of more than `most_bytes`, counted after decompression, only so many and a few more. Raises
    `RedirectError`, and what aiohttp raises, `ClientPayloadError` also for a whole answer with another MD5 than its
    head says.
    """
    session = await files.set_session()
    headers = {} if end is None else {"Range": f"bytes={start or 0}-{end - 1}"}
    async with session.get(files.encode_url(url), headers=headers) as response:
        if response.status == 404:
            raise FileNotFoundError(url)
        response.raise_for_status()
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


def redirect_defect(source: str, target: str) -> str | None:
    """Why an answer of `source` that leads to `target` is not followed, and the way out; `None` if it is.

    The same host and port may answer for itself, also by https instead of http; others are for the user to allow.
    """
    try:
        before, after = urlsplit(source), urlsplit(urljoin(source, target))
        here, there = _server(before), _server(after)
    except ValueError:
        return "leads to an address that is none"
    if after.scheme not in _PORTS:
        return f"leads to a {after.scheme[:20]}: address, which is not followed"
    if (before.scheme, after.scheme) == ("https", "http"):
        return "leads from https to http, where anyone on the way could change it, which is not followed"
    is_upgrade = (before.port, after.port) == (None, None) and here[0] == there[0]
    if here == there or is_upgrade or _is_allowed(*there):
        return None
    name = f"{there[0]}:{there[1]}"
    return f"leads to another host, {name}, which is not followed; if you trust it: {ALLOWED_HOSTS}={name}"


def _server(url: SplitResult) -> tuple[str, int]:
    host = url.hostname or ""
    return (host if host.isprintable() else ascii(host))[:100], url.port or _PORTS.get(url.scheme, 0)


def _is_allowed(host: str, port: int) -> bool:
    allowed = {entry.strip().lower() for entry in os.environ.get(ALLOWED_HOSTS, "").split(",")}
    return host in allowed or f"{host}:{port}" in allowed


async def _judge_redirect(session: Any, context: Any, params: aiohttp.TraceRequestRedirectParams) -> None:
    answer = params.response
    # aiohttp follows either of the two.
    defect = redirect_defect(str(answer.url), answer.headers.get("Location") or answer.headers.get("URI") or "")
    if defect is not None:
        answer.close()
        raise RedirectError(defect)
