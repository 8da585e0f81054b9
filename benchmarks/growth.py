"""Measure how each stage grows with the number of images: `uv run benchmarks/growth.py`.

For each of `--images`, a file like train2017's (benchmarks/like_train2017.py) and as many JPEGs of noise go through the
stages as they are, all 80 categories, in a clone in a temporary folder: from local files to the split, then one epoch
of the default network and its evaluation (up to `--train-images`), then DVC's own part: `dvc commit` hashes and stores
all outputs, `dvc status` finds nothing changed. Each is a process of one worker and one thread.

Prints Markdown: seconds of a core (user and system, so other programs count little; waiting for a disk is not in it),
peak memory of a process, and the bytes that it wrote. In italics is what a line through the two largest sizes says of
other sizes; the exponent is that of the growth between them: 1 is linear. `--picture FILE` draws what was measured on
logarithmic axes. `--results FILE` keeps it: a second run with more sizes goes on with it.

All of it on a quiet machine, with 25 GB of disk: `uv run benchmarks/growth.py --images 1000 4000 16000 64000 118287
--train-images 16000 --results growth.json --picture docs/growth.png`
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from matplotlib.figure import Figure
from tabulate import tabulate

sys.path[:0] = [str(Path(__file__).parents[1] / "tests"), str(Path(__file__).parent)]
from clones import PATH, Clone, clone
from like_train2017 import write_instances

DATA_STAGES = ("download", "filter", "download_images", "mask", "split")
TRAINING = ("train", "evaluate")
DVC = ("dvc commit", "dvc status")
ROWS = (*DATA_STAGES, *TRAINING, *DVC)
MEASURE = """\
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""
ASKED = (1_000, 10_000, 118_287, 1_000_000, 10_000_000)
LINEAR = 0.1  # how far from 1 the exponent of a linear cost may be
PARAMS: dict[str, Any] = {
    "dataset": "custom",
    "classes": [],
    "max_instances": None,
    "max_skipped": 1,
    "max_defects": 1,
    "epochs": 1,
}


class Cost(msgspec.Struct, frozen=True):
    """What a process took."""

    seconds: float
    """Of a core, user and system."""
    wall_seconds: float
    memory_mb: float
    disk_mb: float


Costs = dict[int, dict[str, Cost]]
"""By the number of images, then by row."""


def write_images(folder: Path, images: Sequence[Mapping[str, Any]]) -> None:
    """Write the JPEG files: smooth noise, so that no two are near-duplicates, under fine noise, as large as COCO's."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    fine = generator.normal(0, 18, (640, 640, 3)).astype(np.float32)
    for image in images:
        height, width = image["height"], image["width"]
        smooth = cv2.resize(generator.integers(0, 255, (9, 9, 3)).astype(np.float32), (width, height))
        pixels = np.clip(smooth + fine[:height, :width], 0, 255).astype(np.uint8)
        (folder / image["file_name"]).write_bytes(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 80])[1])


def cost(repository: Clone, *command: str) -> Cost:
    """Run a command in the clone, in one thread, and return what it took."""
    alone = {"COCOSEG_WORKERS": "1", "OMP_NUM_THREADS": "1", "COCOSEG_CACHE": ".dvc/tmp/cocoseg", "PATH": PATH}
    before, started = stored_bytes(repository.folder), time.perf_counter()
    # A process of its own: what this one holds would count as memory of those that it starts.
    measured = subprocess.run(
        [sys.executable, "-c", MEASURE, *command],
        cwd=repository.folder,
        env=os.environ | alone | {"PYTHONPATH": "src", "PYTHONSAFEPATH": "1", "DVC_NO_ANALYTICS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if measured.returncode:
        sys.exit(f"{' '.join(command)}: {measured.stdout}{measured.stderr}")
    seconds, memory = json.loads(measured.stdout.splitlines()[-1])
    return Cost(
        seconds=round(seconds, 2),
        wall_seconds=round(time.perf_counter() - started, 2),
        memory_mb=round(memory / (2**20 if sys.platform == "darwin" else 2**10), 1),
        disk_mb=round(max(0, stored_bytes(repository.folder) - before) / 1e6, 2),
    )


def stored_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder; those of a file with two names count once."""
    entries = (Path(parent, name).lstat() for parent, _, names in os.walk(folder) for name in names)
    return sum({entry.st_ino: entry.st_size for entry in entries}.values())


def measure(images: int, trained: bool) -> dict[str, Cost]:
    """Run all stages on so many images, and print each one's cost as it is known."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as name:
        source, repository = Path(name) / "source", clone(Path(name) / "clone", PARAMS)
        source.mkdir()
        write_instances(source / "instances.json", images)
        write_images(source / "images", json.loads((source / "instances.json").read_bytes())["images"])
        repository.set_params(annotations=str(source / "instances.json"), images=str(source / "images"))
        repository.commit("own data")
        costs: dict[str, Cost] = {}
        for row in (*DATA_STAGES, *(TRAINING if trained else ()), *DVC):
            match row.split():
                case [stage]:
                    command = [sys.executable, f"stages/{stage}.py"]
                case _:
                    command = [sys.executable, "-m", *row.split(), *(["--force"] if row == "dvc commit" else [])]
                    command += [] if trained else list(DATA_STAGES)
            costs[row] = cost(repository, *command)
            print(
                f"{images:>9,} images, {row}: {msgspec.json.encode(costs[row]).decode()}", file=sys.stderr, flush=True
            )
        return costs


def at(costs: Costs, row: str, field: str, images: int) -> float | None:
    """Return what `images` cost, by the line through the two largest sizes if they were not measured.

    `None` for a row with fewer than two sizes.
    """
    if images in costs and row in costs[images]:
        return float(getattr(costs[images][row], field))
    sizes = sorted(size for size in costs if row in costs[size])[-2:]
    if len(sizes) < 2:
        return None
    first, last = (float(getattr(costs[size][row], field)) for size in sizes)
    slope = max(0.0, last - first) / (sizes[1] - sizes[0])  # what falls is noise
    return max(0.0, last + slope * (images - sizes[1]))


def exponent(costs: Costs, row: str, field: str) -> float | None:
    """Return how a cost beyond that of the smallest size grows between the two largest; 1 is linear.

    `None` with fewer than three sizes, and where it hardly grows.
    """
    sizes = sorted(size for size in costs if row in costs[size])
    if len(sizes) < 3:
        return None
    least, first, last = (float(getattr(costs[size][row], field)) for size in (sizes[0], *sizes[-2:]))
    if first - least < 0.1 * least or last <= first:
        return None
    return math.log((last - least) / (first - least)) / math.log((sizes[-1] - sizes[0]) / (sizes[-2] - sizes[0]))


def table(costs: Costs, field: str) -> str:
    """Return Markdown: a row per stage, a column per size; what a line foretells in italics."""
    sizes = sorted({*costs, *ASKED})
    lines = []
    for row in ROWS:
        values = [at(costs, row, field, size) for size in sizes]
        cells = ["" if value is None else f"{value:,.{0 if value >= 10 else 1}f}" for value in values]
        foretold = [
            cell if row in costs.get(size, {}) else f"*{cell}*" for cell, size in zip(cells, sizes, strict=True)
        ]
        power = exponent(costs, row, field)
        lines.append([f"`{row}`", *foretold, "" if power is None else f"{power:.2f}"])
    headers = [field.replace("_", " "), *(f"{size:,}" for size in sizes), "exponent"]
    return tabulate(lines, headers, tablefmt="github", disable_numparse=True)


def draw(costs: Costs, path: Path) -> None:
    """Draw what was measured: seconds and memory against images, both axes logarithmic."""
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    for axes, field, label in zip(
        figure.subplots(1, 2), ("seconds", "memory_mb"), ("seconds of one core", "MiB, peak of a process"), strict=True
    ):
        for row in ROWS:
            sizes = sorted(size for size in costs if row in costs[size])
            axes.loglog(
                sizes, [getattr(costs[size][row], field) for size in sizes], marker="o", markersize=4, label=row
            )
        low, high = min(costs), max(costs)
        floor = axes.get_ylim()[0]
        axes.loglog([low, high], [floor, floor * high / low], color="0.7", linestyle=":", label="linear")
        axes.set_xlabel("images")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    figure.axes[1].legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    """Measure, print, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, nargs="+", default=[1_000, 4_000, 16_000])
    parser.add_argument("--train-images", type=int, default=4_000, help="train and evaluate up to this many images")
    parser.add_argument("--results", type=Path, help="a JSON file of what was measured, to begin with and to write")
    parser.add_argument("--picture", type=Path, help="a PNG file to write")
    arguments = parser.parse_args()
    kept: Path | None = arguments.results
    costs = msgspec.json.decode(kept.read_bytes(), type=Costs) if kept and kept.exists() else {}
    for images in arguments.images:
        if images not in costs:
            costs[images] = measure(images, images <= arguments.train_images)
        if kept:
            kept.write_bytes(msgspec.json.format(msgspec.json.encode(costs)))
    print("\n\n".join(table(costs, field) for field in ("seconds", "memory_mb", "disk_mb")))
    if arguments.picture:
        draw(costs, arguments.picture)


if __name__ == "__main__":
    main()
