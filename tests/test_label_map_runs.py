"""The same data given both ways: as COCO annotations, and as the label maps that `mask` painted of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from clones import clone
from numpy.typing import NDArray
from ruamel.yaml import YAML
from stage_runs import ROOT, run_stage

from cocoseg.coco.categories import CategoryMapping
from cocoseg.core.files import read_json
from cocoseg.images.png import encode_png

STAGES: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
PARAMS: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")


def run_stages(folder: Path, *stages: str, **changes: Any) -> list[str]:
    """Run stages as scripts; the lines that they said."""
    folder.mkdir(exist_ok=True)
    said = []
    for stage in stages:
        params = {key: (PARAMS | changes)[key] for key in STAGES[stage]["params"]}
        status, lines = run_stage(folder, stage, params, {"COCOSEG_CACHE": str(folder / "cache")})
        assert status == 0, lines
        said += lines
    return said


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in ("masks", "splits")
        for path in sorted((folder / "data" / name).rglob("*"))
        if path.is_file()
    }


def values(folder: Path) -> set[int]:
    pixels: set[int] = set()
    for path in folder.rglob("*.png"):
        mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        pixels |= set(np.unique(mask).tolist())
    return pixels


@pytest.mark.parametrize("split_rule", ["stable", "exact"])
def test_masks_and_splits_are_the_same_bytes_from_annotations_and_from_label_maps(
    tmp_path: Path, split_rule: str
) -> None:
    both = {"max_images": 40, "split_rule": split_rule, "max_instances": None}
    stages = ("download", "filter", "download_images", "mask", "split")
    run_stages(tmp_path / "json", *stages, **both, overlap="ignore")  # 255 where classes meet
    labels = tmp_path / "labels"
    shutil.copytree(tmp_path / "json/data/masks", labels)
    classes = read_json(tmp_path / "json/data/category_mapping.json", CategoryMapping).classes
    (labels / "classes.json").write_text(json.dumps(dict(enumerate(classes))))
    assert 255 in values(labels)

    where = {"annotations": str(labels), "images": str(tmp_path / "json/data/images")}
    # what no parameter may touch
    run_stages(
        tmp_path / "maps", *stages, **both, **where, dataset="custom", classes=[], crowd="drop", lost="background"
    )

    assert files(tmp_path / "maps") == files(tmp_path / "json")
    assert len(files(tmp_path / "maps")) == 43


def write_map(path: Path, labels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(labels))


def test_a_label_map_or_an_image_that_changes_behind_the_same_path_is_noticed(tmp_path: Path) -> None:
    labels, images = tmp_path / "labels", tmp_path / "images"
    for number in range(4):
        write_map(labels / f"{number}.png", np.full((6, 8), number % 2 + 1, np.uint8))
        draw = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        write_map(images / f"{number}.png", draw)
    (labels / "classes.txt").write_text("background\nperson\ncar\n")
    own = clone(tmp_path / "own")
    own.set_params(dataset="custom", annotations=str(labels), images=str(images), classes=[])
    assert own.stages_run(own.dvc("repro", "mask")) == ["download", "filter", "download_images", "mask"]
    assert "up to date" in own.dvc("status", "mask", "--with-deps")

    write_map(labels / "3.png", np.full((6, 8), 1, np.uint8))

    assert str(labels) in own.dvc("status", "download")
    assert own.stages_run(own.dvc("repro", "mask")) == ["download", "filter", "download_images", "mask"]
    (images / "3.png").rename(images / "4.png")
    assert "label maps have no image" in own.dvc("repro", "download")


def test_a_map_without_its_image_is_an_image_that_mask_counts_as_missing(tmp_path: Path) -> None:
    labels, images = tmp_path / "labels", tmp_path / "images"
    for number in range(3):
        write_map(labels / f"{number}.png", np.ones((6, 8), np.uint8))
    for number in range(2):
        write_map(images / f"{number}.png", np.zeros((6 + number, 8, 3), np.uint8))  # the second of another size
    (labels / "classes.txt").write_text("1 person\n")
    where = {"annotations": str(labels), "images": str(images), "dataset": "custom", "classes": []}

    said = run_stages(tmp_path / "run", "download", "filter", "download_images", "mask", **where, max_skipped=1.0)

    assert f"download: 1 of 3 label maps have no image in {images}, first: 2.png" in said
    assert any(
        "1 of 3 label maps have another size than their image, first: 1.png, 8×6 pixels, and" in line for line in said
    )
    dropped = read_json(tmp_path / "run/metrics/mask.json", dict[str, Any])["images"]["dropped"]
    assert dropped == {"missing": 1, "wrong_size": 1}
