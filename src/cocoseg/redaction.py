"""What is said of an address or a failure, without the secrets in it."""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

NO_SECRETS = ("url", "endpointurl", "region", "profile")  # settings of a remote that may be shown


def one_line(error: Exception, config: Mapping[str, Any]) -> str:
    """What the error says, on one line and without secrets: those of the environment and of DVC's `config`."""
    secrets = [value for name, value in os.environ.items() if re.search("KEY|SECRET|TOKEN|PASSW", name)]
    for remote in config.get("remote", {}).values():
        secrets += [value for name, value in remote.items() if name not in NO_SECRETS]
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in secrets:
        if isinstance(secret, str) and len(secret) > 3:
            text = text.replace(secret, "***")
    return without_secrets(text)


def without_secrets(text: str) -> str:
    """The text without a password in an address, or a query, which may be a signature."""
    return re.sub(r"(?<=://)[^/\s]*@|\?\S+", "", text)


def holds_secret(location: str) -> bool:
    """Whether an address has what may be a secret: a user of a web server, a password, or a query."""
    if "://" not in location:
        return False
    scheme, _, rest = location.lower().partition("://")
    user, at, _ = rest.partition("/")[0].rpartition("@")
    return (bool(at) and (":" in user or scheme.startswith("http"))) or "?" in rest


def host_of(location: str) -> str:
    """The part of an address that may always be shown."""
    try:
        return urlsplit(location).hostname or ""
    except ValueError:
        return ""
