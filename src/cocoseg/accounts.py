"""Accounts of what a stage kept and dropped, by reason, so that nothing vanishes silently."""

from collections import Counter
from typing import Any


def account(entries: int, dropped: Counter[str]) -> dict[str, Any]:
    """Return `{"input", "kept", "dropped": {reason: count}}` with input = kept + Σ dropped, and reasons sorted."""
    named = {reason: count for reason, count in sorted(dropped.items()) if count}
    return {"input": entries, "kept": entries - sum(named.values()), "dropped": named}
