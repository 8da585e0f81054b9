"""Draw the pictures of docs/how-it-works.md that no stage writes: three drawn images on their way to masks.

They depend on code alone, and a test draws them again. Usage: uv run .ci/pictures.py
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

from cocoseg.download.sample.scenes import draw_annotations, draw_pixels
from cocoseg.images.png import encode_png
from cocoseg.mask.painting import Paint, paint
from cocoseg.mask.segmentation import Shape, shapes_of
from cocoseg.pictures.gallery import resized, resized_labels
from cocoseg.pictures.layout import GAP_PX, PAGE_PX, Pixels, beside, centered, framed, paper, text_line, text_width
from cocoseg.pictures.overlay import overlay, palette

DOCS = Path(__file__).parents[1] / "docs"
IMAGES = (66, 77, 132)
CLASSES = ("background", "person", "bicycle", "car", "motorcycle", "airplane")  # in the order of their category ids
WIDTH_PX = (PAGE_PX - GAP_PX) // len(IMAGES) - GAP_PX
LETTERS = 1.5


def drawn() -> Iterator[tuple[str, Pixels]]:
    """Yield the name of each picture, and its pixels."""
    file = msgspec.json.decode(draw_annotations(IMAGES))
    names = {category["id"]: category["name"] for category in file["categories"]}
    panels = [
        three_panels(image, [one for one in file["annotations"] if one["image_id"] == image["id"]], names)
        for image in file["images"]
    ]
    for name, row in zip(("download", "download_images", "mask"), zip(*panels, strict=True), strict=True):
        height = max(len(panel) for panel in row)
        yield f"stage_{name}.png", framed(beside([centered(panel, height, WIDTH_PX) for panel in row], GAP_PX))


def three_panels(image: dict[str, Any], annotations: list[dict[str, Any]], names: dict[int, str]) -> list[Pixels]:
    """Return the annotations of an image, its pixels, and its mask over them."""
    height, width = image["height"], image["width"]
    size = WIDTH_PX * height // width, WIDTH_PX
    chosen = [one for one in annotations if one["category_id"] < len(CLASSES)]
    shapes = shapes_of(
        [msgspec.Raw(msgspec.json.encode(one["segmentation"])) for one in chosen],
        height, width, drop_out_of_bounds=False,
    )  # fmt: skip
    paints = [
        Paint(borders=shape.borders, size=shape.size, class_index=one["category_id"])
        for one, shape in zip(chosen, shapes, strict=True)
        if isinstance(shape, Shape)
    ]
    labels = paint(paints, height, width, "smallest", instance_map=False).labels
    pixels = resized(draw_pixels(image["id"]), *size) | np.uint8(15)  # fewer tones, smaller files
    return [
        described(annotations, *size, WIDTH_PX / width, names),
        pixels,
        overlay(pixels, resized_labels(labels, *size), CLASSES, LETTERS),
    ]


def described(
    annotations: list[dict[str, Any]], height: int, width: int, scale: float, names: dict[int, str]
) -> Pixels:
    """Return what the annotations say of an image: outlines, boxes, and the names of categories."""
    picture = paper(height, width)
    picture[:] = 242
    for one in annotations:
        color = palette()[one["category_id"]].tolist()
        for part in one["segmentation"]:
            points = np.round(scale * np.reshape(part, (-1, 2))).astype(np.int32)
            cv2.polylines(picture, [points], isClosed=True, color=color, thickness=2)
        left, top, wide, high = (round(scale * number) for number in one["bbox"])
        cv2.rectangle(picture, (left, top), (left + wide - 1, top + high - 1), color, 2)
    for one in annotations:  # over all outlines
        name = names[one["category_id"]]
        sign = text_line(name, text_width(name, LETTERS), size=LETTERS)
        left, top = (
            min(max(0, round(scale * number) + 3), side - own)
            for number, side, own in zip(one["bbox"], (width, height), sign.shape[1::-1], strict=False)
        )
        picture[top : top + len(sign), left : left + sign.shape[1]] = sign
    return picture


if __name__ == "__main__":
    for file_name, picture in drawn():
        (DOCS / file_name).write_bytes(encode_png(picture))
