"""Write a COCO instances file with the statistics of train2017 and any number of images, the same one in every run.

Like train2017's are: image sizes, annotations per image (7.27, long-tailed), areas (41 % small, 34 % medium, 24 % large
by COCO's limits, before the image border cuts them), bytes per entry, 1.2 % crowds as run lengths, and 0.9 % of images
without annotations.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

TRAIN2017_IMAGES = 118_287
_ANNOTATIONS_AN_IMAGE = 860_001 / TRAIN2017_IMAGES
_CROWD_SHARE = 10_052 / 860_001
_EMPTY_SHARE = 1_021 / TRAIN2017_IMAGES
_SIZES = ((640, 480), (480, 640), (640, 427), (500, 375), (427, 640), (640, 640))
_SIZE_SHARES = (0.35, 0.13, 0.22, 0.15, 0.1, 0.05)
# COCO's own ids: 80 of the numbers from 1 to 90
CATEGORY_IDS = tuple(n for n in range(1, 91) if n not in (12, 26, 29, 30, 45, 66, 68, 69, 71, 83))
NAMES = {1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane"}


def write_instances(path: Path, images: int) -> int:
    """Write the file. Return the number of its annotations."""
    generator = np.random.default_rng(2017)
    sizes = generator.choice(len(_SIZES), images, p=_SIZE_SHARES)
    counts = generator.geometric(1 / _ANNOTATIONS_AN_IMAGE, images)
    counts[generator.random(images) < _EMPTY_SHARE] = 0
    # a third of all objects are persons
    weights = np.array([0.3 if n == 1 else 0.7 / 79 for n in CATEGORY_IDS])
    with path.open("w", encoding="utf-8") as file:
        file.write('{"info": {}, "licenses": [{"id": 4, "name": "CC BY 2.0"}], "images": ')
        json.dump([_image(n, *_SIZES[sizes[n]]) for n in range(images)], file)
        file.write(', "annotations": [')
        number = 0
        for index in range(images):
            for category_id in generator.choice(CATEGORY_IDS, counts[index], p=weights):
                file.write(", " * bool(number))
                number += 1
                json.dump(_annotation(number, index, int(category_id), *_SIZES[sizes[index]], generator), file)
        categories = [{"id": n, "name": NAMES.get(n, f"category {n}")} for n in CATEGORY_IDS]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    return number


def _image(index: int, width: int, height: int) -> dict[str, Any]:
    name = f"{index + 1:012}.jpg"
    return {
        "license": 4,
        "file_name": name,
        "coco_url": f"http://images.cocodataset.org/train2017/{name}",
        "height": height,
        "width": width,
        "date_captured": "2013-11-14 11:18:45",
        "flickr_url": f"http://farm9.staticflickr.com/8186/8119368305_{index:010}_z.jpg",
        "id": index + 1,
    }


def _annotation(
    number: int, index: int, category_id: int, width: int, height: int, generator: np.random.Generator
) -> dict[str, Any]:
    crowd = bool(generator.random() < _CROWD_SHARE)
    # The area is near 3 r²: 41 % of these lie below 32², 24 % above 96².
    radius = float(np.clip(generator.lognormal(np.log(24.2), 1.175), 2, 300)) * (3 if crowd else 1)
    outlines = [_outline(radius, width, height, generator) for _ in range(1 if generator.random() < 0.9 else 2)]
    segmentation: Any = outlines
    if crowd:
        compressed = coco_mask.merge(coco_mask.frPyObjects(outlines, height, width))
        bits = coco_mask.decode(compressed).ravel(order="F")
        borders = np.flatnonzero(np.diff(bits, prepend=0, append=1 - bits[-1]))
        segmentation = {"size": [height, width], "counts": np.diff(borders, prepend=0).tolist()}
    corners = np.concatenate([np.reshape(outline, (-1, 2)) for outline in outlines])
    low, sides = corners.min(axis=0), np.ptp(corners, axis=0)
    return {
        "segmentation": segmentation,
        "area": round(sum(map(_area, outlines)), 4),
        "iscrowd": int(crowd),
        "image_id": index + 1,
        "bbox": np.round([*low, *sides], 2).tolist(),
        "category_id": category_id,
        "id": number,
    }


def _area(outline: list[float]) -> float:
    """Return the area of a polygon, as COCO's `area` has it."""
    x, y = np.reshape(outline, (-1, 2)).T
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _outline(radius: float, width: int, height: int, generator: np.random.Generator) -> list[float]:
    """Return a star-shaped outline; larger objects have more points, 21 on average."""
    points = int(np.clip(generator.normal(8 + 6 * np.sqrt(radius / 10), 5), 4, 90))
    angles = np.sort(generator.random(points)) * 2 * np.pi
    radii = radius * (0.6 + 0.8 * generator.random(points))
    x = np.clip(generator.random() * width + radii * np.cos(angles), 0, width)
    y = np.clip(generator.random() * height + radii * np.sin(angles), 0, height)
    numbers: list[float] = np.stack([x, y], axis=1).ravel().round(2).tolist()
    return numbers
