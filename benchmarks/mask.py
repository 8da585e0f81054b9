"""Time the stage `mask`, from annotations to masks on disk: `uv run python benchmarks/mask.py`.

Each contender runs in its own process on the same images of a file like train2017's (benchmarks/like_train2017.py):
from the JSON to one PNG per image, in 1 and in 2 processes.

- ours: the stage `mask` with its tables and accounts
- pycocotools: `annToMask` and `np.where` for one annotation after the other, then `cv2.imwrite`
- floor: reading the JSON, compressing label maps that are ready in memory, and writing them; the lower bound

The rule is `overlap: last` with crowds kept, as in a loop over annotations; no instance maps. Pixels that differ
between ours and pycocotools are counted over all images. `--images` sets their number: run it with 5000 and 118287 to
see the growth. Memory is the peak resident set of any worker.
"""

import argparse
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)]
from like_train2017 import write_instances

from cocoseg.coco.categories import map_categories
from cocoseg.coco.format import Instances
from cocoseg.core.files import read_json, write_bytes, write_json, write_table
from cocoseg.images.png import encode_png
from cocoseg.mask.masks import write_masks
from cocoseg.mask.params import MaskParams
from cocoseg.tables import ImageRow, MaskRow

PARAMS = MaskParams(
    negatives="drop",
    lost="ignore",
    max_defects=1,
    task="multiclass",
    overlap="last",
    priority=(),
    crowd="keep",  # as in a loop over annotations
    out_of_bounds="clip",
    gallery_images=0,
    instance_masks=False,
    max_skipped=0,
    on_defect="count",
)
CHUNK = 64


def ours(source: Path, folder: Path, processes: int) -> None:
    """Run the stage without its pictures."""
    os.environ["COCOSEG_WORKERS"] = str(processes)
    instances = read_json(source, Instances)
    mapping = map_categories(instances.categories, PARAMS.task)
    rows = [ImageRow(image_id=image.id, file_name=image.file_name, status="ok") for image in instances.images]
    masks = write_masks(instances, rows, mapping, PARAMS, folder / "masks", folder / "instance_masks")
    write_table(folder / "masks.csv", masks.rows, MaskRow)
    write_json(folder / "mask.json", masks.metrics)


def loop(source: Path, folder: Path, processes: int) -> None:
    """Write masks as the projects that this one replaces do."""
    from pycocotools.coco import COCO  # here: its import also imports matplotlib

    coco = COCO(str(source))
    class_of = {category["id"]: index for index, category in enumerate(coco.dataset["categories"], start=1)}
    work = [(image, coco.imgToAnns[image_id]) for image_id, image in sorted(coco.imgs.items())]
    _in_processes(partial(_paint_one_by_one, class_of=class_of, folder=folder), work, processes)


def _paint_one_by_one(entry: tuple[Any, Any], class_of: dict[int, int], folder: Path) -> None:
    from pycocotools.coco import COCO

    image, annotations = entry
    coco = COCO()
    coco.imgs = {image["id"]: image}
    mask = np.zeros((image["height"], image["width"]), np.uint8)
    for annotation in annotations:
        mask = np.where(coco.annToMask(annotation) > 0, class_of[annotation["category_id"]], mask)
    cv2.imwrite(str(folder / "masks" / f"{image['file_name'][:-4]}.png"), mask.astype(np.uint8))


def floor(source: Path, folder: Path, processes: int) -> None:
    """Write masks without rasterizing: the same 256 label maps, over and over."""
    instances = read_json(source, Instances)
    work = [(folder / "masks" / f"{image.id:012}.png", n % 256) for n, image in enumerate(instances.images)]
    _in_processes(partial(_write, label_maps=folder.parent / "label_maps"), work, processes)


@cache
def _label_map(path: Path) -> Any:
    return np.load(path)


def _write(entry: tuple[Path, int], label_maps: Path) -> None:
    write_bytes(entry[0], encode_png(_label_map(label_maps / f"{entry[1]}.npy")))


def _in_processes(task: Any, work: list[Any], processes: int) -> None:
    if processes == 1:
        for entry in work:
            task(entry)
    else:
        with multiprocessing.get_context("spawn").Pool(processes) as pool:
            for _ in pool.imap_unordered(task, work, chunksize=CHUNK):
                pass


def measured(contender: str, source: Path, folder: Path, processes: int) -> dict[str, float]:
    """Run a contender in its own process; return its seconds and the memory of its largest worker."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "masks").mkdir(parents=True)
    command = [sys.executable, __file__, "--contender", contender, str(source), str(folder), str(processes)]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return result


def run_contender(contender: str, source: Path, folder: Path, processes: int) -> None:
    """Print the measurement that `measured` reads."""
    cv2.setNumThreads(1)
    peaks = [0.0]
    threading.Thread(target=_watch_workers, args=(peaks,), daemon=True).start()
    started = time.perf_counter()
    {"ours": ours, "pycocotools": loop, "floor": floor}[contender](source, folder, processes)
    seconds = time.perf_counter() - started
    worker_mb = max(peaks)
    sys.stdout = sys.__stdout__
    print(json.dumps({"seconds": seconds, "worker_mb": worker_mb}))


def _watch_workers(peaks: list[float]) -> None:
    """Add the peak resident set of each child process, in megabytes, in a loop.

    Not getrusage's: it includes the parent from before the exec.
    """
    while True:
        for children in Path("/proc/self/task").glob("*/children"):
            for child in children.read_text().split():
                with suppress(OSError):
                    peak = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{child}/status").read_text())
                    peaks.append(int(peak[1]) * 1024 / 1e6 if peak else 0.0)
        time.sleep(0.1)


def choose(source: Path, images: int) -> int:
    """Write the output of `filter` with all classes. Return the number of images that have annotations."""
    whole = source.with_suffix(".whole.json")
    write_instances(whole, images)
    instances = msgspec.json.decode(whole.read_bytes(), type=Instances)
    instances.annotations = [entry for entry in instances.annotations if entry.segmentation]
    used = {entry.image_id for entry in instances.annotations}
    instances.images = [image for image in instances.images if image.id in used]
    source.write_bytes(msgspec.json.encode(instances))
    whole.unlink()
    return len(used)


def differing_pixels(first: Path, second: Path) -> tuple[int, int]:
    """Return the pixels that differ between two folders of masks, and the images; an extra mask counts as a whole."""
    differing = 0
    names = {path.name for path in [*first.iterdir(), *second.iterdir()]}
    for name in sorted(names):
        one, other = (cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED) for folder in (first, second))
        if one is None or other is None:
            # The loop also writes masks of background alone, which ours leaves out.
            present = one if other is None else other
            assert present is not None
            differing += int(np.count_nonzero(present))
        else:
            differing += int(np.count_nonzero(one != other))
    return differing, len(names)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument(
        "--contender", nargs=4, metavar=("NAME", "SOURCE", "FOLDER", "PROCESSES"), help="for internal use"
    )
    parser.add_argument(
        "--without-loop", action="store_true", help="leave out pycocotools, which is slow with 118,287 images"
    )
    arguments = parser.parse_args()
    if arguments.contender:
        name, source, folder, processes = arguments.contender
        sys.stdout = sys.stderr  # pycocotools prints
        run_contender(name, Path(source), Path(folder), int(processes))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / "instances.json"
        images = choose(source, arguments.images)
        size_mb = source.stat().st_size / 1e6
        print(f"{images:,} images with annotations, {size_mb:.0f} MB JSON, 80 classes")
        first = measured("ours", source, folder / "ours", 1)
        (folder / "label_maps").mkdir()
        for number, path in enumerate(sorted((folder / "ours/masks").iterdir())[:256]):
            np.save(folder / "label_maps" / str(number), np.asarray(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
        contenders = ("ours", "floor") if arguments.without_loop else ("ours", "pycocotools", "floor")
        print(f"{'':14}{'processes':>10}{'s':>9}{'ms per image':>13}{'ours is':>10}{'worker MB':>11}")
        one_process: dict[str, float] = {}
        for processes in (1, 2):
            results = {
                contender: first
                if (contender, processes) == ("ours", 1)
                else measured(contender, source, folder / contender, processes)
                for contender in contenders
            }
            for contender, result in results.items():
                ratio = result["seconds"] / results["ours"]["seconds"]
                memory = f"{result['worker_mb']:11.0f}" if processes > 1 else f"{'-':>11}"
                print(
                    f"{contender:14}{processes:10}{result['seconds']:9.2f}{1e3 * result['seconds'] / images:13.3f}"
                    f"{ratio:9.2f}×{memory}"
                )
            if processes == 1:
                one_process = {contender: result["seconds"] for contender, result in results.items()}
            else:
                for contender, result in results.items():
                    print(
                        f"{contender}: 2 processes are {one_process[contender] / result['seconds']:.2f}× as fast as 1"
                    )
        if not arguments.without_loop:
            differing, compared = differing_pixels(folder / "ours/masks", folder / "pycocotools/masks")
            print(f"differing pixels: {differing} in {compared:,} images")


if __name__ == "__main__":
    main()
