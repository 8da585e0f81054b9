"""Which images people get to see: drawn by a hash of their names, so the same for every model, or ranked by a score."""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

GalleryImages = Annotated[int, Meta(ge=0, le=100, extra_json_schema={"examples": [8]})]


def chosen_images(file_names: Iterable[str], count: int) -> list[str]:
    """`count` of the names, or all if there are fewer, sorted. A larger count shows the same and more."""
    ordered = sorted(file_names, key=lambda name: (hashlib.sha256(name.encode()).digest(), name))
    return sorted(ordered[:count])


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """File names from the best score down; the worst from the lowest score up."""

    best: list[str]
    median: list[str]
    worst: list[str]


def ranked_images(scores: Mapping[str, float], count: int) -> Ranked:
    """`count` names of each kind, or all if there are fewer; of equal scores the name that sorts first comes first."""
    falling = sorted(scores, key=lambda name: (-scores[name], name))
    rising = sorted(scores, key=lambda name: (scores[name], name))
    first = max(0, (len(scores) - count) // 2)
    return Ranked(best=falling[:count], median=falling[first : first + count], worst=rising[:count])
