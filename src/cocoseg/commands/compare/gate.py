"""The verdict of a comparison as an exit status, so that a review can fail on it."""

from typing import Literal

import msgspec

from cocoseg.commands.compare.claims import Claim, Verdict

Condition = Literal["worse", "not-better"]
ClaimName = Literal["change", "checkpoints"]
Result = Literal["failed", "passed", "undetermined"]

_MET_BY: dict[Condition, tuple[Verdict, ...]] = {"worse": ("worse",), "not-better": ("worse", "equivalent")}
_EXIT_STATUSES: dict[Result, int] = {"passed": 0, "failed": 3, "undetermined": 4}


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked of a comparison, and the answer."""

    fail_if: Condition
    claim: ClaimName
    result: Result
    exit_status: int
    because: str
    worse_classes: list[str]
    """Classes that are worse by the same claim. They do not count: the condition is about the primary score."""


def judged(
    checkpoint: Claim, change: Claim | None, fail_if: Condition, claim: ClaimName, *, is_outdated: bool = False
) -> Gate:
    """Return whether the condition is met. Without a `change` nothing changed, which is neither worse nor better.

    Of results that are older than the parameters or the code that they stand for, nothing is known.
    """
    chosen = checkpoint if claim == "checkpoints" else change
    if is_outdated:
        result: Result = "undetermined"
        because = "these results are older than the parameters or the code"
    elif chosen is None:
        result = "passed" if fail_if == "worse" else "failed"
        because = "there is no change to judge"
    else:
        verdict = chosen.primary.verdict or "undetermined"
        result = "failed" if verdict in _MET_BY[fail_if] else "undetermined" if verdict == "undetermined" else "passed"
        because = chosen.undetermined_because or f"{chosen.primary.name} is {verdict}"
    return Gate(
        fail_if=fail_if,
        claim=claim,
        result=result,
        exit_status=_EXIT_STATUSES[result],
        because=because,
        worse_classes=[] if chosen is None else [own.name for own in chosen.classes if own.verdict == "worse"],
    )
