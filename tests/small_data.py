"""A few images that a small network learns in seconds: a bright square (car) or bar (person) on dark noise."""

from pathlib import Path

import cv2
import numpy as np

from cocoseg.coco.categories import CategoryMapping, MappedCategory
from cocoseg.images.pairs import Pair

MULTICLASS = CategoryMapping(
    task="multiclass",
    classes=("background", "person", "car"),
    categories=(
        MappedCategory(category_id=1, name="person", class_index=1),
        MappedCategory(category_id=3, name="car", class_index=2),
    ),
)
BINARY = CategoryMapping(
    task="binary",
    classes=("background", "foreground"),
    categories=(MappedCategory(category_id=1, name="person", class_index=1),),
)


def write_pairs(folder: Path, count: int, mapping: CategoryMapping = MULTICLASS, size: int = 32) -> list[Pair]:
    """Write `count` images and masks below `folder`; odd ones have class 1, even ones the last class."""
    random = np.random.default_rng(0)
    found = []
    for number in range(count):
        image = random.integers(0, 60, (size, size, 3), dtype=np.uint8)
        mask = np.zeros((size, size), np.uint8)
        top, left = random.integers(2, size // 2 - 2, 2).tolist()
        class_index = 1 if number % 2 else len(mapping.classes) - 1
        height, width = (size // 2, size // 8) if class_index == 1 else (size // 3, size // 3)
        mask[top : top + height, left : left + width] = class_index
        image[mask > 0] += 150
        mask[0] = 255
        pair = Pair(
            file_name=f"{number:03d}.png",
            image=folder / "images" / f"{number:03d}.png",
            mask=folder / "masks" / f"{number:03d}.png",
        )
        for path, pixels in ((pair.image, image[..., ::-1]), (pair.mask, mask)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
        found.append(pair)
    return found
