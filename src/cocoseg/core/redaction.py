"""Remove secrets from addresses and error messages before they are shown."""

import os
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

NO_SECRETS = ("url", "endpointurl", "region", "profile")  # settings of a remote that are safe to show


_SECRET = re.compile("KEY|SECRET|TOKEN|PASSW|PWD|_PAT$|CREDENTIAL|CONNECTION_STRING", re.IGNORECASE)


def one_line(error: Exception, config: Mapping[str, Any]) -> str:
    """Return the error's message on one line, without the secrets of the environment and of DVC's `config`."""
    secrets = [value for name, value in os.environ.items() if _SECRET.search(name)]
    for remote in config.get("remote", {}).values():
        secrets += [value for name, value in remote.items() if name not in NO_SECRETS]
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in secrets:
        if isinstance(secret, str) and len(secret) > 3:
            text = text.replace(secret, "***")
    return without_secrets(text)


def without_secrets(text: str) -> str:
    """Return the text without the secrets in its URLs: a password, which may hold a `/`, or a query, a signature."""
    return re.sub(r"(?<=://)(?:[^/\s]*|\S*:\S*)@|(?<=\S)[?#]\S+", "", text)


def holds_secret(location: str) -> bool:
    """Return whether a URL may hold a secret: a password, the user of a web server, a query or a fragment."""
    if "://" not in location:
        return False
    scheme, _, rest = location.lower().partition("://")
    user, at, _ = rest.rpartition("@")  # a password may hold a `/`
    has_user = ":" in user if at else False
    web_user = scheme.startswith("http") and "@" in rest.partition("/")[0]
    return has_user or web_user or "?" in rest or "#" in rest


def host_of(location: str) -> str:
    """Return the host of a URL, the part that is always safe to show."""
    try:
        return urlsplit(location).hostname or ""
    except ValueError:
        return ""


def refuse_secrets(key: str, location: str) -> None:
    """Raise `ValueError` if the value of the parameter `key` may hold a secret, which `dvc.lock` must not."""
    if holds_secret(location):
        raise ValueError(
            f"{key} is an address on {host_of(location) or 'a server'} with a user, password or query, which dvc.lock "
            "would show to everyone; expected a plain address; put passwords into ~/.netrc and keys of a store into "
            "the environment, or download the file and name its path"
        )
