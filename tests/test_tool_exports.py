"""What CVAT, Label Studio and Roboflow export as COCO, as they write it, through the stages."""

import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from stage_runs import ROOT, run_stage

from cocoseg.coco.categories import CategoryMapping
from cocoseg.core.files import read_json
from cocoseg.download.images_params import DownloadImagesParams
from cocoseg.download.params import DownloadParams
from cocoseg.filter.params import FilterParams
from cocoseg.mask.params import MaskParams

EXPORTS = Path(__file__).parent / "exports"
PARAMS: dict[str, Any] = {
    "dataset": "custom",
    "classes": [],
    "crowd": "ignore",
    "data_seed": 0,
    "exif": "auto",
    "gallery_images": 1,
    "instance_masks": False,
    "lost": "ignore",
    "max_defects": 0.5,
    "negatives": "drop",
    "licenses": None,
    "max_images": None,
    "max_instances": 10,
    "max_skipped": 0.01,
    "min_area_px": None,
    "on_defect": "count",
    "out_of_bounds": "clip",
    "overlap": "last",
    "priority": [],
    "task": "multiclass",
}
STAGES = {
    "download": DownloadParams.__struct_fields__,
    "filter": FilterParams.__struct_fields__,
    "download_images": DownloadImagesParams.__struct_fields__,
    "mask": MaskParams.__struct_fields__,
}


def run_stages(folder: Path, annotations: Path, images: Path, *stages: str, **changes: Any) -> list[str]:
    """Run the stages that lead to masks, or some of them; the lines of one that fails."""
    params = PARAMS | {"annotations": str(annotations), "images": str(images)} | changes
    for stage in stages or STAGES:
        status, lines = run_stage(folder, stage, {key: params[key] for key in STAGES[stage]}, {})
        if status:
            return lines
    return []


def draw(path: Path, height: int, width: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    path.write_bytes(cv2.imencode(path.suffix.lower(), noise)[1].tobytes())


def mask(folder: Path, name: str) -> NDArray[np.uint8]:
    found = cv2.imread(str(folder / "data/masks" / name), cv2.IMREAD_UNCHANGED)
    assert found is not None
    return np.asarray(found, np.uint8)


def dropped(folder: Path, what: str) -> dict[str, int]:
    found: dict[str, int] = read_json(folder / "metrics/filter.json", dict[str, Any])[what]["dropped"]
    return {reason: count for reason, count in found.items() if count}


def test_label_studios_ids_from_0_paths_below_images_and_boxes_without_an_outline(tmp_path: Path) -> None:
    export = tmp_path / "export"
    draw(export / "images/3f2a1b9c-street.jpg", 30, 40)
    draw(export / "images/88d0c417-yard.png", 40, 30)
    draw(export / "images/c01ddee5-empty.jpg", 30, 40)
    # file_name starts with images/, so the folder above is named
    assert run_stages(tmp_path, EXPORTS / "label_studio/result.json", export) == []
    mapping = read_json(tmp_path / "data/category_mapping.json", CategoryMapping)
    assert mapping.classes == ("background", "Car", "Person")
    assert [one.category_id for one in mapping.categories] == [0, 1]
    car = np.zeros((30, 40), np.uint8)
    car[3:12, 2:8] = 255  # the box of a person without an outline
    car[6:18, 10:30] = 1
    assert np.array_equal(mask(tmp_path, "images/3f2a1b9c-street.png"), car)
    person = np.zeros((40, 30), np.uint8)
    person[8:32, 6:15] = 2
    assert np.array_equal(mask(tmp_path, "images/88d0c417-yard.png"), person)
    assert dropped(tmp_path, "annotations") == {"empty_segmentation": 1}
    assert dropped(tmp_path, "images") == {"no_annotation": 1}


def test_label_studios_brush_is_an_outline_through_the_middle_of_its_border_pixels(tmp_path: Path) -> None:
    draw(tmp_path / "images/5e41c2aa-desk.png", 6, 8)
    assert run_stages(tmp_path, EXPORTS / "label_studio/result_coco.json", tmp_path / "images") == []
    person = np.zeros((6, 8), np.uint8)
    person[1:4, 2:4] = 1  # of 4 × 3 brushed pixels the lowest row and the rightmost column are lost in the export
    assert np.array_equal(mask(tmp_path, "5e41c2aa-desk.png"), person)


def test_cvats_masks_are_marked_as_crowds_and_crowd_keep_paints_them(tmp_path: Path) -> None:
    images = tmp_path / "images/default"
    for name in ("frame_000000.PNG", "frame_000001.PNG"):
        draw(images / name, 6, 8)
    annotations = EXPORTS / "cvat/annotations/instances_default.json"
    assert run_stages(tmp_path, annotations, images, crowd="keep") == []
    polygon = np.zeros((6, 8), np.uint8)
    polygon[2:5, 1:5] = 1
    assert np.array_equal(mask(tmp_path, "frame_000000.png"), polygon)
    brushed = np.zeros((6, 8), np.uint8)
    brushed[1:5, 2:5] = 2
    assert np.array_equal(mask(tmp_path, "frame_000001.png"), brushed)
    assert dropped(tmp_path, "annotations") == {}


def test_where_cvat_has_masks_only_the_way_out_names_crowd(tmp_path: Path) -> None:
    annotations = EXPORTS / "cvat/annotations/instances_default.json"
    (line,) = run_stages(tmp_path, annotations, tmp_path, "download", "filter", classes=["person"])
    assert "no image is left; 1 of 2 annotations: class_not_chosen; " in line
    assert "1 of 2 annotations: image_no_kept_annotation" in line
    assert "set crowd: keep" in line


def test_cvats_folder_default_is_named_where_the_folder_above_was_given(tmp_path: Path) -> None:
    for name in ("frame_000000.PNG", "frame_000001.PNG"):
        draw(tmp_path / "images/default" / name, 6, 8)
    annotations = EXPORTS / "cvat/annotations/instances_default.json"
    *_, line = run_stages(tmp_path, annotations, tmp_path / "images", crowd="keep")
    assert "frame_000000.PNG is missing, but default/frame_000000.PNG is there" in line
    assert f"set images={tmp_path}/images/default" in line


def test_roboflows_three_folders_join_with_the_lines_of_the_docs(tmp_path: Path) -> None:
    export = tmp_path / "export"
    categories = [{"id": 0, "name": "plants"}, {"id": 1, "name": "leaf"}, {"id": 2, "name": "stem"}]
    for x, side in enumerate(("train", "valid", "test")):
        draw(export / side / "a_jpg.rf.00.jpg", 6, 8)
        image = {"id": 0, "file_name": "a_jpg.rf.00.jpg", "width": 8, "height": 6}
        annotation = {"id": 0, "image_id": 0, "category_id": 2, "bbox": [x, 1, 3, 3], "area": 9, "iscrowd": 0}
        shape = {"segmentation": [[x, 1, x + 3, 1, x + 3, 4, x, 4]]}
        content = {"images": [image], "annotations": [annotation | shape], "categories": categories}
        (export / side / "_annotations.coco.json").write_text(json.dumps(content))
    (code,) = re.findall(
        r"## Roboflow\n.*?```python\n(.*?)```", (ROOT / "docs/your-own-data.md").read_text(), re.DOTALL
    )

    exec(code.replace("/data/export", str(export)), {})

    assert run_stages(tmp_path, export / "merged.json", export, classes=["leaf", "stem"]) == []
    for x, side in enumerate(("train", "valid", "test")):
        stem = np.zeros((6, 8), np.uint8)
        stem[1:4, x : x + 3] = 2
        assert np.array_equal(mask(tmp_path, f"{side}/a_jpg.rf.00.png"), stem)
