"""Time the evaluation: `uv run dvc repro && uv run --with torchmetrics benchmarks/evaluate.py`.

- ours and the bare forward pass: ours decodes, predicts and counts the test side at its original size, writes the
  predictions, and scores and draws them; the forward pass is the model alone on the same batches, with logits resized
  and turned into labels
- the confusion matrix, ours and torchmetrics' `MulticlassConfusionMatrix`, on the same label maps
- 10,000 paired resamples over 5,000 images and 81 classes: seconds and memory
"""

import importlib.util
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)]
from train import DATA, need_run

from cocoseg.coco.categories import CategoryMapping
from cocoseg.core.files import read_json, read_lines
from cocoseg.core.params import load_params
from cocoseg.evaluate.evaluation import evaluate, evaluation_metrics, iou_rows
from cocoseg.evaluate.galleries import galleries
from cocoseg.evaluate.iou_bars import iou_bars
from cocoseg.evaluate.params import EvaluateParams
from cocoseg.evaluate.restore import original_logits
from cocoseg.images.pairs import Pair, pairs, read_pair
from cocoseg.images.png import encode_png
from cocoseg.model.preprocessing import normalized, placed_image, placement, predicted_labels
from cocoseg.model.weights import ModelInfo, load_checkpoint
from cocoseg.scores.bootstrap import resampled
from cocoseg.scores.confusion import confusion_matrix
from cocoseg.train.validation import batch_confusion


def seconds(task: Callable[[], object], repeats: int = 3) -> float:
    """Return the median time of several runs, after one to warm up."""
    task()
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        task()
        taken.append(time.perf_counter() - started)
    return float(np.median(taken))


def passes(model: nn.Module, info: ModelInfo, chosen: list[Pair], predictions: Path) -> tuple[float, float]:
    """Return the seconds of the bare forward passes of a side, and of its whole evaluation."""
    device = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    preprocessing = info.preprocessing
    batches = []
    for start in range(0, len(chosen), 16):
        decoded = [read_pair(pair, len(info.classes)) for pair in chosen[start : start + 16]]
        places = [
            placement(mask.shape[0], mask.shape[1], preprocessing.image_size_px, preprocessing.resize)
            for _, mask in decoded
        ]
        images = [
            placed_image(torch.from_numpy(image).permute(2, 0, 1), place)
            for (image, _), place in zip(decoded, places, strict=True)
        ]
        batches.append((torch.stack(images).to(device), places))

    def forward() -> None:
        bare = model.to(device).to(memory_format=torch.channels_last).eval()
        with torch.inference_mode():
            for images, places in batches:
                logits = bare(normalized(images, preprocessing)).float()
                for own, place in zip(logits, places, strict=True):
                    predicted_labels(original_logits(own, place)).cpu().numpy()

    return seconds(forward), seconds(lambda: evaluate(model, info, chosen, predictions))


def side() -> None:
    """Print the time of a whole evaluation and of its forward passes."""
    mapping = read_json(DATA / "category_mapping.json", CategoryMapping)
    mask_map = read_json(DATA / "image_mask_map.json", dict[str, str])
    chosen = pairs(read_lines(DATA / "splits/test.txt"), mask_map, DATA / "images", DATA / "masks")
    model, info = load_checkpoint(DATA / "model")
    params = load_params(EvaluateParams)
    with tempfile.TemporaryDirectory() as name:
        predictions = Path(name)
        result = evaluate(model, info, chosen, predictions)

        def drawn() -> None:
            metrics = evaluation_metrics(result, params, info, "test", {})
            encode_png(iou_bars(iou_rows(metrics)))
            for _, picture in galleries(chosen, predictions, result.per_image, mapping.classes, params.gallery_images):
                encode_png(picture)

        (bare, ours), pictures = passes(model, info, chosen, predictions), seconds(drawn)
    print(f"{len(chosen)} images: bare forward pass {bare:.2f} s; ours {ours:.2f} s, {bare / ours:.2f} of its speed;")
    print(f"  scores, intervals and pictures {pictures:.2f} s more")


def confusion() -> None:
    """Print the milliseconds for the confusion matrix of sixteen label maps."""
    from torchmetrics.classification import MulticlassConfusionMatrix

    chance = np.random.default_rng(0)
    for classes in (6, 81):
        target = chance.integers(0, classes, (16, 480, 640)).astype(np.uint8)
        target[:, :20] = 255
        prediction = chance.integers(0, classes, target.shape).astype(np.uint8)
        peer = MulticlassConfusionMatrix(classes, ignore_index=255, validate_args=False)
        tensors = torch.from_numpy(prediction), torch.from_numpy(target)
        theirs = seconds(partial(peer.update, *tensors))
        on_maps = seconds(partial(confusion_matrix, target, prediction, classes))
        on_tensors = seconds(partial(batch_confusion, tensors[1], tensors[0], classes))
        print(f"confusion, {classes} classes, 16 maps of 640×480: torchmetrics {1000 * theirs:.0f} ms; in evaluation")
        print(f"  {1000 * on_maps:.0f} ms, {theirs / on_maps:.1f}×; in validation {1000 * on_tensors:.0f} ms, "
              f"{theirs / on_tensors:.1f}×")  # fmt: skip


def resamples() -> None:
    """Print the time and memory of the paired bootstrap."""
    chance = np.random.default_rng(0)
    target = chance.integers(0, 300_000, (5000, 81)) * (chance.random((5000, 81)) < 0.04)
    totals = np.stack([target, target, target // 2], axis=-1)
    started = time.perf_counter()
    resampled([totals, totals], 10_000)
    taken = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"10,000 paired resamples of 5,000 images, 81 classes: {taken:.1f} s; the process at most {peak:.0f} MB")


if __name__ == "__main__":
    need_run("images", "masks", "splits", "model")
    if importlib.util.find_spec("torchmetrics") is None:
        sys.exit("torchmetrics, the peer, is missing; run: uv run --with torchmetrics benchmarks/evaluate.py")
    resamples()  # first: memory taken by the others would count as its own
    confusion()
    side()
