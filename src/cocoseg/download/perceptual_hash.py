"""Compute a hash of what an image shows, for finding near-duplicates."""

import math
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_BLOCKS = 32
_COSINES: NDArray[np.int64] = np.array(
    [
        [round(1024 * math.cos(math.pi * (2 * block + 1) * frequency / (2 * _BLOCKS))) for block in range(_BLOCKS)]
        for frequency in range(8)
    ],
    dtype=np.int64,
)


def perceptual_hash(pixels: NDArray[np.uint8]) -> str:
    """Return 64 bits, as 16 hex digits, that change little when an image is brightened, scaled or recompressed.

    pHash, Zauner 2010: a bit tells whether one of the 8×8 lowest frequencies of a cosine transform of the image's
    32×32 mean luminance is above their median. Integers throughout, so that every machine computes the same bits.
    """
    luma = _block_luma(pixels)
    spectrum = (_COSINES @ luma @ _COSINES.T).ravel()  # (64,), below 2**46
    median = np.sort(spectrum[1:])[31]  # without the first entry, the mean, which is larger than all others
    return np.packbits(spectrum > median).tobytes().hex()


def _block_luma(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return 256 times the mean luminance, rounded down, of 32×32 blocks of `pixels` (H, W, 3), (32, 32) int64."""
    height, width = pixels.shape[:2]
    if height < _BLOCKS:
        pixels = pixels.repeat(-(-_BLOCKS // height), axis=0)
    if width < _BLOCKS:
        pixels = pixels.repeat(-(-_BLOCKS // width), axis=1)
    height, width = pixels.shape[:2]
    tops, lefts = np.arange(_BLOCKS + 1) * height // _BLOCKS, np.arange(_BLOCKS + 1) * width // _BLOCKS
    # One row of blocks at a time: seven times faster than one `np.add.reduceat` over the whole image.
    rows = [pixels[top:bottom].sum(axis=0, dtype=np.uint32) for top, bottom in pairwise(tops)]
    sums = np.add.reduceat(np.stack(rows), lefts[:-1], axis=1, dtype=np.int64)  # (32, 32, 3)
    areas = np.diff(tops)[:, None] * np.diff(lefts)
    luma: NDArray[np.int64] = sums @ np.array([77, 150, 29]) // areas  # ITU-R BT.601 in 256ths
    return luma
