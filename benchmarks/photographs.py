"""Compare a recipe with the defaults and with torchvision's: `uv run python benchmarks/photographs.py DATA`.

DATA is a folder with instances.json and images/, in COCO's format. In a clone in a temporary folder, each of the three
trains with two seeds, all with the same images, split, network, first weights, image size, batch size and epochs, and
each keeps its best epoch in validation. The recipe is a line of docs/recipes.md. torchvision's is that of its
references/segmentation: SGD, poly, cross-entropy, random size, flip and crop, float32, here in a loop of our own.

Prints the scores of the test side and the training images per second, and draws the curves of validation. Binary tasks
have Dice at a threshold of 0.5 and at validation's best, each with the share of images without an object of which more
than 1 % is called foreground. Where this machine has no pretrained weights, all start from scratch, the recipe with an
`lr` of 0.001.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import torch
import torch.nn.functional as F
from ruamel.yaml import YAML
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]
from clones import Clone, clone

from cocoseg import paths
from cocoseg.coco.categories import IGNORE
from cocoseg.core.errors import CocosegError
from cocoseg.core.params import load_params
from cocoseg.images.pairs import Pair, SplitFiles, read_pair
from cocoseg.images.png import encode_png
from cocoseg.model.architectures import build_model
from cocoseg.model.preprocessing import Preprocessing
from cocoseg.model.weights import save_checkpoint
from cocoseg.scores.charts import BLUE, INK, VERMILION, rendered
from cocoseg.scores.formats import number
from cocoseg.train.dataset import validation_side
from cocoseg.train.devices import launched_fabric
from cocoseg.train.learner import Learner
from cocoseg.train.params import TrainParams
from cocoseg.train.run_data import read_run_data
from cocoseg.train.selection import epoch_score
from cocoseg.train.validation import validate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = {"recipe": BLUE, "defaults": INK, "torchvision": VERMILION}
# What a recipe may choose for itself; all else is the same for the three.
OWN = {*TrainParams.__struct_fields__} - {
    "task", "arch", "encoder", "pretrained", "initial_weights", "image_size_px", "batch_size", "epochs", "exif", "seed",
    "primary_score",
}  # fmt: skip
BINARY_COLUMNS = f"{'Dice':>8}{'false':>8}{'threshold':>10}{'Dice':>8}{'false':>8}"
FROM_SCRATCH = {"pretrained": "none", "lr": 0.001, "encoder_lr_factor": 1.0, "freeze_encoder_epochs": 0}


def recipe_values(heading: str) -> dict[str, Any]:
    """Return what the line below a heading of docs/recipes.md sets."""
    page = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    found = re.search(rf"^## {re.escape(heading)}$.*?^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    if found is None:
        sys.exit(f"docs/recipes.md has no heading {heading!r}")
    return values(word for word in shlex.split(found[1].replace("\\\n", " ")) if "=" in word)


def values(assignments: Iterator[str] | list[str]) -> dict[str, Any]:
    """Return what assignments such as lr=0.001 set, read as YAML 1.2."""
    pairs = (assignment.split("=", 1) for assignment in assignments)
    return {key: YAML(typ="safe", pure=True).load(value) for key, value in pairs}


class Photographs(Dataset[tuple[Tensor, Tensor]]):
    """The training side as torchvision's reference reads it: decoded each time, at a random size, flipped, cropped."""

    def __init__(self, pairs: Sequence[Pair], classes: int, preprocessing: Preprocessing) -> None:
        self.pairs, self.classes = pairs, classes
        size = preprocessing.image_size_px
        base = size * 520 // 480  # its sizes, in proportion
        self.transforms = v2.Compose([
            v2.RandomResize(base // 2, base * 2, antialias=True),
            v2.RandomHorizontalFlip(),
            v2.RandomCrop(size, pad_if_needed=True, fill={tv_tensors.Image: 0, tv_tensors.Mask: IGNORE}),
            v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}, scale=True),
            v2.Normalize(preprocessing.mean, preprocessing.std),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, mask = read_pair(self.pairs[index], self.classes)
        pixels = tv_tensors.Image(torch.from_numpy(image).permute(2, 0, 1))
        drawn: tuple[Tensor, Tensor] = self.transforms(pixels, tv_tensors.Mask(torch.from_numpy(mask)))
        return drawn


def cross_entropy(output: Tensor | tuple[Tensor, Tensor], target: Tensor) -> Tensor:
    """Return the loss of the reference; an auxiliary head counts half."""
    if isinstance(output, tuple):
        return cross_entropy(output[0], target) + 0.5 * cross_entropy(output[1], target)
    if output.shape[1] == 1:  # a softmax over this and 0 is its sigmoid
        output = torch.cat([torch.zeros_like(output), output], dim=1)
    return F.cross_entropy(output, target, ignore_index=IGNORE)


def torchvision_run(seed: int, folder: Path) -> tuple[list[float], float]:
    """Train by the reference, leave the best epoch in `folder`, and return the curve and the images per second."""
    params = msgspec.structs.replace(load_params(TrainParams), seed=seed, resize="short_side", loss="ce")
    sides = SplitFiles(splits=paths.SPLITS, mask_map=paths.IMAGE_MASK_MAP, images=paths.IMAGES,
                       image_table=paths.IMAGE_TABLE, masks=paths.MASKS)  # fmt: skip
    data = read_run_data(sides, paths.CATEGORY_MAPPING, paths.IMAGE_TABLE, paths.MASK_TABLE, "none", "uniform")
    fabric = launched_fabric(params)
    learner = Learner(params, data, fabric)
    model, classes = learner.model, learner.classes
    val = validation_side(data.val, learner.preprocessing, classes, params, fabric).loader
    workers = 0 if os.environ.get("COCOSEG_WORKERS") == "1" else min(16, len(os.sched_getaffinity(0)))
    batches = DataLoader(
        Photographs(data.train, len(classes), learner.preprocessing), params.batch_size, shuffle=True,
        drop_last=len(data.train) > params.batch_size, num_workers=workers, persistent_workers=workers > 0,
    )  # fmt: skip
    auxiliary = [weight for name, weight in model.named_parameters() if "aux_classifier" in name]
    others = [weight for name, weight in model.named_parameters() if "aux_classifier" not in name]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": auxiliary, "lr": 0.1}]
    optimizer = torch.optim.SGD(groups, lr=0.01, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.PolynomialLR(optimizer, params.epochs * len(batches), power=0.9)
    curve, rates, best = [], [], (-1.0, 0.0)
    for epoch in range(1, params.epochs + 1):
        started = time.perf_counter()
        model.train()
        for images, target in batches:
            optimizer.zero_grad()
            loss = cross_entropy(model(images.to(fabric.device)), target.to(fabric.device))
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        rates.append(len(data.train) / (time.perf_counter() - started))
        found = validate(learner, val)
        judged = epoch_score(found.confusion, found.histogram, learner.primary_score, classes)
        curve.append(judged.value)
        if judged.rank > best:
            best = judged.rank
            save_checkpoint(folder, model, learner.info(epoch, judged))
    return curve, sum(rates[1:] or rates) / len(rates[1:] or rates)


def our_run(repository: Clone, name: str, changes: dict[str, Any], folder: Path) -> tuple[list[float], float]:
    """Train with `dvc exp run`, copy the model to `folder`, and return the curve and the images per second."""
    told = [word for key, value in changes.items() for word in ("-S", f"{key}={json.dumps(value)}")]
    run(repository, sys.executable, "-m", "dvc", "exp", "run", "--quiet", "--name", name, *told)
    shutil.copytree(repository.folder / "data/model", folder)
    info = json.loads((folder / "model.json").read_bytes())
    table = repository.folder / f"metrics/train/plots/metrics/val/{info['primary_score']}.tsv"
    curve = [float(line.split("\t")[1]) for line in table.read_text().splitlines()[1:]]
    timing = json.loads((repository.folder / "metrics/timing/train.json").read_bytes())
    return curve, timing["train_images_per_second"]


def run(repository: Clone, *command: str) -> str:
    """Run a command in the clone, however long it takes, and return its output."""
    finished = subprocess.run(command, cwd=repository.folder, stdout=subprocess.PIPE, text=True, check=True)
    return finished.stdout


def scored(repository: Clone, model: Path, threshold: float | str) -> dict[str, Any]:
    """Return the scores of the test side, with foreground above this threshold."""
    repository.set_params(threshold=threshold)
    result: dict[str, Any] = json.loads(
        run(repository, sys.executable, "-m", "cocoseg", "evaluate", "--model", str(model), "--side", "test")
    )
    return result


def row(repository: Clone, name: str, model: Path, rate: float) -> str:
    """Return a line of the table."""
    even = scored(repository, model, 0.5)
    line = f"{name:15}{even[even['primary_score']]:>10.3f}"
    if "threshold" in even:
        best = scored(repository, model, "auto")
        shares = [found.get("images_without_object", {}).get("above_1_percent") for found in (even, best)]
        line += f"{even['foreground_dice']:>8.3f}{number(shares[0], '.2f'):>8}"
        line += f"{best['threshold']:>10.3f}{best['foreground_dice']:>8.3f}{number(shares[1], '.2f'):>8}"
    repository.git("checkout", "--quiet", "params.yaml")
    return f"{line}{rate:>10.1f}"


def draw_curves(curves: dict[tuple[str, int], list[float]], path: Path) -> None:
    """Draw the curve of each run in validation, one color for each of the three."""

    def draw(figure: "Figure") -> None:
        axes = figure.subplots()
        for (line, seed), curve in curves.items():
            style = ("-", "--", ":")[seed % 3]
            axes.plot(range(1, len(curve) + 1), curve, style, color=COLORS[line], label=f"{line}, seed {seed}")
        axes.set(xlabel="epoch", ylabel="score in validation", ylim=(0, None))
        axes.legend(frameon=False)

    path.write_bytes(encode_png(rendered(draw, height_px=400)))


def main() -> None:
    """Print the table, and draw the curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("-S", action="append", default=[], metavar="KEY=VALUE", help="over the recipe; may be repeated")
    parser.add_argument("--recipe", default="Photographs, laptop", help="the heading of its line")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--curves", type=Path, default=Path("photographs.png"), help="the picture to write")
    options = parser.parse_args()
    data, picture = options.data.resolve(), options.curves.resolve()
    os.environ["COCOSEG_DEVICES"] = "1"
    changes = values(options.S)
    wanted = recipe_values(options.recipe) | changes
    with tempfile.TemporaryDirectory() as name:
        repository = clone(Path(name) / "clone", params={})
        os.chdir(repository.folder)  # where the parameters and the data of the reference are
        all_values = load_params(TrainParams)
        arch, encoder = (wanted.get(key, getattr(all_values, key)) for key in ("arch", "encoder"))
        try:
            build_model(arch, encoder, wanted.get("pretrained", "none"), 1)
        except CocosegError as error:
            print(f"from scratch: {error}")
            wanted |= FROM_SCRATCH | changes | {"pretrained": "none"}
        own = {key: value for key, value in wanted.items() if key in OWN}
        repository.set_params(
            dataset="custom", annotations=str(data / "instances.json"), images=str(data / "images"),
            max_instances=None, split_rule="exact", gallery_images=0,
        )  # fmt: skip
        repository.set_params(**{key: value for key, value in wanted.items() if key not in OWN})
        repository.commit("the data")
        print(f"recipe: {own}", flush=True)
        draw_curves(dict(compared(repository, own, options.seeds)), picture)


def compared(repository: Clone, own: dict[str, Any], seeds: int) -> Iterator[tuple[tuple[str, int], list[float]]]:
    """Train each of the three with each seed, print its scores, and yield its name, its seed and its curve."""
    binary = load_params(TrainParams).task == "binary"
    print(f"{'':15}{'score':>10}{BINARY_COLUMNS if binary else ''}{'images/s':>10}")
    for seed in range(seeds):
        for name in COLORS:
            model = repository.folder.parent / f"{name}-{seed}"
            if name == "torchvision":
                curve, rate = torchvision_run(seed, model)
            else:
                curve, rate = our_run(repository, model.name, (own if name == "recipe" else {}) | {"seed": seed}, model)
            print(row(repository, f"{name}, {seed}", model, rate), flush=True)
            yield (name, seed), curve


if __name__ == "__main__":
    try:
        main()
    except subprocess.CalledProcessError as error:
        sys.exit(f"{error.cmd}: exit {error.returncode}")
