"""Time training: `uv run dvc repro && uv run benchmarks/train.py`.

Uses the images that the last `dvc repro` left in `data/`, and the parameters of `params.yaml`. The contenders run one
after the other, each in its own process:

- ours: the stage `train` with augmentation and logging, images per second from the second epoch on
- bare: only the same model, precision and optimizer on tensors that are ready in memory
- plain: a common PyTorch loop: float32, contiguous, decoding in every epoch in two DataLoader workers, the same
  augmentation; also the time that ours and plain take to reach the final validation mIoU of plain
- two processes: ours in two processes, on one core each if there are two
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

import msgspec
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

sys.path.insert(0, str(Path(__file__).parents[1] / "src"))
from cocoseg.coco.categories import CategoryMapping
from cocoseg.core.files import read_json, read_lines
from cocoseg.core.params import load_params
from cocoseg.images.pairs import Pair, pairs
from cocoseg.model.architectures import build_model
from cocoseg.model.preprocessing import Preprocessing, normalized, predicted_labels
from cocoseg.model.weights import output_channels
from cocoseg.scores.confusion import scores
from cocoseg.train.dataset import SegmentationDataset
from cocoseg.train.devices import training_precision
from cocoseg.train.loop import train
from cocoseg.train.losses import resolved_loss, segmentation_loss
from cocoseg.train.optimizer import lr_factor, make_optimizer, set_lr
from cocoseg.train.params import TrainParams
from cocoseg.train.run_data import RunData
from cocoseg.train.validation import batch_confusion

DATA = Path("data")


def need_run(*outputs: str) -> None:
    """End in one line unless the last `dvc repro` left these outputs in `data/`."""
    for output in outputs:
        if not (DATA / output).exists():
            sys.exit(f"{DATA / output} is missing: this measures what a run left; make one with: uv run dvc repro")


def sides(first: str = "train", second: str = "val") -> tuple[CategoryMapping, list[Pair], list[Pair]]:
    """Return the classes of the masks, and the pairs of two sides."""
    mask_map = read_json(DATA / "image_mask_map.json", dict[str, str])
    one, other = (
        pairs(read_lines(DATA / f"splits/{side}.txt"), mask_map, DATA / "images", DATA / "masks")
        for side in (first, second)
    )
    return read_json(DATA / "category_mapping.json", CategoryMapping), one, other


def run_data(mapping: CategoryMapping, train_side: list[Pair], val_side: list[Pair]) -> RunData:
    """Return the data of a run on these sides, without class weights."""
    return RunData(mapping=mapping, train=train_side, val=val_side, class_weights=None, fingerprint="benchmark")


def ours(params: TrainParams) -> dict[str, Any]:
    """Train as the stage does, into a temporary folder."""
    mapping, train_pairs, val_pairs = sides()
    with tempfile.TemporaryDirectory() as name:
        os.environ["COCOSEG_CACHE"] = f"{name}/cache"
        live = Path(name) / "live"
        started = time.perf_counter()
        data = RunData(mapping=mapping, train=train_pairs, val=val_pairs, class_weights=None, fingerprint="benchmark")
        cost = train(params, data, Path(name) / "model", live)
        if cost is None:
            sys.exit()
        lines = (live / "plots/metrics/val/miou.tsv").read_text().splitlines()[1:]
        mious = [float(line.split("\t")[1]) for line in lines]
    return {
        "images_per_second": cost["train_images_per_second"],
        "val_images_per_second": cost["val_images_per_second"],
        **{key: cost[key] for key in ("peak_memory_mb", "precision")},
        "mious": mious,
        "seconds": time.perf_counter() - started,
    }


def _model(params: TrainParams, mapping: CategoryMapping) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(params.seed)
    model = build_model(params.arch, params.encoder, params.pretrained, output_channels(mapping.task, mapping.classes))
    return model, make_optimizer(model, params.optimizer, params.lr, params.weight_decay)


def bare(params: TrainParams) -> dict[str, Any]:
    """Run steps and forward passes on ready tensors, for about three epochs, on the device of training."""
    mapping, train_pairs, _ = sides()
    preprocessing = Preprocessing(image_size_px=params.image_size_px, resize=params.resize)
    model, optimizer = _model(params, mapping)
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    model = model.to(device).to(memory_format=torch.channels_last)
    few = train_pairs[: 8 * params.batch_size]
    dataset = SegmentationDataset(few, len(mapping.classes), preprocessing, None, params.seed)
    ready = [dataset[0, index] for index in range(len(dataset))]
    batches = [
        tuple(torch.stack(part).to(device) for part in zip(*ready[start : start + params.batch_size], strict=True))
        for start in range(0, len(ready) - params.batch_size + 1, params.batch_size)
    ]
    loss_name = resolved_loss(params.loss)
    precision = training_precision()
    dtype = torch.float16 if precision == "16-mixed" else torch.bfloat16
    autocast = partial(torch.autocast, device.type, dtype, enabled=precision != "32-true")
    scaler = torch.GradScaler(device.type, enabled=precision == "16-mixed")

    def step(images: Tensor, target: Tensor) -> None:
        with autocast():
            output = model(normalized(images, preprocessing))
        torch.autograd.backward(scaler.scale(segmentation_loss(output, target, loss_name)))
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()

    def forward(images: Tensor, _: Tensor) -> None:
        with torch.no_grad(), autocast():
            model(normalized(images, preprocessing))

    def all_done() -> float:
        if device.type != "cpu":
            torch.accelerator.synchronize()
        return time.perf_counter()

    rates = []
    for task, training in ((step, True), (forward, False)):
        model.train(training)
        for images, target in batches:
            task(images, target)
        started = all_done()
        rounds = 3 * max(1, len(train_pairs) // len(ready))
        for _ in range(rounds):
            for images, target in batches:
                task(images, target)
        rates.append(rounds * len(batches) * params.batch_size / (all_done() - started))
    return {"images_per_second": rates[0], "val_images_per_second": rates[1]}


def plain(params: TrainParams) -> dict[str, Any]:
    """Train with a common PyTorch loop."""
    mapping, train_pairs, val_pairs = sides()
    classes = len(mapping.classes)
    preprocessing = Preprocessing(image_size_px=params.image_size_px, resize=params.resize)
    model, optimizer = _model(params, mapping)
    augment: Any = params.augment
    train_dataset = SegmentationDataset(train_pairs, classes, preprocessing, augment, params.seed)
    val_dataset = SegmentationDataset(val_pairs, classes, preprocessing, None, params.seed)
    loss_name = resolved_loss(params.loss)
    started = time.perf_counter()
    keys = [(0, index) for index in range(len(val_dataset))]
    val_batches: Any = DataLoader(val_dataset, batch_size=params.batch_size, sampler=keys, num_workers=2)
    mious, rates, ends = [], [], []
    generator = torch.Generator().manual_seed(params.seed)
    steps_an_epoch = len(train_dataset) // params.batch_size
    for epoch in range(params.epochs):
        order = [(epoch, index) for index in torch.randperm(len(train_dataset), generator=generator).tolist()]
        batches: Any = DataLoader(
            train_dataset, batch_size=params.batch_size, sampler=order, num_workers=2, drop_last=True
        )
        epoch_started = time.perf_counter()
        model.train()
        for batch, (images, target) in enumerate(batches):
            step = epoch * steps_an_epoch + batch
            warmup = round(params.warmup_epochs * steps_an_epoch)
            set_lr(optimizer, params.lr * lr_factor(step, params.epochs * steps_an_epoch, warmup, params.schedule))
            output = model(normalized(images, preprocessing).contiguous())
            torch.autograd.backward(segmentation_loss(output, target, loss_name))
            optimizer.step()
            optimizer.zero_grad()
        rates.append(steps_an_epoch * params.batch_size / (time.perf_counter() - epoch_started))
        model.eval()
        confusion = torch.zeros(classes, classes, dtype=torch.int64)
        with torch.no_grad():
            for images, target in val_batches:
                confusion += batch_confusion(
                    target, predicted_labels(model(normalized(images, preprocessing))), classes
                )
        mious.append(scores(confusion.numpy(), mapping.classes).miou or 0.0)
        ends.append(time.perf_counter() - started)
    return {"images_per_second": float(np.median(rates[1:] or rates)), "mious": mious, "ends": ends}


CONTENDERS = {"ours": ours, "bare": bare, "plain": plain}


def measured(contender: str, params: TrainParams, script: str = __file__, **environment: str) -> dict[str, Any]:
    """Return the result of a contender of `script` that runs in its own process."""
    command = [sys.executable, script, "--contender", contender, msgspec.json.encode(params).decode()]
    finished = subprocess.run(command, check=True, capture_output=True, env={**os.environ, **environment})
    result: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, help="default: that of params.yaml")
    parser.add_argument("--arch", help="default: that of params.yaml")
    parser.add_argument("--contender", nargs=2, metavar=("NAME", "PARAMS"), help="for internal use")
    arguments = parser.parse_args()
    need_run("images", "masks", "splits")
    if arguments.contender:
        name, text = arguments.contender
        print(json.dumps(CONTENDERS[name](msgspec.json.decode(text, type=TrainParams))))
        return
    params = load_params(TrainParams)
    changes = {key: value for key in ("epochs", "arch") if (value := getattr(arguments, key))}
    params = msgspec.structs.replace(params, **changes)
    print(f"{params.arch}, {params.image_size_px} px, batches of {params.batch_size}, {params.epochs} epochs")
    results = {name: measured(name, params) for name in CONTENDERS}
    results["ours, 2 processes"] = measured("ours", params, COCOSEG_DEVICES="2")
    own = results["ours"]["images_per_second"]
    for name, result in results.items():
        rate = result["images_per_second"]
        print(f"train    {name:20}{rate:8.1f} images/s   ours is {own / rate:.2f}×")
    for name in ("ours", "bare"):
        rate = results[name]["val_images_per_second"]
        print(
            f"validate {name:20}{rate:8.1f} images/s   ours is {results['ours']['val_images_per_second'] / rate:.2f}×"
        )
    goal = results["plain"]["mious"][-1]
    ours_seconds = results["ours"]["seconds"] / params.epochs
    reached = next((n for n, miou in enumerate(results["ours"]["mious"], start=1) if miou >= goal), None)
    text = f"{reached * ours_seconds:.0f} s, in epoch {reached}" if reached else f"not in {params.epochs} epochs"
    best = max(results["ours"]["mious"])
    ends = results["plain"]["ends"][-1]
    print(f"validation mIoU {goal:.3f}, where plain ends after {ends:.0f} s: ours {text}; its best {best:.3f}")


if __name__ == "__main__":
    main()
