"""Compare `resize: crop` with `squash` on large images of small objects: `uv run python benchmarks/crops.py`.

In a clone in a temporary folder: draws pictures of 1,024 × 1,024 pixels with discs of about 16, of three classes that
only their inner half tells apart, trains both with several seeds, and prints what `cocoseg compare` says.

Both see as many pictures of the network's size in as many steps: `crop` as many of an image as have its pixels in each
epoch, `squash` all of each image in as many more epochs.
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
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from clones import Clone, clone

SIDE = 1024
OBJECTS = 24
CORES = {"plain": None, "dark": 0, "light": 255}  # the brightness of a disc's inner half


def outline(x: float, y: float, radius: float) -> NDArray[np.floating]:
    """Return the polygon of a disc, (24, 2) in pixels."""
    turns = np.arange(24) * np.pi / 12
    return np.round(np.stack([x + radius * np.cos(turns), y + radius * np.sin(turns)], axis=1), 2)


def fill(picture: Any, corners: Any, color: list[float]) -> None:
    """Fill a polygon."""
    cv2.fillPoly(picture, [np.round(corners * 16).astype(np.int32)], color, cv2.LINE_AA, 4)


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
            category, radius = int(chance.integers(3)), chance.uniform(7, 10)
            corners, core = outline(x, y, radius), list(CORES.values())[category]
            fill(picture, corners, chance.uniform(0, 255, 3).tolist())
            if core is not None:
                fill(picture, outline(x, y, radius / 2), [core] * 3)
            low, high = corners.min(axis=0), corners.max(axis=0)
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": category + 1, "iscrowd": 0,
                "segmentation": [corners.ravel().tolist()], "area": cv2.contourArea(corners.astype(np.float32)),
                "bbox": [*low.tolist(), *(high - low).tolist()],
            })  # fmt: skip
        picture += chance.normal(0, 8, picture.shape)
        cv2.imwrite(str(folder / f"images/{number:04}.png"), picture.clip(0, 255).astype(np.uint8))
        entries.append({"id": number, "file_name": f"{number:04}.png", "width": SIDE, "height": SIDE})
    categories = [{"id": index, "name": name} for index, name in enumerate(CORES, start=1)]
    content = {"images": entries, "annotations": annotations, "categories": categories}
    (folder / "instances.json").write_text(json.dumps(content), encoding="utf-8")


def run(repository: Clone, *command: str) -> str:
    """Run a command in the clone, however long it takes, and return its output."""
    finished = subprocess.run(command, cwd=repository.folder, stdout=subprocess.PIPE, text=True, check=True)
    return finished.stdout


def main() -> None:
    """Print the seconds of each run, and the report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=4, help="of crop")
    parser.add_argument("--size", type=int, default=96, help="image_size_px of both")
    parser.add_argument("--batch", type=int, default=8, help="batch_size of both")
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    crops = round(SIDE**2 / options.size**2)  # of an image and epoch
    epochs = {"crop": options.epochs, "squash": options.epochs * crops}
    dvc = (sys.executable, "-m", "dvc")
    with tempfile.TemporaryDirectory() as name:
        draw(Path(name) / "own", options.images)
        repository = clone(Path(name) / "clone", params={})
        repository.set_params(
            dataset="custom", annotations=f"{name}/own/instances.json", images=f"{name}/own/images", classes=[],
            max_instances=None, image_size_px=options.size, batch_size=options.batch, arch="linknet",
            split_rule="exact", train_share=0.6, val_share=0.1, test_share=0.3, gallery_images=0,
        )  # fmt: skip
        repository.commit("the data")
        for seed in range(options.seeds):
            for resize in ("crop", "squash"):  # in turns, so that what else the machine does meets both
                started = time.perf_counter()
                changes = {
                    "resize": resize,
                    "epochs": epochs[resize],
                    "warmup_epochs": epochs[resize] / 10,
                    "seed": seed,
                }
                settings = [word for key, value in changes.items() for word in ("-S", f"{key}={value}")]
                run(repository, *dvc, "exp", "run", "--quiet", "--name", f"{resize}-{seed}", *settings)
                scores = json.loads((repository.folder / "metrics/scores.json").read_bytes())
                taken = time.perf_counter() - started
                print(f"{resize}, seed {seed}: mIoU {scores['miou']:.3f} in {taken:.0f} s", flush=True)
        print(run(repository, sys.executable, "-m", "cocoseg", "compare", "squash-0", "crop-0"))


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.cmd}: exit {error.returncode}")
