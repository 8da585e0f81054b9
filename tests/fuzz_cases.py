"""The mutations of each kind of file, and what runs on them: see `fuzz.py`."""

import hashlib
import json
import math
import runpy
import shutil
import struct
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np
from forked_case import run_case
from mutations import mutated_bytes, mutated_image, mutated_tree
from pycocotools import mask as coco_mask
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]

_IMAGES = 8
_HEIGHT, _WIDTH = 16, 24

Case = tuple[str, Callable[[], None]]
"""A mutation in words, and what to run in an empty folder; the folder above has what is sound."""

PARAMS: dict[str, Any] = {
    "annotations": "strange.json", "classes": [], "crowd": "ignore", "data_seed": 0, "dataset": "custom",
    "exif": "auto", "gallery_images": 2, "images": "photos", "instance_masks": True, "licenses": None, "lost": "ignore",
    "max_defects": 1, "max_images": None, "max_instances": None, "max_skipped": 1, "min_area_px": None,
    "negatives": "drop", "on_defect": "count", "out_of_bounds": "clip", "overlap": "smallest", "priority": [],
    "split_rule": "stable", "task": "multiclass", "test_share": 0, "train_share": 1, "val_share": 0,
    "fold": 0, "folds": 5, "group_pattern": None, "groups": "data/custom/groups.csv",
}  # fmt: skip
CHANGES: list[dict[str, Any]] = [
    {},
    {"classes": ["cat"], "crowd": "keep", "negatives": "keep", "overlap": "ignore", "lost": "background"},
    {"task": "binary", "min_area_px": 2, "overlap": "last", "out_of_bounds": "drop", "lost": "drop_image"},
    {"crowd": "drop", "overlap": "priority", "priority": ["dog"], "classes": ["dog", "cat"], "negatives": "keep"},
    {"max_defects": 0.05, "max_skipped": 0.01, "on_defect": "fail", "instance_masks": False},
]


# ---- annotations


def sound_annotations() -> dict[str, Any]:
    """Return a small file with every form of a segmentation."""
    box = np.zeros((_HEIGHT, _WIDTH), np.uint8, order="F")
    box[4:9, 3:20] = 1
    shapes: list[Any] = [
        [[2, 2, 12, 2, 12, 10, 2, 10]],
        [[1.5, 1.5, 9.5, 2.5, 6.0, 12.0], [14, 4, 20, 4, 20, 12, 14, 12]],
        {"size": [_HEIGHT, _WIDTH], "counts": coco_mask.encode(box)["counts"].decode()},
        {"size": [_HEIGHT, _WIDTH], "counts": [100, 20, 264]},
    ]
    images = [{"id": number, "file_name": f"{number}.png", "width": _WIDTH, "height": _HEIGHT, "license": 1,
               "coco_url": f"http://h/{number}.png"} for number in range(1, _IMAGES + 1)]  # fmt: skip
    annotations = [
        {"id": number, "image_id": 1 + number % _IMAGES, "category_id": 1 + number % 3, "iscrowd": int(number % 5 == 0),
         "area": 80.0, "bbox": [2, 2, 10, 8], "segmentation": shapes[number * 7 // 3 % 4]}
        for number in range(3 * _IMAGES)
    ]  # fmt: skip
    categories = [
        {"id": 1 + at, "name": name, "supercategory": "animal"} for at, name in enumerate(("cat", "dog", "cow"))
    ]
    return {"info": {"year": 2026}, "licenses": [{"id": 1}], "images": images, "annotations": annotations,
            "categories": categories}  # fmt: skip


def annotation_cases(folder: Path, chance: Random) -> Iterator[Case]:
    """Yield mutations of the entries of an annotations file, and of its bytes."""
    sound = sound_annotations()
    write_photos(folder / "photos")
    text = json.dumps(sound).encode()
    masks = []
    for changes in CHANGES:
        ended = run_case(partial(run_data_stages, text, PARAMS | changes), folder)
        assert ended.status == 0, ended.said
        masks.append(written_masks(folder / "case"))
    while True:
        at = chance.randrange(len(CHANGES))
        data, expected = text, {}
        if chance.random() < 0.25:
            data, what = mutated_bytes(text, chance)
        else:
            within = ("annotations",) if chance.random() < 0.5 else ()
            tree, what = mutated_tree(sound, chance, within)
            data = json.dumps(tree).encode()
            if within and isinstance(tree.get("annotations"), list):
                names = untouched(sound["annotations"], tree["annotations"])
                expected = {name: masks[at].get(name) for name in names}
        yield f"{what} with {CHANGES[at]}", partial(run_data_stages, data, PARAMS | CHANGES[at], expected)


def untouched(before: Sequence[Any], after: Sequence[Any]) -> set[str]:
    """Return the images that no changed annotation names, before or after."""
    left = {str(number) for number in range(1, _IMAGES + 1)} if len(before) == len(after) else set()
    for entries in zip(before, after, strict=False):
        if entries[0] != entries[1]:
            for entry in entries:
                id_ = str(entry.get("image_id")) if isinstance(entry, dict) else ""
                left.discard(id_.removesuffix(".0").lstrip("0"))
    return {f"{number}.png" for number in left}


def write_photos(folder: Path) -> None:
    """Write the images of `sound_annotations`."""
    folder.mkdir(parents=True)
    for number in range(1, _IMAGES + 1):
        pixels = np.random.default_rng(number).integers(0, 256, (_HEIGHT, _WIDTH, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)


def run_data_stages(
    annotations: bytes, params: Mapping[str, Any], expected: Mapping[str, bytes | None] | None = None
) -> None:
    """Run the stages from `download` to `split`; check what they wrote, and the masks `expected` of some images."""
    Path("strange.json").write_bytes(annotations)
    if not Path("photos").exists():
        Path("photos").symlink_to(Path("../photos").resolve())
    Path("dvc.yaml").write_text(json.dumps({"stages": {"all": {"params": sorted(params)}}}))
    Path("params.yaml").write_text(json.dumps(params))
    for name in ("download", "filter", "download_images", "mask", "split"):
        run_stage(name)
    check_data()
    masks = written_masks(Path())
    for name, mask in (expected or {}).items():
        assert masks.get(name) == mask, f"the mask of {name}, whose annotations are sound, is another one"


def run_stage(name: str) -> None:
    """Run a stage as a script."""
    sys.argv = [str(ROOT / "stages" / f"{name}.py")]
    runpy.run_path(sys.argv[0], run_name="__main__")


def written_masks(folder: Path) -> dict[str, bytes]:
    """Return the masks that are there, by name."""
    return {path.name: path.read_bytes() for path in (folder / "data/masks").iterdir()}


def check_data() -> None:
    """Raise `AssertionError` unless accounts, tables, masks and sides agree with each other."""
    from cocoseg.core.files import read_lines, read_table
    from cocoseg.tables import ImageRow, MaskRow

    filtered = json.loads(Path("data/filtered/instances.json").read_bytes())
    for noun in ("images", "annotations"):
        assert _account("metrics/filter.json", noun)["kept"] == len(filtered[noun]), f"filter: {noun}"
        assert _account("metrics/mask.json", noun)["input"] == len(filtered[noun]), f"mask: {noun}"
    _account("metrics/filter.json", "categories")
    images = {row.file_name: row for row in read_table(Path("data/images.csv"), ImageRow)}
    assert images.keys() == {image["file_name"] for image in filtered["images"]}, "images.csv"
    mask_of = json.loads(Path("data/image_mask_map.json").read_bytes())
    classes = json.loads(Path("data/category_mapping.json").read_bytes())["classes"]
    told: dict[str, dict[int, int]] = {name: {} for name in mask_of}
    for row in read_table(Path("data/masks.csv"), MaskRow):
        told[row.file_name] |= {row.class_index: row.pixels} if row.pixels else {}
    assert len(mask_of) == _account("metrics/mask.json", "images")["kept"] == len(written_masks(Path())), "masks"
    for name, mask_name in mask_of.items():
        mask = cv2.imread(f"data/masks/{mask_name}", cv2.IMREAD_UNCHANGED)
        assert mask is not None, f"{mask_name} cannot be read"
        assert mask.shape == (images[name].height, images[name].width), f"{mask_name} is {mask.shape}"
        values, counts = np.unique(mask, return_counts=True)
        assert {*values.tolist()} <= {*range(len(classes)), 255}, f"{mask_name} holds {values}"
        assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == told[name], (
            f"{mask_name} is not as masks.csv"
        )
    sides = [name for side in ("train", "val", "test") for name in read_lines(Path(f"data/splits/{side}.txt"))]
    assert sorted(sides) == sorted(mask_of), "sides"


def _account(path: str, noun: str) -> dict[str, Any]:
    own: dict[str, Any] = json.loads(Path(path).read_bytes())[noun]
    assert own["input"] == own["kept"] + sum(own["dropped"].values()), f"{path}: {noun} do not add up: {own}"
    assert min([own["kept"], *own["dropped"].values()]) >= 0, f"{path}: {noun}: {own}"
    return own


# ---- images


def image_cases(folder: Path, chance: Random) -> Iterator[Case]:
    """Yield mutations of image files, as the dataset's and as a user's own for `predict`."""
    write_photos(folder / "photos")
    write_model(folder / "model")
    pixels = np.random.default_rng(0).integers(0, 256, (_HEIGHT, _WIDTH, 3), np.uint8)
    smooth = cv2.GaussianBlur(pixels, (5, 5), 2)
    kinds: list[tuple[str, Any, list[int]]] = [
        (".png", pixels, []), (".png", pixels[..., 0], []), (".png", pixels.astype(np.uint16) * 200, []),
        (".jpg", smooth, []), (".jpg", smooth, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1]), (".jpg", smooth[..., 0], []),
        (".webp", smooth, [cv2.IMWRITE_WEBP_QUALITY, 80]), (".webp", pixels, []), (".bmp", pixels, []),
        (".tif", pixels, []), (".tif", pixels, [cv2.IMWRITE_TIFF_COMPRESSION, 1]),
    ]  # fmt: skip
    files = [cv2.imencode(extension, image, settings)[1].tobytes() for extension, image, settings in kinds]
    while True:
        data, what = mutated_image(chance.choice(files), chance)
        if chance.random() < 0.3:
            yield f"predict: {what}", partial(run_predict, data)
        else:
            yield what, partial(run_with_image, data, chance.random() < 0.7, what == "cut")


def run_with_image(data: bytes, sized: bool, cut: bool) -> None:
    """Run the data stages with this as one of the images, whose size the annotations say if `sized`."""
    shutil.copytree("../photos", "photos")
    Path("photos/1.png").write_bytes(data)
    content = sound_annotations()
    if not sized:
        del content["images"][0]["width"]
    run_data_stages(json.dumps(content).encode(), PARAMS)
    is_ok = "\n1,1.png,ok," in Path("data/images.csv").read_text()
    assert is_ok == Path("data/images/1.png").exists() == Path("data/masks/1.png").exists(), "status and file"
    # The pixels of a TIFF may end before the file does.
    assert not (cut and is_ok) or data.startswith((b"II", b"MM")), f"cut off after {len(data)} bytes, and ok"


def run_predict(data: bytes) -> None:
    """Predict this image and a sound one, with the sound model."""
    from cocoseg.cli import main

    Path("photo").mkdir()
    Path("photo/1.png").write_bytes(data)
    shutil.copy("../photos/2.png", "photo/2.png")
    try:
        main(["predict", "photo", "--model", "../model", "--out", "out"])
    finally:
        check_prediction()  # of the sound one in any case


def check_prediction() -> None:
    """Raise `AssertionError` unless the sound photo has a mask."""
    mask = cv2.imread("out/masks/2.png", cv2.IMREAD_UNCHANGED)
    assert mask is not None, "no mask of the sound photo"
    assert mask.shape == (_HEIGHT, _WIDTH), f"the mask is {mask.shape}"


# ---- weights


def write_model(folder: Path) -> None:
    """Write an untrained model."""
    import torch
    from model.test_weights import INFO

    from cocoseg.model.architectures import build_model
    from cocoseg.model.weights import save_checkpoint

    torch.manual_seed(0)
    save_checkpoint(folder, build_model("fastscnn", "none", "none", 3), INFO)


def weight_cases(folder: Path, chance: Random) -> Iterator[Case]:
    """Yield mutations of `model.json`, and of the header and the numbers of `model.safetensors`."""
    from commands.test_evaluate import lay_out
    from small_data import MULTICLASS

    lay_out(folder / "data_set", MULTICLASS)
    write_photos(folder / "photos")
    write_model(folder / "model")
    info = json.loads((folder / "model/model.json").read_bytes())
    weights = (folder / "model/model.safetensors").read_bytes()
    start = 8 + int.from_bytes(weights[:8], "little")
    header, numbers = weights[:start], weights[start:]
    while True:
        own: Any = info
        data, text = weights, None
        match chance.randrange(7):
            case 0 | 1:
                own, what = mutated_tree(info, chance)
            case 2:
                text, what = mutated_bytes(json.dumps(info).encode(), chance)
            case 3:
                tree, what = mutated_tree(json.loads(header[8:]), chance)
                changed = json.dumps(tree).encode()
                data = struct.pack("<Q", len(changed)) + changed + numbers
            case 4:
                changed, what = mutated_bytes(header, chance)
                data = changed + numbers
            case 5:
                changed, what = mutated_bytes(numbers, chance)
                data = header + changed
            case _:
                value = chance.choice((math.nan, math.inf, -math.inf, 3e38, -1e30, -1.0, 1e-42))
                array = np.frombuffer(numbers[: len(numbers) // 4 * 4], "<f4").copy()
                array[[chance.randrange(len(array)) for _ in range(chance.choice((1, 1000)))]] = value
                data, what = header + array.tobytes() + numbers[len(numbers) // 4 * 4 :], f"numbers {value}"
        if data is not weights and chance.random() < 0.9:
            own = own | {"weights_sha256": hashlib.sha256(data).hexdigest()}
        command = chance.choice(("predict", "predict", "evaluate", "evaluate", "export"))
        yield f"{command}: {what}", partial(run_with_weights, text or json.dumps(own).encode(), data, command)


def run_with_weights(info: bytes, weights: bytes, command: str) -> None:
    """Run a command with this model."""
    from cocoseg.cli import main

    shutil.copytree("../data_set", ".", dirs_exist_ok=True)
    Path("data/model").mkdir()
    Path("data/model/model.json").write_bytes(info)
    Path("data/model/model.safetensors").write_bytes(weights)
    match command:
        case "predict":
            main(["predict", "../photos/2.png", "--model", "data/model", "--out", "out"])
            check_prediction()
        case "evaluate":
            main(["evaluate", "--side", "test"])
        case _:
            main(["export", "--model", "data/model", "--format", "huggingface", "--out", "exported"])


# ---- locks and parameters

_LOCKED = ("dvc.lock", "params.yaml", "mine.bin.dvc", "dvc.yaml", "metrics/evaluate.json", "metrics/train/metrics.json")


def lock_cases(folder: Path, chance: Random) -> Iterator[Case]:
    """Yield mutations of what DVC and the stages wrote, for `compare` and `verify`."""
    from toy_pipeline import toy_pipeline

    toy = toy_pipeline(folder / "toy", images=4)
    (toy.folder / "mine.bin").write_bytes(b"mine")
    toy.dvc_here("add", "--quiet", "mine.bin")
    toy.commit("mine")
    texts = {name: (toy.folder / name).read_bytes() for name in _LOCKED}
    while True:
        name = chance.choice((*_LOCKED, "dvc.lock", "dvc.lock"))
        data, what = _mutated_yaml(texts[name], chance)
        command = chance.choice((("compare", "HEAD"), ("compare", "HEAD"), ("verify", "--no-remote")))
        yield f"{command[0]}: {name}: {what}", partial(run_with_lock, name, data, command)


def _mutated_yaml(text: bytes, chance: Random) -> tuple[bytes, str]:
    if chance.random() < 0.25:
        return mutated_bytes(text, chance)
    tree, what = mutated_tree(YAML(typ="safe", pure=True).load(text), chance)
    return json.dumps(tree).encode(), what  # JSON is YAML 1.2


def run_with_lock(name: str, data: bytes, command: Sequence[str]) -> None:
    """Run a command in a copy of the repository with this file."""
    from cocoseg.cli import main

    shutil.copytree("../toy", ".", symlinks=True, dirs_exist_ok=True)
    Path(name).write_bytes(data)
    main(command)


def params_cases(folder: Path, chance: Random) -> Iterator[Case]:
    """Yield mutations of `params.yaml` and `dvc.yaml`, for the stages that read them."""
    write_photos(folder / "photos")
    own = YAML(typ="safe", pure=True).load(ROOT / "params.yaml") | PARAMS
    texts = {"params.yaml": json.dumps(own, indent=1).encode(), "dvc.yaml": (ROOT / "dvc.yaml").read_bytes()}
    while True:
        name = chance.choice(("params.yaml", "params.yaml", "dvc.yaml"))
        data, what = _mutated_yaml(texts[name], chance)
        stages = chance.choice((("download", "filter", "download_images", "mask", "split"), ("train",), ("evaluate",)))
        yield f"{stages[0]}: {name}: {what}", partial(run_with_params, texts | {name: data}, stages)


def run_with_params(files: Mapping[str, bytes], stages: Sequence[str]) -> None:
    """Run stages with these parameters."""
    for name, data in files.items():
        Path(name).write_bytes(data)
    Path("strange.json").write_text(json.dumps(sound_annotations()))
    Path("photos").symlink_to(Path("../photos").resolve())
    for name in stages:
        run_stage(name)
    check_data()


KINDS: dict[str, Callable[[Path, Random], Iterator[Case]]] = {
    "annotations": annotation_cases,
    "images": image_cases,
    "weights": weight_cases,
    "locks": lock_cases,
    "params": params_cases,
}
