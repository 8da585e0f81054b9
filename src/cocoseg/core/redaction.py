"""What is said of an address or a failure, without the secrets in it."""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

NO_SECRETS = ("url", "endpointurl", "region", "profile")  # settings of a remote that may be shown


_SECRET = re.compile("KEY|SECRET|TOKEN|PASSW|PWD|_PAT$|CREDENTIAL|CONNECTION_STRING", re.IGNORECASE)


def one_line(error: Exception, config: Mapping[str, Any]) -> str:
    """What the error says, on one line and without secrets: those of the environment and of DVC's `config`."""
    secrets = [value for name, value in os.environ.items() if _SECRET.search(name)]
    for remote in config.get("remote", {}).values():
        secrets += [value for name, value in remote.items() if name not in NO_SECRETS]
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in secrets:
        if isinstance(secret, str) and len(secret) > 3:
            text = text.replace(secret, "***")
    return without_secrets(text)


def without_secrets(text: str) -> str:
    """The text without a password in an address, which may hold a `/`, or a query, which may be a signature."""
    return re.sub(r"(?<=://)(?:[^/\s]*|\S*:\S*)@|(?<=\S)[?#]\S+", "", text)


def holds_secret(location: str) -> bool:
    """Whether an address has what may be a secret: a user with a password or of a web server, a query, a fragment."""
    if "://" not in location:
        return False
    scheme, _, rest = location.lower().partition("://")
    user, at, _ = rest.rpartition("@")  # a password may hold a `/`
    has_user = ":" in user if at else False
    web_user = scheme.startswith("http") and "@" in rest.partition("/")[0]
    return has_user or web_user or "?" in rest or "#" in rest


def host_of(location: str) -> str:
    """The part of an address that may always be shown."""
    try:
        return urlsplit(location).hostname or ""
    except ValueError:
        return ""
