"""What libraries say of a failure, without the secrets that some of them repeat."""

import os
import re
from collections.abc import Mapping
from typing import Any

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
    return re.sub(r"(?<=://)[^/@\s]+@|\?\S+", "", text)  # a password in an address, or a signature
