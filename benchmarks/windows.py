"""Time `resize: crop`: `uv run python benchmarks/windows.py`; `--help` lists the sizes.

Two ratios of speed. Both sides of each run in turns within one process, so that what else the machine does meets both:

- an epoch of the stage `train` on crops, against as many of the same steps on crops that are ready in memory
- the labels of images by windows, as `evaluate` and `predict` find them, against the forward passes that they take
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch
from tqdm import tqdm

sys.path[:0] = [str(Path(__file__).parents[1] / folder) for folder in ("src", "tests")]
from small_data import MULTICLASS, write_pairs

from cocoseg.core.params import load_params
from cocoseg.evaluate.prediction import joined_labels, predict_logits
from cocoseg.evaluate.restore import original_labels
from cocoseg.images.pairs import Pair, read_pair
from cocoseg.model.preprocessing import normalized
from cocoseg.model.windows import window_starts
from cocoseg.train import loop
from cocoseg.train.dataset import training_side
from cocoseg.train.devices import launched_fabric
from cocoseg.train.learner import Learner, Progress
from cocoseg.train.losses import segmentation_loss
from cocoseg.train.params import TrainParams
from cocoseg.train.run_data import RunData
from cocoseg.train.selection import epoch_score


def in_turns(ours: Callable[[], object], bare: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Return the median seconds of both, and the median of the ratios bare / ours, each of one round."""
    taken = []
    for number in range(rounds + 1):
        own = []
        for task in (ours, bare) if number % 2 else (bare, ours):
            started = time.perf_counter()
            task()
            own.append(time.perf_counter() - started)
        if number:  # the first warms up
            taken.append(own if number % 2 else own[::-1])
    seconds = np.median(taken, axis=0).tolist()
    return seconds[0], seconds[1], float(np.median([bare / ours for ours, bare in taken]))


def training(learner: Learner, pairs: Sequence[Pair], rounds: int) -> None:
    """Print the speed of epochs on crops."""
    params = learner.params
    side = training_side(pairs, learner.preprocessing, learner.classes, params, learner.fabric)
    progress, bar = Progress(), tqdm(disable=True)
    ready = [batch for batch, _ in zip(side.loader, range(4), strict=False)]

    def ours() -> None:
        progress.epochs += 1
        loop._train_epoch(learner, side, progress, bar)

    def bare() -> None:
        for batch in range(len(side.loader)):
            images, target = ready[batch % len(ready)]
            output = learner.network(normalized(images, learner.preprocessing))
            learner.fabric.backward(segmentation_loss(output, target, learner.loss))
            learner.step()

    seconds, bare_seconds, ratio = in_turns(ours, bare, rounds)
    crops = sum(side.sampler.sizes())
    print(f"train: {crops / seconds:.1f} crops/s, the bare step {crops / bare_seconds:.1f}: {ratio:.2f}")


def prediction(learner: Learner, pairs: Sequence[Pair], rounds: int) -> None:
    """Print the speed of prediction by windows."""
    params, model = learner.params, learner.model.eval()
    info = learner.info(1, epoch_score(np.eye(3, dtype=np.int64), None, "miou", learner.classes))
    images = [(None, read_pair(pair, len(learner.classes))[0]) for pair in pairs]
    windows = sum(
        len(window_starts(image.shape[0], params.image_size_px))
        * len(window_starts(image.shape[1], params.image_size_px))
        for _, image in images
    )
    size = params.batch_size
    ready = normalized(torch.zeros(size, 3, *[params.image_size_px] * 2, dtype=torch.uint8), learner.preprocessing)

    def ours() -> None:
        for one in predict_logits(model, info, images, batch_size=size):
            joined_labels((original_labels(*part) for part in one.parts), one.place.width)

    @torch.inference_mode()
    def bare() -> None:
        for start in range(0, windows, size):
            model(ready[: min(size, windows - start)])

    seconds, bare_seconds, ratio = in_turns(ours, bare, rounds)
    print(
        f"predict: {len(images) / seconds:.2f} images/s, {windows // len(images)} windows each, the bare passes "
        f"{len(images) / bare_seconds:.2f}: {ratio:.2f}"
    )


def main() -> None:
    """Run both measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--side", type=int, default=1024, help="of the images, in pixels")
    parser.add_argument("--size", type=int, default=256, help="of crops and windows")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--arch", default="unet")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    params = msgspec.structs.replace(
        load_params(TrainParams), resize="crop", image_size_px=options.size, batch_size=options.batch,
        arch=options.arch, epochs=options.rounds + 2,
    )  # fmt: skip
    print(f"{params.arch}, crops of {options.size} px from images of {options.side}, batches of {options.batch}")
    with tempfile.TemporaryDirectory() as name:
        pairs = write_pairs(Path(name), options.images, size=options.side)
        data = RunData(mapping=MULTICLASS, train=pairs, val=pairs, class_weights=None, fingerprint="benchmark")
        learner = Learner(params, data, launched_fabric(params))
        training(learner, pairs, options.rounds)
        prediction(learner, pairs, options.rounds)


if __name__ == "__main__":
    main()
