"""Who owns a pixel that several annotations claim: an order and a sweep.

The rules of `overlap` differ in nothing but the order in which annotations lie over each other, but for `ignore`, which
gives pixels that differing classes claim to none of them.

The borders of all annotations cut an image into pieces, a thousand or two, whose pixels all belong to the same of them.
So the rules are applied to pieces, and pixels are written once.
"""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import cv2
import msgspec
import numpy as np
from numpy.typing import NDArray

from cocoseg.coco.categories import BACKGROUND, IGNORE
from cocoseg.mask.params import Overlap

Number = TypeVar("Number", np.uint8, np.uint16)
_LAYERS = 52  # at a time, a bit each, of which the exponent of a float64 tells the highest


class Paint(msgspec.Struct, frozen=True, kw_only=True):
    """One annotation ready to be painted, with the `borders` and `size` of its `Shape`.

    `rank` 0 is the highest priority; `ignored` paints 255 under all others.
    """

    borders: NDArray[np.int64]
    size: int
    class_index: int
    rank: int = 0
    ignored: bool = False


class Pieces(msgspec.Struct, frozen=True, kw_only=True):
    """Runs of pixels in column order, each from one border to the next; all fields (pieces,).

    `starts`: the first pixel of each. `borders`: the index of the annotation with whose border each begins, and
    `owners`: of the one that is on top there; where there is none, one more than the last index.
    """

    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    labels: NDArray[np.uint8]
    borders: NDArray[np.int64]
    owners: NDArray[np.int64]

    def owned(self) -> list[int]:
        """Return how many pixels each annotation is on top of, and at the end those that none is."""
        pixels: list[int] = np.bincount(self.owners, self.lengths, self.borders[0] + 1).astype(np.int64).tolist()
        return pixels

    def visible(self, index: int, entry: Paint) -> int:
        """Return how many pixels of an annotation bear its class."""
        # A crowded image has a million pieces, and few of them are where this one is.
        near = slice(*self.starts.searchsorted(entry.borders[[0, -1]]).tolist())
        pixels = self.lengths[near] * (self.labels[near] == entry.class_index)
        return int(np.add.reduceat(pixels, (self.borders[near] == index).nonzero()[0])[::2].sum())


class Maps(msgspec.Struct, frozen=True, kw_only=True):
    """What the annotations of one image paint.

    `labels`: (height, width) uint8 class indices. `instances`: if asked for, (height, width) uint16, where `n` is
    `numbered[n - 1]`, an index into the annotations. `contested`: pixels that annotations of differing classes claim.
    `pixels`: how many each value of `labels` has.
    """

    labels: NDArray[np.uint8]
    instances: NDArray[np.uint16] | None
    numbered: tuple[int, ...]
    contested: int
    pixels: dict[int, int]
    pieces: Pieces


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
            return sorted(indices, key=lambda index: paints[index].size)
        case "smallest":
            return sorted(indices, key=lambda index: -paints[index].size)
        case "priority":
            return sorted(indices, key=lambda index: (-paints[index].rank, paints[index].size))


def paint(paints: Sequence[Paint], height: int, width: int, overlap: Overlap, *, instance_map: bool) -> Maps:
    """Paint the annotations of one image; at most 65,535 of them with an instance map, the numbers that it can hold."""
    order = [index for index in painting_order(paints, overlap) if not paints[index].ignored]
    under = [index for index, entry in enumerate(paints) if entry.ignored]
    indices = np.array([len(paints), *under, *order])
    classes = np.array([BACKGROUND] + [IGNORE] * len(under) + [paints[index].class_index for index in order], np.uint8)
    starts, layers = _cut([paints[index].borders for index in indices[1:].tolist()])
    top, contested = _swept(layers, classes, len(under))
    labels = classes[top]
    if overlap == "ignore":
        labels[contested] = IGNORE
        top[contested] = 0
    lengths = np.append(starts[1:], height * width) - starts
    pixels = np.bincount(labels, lengths)
    return Maps(
        labels=_drawn(labels, lengths, height, width),
        instances=_drawn((top - len(under)).clip(0).astype(np.uint16), lengths, height, width)
        if instance_map
        else None,
        numbered=tuple(order),
        contested=int(lengths[contested].sum()),
        pixels={value: int(pixels[value]) for value in pixels.nonzero()[0].tolist()},
        pieces=Pieces(starts=starts, lengths=lengths, labels=labels, borders=indices[layers], owners=indices[top]),
    )


def _cut(borders: Sequence[NDArray[np.int64]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each piece starts, and whose border that is: 0 is the image, n is `borders[n - 1]`."""
    layers = len(borders) + 1
    # One number for both, since that sorts several times as fast as an index does.
    keys = np.concatenate(([0], *borders)) * layers + np.arange(layers).repeat([1, *map(len, borders)])
    keys.sort()
    starts = keys // layers
    return starts, keys - starts * layers


def _swept(
    layers: NDArray[np.int64], classes: NDArray[np.uint8], under: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the highest layer of each piece, 0 where none is, and whether layers of differing classes meet there.

    A layer begins and ends in turn at the pieces that `layers` gives it. `classes`: of each layer. The first layers,
    `under` in number, meet with none.
    """
    top, contested = np.zeros(len(layers), np.int64), np.zeros(len(layers), np.bool_)
    for first in reversed(range(1, len(classes), _LAYERS)):
        own = slice(first, first + _LAYERS)
        bits = np.zeros(len(classes), np.int64)
        bits[own] = 1 << np.arange(len(bits[own]))
        covering = np.bitwise_xor.accumulate(bits[layers])
        highest = np.frexp(covering)[1]
        top = np.where(top, top, highest + (first - 1) * (highest > 0))
        bits[: under + 1] = 0
        of_other_class = (classes[:, np.newaxis] != classes[own]) @ bits[own]
        contested |= (covering & of_other_class[top]) != 0
    return top, contested


def _drawn(values: NDArray[Number], lengths: NDArray[np.int64], height: int, width: int) -> NDArray[Number]:
    """Return pixels, (height, width), of the values of pieces that run down the columns."""
    return cv2.transpose(values.repeat(lengths).reshape(width, height)).astype(values.dtype, copy=False)


def pixels_sha256(labels: NDArray[np.uint8]) -> str:
    """Return the SHA-256 of a label map: of its height and width, then of the last pixel and the value of each run.

    Runs go row by row, numbers are 32-bit little-endian. Hashing every pixel takes three times as long.
    """
    pixels = labels.ravel()
    numbers = np.concatenate((labels.shape, (pixels[1:] != pixels[:-1]).nonzero()[0], [len(pixels) - 1])).astype("<u4")
    digest = hashlib.sha256(numbers.data)
    digest.update(pixels[numbers[2:]].data)
    return digest.hexdigest()
