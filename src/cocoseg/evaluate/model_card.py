"""The model card: what a stranger has to know before using a model, each number from the file that measured it.

Mitchell et al. 2019, https://arxiv.org/abs/1810.03993.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tabulate import tabulate

from cocoseg.core.files import read_json, write_bytes
from cocoseg.images.pairs import Sides
from cocoseg.model.weights import ModelInfo

_NAMES = {
    "miou": "mIoU",
    "mean_dice": "mean Dice",
    "foreground_miou": "foreground mIoU",
    "foreground_dice": "foreground Dice",
    "frequency_weighted_iou": "frequency-weighted IoU",
    "pixel_accuracy": "pixel accuracy",
}


_EXIF = {  # what the training images did with an EXIF orientation that their annotated sizes left open
    "auto": "An EXIF orientation was followed in training where the annotated size showed it (`exif: auto`); "
            "`cocoseg predict` follows it always.",
    "follow": "An EXIF orientation was followed in training (`exif: follow`), as `cocoseg predict` does.",
    "ignore": "An EXIF orientation was ignored in training unless the annotated size showed it (`exif: ignore`); "
              "`cocoseg predict` ignores it too.",
}  # fmt: skip

USE_HEADING = "## Use"  # the last: an export has another use
_USE = """In the repository that made it, `cocoseg predict PHOTO --out DIR` predicts, and `cocoseg export --format onnx
--out DIR` leaves PyTorch behind. In Python:

```python
from pathlib import Path
from cocoseg.weights import load_checkpoint

model, info = load_checkpoint(Path("data/model"))  # a torch.nn.Module, and data/model/model.json
```

Time and memory on the machine that made it are in `metrics/timing/`."""


class License(msgspec.Struct, frozen=True, kw_only=True):
    """One license of an annotations file; exporters differ in what they say of it."""

    id: Any = None
    name: Any = None
    url: Any = None


class LicensedImage(msgspec.Struct, frozen=True, kw_only=True):
    """What the card needs to know of an image."""

    file_name: str
    license: Any = None


class DatasetNotes(msgspec.Struct, frozen=True, kw_only=True):
    """What `data/filtered/instances.json` says of where its images come from."""

    info: Any = None
    licenses: Any = None
    images: list[LicensedImage]


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """What was measured after training: `metrics/evaluate.json`, `metrics/split.json`, and the data's own words."""

    metrics: Mapping[str, Any]
    split: Mapping[str, Any]
    source: DatasetNotes
    learnt_from: frozenset[str]
    """File names of the train and val sides."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """What using a model takes, as far as it is the same on every machine."""

    parameters: int
    multiply_adds: int
    """Of one square image of the size that the model was trained at."""


def write_card(
    path: Path,
    info: ModelInfo,
    cost: Mapping[str, Any],
    metrics: Mapping[str, Any],
    sides: Sides,
    split_metrics: Path,
    filtered: Path,
) -> None:
    """Write the model card of a scored model. `cost` is that of `model_cost`, `metrics` those of the scored side."""
    results = Results(
        metrics=metrics,
        split=read_json(split_metrics, dict[str, Any]),
        source=read_json(filtered, DatasetNotes),
        learnt_from=frozenset(pair.file_name for side in ("train", "val") for pair in sides.pairs(side)),
    )
    fixed = Cost(parameters=cost["parameters"], multiply_adds=cost["multiply_adds"])
    write_bytes(path, model_card(info, fixed, results).encode())


def model_card(info: ModelInfo, cost: Cost, results: Results | None) -> str:
    """The card in Markdown; without `results` it says that there are none."""
    encoder = f", {_plain(info.encoder)}" if info.encoder else ""
    parts = [
        f"# {_plain(info.arch)}{encoder}: {len(info.classes) - 1} classes",
        f"Semantic segmentation, `{info.task}`. Weights `{info.weights_sha256[:12]}`. No number here was typed by "
        "hand.",
        "## Data",
        *_data(info, results),
        "## Training",
        *_training(info),
        "## Scores",
        *(_scores(results.metrics) if results else ["Not measured: `dvc repro evaluate` does."]),
        "## Limits",
        _listed(_limits(info, results)),
        "## Cost",
        _cost(cost, info.preprocessing.image_size_px),
        USE_HEADING,
        _USE,
    ]
    return "\n\n".join(parts) + "\n"


def _cost(cost: Cost, size: int) -> str:
    return (
        f"{cost.parameters:,} parameters; {cost.parameters * 4 / 1e6:.1f} MB of float32 weights. "
        f"{cost.multiply_adds / 1e9:.2f} billion multiply-adds for an image of {size} × {size} pixels."
    )


def measured_cost(training: Mapping[str, Any] | None, evaluation: Mapping[str, Any] | None) -> str:
    """What was measured on one machine, of `metrics/timing/`, which no equality is claimed of."""
    said = []
    if training:
        said.append(
            f"Trained in {training['seconds']:.0f} s on {training['device']} in {training['precision']}, "
            f"{training['train_images_per_second']} images/s, at most {training['peak_memory_mb']} MB."
        )
    if evaluation:
        said.append(
            f"One image alone takes {evaluation['milliseconds_per_image']} ms on {evaluation['device']}; predicting "
            f"the scored images took at most {evaluation['peak_memory_mb']} MB."
        )
    return " ".join(said)


def _data(info: ModelInfo, results: Results | None) -> list[str]:
    classes = f"Classes: {', '.join(map(_plain, info.classes))}."
    if results is None:
        counts = f"{info.data.train_images} training and {info.data.val_images} validation images."
        return [classes, counts]
    sides = results.split["sides"]
    rows = [
        [_plain(name), *(side["classes"].get(name, {}).get("images", 0) for side in sides.values())]
        for name in info.classes
    ]
    rows.insert(0, ["all", *(side["images"] for side in sides.values())])
    return [
        f"Source: {_source(results.source.info)}. Fingerprint `{info.data.fingerprint[:12]}`.",
        classes,
        _table(["images that show", *sides], rows),
        "Licenses of the training and validation images:",
        _table(["license", "images"], _licences(results)),
    ]


def _source(info: Any) -> str:
    """What the annotations file says of itself."""
    if not isinstance(info, Mapping):
        return "not stated in the annotations file"
    said = [_plain(info[key]) for key in ("description", "version", "year", "url") if info.get(key)]
    return ", ".join(said) or "not stated in the annotations file"


def _licences(results: Results) -> list[list[Any]]:
    known = {}
    if isinstance(results.source.licenses, Sequence):
        entries = [entry for entry in results.source.licenses if isinstance(entry, Mapping)]
        known = {str(one.id): one for one in (msgspec.convert(entry, License) for entry in entries)}
    learnt_from = [image for image in results.source.images if image.file_name in results.learnt_from]
    counts = Counter(str(image.license) for image in learnt_from if image.license is not None)
    rows: list[list[Any]] = []
    for key, images in sorted(counts.items()):
        said = known.get(key, License(name=f"id {key}"))  # CVAT names an empty one for every image
        words = [_plain(word) for word in (said.name, said.url) if word]
        rows.append([", ".join(words) or "not stated", images])
    if without := len(learnt_from) - counts.total():
        rows.append(["not stated", without])
    return rows


def _training(info: ModelInfo) -> list[str]:
    rows = [[f"`{_plain(key)}`", _value(value)] for key, value in info.params.items()]
    versions = ", ".join(_plain(f"{name} {number}") for name, number in info.versions.items())
    return [
        f"These are the weights of epoch {info.epoch}, counted from 1: the best in validation (mIoU "
        f"{info.val_miou:.3f}).",
        _table(["parameter", "value"], rows),
        f"Made with {versions}.",
    ]


def _scores(metrics: Mapping[str, Any]) -> list[str]:
    ends = metrics["intervals"]
    overall = [
        [words, _number(metrics[name]), _interval(ends.get(name))] for name, words in _NAMES.items() if name in metrics
    ]
    by_class = [
        [_plain(name), _number(iou), _interval(ends["iou"].get(name)), _number(metrics["dice"][name])]
        for name, iou in metrics["iou"].items()
    ]
    baselines = ", ".join(
        f"{name.replace('_', ' ')} {_number(own['miou'])}" for name, own in metrics["baselines"].items()
    )
    return [
        f"On the {metrics['images']} images of the side `{metrics['split']}`, at their own size, with 95 % intervals "
        "over images.",
        _table(["score", "value", "95 % interval"], overall),
        _table(["class", "IoU", "95 % interval", "Dice"], by_class),
        *([f"mIoU to beat: {baselines}."] if baselines else []),
    ]


def _limits(info: ModelInfo, results: Results | None) -> Iterable[str]:
    yield "It knows the classes above; whatever else an image shows is background to it, or mistaken for one of them."
    yield f"It sees an image at {info.preprocessing.image_size_px} pixels (`{info.preprocessing.resize}`): " \
          "what is small then is lost."  # fmt: skip
    if exif := _EXIF.get(info.params.get("exif", "")):
        yield exif
    if str(info.encoder).startswith("mit_"):
        yield "Its encoder comes from weights or code for non-commercial use (NVIDIA's SegFormer)."
    if info.params.get("pretrained") in ("imagenet", "coco"):
        yield f"It starts from {info.params['pretrained']} weights, whose images have terms of their own."
    if results is None:
        return
    metrics = results.metrics
    yield "The scores hold for images like those of the source above; on others it has not been tried."
    if metrics["split"] == "val":
        yield "The scores are of the side that chose the epoch, so they are too good."
    across = results.split.get("near_duplicates", {}).get("across_sides", 0)
    if across:
        yield f"{across} pairs of near-duplicate images lie on different sides."
    seen = metrics.get("seen_in_pretraining") or {}
    if any(seen.values()):
        yield (
            f"Of the scored images {seen['images']} were among those that the COCO weights were trained on, and "
            f"{seen['images_perhaps']} perhaps."
        )
    known = {name: iou for name, iou in metrics["iou"].items() if iou is not None}
    if known:
        weakest = min(known, key=lambda name: known[name])
        yield f"The weakest class is {_plain(weakest)}, with an IoU of {known[weakest]:.3f}."
    untested = [name for name, iou in metrics["iou"].items() if iou is None]
    if untested:
        yield f"Not tested, for no scored image shows them: {', '.join(map(_plain, untested))}."


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(ends: Mapping[str, float] | None) -> str:
    return "–" if ends is None else f"{ends['low']:.3f} to {ends['high']:.3f}"


def _value(value: Any) -> str:
    return "–" if value is None else _plain(value)


def _plain(value: Any) -> str:
    """A stranger's words, on one line and without what Markdown or HTML would take for its own."""
    return "".join("_" if sign in "|<>`[]\n\r" else sign for sign in str(value))[:200]


def _table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
