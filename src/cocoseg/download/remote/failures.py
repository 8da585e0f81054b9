"""What an error of a transfer means. aiohttp is not imported: without it, no error is its own."""

import re
import sys
import time
from email.utils import parsedate_to_datetime

from cocoseg.core.redaction import one_line


def described(error: Exception) -> str:
    """Return the type and message of an error on one line, without secrets."""
    text = one_line(error, {})
    return f"{type(error).__name__}: {text}" if str(error).strip() else text


def status_of(error: Exception) -> int | None:
    """Return the HTTP status that a server answered, or `None` for another error."""
    status = getattr(error, "status", None)  # aiohttp's
    return status if isinstance(status, int) and status > 0 and not is_malformed(error) else None


def is_malformed(error: Exception) -> bool:
    """Return whether an answer is not HTTP; aiohttp then gives it the status 400.

    A server that sends a body after the head that HEAD asked for spoils the next answer of the same connection.
    """
    aiohttp = sys.modules.get("aiohttp")
    return aiohttp is not None and isinstance(error, aiohttp.ClientResponseError) and error.__cause__ is not None


def is_slow(error: Exception) -> bool:
    """Return whether a server sent too little in the time that it had."""
    http = sys.modules.get("cocoseg.download.remote.http")
    return http is not None and isinstance(error, http.SlowError)


def is_answer(error: Exception) -> bool:
    """Return whether a server answered at all."""
    aiohttp = sys.modules.get("aiohttp")
    return (
        status_of(error) is not None
        or is_slow(error)
        or (aiohttp is not None and isinstance(error, aiohttp.ClientResponseError | aiohttp.ClientPayloadError))
    )


def certificate_defect(error: Exception) -> str | None:
    """Return the line about a server's invalid certificate, or `None` for another error."""
    found = re.search(r"certificate verify failed: (.+?) \(_ssl", str(error))  # so for aiohttp and botocore
    if found is None:
        return None
    host = getattr(error, "host", None) or "the server"
    return (
        f"{host} shows an invalid certificate ({found[1]}), expected one of a known authority; set the clock if it is "
        "wrong, name the file of your own authority in SSL_CERT_FILE (for S3 in AWS_CA_BUNDLE), or download the file "
        "and name its path"
    )


def retry_after_s(error: Exception) -> float:
    """Return the seconds that an answer asks to wait, in `Retry-After` as seconds or as a date; 0 if it does not."""
    headers = getattr(error, "headers", None) or {}  # aiohttp's
    said = str(headers.get("Retry-After", "")).strip()
    try:
        if said.isdecimal():
            return float(said)
        until = parsedate_to_datetime(said).timestamp()
        now = parsedate_to_datetime(headers["Date"]).timestamp() if "Date" in headers else time.time()
    except (ValueError, OverflowError):
        return 0.0
    return max(0.0, until - now)


def is_absent(error: Exception) -> bool:
    """Return whether a server has no such file, or denies access to it."""
    # fsspec's file systems raise these three for a missing file and for one that we may not read.
    return isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError) or status_of(error) in (
        403,
        404,
        410,
    )


def may_pass(error: Exception) -> bool:
    """Return whether another attempt may succeed."""
    status = status_of(error)
    if status is not None:
        return status in (408, 429) or status >= 500
    if isinstance(error, OSError | EOFError):  # TimeoutError and ConnectionError among them
        return True
    aiohttp = sys.modules.get("aiohttp")
    return aiohttp is not None and isinstance(error, aiohttp.ClientError) and not isinstance(error, ValueError)
