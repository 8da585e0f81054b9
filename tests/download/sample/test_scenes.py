import hashlib
import json
import subprocess
import sys
from collections import Counter
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask

from cocoseg.core.errors import CocosegError
from cocoseg.download.sample.canvas import FINE, PALETTE, CutOut, cut_out, ground, paste, stencil
from cocoseg.download.sample.rng import Rng
from cocoseg.download.sample.scenes import IMAGES, draw_annotations, draw_image, draw_pixels, scene_of

CLASSES = {1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane"}
SOUND = [image_id for image_id in range(1, 60) if image_id % 20 != 3]  # images without a broken annotation


@cache
def content() -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(draw_annotations())
    return decoded


def decode(png: bytes) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels


@cache
def by_image() -> dict[int, list[dict[str, Any]]]:
    entries: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content()["images"]}
    for annotation in content()["annotations"]:
        entries[annotation["image_id"]].append(annotation)
    return entries


def polygons(annotation: dict[str, Any]) -> list[list[float]]:
    segmentation = annotation.get("segmentation")
    return segmentation if isinstance(segmentation, list) else []


def good(annotation: dict[str, Any]) -> bool:
    return bool(polygons(annotation)) and all(len(part) >= 6 for part in polygons(annotation))


def kept_by_default(entries: list[dict[str, Any]]) -> int:
    return sum(entry["category_id"] in CLASSES and bool(entry.get("segmentation")) for entry in entries)


def figure_masks(image_id: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each annotated figure, its mask as COCO paints it, and the pixels that it was drawn on or encloses."""
    scene = scene_of(image_id)
    frame = (0, 0, scene.width, scene.height)
    front = np.zeros((FINE * scene.height, FINE * scene.width), bool)
    for item in scene.front:
        front |= stencil(item, frame) > 0
    drawn = []
    for figure in scene.figures:
        enclosed = np.pad(stencil(figure.item, frame), 1)
        cv2.floodFill(enclosed, None, (0, 0), 9)  # what the flood does not reach is the figure or inside it
        seen = (enclosed[1:-1, 1:-1] != 9) & ~front
        drawn.append(seen.reshape(scene.height, FINE, scene.width, FINE).sum(axis=(1, 3)) * 2 > FINE**2)
    entries = [entry for entry in by_image()[image_id] if good(entry)]
    drawn = [pixels for pixels in drawn if pixels.any()]  # what is wholly hidden has no annotation
    assert len(entries) == len(drawn)
    painted = [
        coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons(entry), scene.height, scene.width)))
        for entry in entries
    ]
    return list(zip([mask > 0 for mask in painted], drawn, strict=True))


def test_the_same_bytes_on_every_machine() -> None:
    # If a change to the drawing is meant, these change with it, and so does every number in the README.
    annotations = hashlib.sha256(draw_annotations()).hexdigest()
    pixels = hashlib.sha256(b"".join(draw_pixels(image_id).tobytes() for image_id in (1, 8, 13, 30, 500))).hexdigest()
    assert annotations == "46f39456f438479ca6219cec780db6223c94e5dbf4681f59f8396cf1788f2cee"
    assert pixels == "77b452ad923dd6d15a6735b22a7738ff601e789064ece2688ee28e800507f14b"


def test_an_image_does_not_depend_on_those_drawn_before_it() -> None:
    program = (
        "import sys; from cocoseg.download.sample.scenes import draw_image; sys.stdout.buffer.write(draw_image(42))"
    )
    alone = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, env={"PYTHONPATH": "src"})
    assert alone.stdout == draw_image(42)


def test_files_hold_the_pixels_at_the_annotated_size() -> None:
    for image in content()["images"][:40]:
        read = decode(draw_image(image["id"]))
        assert read.shape[:2] == (image["height"], image["width"])
        assert (read[..., ::-1] == draw_pixels(image["id"])).all()


def test_about_a_thousand_images_have_something_to_learn_and_at_most_ten_instances() -> None:
    usable = [entries for entries in by_image().values() if 1 <= kept_by_default(entries) <= 10]
    assert 950 <= len(usable) <= 1020


def test_the_five_classes_carry_cocos_own_ids_and_are_about_as_frequent() -> None:
    names = {category["id"]: category["name"] for category in content()["categories"]}
    assert names == CLASSES | {10: "traffic light", 18: "dog"}
    counts = Counter(annotation["category_id"] for annotation in content()["annotations"] if good(annotation))
    assert min(counts[id_] for id_ in CLASSES) > 0.8 * max(counts[id_] for id_ in CLASSES)
    assert counts[18] > 80


def test_ids_are_unique_and_names_safe() -> None:
    images, annotations = content()["images"], content()["annotations"]
    assert len({image["id"] for image in images}) == len({image["file_name"] for image in images}) == IMAGES
    assert len({annotation["id"] for annotation in annotations}) == len(annotations)
    assert not any(image["file_name"].startswith("/") or ".." in image["file_name"] for image in images)
    assert any("/" in image["file_name"] and not image["file_name"].isascii() for image in images)


def test_every_image_has_one_of_the_listed_licences() -> None:
    listed = {license_["id"] for license_ in content()["licenses"]}
    assert {image["license"] for image in content()["images"]} == listed


def test_polygons_outline_what_is_drawn_to_within_a_pixel() -> None:
    within = np.ones((3, 3), np.uint8)
    for image_id in SOUND:
        for painted, drawn in figure_masks(image_id):
            assert (painted & (cv2.dilate(drawn.astype(np.uint8), within) == 0)).sum() <= 2, image_id
            assert (~painted & (cv2.erode(drawn.astype(np.uint8), within) == 1)).sum() <= 2, image_id


def test_the_area_is_the_drawn_area() -> None:
    for image_id in SOUND:
        if image_id % 12 != 5:  # those polygons go on outside the image
            entries = [entry for entry in by_image()[image_id] if good(entry)]
            for entry, (_, drawn) in zip(entries, figure_masks(image_id), strict=True):
                assert abs(entry["area"] - drawn.sum()) <= 4 + 0.05 * drawn.sum()


def test_the_bbox_encloses_the_polygons() -> None:
    for annotation in filter(good, (entry for image_id in SOUND for entry in by_image()[image_id])):
        points = np.concatenate([np.reshape(part, (-1, 2)) for part in polygons(annotation)])
        x, y, width, height = annotation["bbox"]
        assert (points.min(axis=0).tolist(), points.max(axis=0).tolist()) == ([x, y], [x + width, y + height])


def test_annotations_have_the_defects_of_real_files() -> None:
    annotations = content()["annotations"]
    sizes = {image["id"]: (image["width"], image["height"]) for image in content()["images"]}
    found: Counter[str] = Counter()
    for entry in annotations:
        segmentation = entry.get("segmentation", "missing")
        found["missing"] += segmentation == "missing"
        found["null"] += segmentation is None
        found["empty"] += segmentation == []
        found["unknown category"] += entry["category_id"] == 999
        found["parts"] += isinstance(segmentation, list) and sum(len(part) >= 6 for part in segmentation) > 1
        found["two points"] += any(len(part) == 4 for part in polygons(entry))
        found["two points beside a good part"] += {len(part) > 4 for part in polygons(entry)} == {True, False}
        found["no area"] += entry["area"] == 0 and good(entry)
        found["tiny"] += 0 < entry["area"] < 12
        width, height = sizes[entry["image_id"]]
        outside = any(min(part) < 0 or max(part[0::2]) > width or max(part[1::2]) > height for part in polygons(entry))
        found["out of bounds"] += outside
        if entry["iscrowd"]:
            found["crowd, compressed" if isinstance(entry["segmentation"]["counts"], str) else "crowd, not"] += 1
    wanted = (
        "missing|null|empty|unknown category|parts|two points|two points beside a good part|no area|tiny|out of bounds"
    )
    for name in (*wanted.split("|"), "crowd, compressed", "crowd, not"):
        assert found[name] >= 3, name
    assert sum(not entries for entries in by_image().values()) >= 3
    assert sum(kept_by_default(entries) > 10 for entries in by_image().values()) >= 5


def test_figures_of_different_classes_overlap() -> None:
    contested = 0
    for image_id in SOUND:
        entries = [entry for entry in by_image()[image_id] if good(entry)]
        masks = list(zip((entry["category_id"] for entry in entries), figure_masks(image_id), strict=True))
        contested += any((a & b).any() and x != y for x, (a, _) in masks for y, (b, _) in masks)
    assert contested >= 10


def test_crowds_decode_to_the_image_and_their_area() -> None:
    sizes = {image["id"]: [image["height"], image["width"]] for image in content()["images"]}
    for entry in content()["annotations"]:
        if entry["iscrowd"]:
            rle = entry["segmentation"]
            assert rle["size"] == sizes[entry["image_id"]]
            if isinstance(rle["counts"], list):
                assert sum(rle["counts"]) == rle["size"][0] * rle["size"][1]
                rle = coco_mask.frPyObjects(rle, *rle["size"])
            assert coco_mask.area(rle) == entry["area"]


def test_some_images_are_grayscale() -> None:
    assert decode(draw_image(500)).ndim == 2


def test_a_near_duplicate_is_its_neighbour_a_little_brighter_or_darker_and_moved() -> None:
    pair = draw_pixels(29), draw_pixels(30)
    assert pair[0].shape == pair[1].shape
    inner = slice(8, -8)
    best = min(
        np.abs(np.roll(pair[0], (dy, dx), axis=(0, 1)).astype(int) - pair[1])[inner, inner].max()
        for dx in range(-2, 3)
        for dy in range(-2, 3)
    )
    assert 4 <= best <= 9


def test_an_image_that_does_not_exist_is_refused_in_one_line() -> None:
    with pytest.raises(CocosegError, match="drawn image 5000 does not exist; ids are 1 to"):
        draw_pixels(5000)


def square(size_px: int, center_px: tuple[int, int]) -> CutOut:
    corners = [(-500, -500), (500, -500), (500, 500), (-500, 500)]
    size = FINE * size_px
    return cut_out([(1, corners)], (FINE * center_px[0], FINE * center_px[1]), (size, size), 0, (8, 0, 12), 0)


def test_a_cut_out_covers_the_pixels_of_its_polygon_and_shades_those_below() -> None:
    picture = np.full((40, 40, 3), 200, np.int32)
    paste(picture, square(10, (20, 20)), Rng(0))
    assert (picture[18:22, 18:22] == PALETTE[8]).all()
    assert (picture[:10] == 200).all()
    assert (picture[27, 20] < 200).all()  # the shadow falls down and to the right
    assert (picture[13, 20] >= 180).all()


def test_a_cut_out_may_lie_partly_or_wholly_outside() -> None:
    picture = np.full((20, 20, 3), 200, np.int32)
    paste(picture, square(10, (60, 60)), Rng(0))
    assert (picture == 200).all()
    paste(picture, square(10, (0, 0)), Rng(0))
    assert (picture[:3, :3] == PALETTE[8]).all()


def test_the_ground_stays_in_the_range_of_bytes() -> None:
    paper = ground(Rng(1), 50, 70, (0, 12, 6))
    assert paper.shape == (50, 70, 3)
    assert paper.min() >= 0
    assert paper.max() <= 270  # light is clipped when the picture is done
