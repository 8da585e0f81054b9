"""Compare `resize: crop` with `squash` on large images of small objects: `uv run python benchmarks/crops.py`.

In a clone in a temporary folder: draws pictures of 1,024 × 1,024 pixels with objects of about 16, of three classes that
only their shape tells apart, trains both with several seeds, and prints what `cocoseg compare` says.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from clones import Clone, clone

SIDE = 1024
OBJECTS = 24
SHAPES = ("disc", "square", "triangle")


def outline(shape: str, x: float, y: float, radius: float, angle: float) -> list[float]:
    """Return the polygon of an object, x and y in turn, in pixels."""
    corners = {"disc": 24, "square": 4, "triangle": 3}[shape]
    turns = angle + np.arange(corners) * 2 * np.pi / corners
    points = np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], axis=1)
    return [round(float(value), 2) for value in points.ravel()]


def draw(folder: Path, images: int) -> None:
    """Write the pictures and their annotations below `folder`."""
    chance = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    entries: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number in range(1, images + 1):
        coarse = chance.integers(60, 200, (9, 9, 3)).astype(np.uint8)
        picture = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC).astype(np.float32)
        cells = chance.permutation(16 * 16)[:OBJECTS]  # apart, so that none covers another
        for cell in cells.tolist():
            x, y = (32 + 64 * np.array(divmod(cell, 16)) + chance.uniform(-16, 16, 2)).tolist()
            category = int(chance.integers(3))
            polygon = outline(SHAPES[category], x, y, chance.uniform(7, 10), chance.uniform(0, 6.28))
            corners = np.array(polygon).reshape(-1, 1, 2)
            cv2.fillPoly(
                picture, [np.round(corners * 16).astype(np.int32)], chance.uniform(0, 255, 3).tolist(), cv2.LINE_AA, 4
            )
            low, high = corners.min(axis=(0, 1)), corners.max(axis=(0, 1))
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": category + 1, "iscrowd": 0,
                "segmentation": [polygon], "area": cv2.contourArea(corners.astype(np.float32)),
                "bbox": [*low.tolist(), *(high - low).tolist()],
            })  # fmt: skip
        picture += chance.normal(0, 8, picture.shape)
        cv2.imwrite(str(folder / f"images/{number:04}.png"), picture.clip(0, 255).astype(np.uint8))
        entries.append({"id": number, "file_name": f"{number:04}.png", "width": SIDE, "height": SIDE})
    categories = [{"id": index, "name": name} for index, name in enumerate(SHAPES, start=1)]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content), encoding="utf-8")


def run(repository: Clone, *command: str) -> str:
    """Run a command in the clone, however long it takes, and return its output."""
    finished = subprocess.run(command, cwd=repository.folder, stdout=subprocess.PIPE, text=True, check=True)
    return finished.stdout


def main() -> None:
    """Print the seconds of each training, and the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--size", type=int, default=128, help="image_size_px of both")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    dvc = (sys.executable, "-m", "dvc")
    with tempfile.TemporaryDirectory() as name:
        draw(Path(name) / "own", options.images)
        repository = clone(Path(name) / "clone", params={})
        repository.set_params(
            dataset="custom", annotations=f"{name}/own/instances.json", images=f"{name}/own/images", classes=[],
            max_instances=None, image_size_px=options.size, epochs=options.epochs, batch_size=4, split_rule="exact",
            train_share=0.6, val_share=0.1, test_share=0.3, gallery_images=0, resize="squash",
        )  # fmt: skip
        repository.commit("the data")
        for resize in ("squash", "crop"):
            for seed in range(options.seeds):
                started = time.perf_counter()
                change = ("-S", f"resize={resize}", "-S", f"seed={seed}")
                run(repository, *dvc, "exp", "run", "--quiet", "--name", f"{resize}-{seed}", *change)
                scores = json.loads((repository.folder / "metrics/scores.json").read_bytes())
                taken = time.perf_counter() - started
                print(f"{resize}, seed {seed}: mIoU {scores['miou']:.3f} in {taken:.0f} s", flush=True)
        print(run(repository, sys.executable, "-m", "cocoseg", "compare", "squash-0", "crop-0"))


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.cmd}: exit {error.returncode}")
