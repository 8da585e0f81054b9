"""Time the stage `filter`: `uv run --with orjson --with faster-coco-eval benchmarks/filter.py`.

Each contender reads a generated file like train2017's (benchmarks/like_train2017.py) in its own process, applies the
default parameters (five classes, at most ten instances per image), and writes the chosen part. `--images` sets the size
of the file: run it with 5000, 20000 and 118287 to see the growth. All contenders must keep the same images and
annotations.

- ours: the stage `filter` as it runs
- json, orjson: the same choice in a loop over dictionaries
- pycocotools, faster-coco-eval: the same loop over the content of their `COCO` class
- pycocotools without gc: the same with Python's garbage collector off, as in the stage
- read: only reading the bytes, the lower bound

Seconds of CPU tell more than those of the wall where other work shares the machine.
"""

import argparse
import gc
import importlib
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)]
from like_train2017 import TRAIN2017_IMAGES, write_instances

from cocoseg.core.files import write_json
from cocoseg.filter.choose import filter_file
from cocoseg.filter.params import FilterParams

PARAMS = FilterParams(
    images="data/custom/images",
    negatives="drop",
    lost="ignore",
    max_defects=1,
    max_skipped=1,
    classes=("person", "bicycle", "car", "motorcycle", "airplane"),
    max_images=None,
    max_instances=10,
    min_area_px=None,
    licenses=None,
    data_seed=0,
    crowd="ignore",
    on_defect="count",
)
CONTENDERS = ("ours", "pycocotools", "pycocotools without gc", "faster-coco-eval", "json", "orjson", "read")
MODULES = {
    "faster-coco-eval": "faster_coco_eval",
    "orjson": "orjson",
    "pycocotools": "pycocotools.coco",
    "pycocotools without gc": "pycocotools.coco",
}


def ours(source: Path, target: Path) -> None:
    """Filter as stages/filter.py does."""
    write_json(target.with_suffix(".metrics.json"), filter_file(source, target, PARAMS))


def loop(source: Path, target: Path, load: Callable[[bytes], Any], dump: Callable[[Any], bytes]) -> None:
    """Make the same choice over dictionaries."""
    content = load(source.read_bytes())
    by_image: dict[int, list[Any]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        by_image[annotation["image_id"]].append(annotation)
    target.write_bytes(dump(_chosen(content["images"], by_image, content["categories"])))


def coco_loop(source: Path, target: Path, coco_class: Any) -> None:
    """Make the same choice over the index of a `COCO` object."""
    coco = coco_class(str(source))
    images = [coco.imgs[image_id] for image_id in coco.getImgIds()]
    by_image = {image["id"]: coco.imgToAnns[image["id"]] for image in images}
    chosen = _chosen(images, by_image, coco.loadCats(coco.getCatIds()))
    target.write_text(json.dumps(chosen), encoding="utf-8")


def _chosen(images: list[Any], by_image: dict[int, list[Any]], categories: list[Any]) -> dict[str, Any]:
    wanted = {category["id"] for category in categories if category["name"] in PARAMS.classes}
    kept: dict[int, list[Any]] = {}
    for image in images:
        own = [
            annotation
            for annotation in by_image[image["id"]]
            if annotation["category_id"] in wanted and annotation["iscrowd"] in (0, 1) and annotation["segmentation"]
        ]
        if any(not annotation["iscrowd"] for annotation in own) and len(own) <= 10:
            kept[image["id"]] = own
    chosen = sorted((image for image in images if image["id"] in kept), key=lambda image: int(image["id"]))
    return {
        "images": chosen,
        "annotations": [annotation for image in chosen for annotation in kept[image["id"]]],
        "categories": [category for category in categories if category["id"] in wanted],
    }


def run_contender(contender: str, source: Path, target: Path) -> None:
    """Print the measurement that `measured` reads."""
    module = importlib.import_module(MODULES.get(contender, "json"))
    started, cpu_started = time.perf_counter(), time.process_time()
    match contender:
        case "ours":
            ours(source, target)
        case "json":
            loop(source, target, json.loads, lambda content: json.dumps(content).encode())
        case "orjson":
            loop(source, target, module.loads, module.dumps)
        case "pycocotools" | "faster-coco-eval":
            coco_loop(source, target, module.COCO)
        case "pycocotools without gc":
            gc.disable()
            coco_loop(source, target, module.COCO)
        case "read":
            source.read_bytes()
    seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    # not getrusage's: it includes the parent from before the exec
    peak = re.search(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    megabytes = int(peak[1]) * 1024 / 1e6 if peak else float("nan")
    print(json.dumps({"seconds": seconds, "cpu": cpu_seconds, "mb": megabytes}), file=sys.__stdout__)


def measured(contender: str, source: Path, target: Path) -> dict[str, float]:
    """Run a contender in its own process; return its seconds, also of CPU, and its peak resident set in megabytes."""
    command = [sys.executable, __file__, "--contender", contender, str(source), str(target)]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return result


def kept(path: Path) -> tuple[list[int], list[int]]:
    """Return the ids of the images and annotations of a file."""
    content = json.loads(path.read_bytes())
    return [image["id"] for image in content["images"]], [entry["id"] for entry in content["annotations"]]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=TRAIN2017_IMAGES)
    parser.add_argument("--repeat", type=int, default=1, help="runs of each contender; the median counts")
    parser.add_argument("--contender", nargs=3, metavar=("NAME", "SOURCE", "TARGET"), help="for internal use")
    arguments = parser.parse_args()
    if arguments.contender:
        name, source, target = arguments.contender
        sys.stdout = sys.stderr  # pycocotools prints
        run_contender(name, Path(source), Path(target))
        return
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "instances.json"
        annotations = write_instances(source, arguments.images)
        megabytes = source.stat().st_size / 1e6
        print(f"{arguments.images:,} images, {annotations:,} annotations, {megabytes:.0f} MB JSON")
        print(f"{'':24}{'s':>8}{'ours is':>10}{'CPU s':>8}{'ours is':>10}{'peak MB':>10}")
        own: dict[str, float] = {}
        for contender in CONTENDERS:
            module = MODULES.get(contender)
            if module and importlib.util.find_spec(module.partition(".")[0]) is None:
                print(f"{contender:24} not installed")
                continue
            target = Path(name) / f"{contender}.json"
            results = [measured(contender, source, target) for _ in range(arguments.repeat)]
            result = {key: median(one[key] for one in results) for key in results[0]}
            own = own or result
            times = "".join(f"{result[key]:8.2f}{result[key] / own[key]:9.2f}×" for key in ("seconds", "cpu"))
            print(f"{contender:24}{times}{result['mb']:10.0f}")
            if contender not in ("ours", "read") and kept(target) != kept(Path(name) / "ours.json"):
                sys.exit(f"{contender} kept other images or annotations than ours")


if __name__ == "__main__":
    main()
