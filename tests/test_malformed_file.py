"""One annotations file with every defect there is: each is counted under its name, and the good entries lose nothing.

The stages run as scripts, so that a crash of the process would show as its exit status.
"""

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest
from stage_runs import run_stage

from cocoseg.coco.categories import map_categories
from cocoseg.coco.format import Instances, encoded
from cocoseg.core.errors import CocosegError
from cocoseg.download.images_params import DownloadImagesParams
from cocoseg.filter.choose import filter_instances
from cocoseg.filter.params import FilterParams
from cocoseg.mask.masks import write_masks
from cocoseg.mask.params import MaskParams
from cocoseg.tables import ImageRow

WIDTH, HEIGHT = 12, 8
GOOD = "[[1, 1, 9, 1, 9, 6, 1, 6]]"
CROWD = '{"size": [8, 12], "counts": [40, 16, 40]}'

# What stands where `GOOD` would, and the reason it goes under.
SEGMENTATIONS = {
    "null": "null_segmentation",
    "[]": "empty_segmentation",
    "{}": "empty_segmentation",
    '"polygon"': "segmentation_of_wrong_type",
    "7": "segmentation_of_wrong_type",
    "true": "segmentation_of_wrong_type",
    "[[1, 1, 5, 5]]": "polygon_under_three_points",
    "[[]]": "empty_segmentation",
    "[[], []]": "polygon_under_three_points",
    "[[1, 1, 5, 1, 5, 5, 1]]": "odd_polygon",
    '[[1, 1, "5", 1, 5, 5]]': "polygon_of_non_numbers",
    "[[1, 1, null, 1, 5, 5]]": "polygon_of_non_numbers",
    "[[1, 1, NaN, 1, 5, 5]]": "non_finite_coordinates",
    "[[1, 1, -Infinity, 1, 5, 5]]": "non_finite_coordinates",
    "[[1, 1, 1e999, 1, 5, 5]]": "non_finite_coordinates",
    '[[1, 1, "\udce9", 1, 5, 5]]': "segmentation_of_wrong_type",  # a byte that is no text
    "NaN": "segmentation_of_wrong_type",
    "[                  ]": "empty_segmentation",
    "[[1, 1, 3e8, 1, 5, 5]]": "absurd_coordinates",
    "[[90, 90, 95, 90, 95, 95]]": "outside_image",
    "[[-9, -9, -1, -9, -1, -1]]": "outside_image",
    "[[1, 1, 5, 1, 1, 1]]": "zero_area",
    "[[1.0, 1.0, 1.1, 1.0, 1.1, 1.1]]": "paints_nothing",
    "[1, 1, 5, 1, 5]": "flat_polygon",
    "[[0.1, 0.1, 0.9, 0.1, 0.9, 0.9]]": "normalized_coordinates",
    '{"size": [12, 8], "counts": [40, 16, 40]}': "rle_of_wrong_size",
    '{"size": [1000000000, 1000000000], "counts": [1000000000000000000]}': "rle_of_wrong_size",
    '{"size": [8, 12], "counts": [40, 16]}': "rle_counts_short",
    '{"size": [8, 12], "counts": [40, 16, 41]}': "rle_counts_long",
    '{"size": [8, 12], "counts": [40, -16, 72]}': "rle_bad_counts",
    '{"size": [8, 12], "counts": [40.5, 15.5, 40]}': "rle_bad_counts",
    '{"size": [8, 12], "counts": "\udce9"}': "rle_undecodable",
    '{"size": [8, 12]}': "rle_malformed",
    '{"counts": [96]}': "rle_malformed",
    '{"size": [8, 12], "counts": "\\u00e9"}': "rle_undecodable",
    '{"size": [8, 12], "counts": "oooooooooo0"}': "rle_undecodable",
    '{"size": [8, 12], "counts": [96]}': "paints_nothing",
}
# What changes in a good annotation, and the reason it goes under.
FIELDS: list[tuple[dict[str, Any], str]] = [
    ({"image_id": "x"}, "unknown_image"),
    ({"image_id": None}, "unknown_image"),
    ({"image_id": 999}, "unknown_image"),
    ({"category_id": 999}, "unknown_category"),
    ({"category_id": 5}, "category_bad_name"),
    ({"category_id": "cat"}, "unknown_category"),
    ({"category_id": None}, "unknown_category"),
    ({"iscrowd": 2}, "bad_iscrowd"),
    ({"iscrowd": "no"}, "bad_iscrowd"),
]
# Of each image that a file is made for: what the file is, and the status it gets.
IMAGE_DEFECTS = {
    11: "missing",
    12: "empty",
    13: "truncated",
    14: "not_an_image",
    15: "wrong_size",
}
CONVERTED = {21: "gray", 22: "cmyk", 23: "16bit", 24: "turned"}
BAD_IMAGES: list[tuple[dict[str, Any], str]] = [
    ({"id": None}, "bad_id"),
    ({"id": 32, "width": "x"}, "bad_size"),
    ({"id": 33, "height": 0}, "bad_size"),
    ({"id": 34, "file_name": 5}, "bad_file_name"),
    ({"id": 35, "file_name": "../35.jpg"}, "unsafe_file_name"),
    ({"id": 36, "file_name": "\udce9.jpg"}, "bad_file_name"),  # a byte that is no text
]
PARAMS = {
    "dataset": "custom",
    "classes": ["cat", "dog"],
    "crowd": "ignore",
    "data_seed": 0,
    "exif": "auto",
    "gallery_images": 0,
    "images": "",
    "instance_masks": True,
    "licenses": [4],
    "lost": "background",
    "max_defects": 1.0,
    "max_images": None,
    "max_instances": 100,
    "max_skipped": 0.9,
    "min_area_px": None,
    "negatives": "drop",
    "on_defect": "count",
    "out_of_bounds": "clip",
    "overlap": "last",
    "priority": [],
    "task": "multiclass",
}
STAGE_KEYS = {
    "filter": FilterParams.__struct_fields__,
    "download_images": DownloadImagesParams.__struct_fields__,
    "mask": MaskParams.__struct_fields__,
}


def image(image_id: int, **fields: Any) -> dict[str, Any]:
    entry = {"id": image_id, "file_name": f"{image_id}.jpg", "width": WIDTH, "height": HEIGHT, "license": 4}
    return entry | fields


def annotation(annotation_id: int, image_id: int, segmentation: str = GOOD, /, **fields: Any) -> str:
    """The JSON of an annotation, `segmentation` put in as it is."""
    entry = {"id": annotation_id, "image_id": image_id, "category_id": 17, "iscrowd": 0} | fields
    return json.dumps(entry, ensure_ascii=False)[:-1] + f', "segmentation": {segmentation}}}'


GOOD_ENTRIES = [
    annotation(1, 1),
    annotation(
        2, 1, "[[5, 2, 20, 2, 20, 7, 5, 7], [1, 1, 2, 2]]", category_id=18
    ),  # clipped, with a part of two points
    annotation(3, 1, CROWD, iscrowd=1),
    annotation(4, 2, '{"size": [8, 12], "counts": [40, 16, 40]}'),
]


def write_files(folder: Path) -> None:
    folder.mkdir()
    pixels = np.arange(WIDTH * HEIGHT * 3, dtype=np.uint8).reshape(HEIGHT, WIDTH, 3)
    jpeg = cv2.imencode(".jpg", pixels)[1].tobytes()
    files = dict.fromkeys((1, 2, 7, 9), jpeg)
    files |= {12: b"", 13: jpeg[:-40], 14: b"<html>not here</html>"}
    files[15] = cv2.imencode(".jpg", pixels[1:])[1].tobytes()
    files[21] = cv2.imencode(".jpg", pixels[..., 0])[1].tobytes()
    files[22] = cmyk_jpeg()
    files[23] = cv2.imencode(".png", pixels.astype(np.uint16) << 8)[1].tobytes()
    files[24] = turned(cv2.imencode(".jpg", np.ascontiguousarray(pixels.transpose(1, 0, 2)))[1].tobytes())
    for image_id, data in files.items():
        (folder / f"{image_id}.jpg").write_bytes(data)


def cmyk_jpeg() -> bytes:
    pil = pytest.importorskip("PIL.Image")
    data = io.BytesIO()
    pil.new("CMYK", (WIDTH, HEIGHT), (10, 200, 30, 40)).save(data, "JPEG")
    return data.getvalue()


def turned(jpeg: bytes) -> bytes:
    """The same file with an EXIF orientation of 6: to be shown turned by a quarter."""
    tiff = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0" + b"\0\0\0\0"
    segment = b"Exif\0\0" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(segment) + 2).to_bytes(2, "big") + segment + jpeg[2:]


def write_instances(folder: Path, images: list[dict[str, Any]], annotations: list[str]) -> None:
    raw = folder / "data/raw/instances.json"
    raw.parent.mkdir(parents=True)
    categories = [{"id": 17, "name": "cat"}, {"id": 18, "name": "dog"}, {"id": None, "name": "fish"}, {"id": 5}]
    text = json.dumps({"images": images, "categories": categories}, ensure_ascii=False)
    text = f'{text[:-1]}, "annotations": [{", ".join(annotations)}], "info": {{"version": 1e999, "by": "\udce9"}}}}'
    raw.write_text(text, encoding="utf-8", errors="surrogateescape")


def run(folder: Path, photos: Path, **changes: Any) -> tuple[int, list[str]]:
    params = PARAMS | {"images": str(photos)} | changes
    for stage, keys in STAGE_KEYS.items():
        status, lines = run_stage(folder, stage, {key: params[key] for key in keys}, {})
        if status:
            return status, lines
    return 0, []


def masks(folder: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for kind in ("masks", "instance_masks"):
        found |= {f"{kind}/{path.name}": path.read_bytes() for path in (folder / "data" / kind).glob("*.png")}
    return found


def every_defect() -> tuple[list[dict[str, Any]], list[str], Counter[str], Counter[str]]:
    """Images and annotations with every defect, and how often each reason is to be counted for them."""
    images = [image(1), image(2), *(image(n) for n in (*IMAGE_DEFECTS, *CONVERTED))]
    images += [image(7, license=1), image(8), image(9)]
    annotations = list(GOOD_ENTRIES)
    reasons: Counter[str] = Counter()
    image_reasons: Counter[str] = Counter(IMAGE_DEFECTS.values())
    number = 100
    for segmentation, reason in SEGMENTATIONS.items():
        annotations.append(annotation(number := number + 1, 1, segmentation))
        reasons[reason] += 1
    for fields, reason in FIELDS:
        annotations.append(annotation(number := number + 1, 1, **fields))
        reasons[reason] += 1
    annotations += ['{"id": 98, "image_id": 1, "category_id": 17, "iscrowd": 0}', "5", '{"id": 99}']
    reasons.update(["missing_segmentation", "not_an_object", "unknown_image"])
    for image_id, status in IMAGE_DEFECTS.items():
        annotations.append(annotation(number := number + 1, image_id))
        reasons[f"image_{status}"] += 1
    annotations += [annotation(number := number + 1, image_id) for image_id in CONVERTED]
    for fields, reason in BAD_IMAGES:
        images.append(image(0) | fields)
        image_reasons[reason] += 1
        if fields["id"] is not None:
            annotations.append(annotation(number := number + 1, fields["id"]))
            reasons[f"image_{reason}"] += 1
    annotations += [
        annotation(number := number + 1, 7),
        annotation(number := number + 1, 9, "[[90, 90, 95, 90, 95, 95]]"),
    ]
    reasons.update(["image_license", "outside_image"])
    images.append(image(10))
    annotations += [annotation(number := number + 1, 10) for _ in range(101)]
    reasons["image_too_many_instances"] += 101
    image_reasons.update(["license", "no_annotation", "no_painted_class", "too_many_instances"])
    return images, annotations, image_reasons, reasons


def summed(folder: Path, noun: str) -> tuple[Counter[str], int, int]:
    """Reasons over both stages, what came into the first and what the last kept; each account adds up."""
    accounts = [json.loads((folder / f"metrics/{stage}.json").read_text())[noun] for stage in ("filter", "mask")]
    dropped: Counter[str] = Counter()
    for account in accounts:
        assert account["input"] == account["kept"] + sum(account["dropped"].values())
        dropped.update(account["dropped"])
    assert accounts[0]["kept"] == accounts[1]["input"]
    return dropped, accounts[0]["input"], accounts[1]["kept"]


def test_each_defect_is_counted_under_its_name_and_the_good_masks_stay_the_same(tmp_path: Path) -> None:
    write_files(tmp_path / "photos")
    good, bad = tmp_path / "good", tmp_path / "bad"
    good_images = [image(1), image(2), *(image(n) for n in CONVERTED)]
    write_instances(good, good_images, [*GOOD_ENTRIES, *(annotation(50 + n, n) for n in CONVERTED)])
    assert run(good, tmp_path / "photos") == (0, [])
    images, annotations, image_reasons, reasons = every_defect()
    write_instances(bad, images, annotations)
    status, _ = run(bad, tmp_path / "photos")
    assert status == 0

    assert summed(bad, "annotations") == (reasons, len(annotations), len(GOOD_ENTRIES) + len(CONVERTED))
    assert summed(bad, "images") == (image_reasons, len(images), 2 + len(CONVERTED))
    assert json.loads((bad / "metrics/filter.json").read_text())["categories"]["dropped"] == {
        "bad_id": 1,
        "bad_name": 1,
    }
    metrics = json.loads((bad / "metrics/mask.json").read_text())
    assert metrics["images"]["converted"] == {"16bit": 1, "cmyk": 1, "gray": 1, "turned": 1}
    assert (metrics["annotations"]["clipped"], metrics["annotations"]["ignored_parts"]) == (1, 1)
    assert metrics["annotations"]["first"]["non_finite_coordinates"].endswith("is [[1, 1, NaN or Infinity, 1, 5, 5]]")
    assert len(masks(good)) == 12
    assert masks(bad) == masks(good)


BROKEN = [
    *((annotation(9, 1, segmentation), reason) for segmentation, reason in SEGMENTATIONS.items()),
    *((annotation(9, 1, **fields), reason) for fields, reason in FIELDS if reason != "category_bad_name"),
    (annotation(9, 1, "[[1, 1, 9, 1, 9, 6], [1, 1, 2, 2]]"), "a part has under three points"),
    ("{}", "unknown_image"),
    ("5", "not_an_object"),
]


@pytest.mark.parametrize(("entry", "reason"), BROKEN)
def test_on_defect_fail_stops_at_any_broken_annotation_and_names_it(tmp_path: Path, entry: str, reason: str) -> None:
    with pytest.raises(
        CocosegError,
        match=rf"annotation (9|at position 1)(, .*| of 1.jpg.*)?: {reason}; fix it, or set on_defect: count",
    ):
        paint([image(1)], [annotation(1, 1), entry], {}, tmp_path)


@pytest.mark.parametrize(("fields", "reason"), BAD_IMAGES)
def test_on_defect_fail_stops_at_any_broken_image_entry(tmp_path: Path, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(CocosegError, match=rf"image .*: {reason}; fix it"):
        paint([image(1), image(0) | fields], [annotation(1, 1)], {}, tmp_path)


@pytest.mark.parametrize("status", IMAGE_DEFECTS.values())
def test_on_defect_fail_stops_at_any_broken_image_file(tmp_path: Path, status: str) -> None:
    with pytest.raises(CocosegError, match=rf"^1.jpg: {status}; fix it, or set on_defect: count"):
        paint([image(1)], [annotation(1, 1)], {1: status}, tmp_path)


def paint(images: list[dict[str, Any]], annotations: list[str], status: dict[int, str], folder: Path) -> None:
    """`filter` and `mask` under `on_defect: fail`."""
    write_instances(folder, images, annotations)
    raw = folder / "data/raw/instances.json"
    text = raw.read_bytes().replace(b', {"id": null, "name": "fish"}, {"id": 5}', b"")
    params = PARAMS | {"on_defect": "fail", "max_skipped": 1.0}
    chosen, _ = filter_instances(text, msgspec.convert(params, FilterParams), raw)
    chosen = msgspec.json.decode(b"".join(encoded(chosen)), type=Instances)
    mapping = map_categories(chosen.categories, "multiclass")
    rows = [
        ImageRow(image_id=entry.id, file_name=entry.file_name, status=status.get(entry.id, "ok"))
        for entry in chosen.images
    ]
    write_masks(chosen, rows, mapping, msgspec.convert(params, MaskParams), folder / "masks", folder / "instances")


def test_on_defect_fail_is_one_line_and_exit_1(tmp_path: Path) -> None:
    write_files(tmp_path / "photos")
    write_instances(tmp_path / "work", [image(1)], [annotation(1, 1), annotation(9, 1, "[[1, 1, 2]]")])
    raw = tmp_path / "work/data/raw/instances.json"
    raw.write_bytes(raw.read_bytes().replace(b', {"id": null, "name": "fish"}, {"id": 5}', b""))
    status, lines = run(tmp_path / "work", tmp_path / "photos", on_defect="fail")
    assert status == 1
    assert len(lines) == 1
    assert lines[0].startswith("mask: 1.jpg: annotation 9: odd_polygon; fix it, or set on_defect: count")
