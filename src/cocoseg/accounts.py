"""Nothing vanishes: what came in is what stayed and what went, by reason."""

from collections import Counter
from typing import Any


def account(entries: int, dropped: Counter[str]) -> dict[str, Any]:
    """`{"input", "kept", "dropped": {reason: count}}`, where input = kept + Σ dropped; reasons in order of name."""
    named = {reason: count for reason, count in sorted(dropped.items()) if count}
    return {"input": entries, "kept": entries - sum(named.values()), "dropped": named}
