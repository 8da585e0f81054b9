"""Time all that uses a GPU, and find where images per second are lost: `uv run benchmarks/gpu.py`.

It has been run on a CPU only, by `--device cpu` with a few images: what a GPU gives has yet to be seen.

Generates JPEGs of 640×480 pixels with masks of 21 classes, and measures each row in a process of its own, on one
device. A cell has the images per second of ours, those of the bare network, and their ratio:

- train, validate: the stage `train`, from the second epoch on; the bare step and forward pass on ready batches
- evaluate, predict: from image files to masks, of `predict` overlays and results too; the bare forward pass
- variants: training of the first network in float32, in float16 with its loss scaling, with `compile`, with
  `COCOSEG_DETERMINISTIC=1`, and as one process of several would (NCCL on a GPU)
- profile: what a training epoch of the first network spends its time on, by torch.profiler
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import msgspec
import torch
from lightning_fabric import Fabric
from tabulate import tabulate
from torch.profiler import profile

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)]
import evaluate
import predict
import train
from input import CLASSES, write_pairs

from cocoseg.coco.categories import map_categories
from cocoseg.coco.format import Category
from cocoseg.core.files import write_json, write_lines
from cocoseg.core.params import load_params
from cocoseg.hardware import device_name, peak_memory_mb
from cocoseg.model.preprocessing import Preprocessing
from cocoseg.train import loop
from cocoseg.train.params import TrainParams

NETWORKS = ["unet", "deeplabv3_resnet50", "fastscnn", "segformer"]
VARIANTS: dict[str, tuple[str, dict[str, Any], dict[str, str]]] = {
    "float32": ("ours", {}, {"COCOSEG_PRECISION": "32"}),
    "float16": ("float16", {}, {}),
    "compile": ("ours", {"compile": True}, {}),
    "deterministic": ("ours", {}, {"COCOSEG_DETERMINISTIC": "1"}),
    "one process of several": ("communicating", {}, {}),
}


def write_data(images: int) -> None:
    """Write `data/` as the stages leave it; a fifth of the images each is for validation and for evaluation."""
    (train.DATA / "images").mkdir(parents=True)
    names = [pair.file_name for pair in write_pairs(train.DATA / "images", images)]
    (train.DATA / "masks").symlink_to("images")
    categories = [Category(id=number, name=f"class {number}") for number in range(1, CLASSES)]
    write_json(train.DATA / "category_mapping.json", map_categories(categories, "multiclass"))
    write_json(train.DATA / "image_mask_map.json", {name: name.replace(".jpg", ".png") for name in names})
    fifth = images // 5
    for side, part in {"val": names[:fifth], "test": names[fifth : 2 * fifth], "train": names[2 * fifth :]}.items():
        write_lines(train.DATA / f"splits/{side}.txt", part)


def inference(params: TrainParams) -> dict[str, float]:
    """Evaluate and predict with an untrained network; return images per second."""
    mapping, chosen, _ = train.sides("test", "val")
    preprocessing = Preprocessing(image_size_px=params.image_size_px, resize=params.resize)
    model, info = predict.untrained(params.arch, params.encoder, preprocessing, mapping.classes)
    with tempfile.TemporaryDirectory() as name:
        bare, whole = evaluate.passes(model, info, chosen, Path(name))
    forward, _, predicted = predict.passes(model, info, len(chosen), repeats=3)
    taken = {"bare_evaluate": bare, "evaluate": whole, "bare_predict": forward, "predict": predicted}
    rates = {name: len(chosen) / seconds for name, seconds in taken.items()}
    return rates | {"peak_memory_mb": peak_memory_mb(next(model.parameters()).device)}


def float16(params: TrainParams) -> dict[str, Any]:
    """Train as on a GPU that has no bfloat16."""
    with patch("torch.cuda.is_bf16_supported", return_value=False):
        return train.ours(params)


def communicating(params: TrainParams) -> dict[str, Any]:
    """Train through the communication of several processes, though there is one."""
    with patch("cocoseg.train.devices.Fabric", partial(Fabric, strategy="ddp")):
        return train.ours(params)


def profiled(params: TrainParams) -> dict[str, Any]:
    """Train two epochs; return the parts of the second, in milliseconds."""
    epoch, found = loop._train_epoch, dict[str, float]()

    def watched(*arguments: Any) -> float:
        found.clear()
        started = time.perf_counter()
        with profile() as seen:
            loss = epoch(*arguments)
        found["the epoch"] = 1000 * (time.perf_counter() - started)
        events = seen.key_averages()
        found["waiting for a batch"] = sum(one.cpu_time_total for one in events if "DataLoader" in one.key) / 1000
        on_gpu = [one for one in events if one.device_type.name != "CPU" and not one.is_user_annotation]
        spent = {one.key: one.self_device_time_total / 1000 for one in on_gpu} or {
            one.key: one.self_cpu_time_total / 1000 for one in events if "DataLoader" not in one.key
        }
        found["the device at work" if on_gpu else "operators of the CPU"] = sum(spent.values())
        found["copying to the device"] = sum(ms for key, ms in spent.items() if "HtoD" in key)
        found.update({f"- {key[:60]}": spent[key] for key in sorted(spent, key=spent.__getitem__)[:-9:-1]})
        return loss

    with patch("cocoseg.train.loop._train_epoch", watched):
        train.ours(msgspec.structs.replace(params, epochs=2))
    return found


CONTENDERS = {one.__name__: one for one in (train.ours, train.bare, inference, float16, communicating, profiled)}


def measured(contender: str, params: TrainParams, **environment: str) -> dict[str, Any]:
    """Return the result of a contender, of its own process, or nothing where it failed, with a line that says why."""
    try:
        return train.measured(contender, params, __file__, **environment)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip().splitlines()
        print(f"{contender}, {params.arch}, {params.image_size_px} px: {said[-1] if said else error}", file=sys.stderr)
        return {}


def networks(base: TrainParams, names: list[str], sizes: list[int]) -> str:
    """Return the table of networks and sizes."""
    rows = []
    for name in names:
        for size in sizes:
            params = msgspec.structs.replace(base, arch=name, image_size_px=size)
            ours, bare, other = (measured(contender, params) for contender in ("ours", "bare", "inference"))
            pairs = [(ours.get(key), bare.get(key)) for key in ("images_per_second", "val_images_per_second")]
            pairs += [(other.get(key), other.get(f"bare_{key}")) for key in ("evaluate", "predict")]
            cells = [f"{own:.1f} of {peer:.1f}, {own / peer:.2f}" if own and peer else "failed" for own, peer in pairs]
            rows.append([name, size, *cells, ours.get("peak_memory_mb"), other.get("peak_memory_mb")])
    header = ["network", "px", "train", "validate", "evaluate", "predict", "MiB: training", "inference"]
    return tabulate(rows, header, tablefmt="github")


def variants(base: TrainParams, names: list[str]) -> str:
    """Return the table of variants of training."""
    rows = []
    for name in ("as it is", *names):
        contender, changes, environment = VARIANTS.get(name, ("ours", {}, {}))
        result = measured(contender, msgspec.structs.replace(base, **changes), **environment)
        rows.append([name, *(result.get(key) for key in ("precision", "images_per_second", "peak_memory_mb"))])
    return tabulate(rows, ["variant", "precision", "train, images/s", "MiB"], tablefmt="github")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--images", type=int, default=2000, help="default: 2000")
    parser.add_argument("--architectures", nargs="+", default=NETWORKS, help=f"default: {' '.join(NETWORKS)}")
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 512], help="default: 256 512")
    parser.add_argument("--variants", nargs="*", choices=VARIANTS, default=list(VARIANTS), help="default: all")
    parser.add_argument("--contender", nargs=2, metavar=("NAME", "PARAMS"), help="for internal use")
    options = parser.parse_args()
    if options.contender:
        contender, text = options.contender
        print(json.dumps(CONTENDERS[contender](msgspec.json.decode(text, type=TrainParams))))
        return
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        options.variants = [name for name in options.variants if name != "float16"]  # Fabric has it on GPUs only
    elif not torch.cuda.is_available():
        sys.exit("gpu.py: no CUDA device here; to try the program itself: --device cpu --images 40 --sizes 64")
    os.environ["COCOSEG_DEVICES"] = "1"
    params = load_params(TrainParams)
    start = str(Path(params.initial_weights).resolve())
    base = msgspec.structs.replace(
        params, arch=options.architectures[0], image_size_px=options.sizes[0], epochs=3, initial_weights=start
    )
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        write_data(options.images)
        print(f"{options.images} images, batches of {base.batch_size}, {device_name(torch.device(options.device))}\n")
        print(networks(base, options.architectures, options.sizes), flush=True)
        print(f"\n{base.arch}, {base.image_size_px} px\n\n{variants(base, options.variants)}\n", flush=True)
        parts = measured("profiled", base)
        rows = [[part, ms, f"{ms / parts['the epoch']:.1%}"] for part, ms in parts.items()]
        print(tabulate(rows, ["part of a training epoch", "ms", "share"], tablefmt="github", floatfmt=".1f"))


if __name__ == "__main__":
    main()
