"""Time the pipeline: `uv run python benchmarks/repro.py`.

In a clone in a temporary folder: the first `dvc repro` on the sample, a second one with nothing to do, and both on
8,000 images, compared with `dvc version`, the lower bound of any DVC command; and the start of each data stage,
compared with `python -c pass`.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from clones import Clone, clone

DATA_STAGES = ("download", "filter", "download_images", "mask", "split")


def seconds(repository: Clone, *command: str, repeat: int = 1) -> float:
    """Return the seconds of the fastest of `repeat` runs of a command in the clone."""
    taken = []
    for _ in range(repeat):
        started = time.perf_counter()
        repository.run(*command)
        taken.append(time.perf_counter() - started)
    return min(taken)


def enlarge(repository: Clone, folder: Path, images: int) -> None:
    """Make a custom dataset of `images` images from those of the clone, each under several names."""
    raw = json.loads((repository.folder / "data/filtered/instances.json").read_bytes())
    (folder / "images").mkdir(parents=True)
    annotations: dict[int, list[dict[str, object]]] = {}
    for annotation in raw["annotations"]:
        annotations.setdefault(annotation["image_id"], []).append(annotation)
    new_images: list[dict[str, object]] = []
    new_annotations: list[dict[str, object]] = []
    for number in range(images):
        image = raw["images"][number % len(raw["images"])]
        shutil.copy(repository.folder / "data/images" / image["file_name"], folder / "images" / f"{number:06}.png")
        new_images.append(image | {"id": number + 1, "file_name": f"{number:06}.png"})
        for annotation in annotations[image["id"]]:
            new_annotations.append(annotation | {"id": len(new_annotations) + 1, "image_id": number + 1})
    (folder / "instances.json").write_text(
        json.dumps(raw | {"images": new_images, "annotations": new_annotations}), encoding="utf-8"
    )


def main() -> None:
    """Print one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=8000, help="images of the large run; 0 skips it")
    images = parser.parse_args().images
    dvc = (sys.executable, "-m", "dvc")
    with tempfile.TemporaryDirectory() as name:
        repository = clone(Path(name) / "sample", params={})
        print(f"first dvc repro, sample:            {seconds(repository, *dvc, 'repro'):7.1f} s")
        repository.commit("results")
        floor = seconds(repository, *dvc, "version", repeat=3)
        again = seconds(repository, *dvc, "repro", repeat=3)
        print(f"second dvc repro, nothing to do:    {again:7.2f} s  ({again / floor:.1f} × dvc version, {floor:.2f} s)")
        bare = seconds(repository, sys.executable, "-c", "pass", repeat=5)
        for stage in DATA_STAGES:
            start = seconds(
                repository,
                sys.executable,
                "-c",
                f"import sys; sys.path.insert(0, 'src'); import runpy; runpy.run_path('stages/{stage}.py')",
                repeat=5,
            )
            print(f"start of {stage + ':':<27}{start:7.2f} s  ({start / bare:.1f} × python -c pass, {bare:.2f} s)")
        if images:
            enlarge(repository, Path(name) / "own", images)
            repository.set_params(
                dataset="custom",
                annotations=str(Path(name) / "own/instances.json"),
                images=str(Path(name) / "own/images"),
                epochs=1,
                image_size_px=32,
            )
            print(f"dvc repro, {images} images, one epoch:{seconds(repository, *dvc, 'repro'):7.1f} s")
            again = seconds(repository, *dvc, "repro", repeat=3)
            print(f"second dvc repro, {images} images:   {again:7.2f} s")


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.cmd}: exit {error.returncode}")
