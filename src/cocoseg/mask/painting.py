"""Who owns a pixel that several annotations claim: an order and a buffer.

The rules of `overlap` differ in nothing but the order in which annotations are painted over each other, but for
`ignore`, which gives pixels that differing classes claim to none of them.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypeVar

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.coco.categories import BACKGROUND, IGNORE
from cocoseg.mask.params import Overlap
from cocoseg.mask.segmentation import Span

Number = TypeVar("Number", np.uint8, np.uint16)


class Paint(msgspec.Struct, frozen=True, kw_only=True):
    """One annotation ready to be painted. `rank` 0 is the highest priority; `ignored` paints 255 under all others."""

    span: Span
    class_index: int
    rank: int = 0
    ignored: bool = False


class Maps(msgspec.Struct, frozen=True, kw_only=True):
    """What the annotations of one image paint, both maps with their columns one after another in memory.

    `labels`: (height, width) uint8 class indices. `instances`: if asked for, (height, width) uint16, where `n` is
    `numbered[n - 1]`, an index into the annotations. `contested`: pixels that annotations of differing classes claim.
    """

    labels: NDArray[np.uint8]
    instances: NDArray[np.uint16] | None
    numbered: tuple[int, ...]
    contested: int


def painting_order(paints: Sequence[Paint], overlap: Overlap) -> list[int]:
    """Return the indices of `paints` in the order of painting: a later one covers an earlier one.

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


def paint(paints: Sequence[Paint], height: int, width: int, overlap: Overlap, *, instance_map: bool) -> Maps:
    """Paint the annotations of one image; at most 65,535 of them, the numbers that an instance map can hold."""
    labels = np.zeros(height * width, np.uint8)
    contested = np.zeros(height * width, np.uint8)
    instances = np.zeros(height * width, np.uint16) if instance_map else None
    order = [index for index in painting_order(paints, overlap) if not paints[index].ignored]
    for number, index in enumerate(order, start=1):
        span, class_index = paints[index].span, np.uint8(paints[index].class_index)
        pixels = slice(span.start, span.stop)
        below = labels[pixels]
        # Bytes, not truth values: where the annotation paints, what turns the label below into its own (0 if it is).
        change = (below ^ class_index) & span.covered
        contested[pixels] |= np.minimum(below, change)  # not 0 where there is a label below, and another one
        below ^= change
        if instances is not None:
            np.copyto(instances[pixels], number, where=span.covered != 0)
    if overlap == "ignore":
        labels[contested != 0] = IGNORE
        if instances is not None:
            instances[contested != 0] = 0
    for under in paints:
        if under.ignored:
            below = labels[under.span.start : under.span.stop]
            below[(below == 0) & (under.span.covered != 0)] = IGNORE
    return Maps(
        labels=labels.reshape(width, height).T,
        instances=None if instances is None else instances.reshape(width, height).T,
        numbered=tuple(order),
        contested=int(np.count_nonzero(contested)),
    )


def label_pixels(labels: NDArray[np.uint8], paints: Iterable[Paint], *, ignored: bool) -> dict[int, int]:
    """Return how many pixels background, each class of `paints`, and 255 have; those of none are left out.

    `ignored`: there may be 255.
    """
    columns = labels.ravel(order="F")
    # A class shows where its spans are: counting there takes a fraction of the time of a histogram.
    spans: dict[int, tuple[int, int]] = {IGNORE: (0, len(columns))} if ignored else {}
    for entry in paints:
        start, stop = spans.get(entry.class_index, (len(columns), 0))
        spans[entry.class_index] = min(start, entry.span.start), max(stop, entry.span.stop)
    counts = {
        value: cv2.countNonZero((columns[start:stop] == value).view(np.uint8)) for value, (start, stop) in spans.items()
    }
    counts[BACKGROUND] = len(columns) - sum(counts.values())
    return {value: count for value, count in counts.items() if count}


def row_major(pixels: NDArray[Number]) -> NDArray[Number]:
    """Return the pixels, (height, width), with their rows one after another in memory."""
    return cv2.transpose(pixels.T).astype(pixels.dtype, copy=False)


def pixels_sha256(labels: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of a label map: of its height and width, then of the last pixel and the value of each run.

    Runs go row by row, numbers are 32-bit little-endian. Hashing every pixel takes three times as long.
    """
    pixels = labels.ravel()
    ends = np.append(np.flatnonzero(pixels[1:] != pixels[:-1]), len(pixels) - 1)
    digest = hashlib.sha256(np.concatenate([labels.shape, ends]).astype("<u4").tobytes())
    digest.update(pixels[ends].tobytes())
    return digest.hexdigest()
