"""Train each architecture for one epoch: `uv run dvc repro && uv run benchmarks/architectures.py`.

Uses the images that the last `dvc repro` left in `data/`, both tasks, and the parameters of `params.yaml`, for smp's
architectures also its `encoder`. Prints the number of parameters, the training images per second (of the first epoch,
including the warm-up) and the mIoU of the test images at their original size.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import get_args

import cv2
import msgspec
import numpy as np

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)]
from train import DATA, need_run, run_data, sides

from cocoseg.coco.categories import IGNORE, CategoryMapping, Task
from cocoseg.core.files import read_json, read_lines, write_bytes
from cocoseg.core.params import load_params
from cocoseg.evaluate.evaluation import evaluate
from cocoseg.images.pairs import Pair, pairs
from cocoseg.images.png import encode_png
from cocoseg.model.weights import load_checkpoint
from cocoseg.scores.confusion import scores
from cocoseg.train.loop import train
from cocoseg.train.params import TrainParams

ARCHITECTURES = (
    "unet", "deeplabv3_mobilenet", "deeplabv3_resnet50", "fastscnn", "segformer", "unetplusplus", "fpn",
    "deeplabv3plus", "upernet",
)  # fmt: skip


def as_binary(found: list[Pair], folder: Path) -> list[Pair]:
    """Return the pairs, with masks of any class against background."""
    out = []
    for pair in found:
        mask = np.asarray(cv2.imread(str(pair.mask), cv2.IMREAD_UNCHANGED))
        binary = np.where(mask == IGNORE, IGNORE, mask > 0).astype(np.uint8)
        path = folder / pair.file_name
        write_bytes(path, encode_png(binary))
        out.append(Pair(file_name=pair.file_name, image=pair.image, mask=path))
    return out


def main() -> None:
    """Print one line per architecture and task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=ARCHITECTURES, help="only these architectures")
    only = parser.parse_args().only
    need_run("images", "masks", "splits")
    base = load_params(TrainParams)
    mapping, train_pairs, val_pairs = sides()
    mask_map = read_json(DATA / "image_mask_map.json", dict[str, str])
    test_pairs = pairs(read_lines(DATA / "splits/test.txt"), mask_map, DATA / "images", DATA / "masks")
    print(f"{'':22}{'task':12}{'parameters':>12}{'images/s':>10}{'mIoU':>8}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["COCOSEG_CACHE"] = str(folder / "cache")
        for task in get_args(Task):
            own = mapping
            chosen = [train_pairs, val_pairs, test_pairs]
            if task == "binary":
                own = CategoryMapping(task=task, classes=("background", "foreground"), categories=mapping.categories)
                chosen = [as_binary(side, folder / "binary") for side in chosen]
            for arch in only:
                params = msgspec.structs.replace(base, arch=arch, task=task, epochs=1, warmup_epochs=0)
                cost = train(params, run_data(own, chosen[0], chosen[1]), folder / "model", folder / "live")
                if cost is None:
                    sys.exit()
                model, info = load_checkpoint(folder / "model")
                result = evaluate(model, info, chosen[2], folder / "predictions")
                miou = scores(result.confusion, own.classes).miou
                rate = cost["train_images_per_second"]
                print(f"{arch:22}{task:12}{cost['parameters']:12,}{rate:10.1f}{miou:8.3f}", flush=True)


if __name__ == "__main__":
    main()
