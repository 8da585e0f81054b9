"""Measure how often the verdicts of `cocoseg compare` are wrong.

    uv run dvc repro && uv run benchmarks/calibration.py

- *These checkpoints on these images*: the per-image counts of two real models on the test side are the population, from
  which test sides of several sizes are drawn many times. Coverage is how often the 95 % interval contains the
  difference of the population, and how often the interval of one model contains its score. False alarms are how often
  the interval of the difference excludes 0 after the two models are swapped at random in each image, so that they do
  not differ; and how often the interval of any class does.
- *This change*: retrainings on a small sample that differ only in the seed, grouped at random into three against three.
  False alarms are how often the interval excludes 0. Beside it: the same for the claim about two checkpoints, if it is
  mistaken for a claim about the change.

Every rate has its 95 % interval: Wilson's if the trials are independent; for groupings, which share their models, the
jackknife over models.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)]
from train import DATA, need_run, run_data, sides

from cocoseg.commands.compare.claims import change_claim, checkpoint_claim
from cocoseg.core.files import read_json, read_lines
from cocoseg.core.params import load_params
from cocoseg.evaluate.evaluation import evaluate
from cocoseg.images.pairs import pairs
from cocoseg.model.weights import load_checkpoint
from cocoseg.scores.bootstrap import interval, resampled
from cocoseg.scores.confusion import summary_scores
from cocoseg.scores.per_image import image_totals
from cocoseg.train.loop import train
from cocoseg.train.params import TrainParams

Counts = NDArray[np.int64]

SIZES = (24, 100, 500, 5000)


def retrained(seeds: int, images: int, epochs: int, kept: Path) -> tuple[list[Counts], tuple[str, ...]]:
    """Return the totals per test image of models that differ in the seed; read from `kept` what is already there."""
    need_run("images", "masks", "splits")
    mapping, train_pairs, val_pairs = sides()
    mask_map = read_json(DATA / "image_mask_map.json", dict[str, str])
    test_pairs = pairs(read_lines(DATA / "splits/test.txt"), mask_map, DATA / "images", DATA / "masks")
    base = msgspec.structs.replace(load_params(TrainParams), epochs=epochs, image_size_px=64, warmup_epochs=0.5)
    found = []
    for seed in range(seeds):
        path = kept / f"{images}-{epochs}-{seed}.npy"
        if not path.is_file():
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                os.environ["COCOSEG_CACHE"] = str(folder / "cache")
                params = msgspec.structs.replace(base, seed=seed)
                chosen = (train_pairs[:images], val_pairs[:32])
                cost = train(params, run_data(mapping, *chosen), folder / "model", folder / "live")
                if cost is None:
                    sys.exit()
                model, info = load_checkpoint(folder / "model")
                result = evaluate(model, info, test_pairs, folder / "predictions")
            totals = image_totals(result.per_image, mapping.classes, "per_image")
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, np.stack(list(totals.values())))
        found.append(np.load(path))
    return found, mapping.classes


def miou(totals: Counts) -> float:
    """Return the mIoU of the whole side."""
    return float(summary_scores(totals.sum(axis=0))["miou"])


def rate(hits: Sequence[bool]) -> str:
    """Return the share of hits, with its interval."""
    test = binomtest(sum(hits), len(hits)).proportion_ci(method="wilson")
    return f"{np.mean(hits):6.1%} ({test.low:.1%} to {test.high:.1%})"


def jackknife_rate(hits: Sequence[bool], members: Sequence[NDArray[np.int64]], models: int) -> str:
    """Return the share of hits among groupings, with the jackknife interval over the `models`."""
    found = np.array(hits, dtype=float)
    without = [float(np.mean([hit for hit, own in zip(found, members, strict=True) if model not in own]))
               for model in range(models)]  # fmt: skip
    error = float(np.sqrt((models - 1) * np.var(without)))
    low, high = (min(1.0, max(0.0, found.mean() + side * 1.96 * error)) for side in (-1, 1))
    return f"{found.mean():6.1%} ({low:.1%} to {high:.1%})"


def checkpoints(first: Counts, second: Counts, names: Sequence[str], repeats: int, samples: int) -> None:
    """Print coverage and false alarms of the claim about two checkpoints."""
    chance = np.random.default_rng(0)
    truth = miou(second) - miou(first)
    print(f"two checkpoints, true difference {truth:+.4f}; {repeats} test sides of each size")
    print(f"{'images':>8}  {'coverage':26}{'of one model':26}{'false alarms':26}{'of any class':26}")
    for size in SIZES:
        trials: list[tuple[bool, bool, bool, bool]] = []
        for _ in range(max(50, repeats // 4) if size > 1000 else repeats):
            drawn = chance.integers(0, len(first), size)
            claim = checkpoint_claim(first[drawn], second[drawn], names, "miou", 0.0, samples).primary
            covered = claim.low is not None and claim.high is not None and claim.low <= truth <= claim.high
            (one_model,) = resampled([first[drawn]], samples)
            own = miou(first[drawn]) if one_model.loses_classes() else None
            low, high = interval(one_model.scores["miou"], size, own)
            swapped = chance.random(size)[:, None, None] < 0.5
            one = np.where(swapped, second[drawn], first[drawn])
            other = np.where(swapped, first[drawn], second[drawn])
            null = checkpoint_claim(one, other, names, "miou", 0.0, samples)
            alarms = [own.verdict in ("better", "worse") for own in (null.primary, *null.classes)]
            trials.append((covered, low <= miou(first) <= high, alarms[0], any(alarms[1:])))
        rates = "".join(f"{rate(column):26}" for column in zip(*trials, strict=True))
        print(f"{size:8}  {rates}", flush=True)


def changes(runs: Sequence[Counts], names: Sequence[str], repeats: int, samples: int) -> None:
    """Print false alarms of the claim about a change, and of the naive one, if only the seed differs."""
    chance = np.random.default_rng(1)
    scores = [miou(run) for run in runs]
    print(f"{len(runs)} retrainings: test mIoU {np.mean(scores):.4f}, standard deviation {np.std(scores, ddof=1):.4f}")
    alarms, naive, widths, members = [], [], [], []
    for _ in range(repeats):
        order = chance.permutation(len(runs))[:6]
        members.append(order)
        base, new = [runs[index] for index in order[:3]], [runs[index] for index in order[3:]]
        claim = change_claim(base, new, names, "miou", 0.0, samples).primary
        alarms.append(claim.verdict in ("better", "worse"))
        widths.append((claim.high or 0) - (claim.low or 0))
        pair = checkpoint_claim(base[0], new[0], names, "miou", 0.0, samples).primary
        naive.append(pair.verdict in ("better", "worse"))
    width = np.mean(widths)
    print(
        f"three seeds against three, {repeats} groupings: false alarms {jackknife_rate(alarms, members, len(runs))}; "
        f"interval {width:.3f} wide"
    )
    print(f"naive, two checkpoints taken for the change:    false alarms {jackknife_rate(naive, members, len(runs))}")


def main() -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=42)
    parser.add_argument("--images", type=int, default=128, help="training images of each retraining")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=400)
    parser.add_argument("--samples", type=int, default=1000, help="resamples of each interval")
    parser.add_argument(
        "--kept", type=Path, default=Path("calibration"), help="folder that keeps the counts of each model"
    )
    arguments = parser.parse_args()
    runs, names = retrained(arguments.seeds, arguments.images, arguments.epochs, arguments.kept)
    changes(runs, names, arguments.repeats, arguments.samples)
    ranked = sorted(runs, key=miou)
    checkpoints(ranked[len(runs) // 3], ranked[2 * len(runs) // 3], names, arguments.repeats, arguments.samples)


if __name__ == "__main__":
    main()
