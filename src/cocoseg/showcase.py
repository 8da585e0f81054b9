"""Which images people get to see: drawn by a hash of their names, so the same ones for every model."""

import hashlib
from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta

GalleryImages = Annotated[int, Meta(ge=0, le=100, extra_json_schema={"examples": [8]})]


def chosen_images(file_names: Iterable[str], count: int) -> list[str]:
    """`count` of the names, or all if there are fewer, sorted. A larger count shows the same and more."""
    ordered = sorted(file_names, key=lambda name: (hashlib.sha256(name.encode()).digest(), name))
    return sorted(ordered[:count])
