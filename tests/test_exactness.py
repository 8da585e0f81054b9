"""Whole label maps equal a slow reference that knows pycocotools' `annToMask` and the words of the rules, no more."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from cocoseg.coco.categories import map_categories
from cocoseg.coco.format import Category, Instances
from cocoseg.mask.masks import priority_ranks, write_masks
from cocoseg.mask.painting import Paint, paint
from cocoseg.mask.params import MaskParams, Overlap
from cocoseg.mask.segmentation import Shape, painted_boxes, shapes_of
from cocoseg.tables import ImageRow

OVERLAPS: tuple[Overlap, ...] = get_args(Overlap)
COCO_REAL = Path(__file__).parent.parent.parent / "shared" / "data" / "coco-real"


def ann_to_mask(segmentation: Any, height: int, width: int) -> NDArray[np.bool_]:
    """pycocotools' `COCO.annToMask`, line by line."""
    if isinstance(segmentation, list):
        rle = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    elif isinstance(segmentation["counts"], list):
        rle = coco_mask.frPyObjects(segmentation, height, width)
    else:
        rle = segmentation
    decoded: NDArray[np.uint8] = coco_mask.decode(rle)
    return decoded.astype(np.bool_)


def box_of(mask: NDArray[np.bool_]) -> list[int]:
    """Left, top, width and height of what is painted."""
    rows, columns = mask.nonzero()
    left, top = int(columns.min()), int(rows.min())
    return [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]


def reference(
    masks: Sequence[NDArray[np.bool_]],
    classes: Sequence[int],
    ranks: Sequence[int],
    crowds: Sequence[bool],
    shape: tuple[int, int],
    overlap: Overlap,
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Labels, and the index of the annotation that owns each pixel or -1: each pixel's claims, and who wins."""
    solid = [index for index, crowd in enumerate(crowds) if not crowd]
    sizes = [int(mask.sum()) for mask in masks]
    strength = {
        "last": lambda index: (index,),
        "ignore": lambda index: (index,),
        "first": lambda index: (-index,),
        "largest": lambda index: (sizes[index], index),
        "smallest": lambda index: (-sizes[index], index),
        "priority": lambda index: (-ranks[index], sizes[index], index),
    }[overlap]
    labels = np.zeros(shape, np.uint8)
    owner = np.full(shape, -1, np.int64)
    for index in sorted(solid, key=strength):
        labels[masks[index]] = classes[index]
        owner[masks[index]] = index
    if overlap == "ignore":
        for first, second in itertools.combinations(solid, 2):
            if classes[first] != classes[second]:
                both = masks[first] & masks[second]
                labels[both] = 255
                owner[both] = -1
    for index, crowd in enumerate(crowds):
        if crowd:
            labels[masks[index] & (labels == 0)] = 255
    return labels, owner


COORDINATES = st.one_of(
    st.integers(-30, 700).map(float),
    st.integers(-100, 6800).map(lambda tenth: tenth / 10),
    st.integers(-60, 1300).map(lambda half: half / 2),
    st.sampled_from([0.0, -0.0, 0.1, 0.5, 639.5, 640.0, 640.1, 479.9, 480.0, 1e-9, -1e-9]),
)
PART = st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=12).map(lambda points: sum(points, ()))


@st.composite
def segmentation(draw: st.DrawFn, height: int, width: int) -> Any:
    """Polygons, or their run lengths as a list or as compressed text."""
    parts = [list(part) for part in draw(st.lists(PART, min_size=1, max_size=3))]
    form = draw(st.sampled_from(("polygons", "polygons", "list", "text")))
    if form == "polygons":
        return parts
    rle = coco_mask.merge(coco_mask.frPyObjects(parts, height, width))
    if form == "text":
        return {"size": [height, width], "counts": rle["counts"].decode()}
    flat = coco_mask.decode(rle).ravel(order="F")
    borders = np.flatnonzero(np.diff(flat, prepend=0))
    return {"size": [height, width], "counts": np.diff([0, *borders, len(flat)]).tolist()}


@given(st.data(), st.integers(1, 640), st.integers(1, 640), st.sampled_from(OVERLAPS))
@settings(max_examples=300, deadline=None)
def test_the_whole_map_equals_ann_to_mask_and_the_words_of_the_rule(
    data: st.DataObject, height: int, width: int, overlap: Overlap
) -> None:
    segmentations = data.draw(st.lists(segmentation(height, width), min_size=1, max_size=5))
    count = len(segmentations)
    classes = data.draw(st.lists(st.integers(1, 3), min_size=count, max_size=count))
    ranks = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    crowds = data.draw(st.lists(st.sampled_from((False, False, True)), min_size=count, max_size=count))
    raw = [msgspec.Raw(json.dumps(entry).encode()) for entry in segmentations]
    shapes = shapes_of(raw, height, width, drop_out_of_bounds=False)
    paints = [
        Paint(borders=shape.borders, size=shape.size, class_index=class_index, rank=rank, ignored=crowd)
        for shape, class_index, rank, crowd in zip(shapes, classes, ranks, crowds, strict=True)
        if isinstance(shape, Shape)
    ]
    kept = [index for index, shape in enumerate(shapes) if isinstance(shape, Shape)]
    maps = paint(paints, height, width, overlap, instance_map=True)

    masks = [ann_to_mask(entry, height, width) for entry in segmentations]
    assert [index for index, mask in enumerate(masks) if mask.any()] == kept
    boxes = painted_boxes([shape for shape in shapes if isinstance(shape, Shape)], height, width)
    assert boxes.tolist() == [box_of(masks[index]) for index in kept]
    labels, owner = reference(masks, classes, ranks, crowds, (height, width), overlap)
    np.testing.assert_array_equal(maps.labels, labels)
    solid = [(mask, own) for mask, own, crowd in zip(masks, classes, crowds, strict=True) if not crowd]
    claims = [sum((mask for mask, own in solid if own == c), np.zeros_like(masks[0])) > 0 for c in (1, 2, 3)]
    assert maps.contested == np.count_nonzero(np.sum(claims, axis=0) > 1)
    assert maps.instances is not None
    named = np.array([-1, *(kept[index] for index in maps.numbered)])
    np.testing.assert_array_equal(named[maps.instances], owner)


@pytest.mark.skipif(not COCO_REAL.is_dir(), reason="real images are not at hand")
@pytest.mark.parametrize(("overlap", "crowd"), [*((overlap, "ignore") for overlap in OVERLAPS), ("last", "keep")])
def test_real_annotations_of_all_80_classes_differ_in_no_pixel(tmp_path: Path, overlap: Overlap, crowd: Any) -> None:
    raw = (COCO_REAL / "instances.json").read_bytes()
    instances = msgspec.json.decode(raw, type=Instances)
    plain = json.loads(raw)
    used = {annotation.image_id for annotation in instances.annotations}
    instances.images = [image for image in instances.images if image.id in used]
    mapping = map_categories(sorted(instances.categories, key=lambda category: category.id), "multiclass")
    assert len(mapping.classes) == 81
    params = MaskParams(
        negatives="drop",
        lost="ignore",
        max_defects=1,
        task="multiclass",
        overlap=overlap,
        priority=("person", "dog", "car") if overlap == "priority" else (),
        crowd=crowd,
        out_of_bounds="clip",
        gallery_images=0,
        instance_masks=True,
        max_skipped=0,
        on_defect="fail",
    )
    rows = [ImageRow(image_id=image.id, file_name=image.file_name, status="ok") for image in instances.images]
    masks = write_masks(instances, rows, mapping, params, tmp_path / "masks", tmp_path / "instances")
    class_of = {category.category_id: category.class_index for category in mapping.categories}
    rank_of = priority_ranks(mapping, params.priority)
    annotation_of = {(row.file_name, row.number): row.annotation_id for row in masks.instance_rows}
    for image in instances.images:
        own = [entry for entry in plain["annotations"] if entry["image_id"] == image.id]
        labels, owner = reference(
            [ann_to_mask(entry["segmentation"], *image.sides()) for entry in own],
            [class_of[entry["category_id"]] for entry in own],
            [rank_of[entry["category_id"]] for entry in own],
            [entry["iscrowd"] == 1 and crowd == "ignore" for entry in own],
            image.sides(),
            overlap,
        )
        if not set(np.unique(labels).tolist()) - {0, 255}:
            assert image.file_name not in masks.mask_of_image
            continue
        written = cv2.imread(str(tmp_path / "masks" / masks.mask_of_image[image.file_name]), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(written, labels)
        numbers = read_numbers(tmp_path / "instances" / masks.mask_of_image[image.file_name])
        ids = np.array([entry["id"] for entry in own])
        for number in np.unique(numbers).tolist():
            owners = owner[numbers == number]
            if number == 0:
                assert (owners == -1).all()
            else:
                assert (owners >= 0).all()
                assert (ids[owners] == annotation_of[image.file_name, number]).all()


def read_numbers(path: Path) -> NDArray[np.uint16]:
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    return pixels.astype(np.uint16)


def test_an_image_of_one_pixel_is_painted() -> None:
    (shape,) = shapes_of([msgspec.Raw(b"[[0, 0, 1, 0, 1, 1, 0, 1]]")], 1, 1, drop_out_of_bounds=True)
    assert isinstance(shape, Shape)
    whole = Paint(borders=shape.borders, size=shape.size, class_index=9)
    assert paint([whole], 1, 1, "last", instance_map=False).labels.tolist() == [[9]]


def test_category_ids_are_not_class_indices() -> None:
    mapping = map_categories([Category(id=90, name="toothbrush"), Category(id=1, name="person")], "multiclass")
    assert {entry.category_id: entry.class_index for entry in mapping.categories} == {90: 1, 1: 2}
