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

- *The gate* (`compare --fail-if worse`) and *the ranking* (`cocoseg rank`), on simulated runs of 100 images, three
  seeds each: how often does the gate close if only the seed differs, and if the new side is worse by twice the smallest
  difference that the claim calls detectable? In sweeps of twelve settings without an effect, how often is any called
  better than another, and the best in test better than the base; beside it, if `compare` judges these two alone? Once
  with seeds that scatter alike, and once with one setting, the new one, whose seeds scatter three times as far.

    uv run benchmarks/calibration.py --simulated      these alone, without `dvc repro` and training

Every rate has its 95 % interval: Wilson's if the trials are independent; for groupings, which share their models, the
jackknife over models.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

sys.path[:0] = [str(Path(__file__).parents[1] / "src"), str(Path(__file__).parent)]
from train import DATA, need_run, run_data, sides

from cocoseg.commands.compare.claims import Claim, change_claim, checkpoint_claim
from cocoseg.commands.compare.gate import judged
from cocoseg.commands.compare.ranking import all_pairs
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


NAMES = ("background", "a", "b", "c", "d")
SCATTER = 0.03  # the standard deviation over seeds of the share of hits
SCATTERS = {"all seeds scatter alike": SCATTER, "those of one three times as far": 3 * SCATTER}


def simulated(
    chance: np.random.Generator, settings: Sequence[tuple[float, float]], images: int = 100
) -> list[list[Counts]]:
    """Return three runs of each setting, given as the mean and the standard deviation over seeds of the share of hits.

    Each class is in two of five images. Images are easy or hard for every run, or for every seed of a setting, and the
    rest is the chance of a seed and an image.
    """
    shown = chance.random((images, len(NAMES) - 1)) < 0.4
    target = 200 * shown
    ease = 0.15 * chance.standard_normal(shown.shape)
    found = []
    for mean, scatter in settings:
        of_setting = ease + 0.05 * chance.standard_normal(shown.shape)
        runs = []
        for _ in range(3):
            share = mean + scatter * chance.standard_normal() + of_setting + 0.05 * chance.standard_normal(shown.shape)
            hits = np.rint(target * np.clip(share, 0, 1)).astype(np.int64)
            wrong = np.rint(40 * chance.random(shown.shape)).astype(np.int64)  # background taken for this class
            background = np.stack(
                [np.full(images, 1000), 1000 - wrong.sum(1) + (target - hits).sum(1), 1000 - wrong.sum(1)], axis=-1
            )
            runs.append(np.concatenate([background[:, None], np.stack([target, hits + wrong, hits], axis=-1)], axis=1))
        found.append(runs)
    return found


def gate(repeats: int, samples: int) -> None:
    """Print how often the gate closes on changes without an effect, and on drops of twice the detectable difference."""
    print(
        f"the gate, {repeats} changes each{'':17}{'closes wrongly':26}{'closes on the drop':26}undetermined without one"
    )
    for words, scatter in SCATTERS.items():
        chance = np.random.default_rng(2)

        def claims(drop: float, chance: np.random.Generator = chance, scatter: float = scatter) -> Iterator[Claim]:
            for _ in range(repeats):
                base, new = simulated(chance, [(0.6, SCATTER), (0.6 - drop, scatter)])
                yield change_claim(base, new, NAMES, "miou", 0.01, samples)

        null = list(claims(0.0))
        twice = 2 * float(np.mean([own.smallest_difference or 0.0 for own in null]))
        ((higher, lower),) = [
            [np.mean([miou(run) for run in group]) for group in simulated(chance, [(0.6, 0.0), (0.5, 0.0)], 20_000)]
        ]
        dropped = claims(0.1 * twice / float(higher - lower))
        closed = [judged(own, own, "worse", "change").result == "failed" for own in dropped]
        results = [judged(own, own, "worse", "change").result for own in null]
        wrong, unsure = ([result == which for result in results] for which in ("failed", "undetermined"))
        print(f"  {words:36}{rate(wrong):26}{rate(closed):26}{rate(unsure)}; the drop is {twice:.3f}", flush=True)


def sweeps(repeats: int, samples: int) -> None:
    """Print how often a ranking finds a winner in sweeps without an effect."""
    print(f"the ranking, {repeats} sweeps of 12 settings{'':4}{'any better than another':26}"
          f"{'the best than the base':26}the best than the base, the two alone")  # fmt: skip
    for words, scatter in SCATTERS.items():
        chance = np.random.default_rng(3)
        trials = []
        for _ in range(repeats):
            groups = simulated(chance, [(0.6, SCATTER)] * 11 + [(0.6, scatter)])
            order, pairs = all_pairs(groups, "miou", 0.01, samples)
            base = order.index(0)
            better = {(pair.first, pair.second) for pair in pairs if pair.verdict == "worse"}
            alone = change_claim(groups[0], groups[order[0]], NAMES, "miou", 0.01, samples).primary
            trials.append((bool(better), (0, base) in better, base > 0 and alone.verdict == "better"))
        rates = "".join(f"{rate(column):26}" for column in zip(*trials, strict=True))
        print(f"  {words:36}{rates}", flush=True)


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
    parser.add_argument("--simulated", action="store_true", help="measure the gate and the ranking alone")
    arguments = parser.parse_args()
    gate(arguments.repeats, arguments.samples)
    sweeps(max(1, arguments.repeats // 2), arguments.samples)
    if arguments.simulated:
        return
    runs, names = retrained(arguments.seeds, arguments.images, arguments.epochs, arguments.kept)
    changes(runs, names, arguments.repeats, arguments.samples)
    ranked = sorted(runs, key=miou)
    checkpoints(ranked[len(runs) // 3], ranked[2 * len(runs) // 3], names, arguments.repeats, arguments.samples)


if __name__ == "__main__":
    main()
