"""Who owns a pixel that several annotations claim: an order and a buffer.

The rules of `overlap` differ in nothing but the order in which annotations are painted over each other, but for
`ignore`, which gives pixels that differing classes claim to none of them.
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.categories import IGNORE
from cocoseg.segmentation import Span

Overlap = Literal["last", "first", "largest", "smallest", "priority", "ignore"]


class Paint(msgspec.Struct, frozen=True, kw_only=True):
    """One annotation ready to be painted. `rank` 0 is the highest priority; `ignored` paints 255 under all others."""

    span: Span
    class_index: int
    rank: int = 0
    ignored: bool = False


class Maps(msgspec.Struct, frozen=True, kw_only=True):
    """What the annotations of one image paint.

    `labels`: (height, width) uint8 class indices. `instances`: (height, width) uint16, where `n` is `numbered[n - 1]`,
    an index into the annotations. `contested`: pixels that annotations of differing classes claim.
    """

    labels: NDArray[np.uint8]
    instances: NDArray[np.uint16]
    numbered: tuple[int, ...]
    contested: int


def painting_order(paints: Sequence[Paint], overlap: Overlap) -> list[int]:
    """The indices of `paints` in the order in which they are painted: a later one covers an earlier one.

    Equal sizes keep the order of the file, so a tie goes to the later annotation.
    """
    indices = range(len(paints))
    match overlap:
        case "last" | "ignore":
            return list(indices)
        case "first":
            return list(reversed(indices))
        case "largest":
            return sorted(indices, key=lambda index: paints[index].span.size)
        case "smallest":
            return sorted(indices, key=lambda index: -paints[index].span.size)
        case "priority":
            return sorted(indices, key=lambda index: (-paints[index].rank, paints[index].span.size))


def paint(paints: Sequence[Paint], height: int, width: int, overlap: Overlap) -> Maps:
    """Paint the annotations of one image; at most 65,535 of them, the numbers that an instance map can hold."""
    labels = np.zeros(height * width, np.uint8)
    instances = np.zeros(height * width, np.uint16)
    contested = np.zeros(height * width, np.bool_)
    for under in paints:
        if under.ignored:
            np.copyto(labels[under.span.start : under.span.stop], IGNORE, where=under.span.covered)
    order = [index for index in painting_order(paints, overlap) if not paints[index].ignored]
    for number, index in enumerate(order, start=1):
        span, class_index = paints[index].span, paints[index].class_index
        pixels = slice(span.start, span.stop)
        below = labels[pixels]
        contested[pixels] |= span.covered & (below != 0) & (below != class_index) & (below != IGNORE)
        np.copyto(below, class_index, where=span.covered)
        np.copyto(instances[pixels], number, where=span.covered)
    if overlap == "ignore":
        labels[contested] = IGNORE
        instances[contested] = 0
    shape = (width, height)
    return Maps(
        labels=np.ascontiguousarray(labels.reshape(shape).T),
        instances=np.ascontiguousarray(instances.reshape(shape).T),
        numbered=tuple(order),
        contested=int(np.count_nonzero(contested)),
    )
