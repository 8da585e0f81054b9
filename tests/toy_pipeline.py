"""A pipeline like ours that runs in seconds: its "model" is the share of pixels that it gets wrong.

It has its own repository, so that commits, experiments, cache and remote are real ones of git and DVC.
"""

from pathlib import Path
from typing import Any

import msgspec
from clones import Clone

PARAMS: dict[str, Any] = {
    "images": 24,
    "classes": ["cat", "dog"],
    "tint": 0,
    "width": 8,
    "shift": 0,
    "wrong": 0.30,
    "seed": 0,
    "split_rule": "all",  # or "fold"
    "folds": 3,
    "fold": 0,
    "noise": 0.01,
    "bootstrap_samples": 500,
    "gallery_images": 2,
    "min_effect": 0.01,
    "primary_score": "miou",
    "threshold": 0.5,
}

STAGES: dict[str, dict[str, Any]] = {
    "download_images": {"params": ["images", "tint"], "outs": ["data/images", "data/images.csv"]},
    "mask": {
        "params": ["classes", "images", "shift", "width"],
        "deps": ["data/images"],
        "outs": ["data/masks", "data/category_mapping.json", "data/image_mask_map.json"],
    },
    "split": {"params": ["images", "split_rule", "folds", "fold"], "deps": ["data/masks"], "outs": ["data/splits"]},
    "train": {
        "params": ["noise", "seed", "wrong"],
        "deps": ["data/masks", "data/splits"],
        "outs": ["data/model", {"metrics/train": {"cache": False}}],
    },
    "evaluate": {
        "params": ["bootstrap_samples", "gallery_images", "min_effect", "primary_score", "threshold"],
        "deps": ["data/category_mapping.json", "data/images", "data/masks", "data/model", "data/splits"],
        "outs": ["data/evaluation", *({f"metrics/{name}.json": {"cache": False}} for name in ("evaluate", "scores"))],
    },
}

SCRIPT = '''
"""One stage of the toy pipeline: python src/toy.py STAGE."""
import json, random, sys
from pathlib import Path
import cv2, msgspec, numpy as np
from ruamel.yaml import YAML
from cocoseg.scores.confusion import confusion_matrix, scores
from cocoseg.evaluate.headline import headline_scores
from cocoseg.core.files import read_lines, write_json, write_lines, write_table
from cocoseg.scores.per_image import class_pixels
from cocoseg.images.png import encode_png
from cocoseg.tables import ClassPixels, ImageRow

params = YAML(typ="safe", pure=True).load(Path("params.yaml"))
data = Path("data")
names = [f"{number:03}.png" for number in range(params.get("images", 0))]
classes = ["background", *params["classes"]]

def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_png(pixels))

match sys.argv[1]:
    case "download_images":
        for number, name in enumerate(names):
            save(data / "images" / name, np.full((16, 16, 3), number + number % 2 * params["tint"], np.uint8))
        rows = [ImageRow(image_id=number, file_name=name, status="ok") for number, name in enumerate(names)]
        write_table(data / "images.csv", rows, ImageRow)
    case "mask":
        for number, name in enumerate(names):
            mask = np.zeros((16, 16), np.uint8)
            right = 2 + params["width"] + number % 2 * params["shift"]
            mask[2:14, 2:right] = 1 + number % (len(classes) - 1)
            save(data / "masks" / name, mask)
        write_json(data / "category_mapping.json", classes)
        write_json(data / "image_mask_map.json", {name: name for name in names})
    case "split":
        tested = names[params["fold"] :: params["folds"]] if params["split_rule"] == "fold" else names
        for side, chosen in (("train", []), ("val", []), ("test", tested)):
            write_lines(data / "splits" / f"{side}.txt", chosen)
    case "train":
        chance = random.Random(params["seed"] + 100 * params["fold"])
        wrong = params["wrong"] + params["noise"] * chance.gauss(0, 1)
        write_json(data / "model/model.json", {"wrong": wrong, "seed": params["seed"]})
        write_json(Path("metrics/train/metrics.json"), {"best": {"epoch": 1, "val/miou": 1 - wrong}})
    case "evaluate":
        model = json.loads((data / "model/model.json").read_text())
        rows, total = [], 0
        names = read_lines(data / "splits/test.txt")
        for number, name in ((int(name[:3]), name) for name in names):
            truth = cv2.imread(str(data / "masks" / name), cv2.IMREAD_UNCHANGED)
            # the same pixels are hard for every model
            hard = np.random.default_rng(number).random(truth.shape) + 0.002 * np.random.default_rng(
                1000 * model["seed"] + number
            ).standard_normal(truth.shape)
            wrong = (hard < 2 * params["threshold"] * model["wrong"]) & (truth > 0)
            prediction = np.where(wrong, 0, truth).astype(np.uint8)
            matrix = confusion_matrix(truth, prediction, len(classes))
            save(data / "evaluation/predictions" / name, prediction)
            rows += class_pixels(name, matrix, classes)
            total = total + matrix
        write_table(data / "evaluation/per_image.csv", rows, ClassPixels)
        declared = {key: params[key] for key in ("primary_score", "min_effect", "threshold")}
        found = msgspec.to_builtins(scores(total, classes))
        write_json(Path("metrics/evaluate.json"), {"split": "test", "images": len(names)} | declared | found)
        write_json(Path("metrics/scores.json"), headline_scores(found))
'''


def toy_pipeline(folder: Path, script: str = SCRIPT, **params: Any) -> Clone:
    """Return the pipeline in a new repository, run once and committed on `main`."""
    repository = Clone(folder)
    (folder / "src").mkdir(parents=True)
    (folder / "src/toy.py").write_text(script)
    stages = {
        name: {"cmd": f"python src/toy.py {name}", **entry, "deps": ["src/toy.py", *entry.get("deps", [])]}
        for name, entry in STAGES.items()
    }
    # JSON is YAML 1.2, and dvc reads it.
    (folder / "dvc.yaml").write_bytes(msgspec.json.format(msgspec.json.encode({"stages": stages})))
    (folder / "params.yaml").write_bytes(msgspec.json.format(msgspec.json.encode(PARAMS | params)))
    (folder / ".gitignore").write_text("/data/\n")
    repository.git("init", "--quiet", "--initial-branch=main")
    repository.git("config", "user.name", "A. Tester")
    repository.git("config", "user.email", "tester@example.org")
    repository.dvc_here("init", "--quiet")
    repository.dvc_here("repro")
    repository.commit("start")
    return repository
