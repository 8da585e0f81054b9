"""The drawn dataset: a COCO instances file and its images, made from a constant seed alone.

The five classes share papers, sizes and places with each other and with the clutter around them, so that only shape
tells them apart. The annotations have what real ones have: overlaps, crowds, defects.
"""

from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from typing import Any

import cv2
import msgspec
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from cocoseg.core.errors import CocosegError
from cocoseg.download.sample import shapes
from cocoseg.download.sample.canvas import (
    FINE,
    PALETTE,
    Box,
    CutOut,
    Pixels,
    cut_out,
    ground,
    meet,
    paste,
    shifted,
    smooth_field,
    stencil,
)
from cocoseg.download.sample.rng import Rng
from cocoseg.download.sample.shapes import STEPS, Shape
from cocoseg.images.png import encode_png

SEED = 20170712
IMAGES = 1032
"""Image ids are 1 to 1032; the default selection keeps about 1,000 of them."""

_CATEGORIES = {
    1: ("person", "person", shapes.person),
    2: ("bicycle", "vehicle", shapes.bicycle),
    3: ("car", "vehicle", shapes.car),
    4: ("motorcycle", "vehicle", shapes.motorcycle),
    5: ("airplane", "vehicle", shapes.airplane),
    10: ("traffic light", "outdoor", shapes.traffic_light),
    18: ("dog", "animal", shapes.dog),
}
_CLUTTER: tuple[Shape, ...] = (
    shapes.pebble,
    shapes.leaf,
    shapes.crate,
    shapes.wheel,
    shapes.post,
    shapes.house,
    shapes.tree,
    shapes.flower,
)
_IN_FRONT: tuple[Shape, ...] = (shapes.post, shapes.leaf, shapes.tree, shapes.flower)
_TONES = ((4, 7), (0, 2), (9, 11))
"""First and last palette index of tones 1 to 3. The next index replaces the one that the ground uses."""
_LICENSES = [(4, "first"), (5, "second"), (7, "third")]
_LICENSE = "https://opensource.org/license/mit"

# The ids of images with a peculiarity; the numbers only spread them.
_GRAYSCALE = (500, 777)
_SWARM = range(13, IMAGES, 90)  # more than ten instances
_BARE = range(41, IMAGES, 130)  # no annotation
_OTHER = range(67, IMAGES, 260)  # only categories outside the five
_CROWD = range(8, IMAGES, 40)
_COPY = range(30, IMAGES, 60)  # a near-duplicate of the image before it
_WHOLE = range(5, IMAGES, 12)  # polygons are not cut at the image's border
_SPECK = range(17, IMAGES, 35)  # an object of two or three pixels
_DEFECTS = range(3, IMAGES, 20)  # an additional, broken annotation
_FOLDER = range(100, IMAGES, 100)


class Figure(msgspec.Struct, frozen=True):
    """A cut-out that has an annotation."""

    category_id: int
    item: CutOut


class Scene(msgspec.Struct, frozen=True, kw_only=True):
    """The content of one image, from bottom to top."""

    width: int
    height: int
    paper: tuple[int, ...]
    """Palette indices of the ground's layers."""
    clutter: list[CutOut]
    crowd: list[Figure]
    """Small figures of one class, annotated together."""
    figures: list[Figure]
    front: list[CutOut]
    """Clutter that hides parts of figures."""


def draw_annotations(image_ids: Iterable[int] = range(1, IMAGES + 1)) -> bytes:
    """Return the COCO instances file of the dataset or of some of its images, UTF-8 JSON."""
    images, annotations = [], []
    for image_id in image_ids:
        scene = scene_of(image_id)
        images.append(
            {
                "id": image_id,
                "file_name": file_name(image_id),
                "width": scene.width,
                "height": scene.height,
                "license": _LICENSES[image_id % len(_LICENSES)][0],
            }
        )
        annotations += _annotations(image_id, scene)
    content = {
        "info": {"description": "cocoseg's drawn dataset", "version": "1.0", "year": 2026},
        "licenses": [{"id": id_, "name": f"MIT ({group} group)", "url": _LICENSE} for id_, group in _LICENSES],
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": id_, "name": name, "supercategory": above} for id_, (name, above, _) in _CATEGORIES.items()
        ],
    }
    return msgspec.json.encode(content)


def draw_image(image_id: int) -> bytes:
    """Return the PNG file of one image."""
    return encode_png(draw_pixels(image_id))


def draw_pixels(image_id: int) -> Pixels:
    """Return an image, RGB (H, W, 3) uint8, or (H, W) if grayscale. Raises `CocosegError` for an unknown id."""
    if not 1 <= image_id <= IMAGES:
        raise CocosegError(f"drawn image {image_id} does not exist; ids are 1 to {IMAGES}")
    if image_id in _COPY:
        return _copy(draw_pixels(image_id - 1), *_shift(image_id))
    scene = scene_of(image_id)
    rng = Rng(SEED, image_id, 1)
    picture = ground(rng, scene.height, scene.width, scene.paper)
    for item in (*scene.clutter, *(figure.item for figure in (*scene.crowd, *scene.figures)), *scene.front):
        paste(picture, item, rng)
    light = smooth_field(rng, scene.height, scene.width, 90) - 128
    grain = rng.field(4, scene.height, scene.width) - 2
    picture = picture * (768 + light[..., None]) // 768 + grain[..., None]
    pixels = np.clip(picture, 0, 255).astype(np.uint8)
    if image_id in _GRAYSCALE:
        pixels = (pixels @ np.array((77, 150, 29)) >> 8).astype(np.uint8)  # 256ths of red, green and blue
    return pixels


def file_name(image_id: int) -> str:
    """Return the path of an image in the image folder. Some have a subfolder, a space and a letter beyond ASCII."""
    return f"scrap bøx/drawn {image_id:06d}.png" if image_id in _FOLDER else f"drawn_{image_id:06d}.png"


def scene_of(image_id: int) -> Scene:
    """Return the scene that one image shows."""
    if image_id in _COPY:
        return _shifted_scene(scene_of(image_id - 1), *_shift(image_id)[:2])
    rng = Rng(SEED, image_id, 0)
    height, width = rng.between(96, 160), rng.between(96, 160)
    short = min(height, width)
    paper = tuple(rng.permutation(len(PALETTE))[: rng.between(2, 4)])
    clutter = []
    for _ in range(rng.between(4, 6)):
        shape, spot = rng.choice(_CLUTTER), (rng.between(0, width), rng.between(0, height))
        clutter.append(_lay(rng, shape, spot, short * rng.between(10, 34) // 100, STEPS // 2, paper))
    crowd = _crowd(rng, height, width, paper) if image_id in _CROWD else []
    figures = [] if image_id in _BARE else _figures(rng, image_id, height, width, paper)
    if image_id in _SPECK:
        kind, spot = rng.between(1, 5), (rng.between(0, width), rng.between(0, height))
        figures.append(_figure(rng, kind, spot, rng.between(3, 4), paper))
    front = []
    if figures and rng.one_in(4):
        x0, y0, x1, y1 = rng.choice(figures).item.box
        shape, spot = rng.choice(_IN_FRONT), (rng.between(x0, x1), rng.between(y0, y1))
        front.append(_lay(rng, shape, spot, short * rng.between(25, 50) // 100, STEPS // 2, paper))
    return Scene(width=width, height=height, paper=paper, clutter=clutter, crowd=crowd, figures=figures, front=front)


def _figures(rng: Rng, image_id: int, height: int, width: int, paper: tuple[int, ...]) -> list[Figure]:
    """Return figures at places where they hide little of each other; the fewer they are, the larger."""
    count = rng.between(11, 15) if image_id in _SWARM else rng.choice((1, 1, 2, 2, 2, 3))
    smallest, largest = max(22, 82 - 10 * count), max(30, 116 - 13 * count)  # hundredths of the shorter side
    placed: list[Figure] = []
    taken: list[Box] = []
    for _ in range(count):
        size_px = min(height, width) * rng.between(smallest, largest) // 100
        reach = 2 * size_px // 5
        spots = [(rng.between(0, width), rng.between(0, height)) for _ in range(6)]
        boxes = [(x - reach, y - reach, x + reach, y + reach) for x, y in spots]
        lost = [sum(_area(meet(box, other)) for other in taken) + _outside(box, width, height) for box in boxes]
        best = lost.index(min(lost))
        taken.append(boxes[best])
        kind = rng.between(1, 5)
        # The first figure is one of the five classes: otherwise too many images would have none of them.
        if image_id in _OTHER or (placed and rng.one_in(6)):
            kind = rng.choice((18, 18, 10))
        placed.append(_figure(rng, kind, spots[best], size_px, paper))
    return placed


def _crowd(rng: Rng, height: int, width: int, paper: tuple[int, ...]) -> list[Figure]:
    """Return small figures of one class in a row."""
    x, y, kind = rng.between(0, width), rng.between(0, height), rng.between(1, 5)
    return [
        _figure(rng, kind, (x + rng.between(-30, 30), y + rng.between(-8, 8)), min(height, width) // 5, paper)
        for _ in range(rng.between(6, 9))
    ]


def _figure(rng: Rng, kind: int, center: tuple[int, int], size_px: int, paper: tuple[int, ...]) -> Figure:
    # An airplane, seen from above, may be turned further than what stands upright.
    return Figure(kind, _lay(rng, _CATEGORIES[kind][2], center, size_px, 4 if kind == 5 else 3, paper))


def _lay(rng: Rng, shape: Shape, center: tuple[int, int], size_px: int, turn: int, paper: tuple[int, ...]) -> CutOut:
    """Return a shape in random papers, turned by up to `turn` 64ths to either side; half of them are mirrored."""
    # A middle, a light and a dark ink for every shape alike, none of them the ground's own.
    inks = [rng.between(first, last) for first, last in _TONES]
    middle, light, dark = (ink + 1 if ink == paper[0] else ink for ink in inks)
    squeeze = rng.between(90, 111)
    return cut_out(
        shape(rng),
        (FINE * center[0], FINE * center[1]),
        (rng.choice((-1, 1)) * FINE * size_px * squeeze // 100, FINE * size_px * 100 // squeeze),
        rng.between(-turn, turn),
        (middle, light, dark),
        rng.between(0, 5),
    )


def _annotations(image_id: int, scene: Scene) -> list[dict[str, Any]]:
    """Return the annotations of one image; those of its figures are in the order in which they are drawn."""
    frame = (0, 0, scene.width, scene.height)
    entries: list[dict[str, Any]] = []
    if scene.crowd:
        entries.append(_crowd_annotation(scene, compressed=image_id % 80 == 8))
    for figure in scene.figures:
        box = figure.item.box if image_id in _WHOLE else meet(figure.item.box, frame)
        if box is None:
            continue
        seen = _seen(figure.item, box, scene.front)
        parts = _outlines(seen, FINE * box[0], FINE * box[1])
        if parts:
            area = int(np.count_nonzero(seen)) / FINE**2
            entries.append(_entry(figure.category_id, parts, area, _bounds(parts)))
    if image_id in _DEFECTS and entries:
        entries.append(_broken(entries[-1], image_id // 20))
    return [{"id": 100 * image_id + place, "image_id": image_id, **entry} for place, entry in enumerate(entries)]


def _entry(category_id: int, segmentation: Any, area: float, bbox: list[float], iscrowd: int = 0) -> dict[str, Any]:
    return {
        "category_id": category_id,
        "iscrowd": iscrowd,
        "area": area,
        "bbox": bbox,
        "segmentation": segmentation,
    }


def _broken(good: dict[str, Any], number: int) -> dict[str, Any]:
    """Return a second annotation of the same object, with one of the defects of real files."""
    x, y = good["bbox"][:2]
    bad = {**good, "iscrowd": 0}
    match number % 8:
        case 0:
            bad["segmentation"] = None
        case 1:
            del bad["segmentation"]
        case 2:
            bad["segmentation"] = []
        case 3:
            bad |= {"segmentation": [[x, y, x + 4, y + 3]], "area": 0.0}  # two points
        case 4:
            bad |= {"segmentation": [[x, y, x + 4, y + 4, x + 8, y + 8]], "area": 0.0}  # on one line
        case 5:
            bad["category_id"] = 999
        case 6:
            bad |= {"segmentation": [[x, y, x + 0.125, y, x, y + 0.125]], "area": 0.0078125}
        case _:
            bad["segmentation"] = [[x, y, x + 2, y + 2], *good["segmentation"]]  # one part of two points, the rest good
    return bad


def _crowd_annotation(scene: Scene, *, compressed: bool) -> dict[str, Any]:
    frame = (0, 0, scene.width, scene.height)
    hidden = np.zeros((FINE * scene.height, FINE * scene.width), bool)
    for figure in scene.crowd:
        hidden |= stencil(figure.item, frame) > 0
    for item in scene.front:
        hidden &= stencil(item, frame) == 0
    blocks = hidden.reshape(scene.height, FINE, scene.width, FINE).sum(axis=(1, 3))
    region = 2 * blocks >= FINE**2
    counts = _run_lengths(region)
    rle: dict[str, Any] = {"size": [scene.height, scene.width], "counts": counts}
    if compressed:
        rle["counts"] = coco_mask.frPyObjects(rle, scene.height, scene.width)["counts"].decode()
    rows, columns = np.nonzero(region.any(axis=1))[0], np.nonzero(region.any(axis=0))[0]
    bbox = [0.0, 0.0, 0.0, 0.0]
    if len(rows):
        x0, y0, x1, y1 = int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
        bbox = [float(x0), float(y0), float(x1 - x0), float(y1 - y0)]
    return _entry(scene.crowd[0].category_id, rle, float(region.sum()), bbox, iscrowd=1)


def _run_lengths(region: npt.NDArray[np.bool_]) -> list[int]:
    """Return COCO's run lengths: down the columns, starting with a run outside the region."""
    flat = region.ravel(order="F")
    changes = (np.flatnonzero(flat[1:] != flat[:-1]) + 1).tolist()
    ends = [0, *changes, flat.size] if not flat[0] else [0, 0, *changes, flat.size]
    return [end - start for start, end in pairwise(ends)]


def _seen(item: CutOut, box: Box, front: list[CutOut]) -> Pixels:
    """Return 1 for each quarter pixel of `box` that the cut-out covers or encloses and `front` does not hide."""
    covered = stencil(item, box)
    # As annotators do it: the gaps between the tubes of a bicycle belong to it.
    outer, _ = cv2.findContours(covered, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    seen = np.zeros_like(covered)
    cv2.drawContours(seen, outer, -1, 1, cv2.FILLED)
    for other in front:
        if meet(box, other.box):
            seen[stencil(other, box) > 0] = 0
    return seen


def _outlines(seen: Pixels, x0: int, y0: int) -> list[list[float]]:
    """Return polygons, in whole pixels, around the ones of a stencil with its corner at (`x0`, `y0`) quarter pixels."""
    contours, links = cv2.findContours(seen, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    for contour, (_, _, _, parent) in zip(contours, links[0] if contours else (), strict=True):
        # COCO's polygons have no holes: cut the stencil through the hole, between two pixels, and outline both halves.
        x, _, width, _ = cv2.boundingRect(contour)
        cut = (x0 + x + width // 2) // FINE * FINE - x0
        if parent >= 0 and x + 1 < cut < x + width - 1:
            left, right = np.ascontiguousarray(seen[:, :cut]), np.ascontiguousarray(seen[:, cut:])
            return _outlines(left, x0, y0) + _outlines(right, x0 + cut, y0)
    parts = []
    for contour, (_, _, _, parent) in zip(contours, links[0] if contours else (), strict=True):
        # Within a quarter pixel: squared distances of whole numbers, which a float holds exactly.
        corners = cv2.approxPolyDP(contour, 1, closed=True)[:, 0]
        if parent < 0 and len(corners) >= 3:
            # The centers of the quarter pixels at the edge: quarters plus an eighth.
            parts.append(((2 * (corners + np.array((x0, y0))) + 1) / (2 * FINE)).ravel().tolist())
    return parts


def _bounds(parts: list[list[float]]) -> list[float]:
    """Return COCO's bbox of polygons: x, y, width, height."""
    xs = [x for part in parts for x in part[0::2]]
    ys = [y for part in parts for y in part[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


@cache
def _shift(image_id: int) -> tuple[int, int, int]:
    """Return how a near-duplicate differs: pixels to the right, pixels down, brightness."""
    rng = Rng(SEED, image_id, 2)
    return rng.between(-2, 2), rng.between(-2, 2), rng.choice((-1, 1)) * rng.between(4, 9)


def _copy(pixels: Pixels, dx: int, dy: int, brighter: int) -> Pixels:
    height, width = pixels.shape[:2]
    rows = np.clip(np.arange(height) - dy, 0, height - 1)
    columns = np.clip(np.arange(width) - dx, 0, width - 1)
    moved = pixels[rows][:, columns].astype(np.int16)
    return np.clip(moved + brighter, 0, 255).astype(np.uint8)


def _shifted_scene(scene: Scene, dx: int, dy: int) -> Scene:
    def move(pile: list[Figure]) -> list[Figure]:
        return [Figure(figure.category_id, shifted(figure.item, dx, dy)) for figure in pile]

    return msgspec.structs.replace(
        scene,
        clutter=[shifted(item, dx, dy) for item in scene.clutter],
        crowd=move(scene.crowd),
        figures=move(scene.figures),
        front=[shifted(item, dx, dy) for item in scene.front],
    )


def _area(box: Box | None) -> int:
    return (box[2] - box[0]) * (box[3] - box[1]) if box else 0


def _outside(box: Box, width: int, height: int) -> int:
    """Return the area of `box` outside the image, in pixels."""
    return _area(box) - _area(meet(box, (0, 0, width, height)))
