"""Fetch files from a local folder or any URL that fsspec opens, over networks that fail now and then."""

import asyncio
import hashlib
import sys
import threading
import time
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from tqdm import tqdm

from cocoseg.core.errors import CocosegError
from cocoseg.core.redaction import host_of, without_secrets
from cocoseg.core.work_tree import is_locked
from cocoseg.download.remote.failures import (
    certificate_defect,
    described,
    is_absent,
    is_answer,
    is_malformed,
    is_slow,
    may_pass,
    retry_after_s,
    status_of,
)

# Waits between attempts; the same in every run, so that a failure can be reproduced.
DELAYS_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
_FIRST_CONTACT_DELAYS = 2  # a host that has never answered, or is too slow, is given up sooner

MOST_WAIT_S = 300.0  # that a server may ask for; longer is the user's decision
_TOLD_WAIT_S = 5.0
_READ_TIMEOUT_S = 60.0
_CHUNK_BYTES = 8 * 2**20
MOST_BYTES = 4 * 10**9  # of a file from outside; the largest, train2017's annotations, has 448 MB
_VERSION_KEYS = ("ETag", "Last-Modified", "LastModified", "mtime", "size")  # of fsspec's file systems


class TransferError(CocosegError):
    """A file could not be fetched for a reason that may pass: no network, a server that fails or refuses."""


class AbsentError(CocosegError):
    """The server answered that it has no such file, or denied access to it."""


class _RangeError(TransferError):
    """The server answered that it has no such range of bytes (416)."""


class TooLargeError(CocosegError):
    """A file is larger than any file of its kind can be."""


class Source:
    """A URL prefix below which files are fetched with retries. Safe to use from many threads.

    `prefix` is any URL that fsspec opens, but not a chain of URLs. A context manager: leaving it ends the
    transfers and waits of other threads.
    """

    def __init__(
        self, prefix: str, delays_s: Sequence[float] = DELAYS_S, read_timeout_s: float = _READ_TIMEOUT_S
    ) -> None:
        import fsspec  # here: the stages start faster without it, and most runs need none

        self.prefix = prefix
        self._delays_s = tuple(delays_s)
        self._answered = False
        self._left = threading.Event()
        self._transfers: set[Future[Any]] = set()
        self._has_told = False
        self._is_http = prefix.startswith(("http://", "https://"))
        options: dict[str, Any] = {}
        if "::" in prefix:  # such as zip://a.json::https://…, which would be unpacked without a bound
            raise CocosegError(
                f"{without_secrets(prefix)}: is a chain of URLs; download and unpack the file, and name its path"
            )
        if self._is_http:
            from cocoseg.download.remote import http

            options = {"get_client": http.client, "client_kwargs": {"read_timeout_s": read_timeout_s}}
        try:
            # Not one of fsspec's shared file systems, which keep their connections until the process ends.
            self._files, self._root = fsspec.core.url_to_fs(prefix, skip_instance_cache=True, **options)
        except (ValueError, ImportError) as error:
            raise CocosegError(
                f"{self.shown()}: {described(error)}; expected a local path or a URL such as https://… or s3://…"
            ) from None

    def __enter__(self) -> "Source":
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        for transfer in list(self._transfers):
            transfer.cancel()

    def url(self, path: str) -> str:
        """Return the URL of `path`, a plain name like `a b/c#1.jpg`, or the prefix itself if it is empty."""
        return _joined(self.prefix, path, self._is_http)

    def shown(self, path: str = "") -> str:
        """Return the URL of `path` for display: without a password, and without a query, which may be a signature."""
        return without_secrets(self.url(path))

    def fetch(
        self, path: str = "", start: int | None = None, end: int | None = None, most_bytes: int = MOST_BYTES
    ) -> bytes:
        """Return the bytes of a file, or those from `start` to before `end`.

        Retries failures that may pass (resets, short bodies, timeouts, 408, 429, 5xx) after each of the delays, or
        later if `Retry-After` says so. Raises `AbsentError` for 404, 403 and 410, `TooLargeError` beyond `most_bytes`,
        `CocosegError` for a redirect that is not followed and a certificate that is not valid, and `TransferError` for
        all other failures.
        """
        address = _joined(self._root, path, self._is_http)
        attempt = 0
        while True:
            try:
                content = self._read(address, start, end, most_bytes)
            except CocosegError as error:
                raise type(error)(f"{self.shown(path)}: {error}") from None
            except Exception as error:
                if is_absent(error):
                    self._answered = True
                    raise AbsentError(f"{self.shown(path)}: not found ({self._said(error)})") from None
                if (defect := certificate_defect(error)) is not None:
                    raise CocosegError(f"{self.shown(path)}: {defect}") from None
                self._answered |= is_answer(error)
                is_patient = self._answered and not is_slow(error)
                patience = len(self._delays_s) if is_patient else min(_FIRST_CONTACT_DELAYS, len(self._delays_s))
                if attempt >= patience or not may_pass(error):
                    kind = _RangeError if status_of(error) == 416 else TransferError
                    raise kind(self._failure(path, error, attempt + 1)) from None
                self._wait(path, error, self._delays_s[attempt])
                attempt += 1
            else:
                self._answered = True
                return content

    def _wait(self, path: str, error: Exception, delay_s: float) -> None:
        """Wait before another attempt, as long as the server asks. Raises `TransferError` if that is too long."""
        asked_s = retry_after_s(error)
        if asked_s > MOST_WAIT_S:
            raise TransferError(
                f"{self.shown(path)}: {self._said(error)} and asks to wait {asked_s:,.0f} s, expected at most "
                f"{MOST_WAIT_S:.0f} s; run again then: what has arrived is kept"
            )
        if asked_s > _TOLD_WAIT_S and not self._has_told:
            self._has_told = True
            tqdm.write(f"{self.shown(path)}: {self._said(error)} and asks to wait {asked_s:,.0f} s", file=sys.stderr)
        if self._left.wait(max(asked_s, delay_s)):
            raise TransferError(f"{self.shown(path)}: given up")

    def _read(self, address: str, start: int | None, end: int | None, most_bytes: int) -> bytes:
        if self._is_http:
            from cocoseg.download.remote import http

            content: bytes = self._result(http.read(self._files, address, start, end, most_bytes))
        elif self._files.async_impl:
            content = self._result(self._object(address, start or 0, end, most_bytes))
        else:
            with self._files.open(address, "rb") as file:
                file.seek(start or 0)
                content = file.read(most_bytes + 1 if end is None else end - (start or 0))
        if len(content) > most_bytes:
            raise TooLargeError(f"is too large; expected at most {most_bytes:,} bytes")
        return content

    async def _object(self, address: str, start: int, end: int | None, most_bytes: int) -> bytes:
        """Return what `_read` does, from a store such as S3."""
        from cocoseg.download.remote import http

        size: int = (await self._files._info(address))["size"]
        end = min(size, start + most_bytes + 1) if end is None else min(end, size)
        if end <= start:
            return b""
        try:
            async with asyncio.timeout(most := http.most_seconds(end - start)) as limit:
                content: bytes = await self._files._cat_file(address, start=start, end=end)
        except TimeoutError:
            if limit.expired():
                raise http.SlowError(f"did not send {end - start:,} bytes in {most:,.0f} s") from None
            raise
        return content

    def version(self, path: str) -> str | None:
        """Return the version of the file at `path`: its ETag, modification time and size, as far as the server says.

        Returns `None` if it says neither an ETag nor a time, for whatever reason: another file may have the same size.
        """
        address = _joined(self._root, path, self._is_http)
        try:
            info: dict[str, Any] = self._info(address)
        except Exception:  # fsspec's file systems raise FileNotFoundError also if the network is down
            return None
        said = [f"{key}={info[key]}" for key in _VERSION_KEYS if info.get(key) not in (None, "")]
        return " ".join(said) if said and not said[0].startswith("size=") else None

    def _info(self, address: str) -> Any:
        if self._is_http:
            from cocoseg.download.remote import http

            return self._result(http.version(self._files, address))
        return self._result(self._files._info(address)) if self._files.async_impl else self._files.info(address)

    def download(self, path: str, target: Path, size_bytes: int, sha256: str) -> None:
        """Download the file at `path`, of this size and SHA-256, to `target`.

        An unfinished download stays beside it as `.part`; the next call, even after a kill, fetches only the rest. A
        second process waits for the first. Raises `CocosegError` if the size or the checksum differs.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f"{target.name}.part")
        with _alone(target.with_name(f"{target.name}.lock")):
            if target.exists():
                if _sha256(target) == sha256:
                    return
                tqdm.write(f"{target}: is corrupt; it is fetched again", file=sys.stderr)
            resumed = part.exists()
            self._complete(path, part, size_bytes)
            if resumed and _sha256(part) != sha256:  # the part was damaged, or the server's file has changed since
                part.unlink()
                self._complete(path, part, size_bytes)
            found = _sha256(part)
            if found != sha256:
                part.unlink()
                raise CocosegError(
                    f"{self.shown(path)}: its SHA-256 is {found}, expected {sha256}; it was not kept; run again, "
                    "and if this repeats, the server's copy is not the published one"
                )
            part.replace(target)

    def _complete(self, path: str, part: Path, size_bytes: int) -> None:
        """Append to `part` until it has `size_bytes`."""
        have = part.stat().st_size if part.exists() else 0
        with (
            part.open("r+b" if have else "wb") as file,
            tqdm(total=size_bytes, unit="B", unit_scale=True, desc=part.stem, disable=None) as bar,
        ):
            have = min(have, size_bytes)
            file.seek(have)
            bar.update(have)
            while have < size_bytes:
                end = min(have + _CHUNK_BYTES, size_bytes)
                try:
                    chunk = self.fetch(path, have, end, most_bytes=size_bytes)
                except _RangeError:  # the server's file is shorter, or it has no ranges and does not say so
                    chunk = self.fetch(path, most_bytes=size_bytes)
                if len(chunk) == size_bytes > end - have:  # a server without ranges sends the whole file
                    chunk = chunk[have:]
                elif len(chunk) != end - have:
                    raise CocosegError(
                        f"{self.shown(path)}: the server sent {len(chunk)} bytes for bytes {have} to {end - 1} of a "
                        f"file of {size_bytes}; it is not the published one"
                    )
                file.write(chunk)
                file.flush()  # a kill loses at most the current chunk
                have += len(chunk)
                bar.update(len(chunk))
            file.truncate(size_bytes)

    def _result(self, transfer: Coroutine[Any, Any, Any]) -> Any:
        """Return the result of a coroutine on the loop of fsspec's thread. Leaving the source cancels it."""
        future = asyncio.run_coroutine_threadsafe(transfer, self._files.loop)
        self._transfers.add(future)
        try:
            if self._left.is_set():  # since before it was added
                future.cancel()
            return future.result()
        except CancelledError:
            raise TransferError("given up") from None
        finally:
            future.cancel()  # if Ctrl-C ended the wait
            self._transfers.discard(future)

    def _said(self, error: Exception) -> str:
        """Return what was answered and by whom, without the URL of a redirect, whose path may be a secret."""
        status = status_of(error)
        if is_slow(error):
            return f"the server {error}"
        if is_malformed(error):
            return "the answer is not valid HTTP"
        if status is None:
            return described(error)
        asked = getattr(error, "request_info", None)  # aiohttp's
        host = asked.real_url.raw_host if asked else None
        if host in (None, host_of(self.prefix)):
            return f"the server answered {status}"
        return f"{host}, to which it redirects without a password, answered {status}"

    def _failure(self, path: str, error: Exception, attempts: int) -> str:
        tried = f"after {attempts} attempts" if attempts > 1 else "at the first attempt"
        if status_of(error) is None and not self._answered:
            host = getattr(error, "host", None) or host_of(self.prefix) or self.shown()
            return (
                f"{self.shown(path)}: {host} cannot be reached ({described(error)}, {tried}); check the "
                f"{_proxy(self.url(path))}network and the address, then run again: what has arrived is kept"
            )
        return f"{self.shown(path)}: {self._said(error)}, {tried}; run again later: what has arrived is kept"


def local_path(location: str) -> Path | None:
    """Return the path that a parameter names, or `None` if it is the URL of another machine. `~` is the home folder."""
    for scheme in ("file://", "local://"):
        if location.startswith(scheme):
            return Path(location.removeprefix(scheme))
    return None if "://" in location else Path(location).expanduser()


def _proxy(url: str) -> str:
    """Return the proxy that the environment names for a URL, as a part of a sentence, or nothing without one."""
    from urllib.request import getproxies, proxy_bypass  # here: the stages start faster without it

    parts = urlsplit(url)
    if parts.scheme not in getproxies() or proxy_bypass(parts.netloc):
        return ""
    # Not its address, which may have a password.
    return f"proxy of {parts.scheme}_proxy (expected http://host:port; no_proxy={parts.hostname} does without), the "


def _joined(prefix: str, path: str, is_http: bool) -> str:
    if not path:
        return prefix
    if not is_http:
        return f"{prefix.rstrip('/')}/{path}"
    parts = urlsplit(prefix)  # a query, such as a signature, stays after the path
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(path)}"))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Admit one process at a time; the system releases the lock of a killed process."""
    with lock.open("wb") as file:
        if not is_locked(file):
            tqdm.write(f"waiting for another run that fetches {lock.stem}", file=sys.stderr)
            while not is_locked(file):
                time.sleep(0.2)
        yield
