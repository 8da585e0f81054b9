"""Overfit a few images from scratch: `uv run dvc repro mask && uv run benchmarks/overfit.py`.

Trains on and scores the first images that the stage `mask` left in `data/`, in evaluation mode and at the network's
size. If a model cannot memorize them, something is broken: labels, loss or BatchNorm.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import msgspec

sys.path[:0] = [str(Path(__file__).parents[1] / "src")]
from train import need_run, run_data

from cocoseg.coco.categories import CategoryMapping
from cocoseg.core.files import read_json
from cocoseg.core.params import load_params
from cocoseg.images.pairs import pairs
from cocoseg.train.loop import train
from cocoseg.train.params import TrainParams

DATA = Path("data")
SETTINGS = {
    "augment": "none", "batch_size": 8, "epochs": 240, "image_size_px": 128, "lr": 0.003, "optimizer": "adamw",
    "pretrained": "none", "schedule": "onecycle",
}  # fmt: skip


def main() -> None:
    """Print the mIoU curve of each architecture, one value per twelfth of the epochs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=["unet/resnet18", "deeplabv3_mobilenet", "segformer/resnet18"])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=SETTINGS["epochs"])
    parser.add_argument("--size", type=int, default=SETTINGS["image_size_px"], help="pixels")
    arguments = parser.parse_args()
    need_run("images", "masks")
    mapping = read_json(DATA / "category_mapping.json", CategoryMapping)
    mask_map = read_json(DATA / "image_mask_map.json", dict[str, str])
    chosen = pairs(sorted(mask_map)[: arguments.images], mask_map, DATA / "images", DATA / "masks")
    settings = SETTINGS | {
        "epochs": arguments.epochs, "warmup_epochs": arguments.epochs / 10, "image_size_px": arguments.size,
    }  # fmt: skip
    base = msgspec.structs.replace(load_params(TrainParams), **settings)
    print(f"{len(chosen)} images, {len(mapping.classes)} classes, {base.image_size_px} px, {base.epochs} epochs")
    for model in arguments.models:
        arch, _, encoder = model.partition("/")
        params = msgspec.structs.replace(base, arch=arch, encoder=encoder or base.encoder)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            os.environ["COCOSEG_CACHE"] = str(folder / "cache")
            if train(params, run_data(mapping, chosen, chosen), folder / "model", folder / "live") is None:
                sys.exit()
            lines = (folder / "live/plots/metrics/val/miou.tsv").read_text().splitlines()[1:]
        curve = [float(line.split("\t")[1]) for line in lines]
        step = max(1, len(curve) // 12)
        print(f"{model:22}{' '.join(f'{value:.2f}' for value in curve[step - 1 :: step])}  best {max(curve):.3f}")


if __name__ == "__main__":
    main()
