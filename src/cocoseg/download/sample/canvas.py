"""Paint paper cut-outs on a ground of layered paper, with integers only."""

from itertools import accumulate, chain, pairwise

import cv2
import msgspec
import numpy as np
import numpy.typing as npt

from cocoseg.download.sample.rng import Rng
from cocoseg.download.sample.shapes import ONE, Part, cosine, sine

Pixels = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int32]
Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in whole pixels; x1 and y1 are exclusive."""

FINE = 4
"""Cut-outs are drawn on a grid of quarter pixels, then averaged: smooth edges without floats."""
UNIT = 1000  # side of the square in which a shape is defined

PALETTE = np.array(
    [
        (238, 226, 198),  # cream
        (226, 196, 134),  # sand
        (150, 194, 206),  # sky
        (166, 188, 142),  # sage
        (230, 168, 60),  # mustard
        (218, 146, 142),  # rose
        (212, 104, 64),  # terracotta
        (56, 130, 136),  # teal
        (164, 64, 64),  # brick
        (80, 112, 80),  # forest
        (112, 72, 108),  # plum
        (52, 74, 104),  # navy
        (68, 62, 70),  # charcoal
    ],
    np.int32,
)
"""Red, green, blue, from light to dark."""


class CutOut(msgspec.Struct, frozen=True, kw_only=True):
    """A shape placed on the canvas."""

    parts: list[tuple[int, npt.NDArray[np.int32]]]
    """Tone and polygon, (n, 2) in quarter pixels; later parts cover earlier ones."""
    box: Box
    colors: tuple[int, int, int]
    """Palette indices of tones 1 to 3."""
    pattern: int
    """Kind of paper: 0 plain, 1 striped, 2 checkered, 3 dotted, 4 and 5 mottled."""
    slope: tuple[int, int]
    """Direction of the pattern."""


def cut_out(
    parts: list[Part],
    center: tuple[int, int],
    size: tuple[int, int],
    angle: int,
    colors: tuple[int, int, int],
    pattern: int,
) -> CutOut:
    """Return a shape turned by `angle` about `center`. `size` is that of its square, x and y; a negative x mirrors it.

    Both `center` and `size` are in quarter pixels.
    """
    c, s = cosine(angle), sine(angle)
    points = np.fromiter(chain.from_iterable(chain.from_iterable(polygon for _, polygon in parts)), np.int64)
    turn = np.array(((size[0] * c, size[0] * s), (-size[1] * s, size[1] * c)))
    placed = (points.reshape(-1, 2) @ turn // (UNIT * ONE) + center).astype(np.int32)
    ends = [0, *accumulate(len(polygon) for _, polygon in parts)]
    (x0, y0), (x1, y1) = placed.min(axis=0).tolist(), placed.max(axis=0).tolist()
    return CutOut(
        parts=[(tone, placed[start:end]) for (tone, _), (start, end) in zip(parts, pairwise(ends), strict=True)],
        box=(x0 // FINE, y0 // FINE, x1 // FINE + 1, y1 // FINE + 1),
        colors=colors,
        pattern=pattern,
        slope=(c, s),
    )


def shifted(item: CutOut, dx: int, dy: int) -> CutOut:
    """Return the cut-out moved by whole pixels."""
    offset = np.array((dx, dy), np.int32) * FINE
    x0, y0, x1, y1 = item.box
    return msgspec.structs.replace(
        item,
        parts=[(tone, polygon + offset) for tone, polygon in item.parts],
        box=(x0 + dx, y0 + dy, x1 + dx, y1 + dy),
    )


def stencil(item: CutOut, box: Box) -> Pixels:
    """Return the tone of each quarter pixel of `box`, 0 outside the cut-out, (4 * height, 4 * width)."""
    x0, y0, x1, y1 = box
    tones = np.zeros((FINE * (y1 - y0), FINE * (x1 - x0)), np.uint8)
    offset = (-FINE * x0, -FINE * y0)
    for tone, polygon in item.parts:
        cv2.fillPoly(tones, [polygon], tone, offset=offset)
    return tones


def meet(one: Box, other: Box) -> Box | None:
    """Return the intersection of two boxes, or None if it is empty."""
    x0, y0 = max(one[0], other[0]), max(one[1], other[1])
    x1, y1 = min(one[2], other[2]), min(one[3], other[3])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def ground(rng: Rng, height: int, width: int, colors: tuple[int, ...]) -> Integers:
    """Return layers of torn paper in `colors`, (height, width, 3)."""
    relief = (5 * smooth_field(rng, height, width, 44) + 3 * smooth_field(rng, height, width, 17)) // 8
    # The ground uses the papers of the figures, a little washed out and closer to its lowest layer.
    inks = (2 * PALETTE[list(colors)] + 2 * PALETTE[colors[0]] + 4 * PALETTE[0]) // 8
    picture = np.broadcast_to(inks[0], (height, width, 3)).astype(np.int32)
    for layer in range(1, len(colors)):
        # A ramp over a few steps of the relief instead of a hard edge, so that it looks smooth.
        cover = np.clip((relief - 64 - 128 * layer // len(colors)) * 4, 0, 16)
        shadow = np.zeros_like(cover)
        shadow[2:, 1:] = cover[:-2, :-1]  # a torn edge casts a thin shadow on the layer below
        picture -= picture * np.clip(shadow - cover, 0, 16)[..., None] // 100
        picture += (inks[layer] - picture) * cover[..., None] // 16
    shade = smooth_field(rng, height, width, 9) - 128
    lit: Integers = picture * (1280 + shade[..., None]) // 1280
    return lit


def paste(picture: Integers, item: CutOut, rng: Rng) -> None:
    """Paste the cut-out and its shadow onto `picture`, (height, width, 3)."""
    height, width = picture.shape[:2]
    reach = 6  # the shadow's offset and blur
    x0, y0, x1, y1 = item.box
    box = meet((x0 - reach, y0 - reach, x1 + reach, y1 + reach), (0, 0, width, height))
    if box is None:
        return
    x0, y0, x1, y1 = box
    tones = stencil(item, (x0 - reach, y0 - reach, x1 + reach, y1 + reach))
    sums = _average(tones, item.colors)
    cover = sums[..., 3]
    inner = (slice(reach, -reach), slice(reach, -reach))
    view = picture[y0:y1, x0:x1]

    shadow = _box_sum(cover)[reach - 3 : -reach - 3, reach - 2 : -reach - 2]  # 0 to 16 * 25, from below right
    view -= view * shadow[..., None] // 1000

    # Paper has thickness: lit on its upper left edge, dark on its lower right.
    lit = np.clip(cover[inner] - cover[reach - 1 : -reach - 1, reach - 1 : -reach - 1], 0, 16)
    dark = np.clip(cover[inner] - cover[reach + 1 : -reach + 1 or None, reach + 1 : -reach + 1 or None], 0, 16)
    light = 256 + _texture(item, rng, box) + 3 * lit - 3 * dark
    view *= (16 - cover[inner])[..., None]
    view += sums[inner][..., :3] * light[..., None] // 256
    view //= 16
    np.clip(view, 0, 255, out=view)


def smooth_field(rng: Rng, height: int, width: int, cell: int) -> Integers:
    """Return random integers from 0 to 255, blended between corners every `cell` pixels, (height, width)."""
    corners = rng.field(256, height // cell + 2, width // cell + 2)
    (rows, down), (columns, across) = np.divmod(np.arange(height), cell), np.divmod(np.arange(width), cell)
    # Smoothstep, so that the squares do not show: 3t² - 2t³ in thousandths.
    down, across = (1000 * t * t * (3 * cell - 2 * t) // cell**3 for t in (down, across))
    upper = corners[rows] * (1000 - down[:, None]) + corners[rows + 1] * down[:, None]
    field = upper[:, columns] * (1000 - across) + upper[:, columns + 1] * across
    blended: Integers = (field // 1_000_000).astype(np.int32)
    return blended


def _average(tones: Pixels, colors: tuple[int, int, int]) -> Integers:
    """Return sums over the 16 quarter pixels of each pixel, (h, w, 4): red, green, blue and how many are covered."""
    # Four 16-bit lanes in one word: a sum of 16 bytes overflows none of them.
    lanes = np.zeros((4, 4), np.uint64)
    lanes[1:, :3] = PALETTE[list(colors)]
    lanes[1:, 3] = 1
    words = lanes[:, 0] | lanes[:, 1] << np.uint64(16) | lanes[:, 2] << np.uint64(32) | lanes[:, 3] << np.uint64(48)
    fine = words[tones]
    rows = fine[0::4] + fine[1::4] + fine[2::4] + fine[3::4]
    total = rows[:, 0::4] + rows[:, 1::4] + rows[:, 2::4] + rows[:, 3::4]
    shifts = np.array((0, 16, 32, 48), np.uint64)
    sums: Integers = (total[..., None] >> shifts & np.uint64(0xFFFF)).astype(np.int32)
    return sums


def _box_sum(cover: Integers) -> Integers:
    """Return the sum over the 5 × 5 pixels around each pixel, zero outside, same shape."""
    padded = np.pad(cover, 2)
    rows = padded[:-4] + padded[1:-3] + padded[2:-2] + padded[3:-1] + padded[4:]
    summed: Integers = rows[:, :-4] + rows[:, 1:-3] + rows[:, 2:-2] + rows[:, 3:-1] + rows[:, 4:]
    return summed


def _texture(item: CutOut, rng: Rng, box: Box) -> Integers:
    """Return how much lighter or darker than its color the paper is, in 256ths, (height, width)."""
    x0, y0, x1, y1 = box
    height, width = y1 - y0, x1 - x0
    x = np.arange(x0, x1, dtype=np.int32)
    y = np.arange(y0, y1, dtype=np.int32)[:, None]
    c, s = item.slope
    along, across = (x * c + y * s) >> 10, (y * c - x * s) >> 10  # quarter pixels of the cut-out's own axes
    match item.pattern:
        case 1:
            return ((along >> 3 & 1) * 24 - 12).astype(np.int32)
        case 2:
            return (((along >> 4) + (across >> 4) & 1) * 24 - 12).astype(np.int32)
        case 3:
            u, v = (along & 31) - 16, (across & 31) - 16
            return ((u * u + v * v < 70) * 28 - 7).astype(np.int32)
        case 4 | 5:
            return (smooth_field(rng, height, width, 5 + 3 * (item.pattern - 4)) - 128) // 6
        case _:
            return np.zeros((height, width), np.int32)
