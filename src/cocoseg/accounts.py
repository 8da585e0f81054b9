"""Accounts of what a stage kept and dropped, by reason, so that nothing vanishes silently."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from msgspec import Meta

from cocoseg.core.errors import CocosegError, counted

Lost = Literal["ignore", "background", "drop_image"]
"""What becomes of an object whose annotation is broken."""
Share = Annotated[float, Meta(ge=0, le=1, extra_json_schema={"examples": [0.05]})]

_MANY_CROWDS = 0.05  # of the annotations: COCO has 1.2 %
_LISTED = 4  # classes in a line
_REASONS = 2  # in a line; all are in the metrics
# What data sets call the pixels that are of no class: VOC, COCO-Stuff, KITTI, VisDrone.
_VOID = {"void", "unlabeled", "unlabelled", "dontcare", "ignored", "ignored region", "ignored regions", "ignore region"}
_ONE = {"annotations": "annotation", "images": "image", "categories": "category"}


class Defects(Protocol):
    """Broken entries: how many, how many of each reason, and the first of each in words."""

    @property
    def defects(self) -> int: ...  # noqa: D102

    @property
    def dropped(self) -> Counter[str]: ...  # noqa: D102

    @property
    def first(self) -> dict[str, str]: ...  # noqa: D102


def account(entries: int, dropped: Counter[str]) -> dict[str, Any]:
    """Return `{"input", "kept", "dropped": {reason: count}}` with input = kept + Σ dropped, and reasons sorted."""
    named = {reason: count for reason, count in sorted(dropped.items()) if count}
    return {"input": entries, "kept": entries - sum(named.values()), "dropped": named}


def leading_defect(found: Defects) -> str:
    """Return the commonest defect with its first example, in words; nothing if there is none."""
    reasons = sorted(found.first, key=lambda reason: (-found.dropped[reason], reason))
    return f"{found.dropped[reasons[0]]} {reasons[0]}, first: {found.first[reasons[0]]}" if reasons else ""


def refuse_many_defects(found: Defects, entries: int, share: float, noun: str, key: str, place: Path | str) -> None:
    """Raise `CocosegError` if more than a share of the entries are broken; the parameter `key` holds the share."""
    if found.defects > share * entries:
        raised = ", or raise it in params.yaml" if found.defects < entries else ""  # else nothing would be left
        raise CocosegError(
            f"{place}: {found.defects} of {entries} {noun} are broken: {leading_defect(found)}; {key} allows "
            f"{share:g}; fix them{raised}"
        )


def closing_line(metrics: Mapping[str, Any]) -> str:
    """Return what a stage ends with: what it kept, what it dropped and why, and an example of the commonest defect."""
    parts = []
    for noun in ("annotations", "images"):
        own = metrics[noun]
        part = f"{own['kept']:,} of {own['input']:,} {noun} kept"
        by_choice = {reason: count for reason, count in own["dropped"].items() if reason not in own.get("first", {})}
        reasons = sorted(by_choice, key=lambda reason: (-by_choice[reason], reason))
        if reasons:
            listed = ", ".join(f"{by_choice[reason]:,} {reason}" for reason in reasons[:_REASONS])
            part += f" (dropped: {listed}{', …' if len(reasons) > _REASONS else ''})"
        parts += [part, *_examples(noun, own)]
    return "; ".join([*parts, *_examples("categories", metrics.get("categories", {})), *_of_objects(metrics)])


def _examples(noun: str, own: Mapping[str, Any]) -> Iterator[str]:
    """Yield how many are broken, with the first example of the commonest defect, and what was converted."""
    counts = {reason: own["dropped"][reason] for reason in own.get("first", {})}
    leading, *others = sorted(counts, key=lambda reason: (-counts[reason], reason)) or [""]
    if leading:
        what = counted(sum(counts.values()), _ONE[noun], noun)
        as_what = f"broken, {counts[leading]:,} as {leading}" if others else f"dropped as {leading}"
        yield f"{what} {as_what}, first: {own['first'][leading]}"
    if own.get("converted"):
        yield f"{noun} converted: " + ", ".join(f"{count:,} {what}" for what, count in own["converted"].items())


def _of_objects(metrics: Mapping[str, Any]) -> Iterator[str]:
    """Yield what became of objects without being dropped by choice."""
    empty = [name for name, own in metrics.get("classes", {}).items() if own == {"images": 0, "instances": 0}]
    if empty:
        listed = ", ".join(empty[:_LISTED]) + (", …" if len(empty) > _LISTED else "")
        yield f"{len(empty):,} of {counted(len(metrics['classes']), 'class', 'classes')} without an instance: {listed}"
    if joined := metrics["images"].get("dropped", {}).get("listed_twice"):
        yield (
            f"entries joined with another of the same file_name, annotations too: {joined:,}; if they are different "
            "images, as frames of several videos, give each a name of its own"
        )
    used = [name for name, own in metrics.get("classes", {}).items() if own["instances"]]
    void = [name for name in used if name.strip("_ ").casefold() in _VOID]
    if void and "ignored_crowds" in metrics["annotations"]:  # once, by `filter`
        yield (
            f"a class like any other here: {', '.join(void)}; leave it out of classes to make it background, or give "
            "its annotations iscrowd: 1 to ignore it"
        )
    crowds = metrics["annotations"].get("ignored_crowds", 0)
    if crowds > _MANY_CROWDS * metrics["annotations"]["kept"]:
        yield f"ignored crowds among them: {crowds:,}; if iscrowd: 1 marks an object, as CVAT's brush, set crowd: keep"
    if negatives := metrics["images"].get("negatives"):
        yield f"{counted(negatives, 'image')} without an object of the chosen classes"
    if lost := metrics.get("lost_objects"):
        of_them = {"in filter": metrics.get("lost_in_filter"), "without a usable bbox": metrics.get("lost_without_box")}
        yield f"{counted(lost, 'object')} lost with {'its annotation' if lost == 1 else 'their annotations'}" + "".join(
            f", {count:,} of them {how}" for how, count in of_them.items() if count
        )
    hidden, mostly = (sum(metrics.get(key, {}).values()) for key in ("hidden", "mostly_hidden"))
    if hidden or mostly:
        yield (
            f"{counted(mostly, 'object')} mostly hidden by others{f', {hidden:,} of them wholly' if hidden else ''} "
            "(overlap says who owns a pixel that several claim)"
        )
