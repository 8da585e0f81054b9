"""The model card: what to know before using a model. Mitchell et al. 2019, https://arxiv.org/abs/1810.03993.

Every number comes from the file that holds its measurement.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from tabulate import tabulate

from cocoseg.core.errors import counted
from cocoseg.core.files import read_json, write_bytes
from cocoseg.evaluate.pretraining import start_warnings
from cocoseg.images.pairs import SplitFiles
from cocoseg.model.weights import ModelInfo
from cocoseg.scores.bootstrap import LEAST_IMAGES
from cocoseg.scores.formats import SCORE_NAMES, UNKNOWN, interval, number
from cocoseg.scores.per_image import FalseForeground

_FORM = ".3f"
_LEADING = 3  # reasons that are named
_EXIF = {  # what the training images did with an EXIF orientation that their annotated sizes left open
    "auto": "An EXIF orientation was followed in training where the annotated size showed it (`exif: auto`); "
            "`cocoseg predict` follows it even where the size does not decide.",
    "follow": "An EXIF orientation was followed in training (`exif: follow`), as `cocoseg predict` does.",
    "ignore": "An EXIF orientation was ignored in training unless the annotated size showed it (`exif: ignore`); "
              "`cocoseg predict` ignores it too.",
}  # fmt: skip

USE_HEADING = "## Use"  # the last heading: an export replaces what follows
_USE = """In the repository that made it, `cocoseg predict PHOTO --out DIR` predicts photographs, and
`cocoseg export --format onnx --out DIR` writes a model that runs without PyTorch. In Python:

```python
from pathlib import Path
from cocoseg.weights import load_checkpoint

model, info = load_checkpoint(Path("data/model"))  # a torch.nn.Module, and data/model/model.json
```

Time and memory on the machine that made it are in `metrics/timing/`."""


class License(msgspec.Struct, frozen=True, kw_only=True):
    """One license of an annotations file. Of any types, since exporters differ."""

    id: Any = None
    name: Any = None
    url: Any = None


class LicensedImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image, as far as the card needs it."""

    file_name: str
    license: Any = None


class DatasetNotes(msgspec.Struct, frozen=True, kw_only=True):
    """The source of the images, from `data/filtered/instances.json`."""

    info: Any = None
    licenses: Any = None
    images: list[LicensedImage]


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """What the card reports of the scores and the data."""

    metrics: Mapping[str, Any]
    """`metrics/evaluate.json`"""
    filtered: Mapping[str, Any]
    """`metrics/filter.json`"""
    masks: Mapping[str, Any]
    """`metrics/mask.json`"""
    split: Mapping[str, Any]
    """`metrics/split.json`"""
    source: DatasetNotes
    learned_from: frozenset[str]
    """File names of the train and val sides."""


class Cost(msgspec.Struct, frozen=True, kw_only=True):
    """The cost of using a model, as far as it is the same on every machine."""

    parameters: int
    multiply_adds: int
    """For one square image of `image_size_px`."""


def write_card(
    path: Path,
    info: ModelInfo,
    cost: Mapping[str, Any],
    metrics: Mapping[str, Any],
    sides: SplitFiles,
    stages: Mapping[str, Path],
    filtered: Path,
) -> None:
    """Write the card of a scored model.

    `cost` is the result of `model_cost`, `metrics` the scores of the side; `stages`: the metrics files of `filter`,
    `mask` and `split`.
    """
    results = Results(
        metrics=metrics,
        filtered=read_json(stages["filter"], dict[str, Any]),
        masks=read_json(stages["mask"], dict[str, Any]),
        split=read_json(stages["split"], dict[str, Any]),
        source=read_json(filtered, DatasetNotes),
        learned_from=frozenset(pair.file_name for side in ("train", "val") for pair in sides.pairs(side)),
    )
    fixed = Cost(parameters=cost["parameters"], multiply_adds=cost["multiply_adds"])
    write_bytes(path, model_card(info, fixed, results).encode())


def model_card(info: ModelInfo, cost: Cost, results: Results | None) -> str:
    """Return the card in Markdown; without `results` it says that the model was not scored."""
    encoder = f", {_plain(info.encoder)}" if info.encoder else ""
    parts = [
        f"# {_plain(info.arch)}{encoder}: {counted(len(info.classes) - 1, 'class', 'classes')}",
        f"Semantic segmentation, `{info.task}`. Weights `{info.weights_sha256[:12]}`. No number here was typed by "
        "hand.",
        "## Data",
        *_data(info, results),
        "## Training",
        *_training(info),
        "## Scores",
        *(_scores(results.metrics) if results else ["Not scored yet: run `dvc repro evaluate`."]),
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
    """Return the measurements of one machine, from `metrics/timing/`, in words; they differ from run to run."""
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
    values = (f"{value} {_plain(name)}" for value, name in enumerate(info.classes))
    classes = f"Classes, by their value in a mask: {', '.join(values)}."
    if results is None:
        counts = f"{info.data.train_images} training and {info.data.val_images} validation images."
        return [classes, counts]
    sides = results.split["sides"]
    rows = [
        [_plain(name), *(side["classes"].get(name, {}).get("images", 0) for side in sides.values())]
        for name in info.classes
    ]
    rows.insert(0, ["all", *(side["images"] for side in sides.values())])
    used, there = sum(side["images"] for side in sides.values()), results.filtered["images"]["input"]
    return [
        f"Source: {_source(results.source.info)}. {used:,} of its {there:,} images are used. Fingerprint of the data "
        f"`{info.data.fingerprint[:12]}`.",
        classes,
        _table(["images that show", *sides], rows),
        " ".join(_defects(results)),
        "Licenses of the training and validation images:",
        _table(["license", "images"], _licenses(results)),
    ]


def _defects(results: Results) -> Iterator[str]:
    """Yield what was wrong with the data and what became of it. A defect is a reason that has a first example."""
    accounts, masks = (results.filtered, results.masks), results.masks
    broken = {noun: _total(_broken(own[noun]) for own in accounts) for noun in ("annotations", "images")}
    said = " and ".join(
        f"{counts.total():,} of {results.filtered[noun]['input']:,} {noun}"
        + (f" ({_leading(counts)})" if counts else "")
        for noun, counts in broken.items()
    )
    yield f"Dropped as broken: {said}."
    converted = _total(
        entries.get("converted", {}) for own in accounts for entries in own.values() if isinstance(entries, Mapping)
    )
    if converted:
        yield f"Converted: {_leading(converted)}."
    if boxes := masks["lost_ignored"]:
        yield f"The boxes of {counted(boxes, 'object')} with broken annotations are ignored."
    if disagreeing := masks["annotations"]["box_disagrees"]:
        yield f"{disagreeing:,} annotations paint another box than their `bbox` says (`box_disagrees`)."
    if hidden := sum(masks["mostly_hidden"].values()):
        objects = "object is" if hidden == 1 else "objects are"
        yield f"{hidden:,} {objects} mostly hidden by others, {sum(masks['hidden'].values()):,} of them wholly."


def _broken(account: Mapping[str, Any]) -> dict[str, int]:
    return {reason: account["dropped"][reason] for reason in account.get("first", {})}


def _total(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for own in counts:
        total.update(own)
    return total


def _leading(counts: Counter[str]) -> str:
    """Return the commonest of what was counted, and how many all others are."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    said = [f"{count:,} {_plain(name)}" for name, count in ordered[:_LEADING]]
    if others := sum(count for _, count in ordered[_LEADING:]):
        said.append(f"{others:,} others")
    return ", ".join(said)


def _source(info: Any) -> str:
    """Return the annotations file's own description of its source."""
    if not isinstance(info, Mapping):
        return "not stated in the annotations file"
    said = [_plain(info[key]) for key in ("description", "version", "year", "url") if info.get(key)]
    return ", ".join(said) or "not stated in the annotations file"


def _licenses(results: Results) -> list[list[Any]]:
    known = {}
    if isinstance(results.source.licenses, Sequence):
        entries = [entry for entry in results.source.licenses if isinstance(entry, Mapping)]
        known = {str(one.id): one for one in (msgspec.convert(entry, License) for entry in entries)}
    learned_from = [image for image in results.source.images if image.file_name in results.learned_from]
    counts = Counter(str(image.license) for image in learned_from if image.license is not None)
    rows: list[list[Any]] = []
    for key, images in sorted(counts.items()):
        said = known.get(key, License(name=f"id {key}"))  # CVAT gives every image a license without a name
        words = [_plain(word) for word in (said.name, said.url) if word]
        rows.append([", ".join(words) or "not stated", images])
    if without := len(learned_from) - counts.total():
        rows.append(["not stated", without])
    return rows


def _training(info: ModelInfo) -> list[str]:
    rows = [[f"`{_plain(key)}`", _value(value)] for key, value in info.params.items()]
    own = ", ".join(f"`{_plain(file)}` (SHA-256 `{_plain(sha256[:12])}`)" for file, sha256 in info.own_code.items())
    versions = ", ".join(_plain(f"{name} {number}") for name, number in info.versions.items())
    value = info.val_miou if info.val_score is None else info.val_score
    score = f"{SCORE_NAMES.get(info.primary_score, info.primary_score)} {value:.3f}"
    best = info.best_threshold
    lower = f" Validation's best threshold is {best.threshold:g} ({best.val_score:.3f})." if best is not None else ""
    return [
        f"These are the weights of epoch {info.epoch}, counted from 1: the best in validation ({score}).{lower}",
        _table(["parameter", "value"], rows),
        f"Made with {versions}.",
        *([f"And with code of its own: {own}."] if own else []),
    ]


def _scores(metrics: Mapping[str, Any]) -> list[str]:
    ends = metrics["intervals"]
    overall = [
        [words, number(metrics[name], _FORM), _interval(ends.get(name))]
        for name, words in SCORE_NAMES.items()
        if name in metrics
    ]
    by_class = [
        [_plain(name), number(iou, _FORM), _interval(ends["iou"].get(name)), number(metrics["dice"][name], _FORM)]
        for name, iou in metrics["iou"].items()
    ]
    judged = metrics["primary_score"]
    baselines = ", ".join(
        f"{name.replace('_', ' ')} {number(own[judged], _FORM)}"
        for name, own in metrics["baselines"].items()
        if judged in own
    )
    return [
        f"On the {metrics['images']} images of the side `{metrics['split']}`, at their own size, with 95 % intervals "
        "over images alone; other seeds may differ by more. mIoU and mean Dice count the background as a class; the "
        "foreground scores leave it out."
        f"{_threshold(metrics)}",
        _table(["score", "value", "95 % interval"], overall),
        _table(["class", "IoU", "95 % interval", "Dice"], by_class),
        f"A class in fewer than {LEAST_IMAGES} of these images has no interval ({UNKNOWN}), and one in none no score.",
        *([f"Baselines to beat, by {SCORE_NAMES[judged]}: {baselines}."] if baselines else []),
        *([f"{_false_foreground(free)}."] if (free := metrics.get("images_without_object")) else []),
    ]


def _threshold(metrics: Mapping[str, Any]) -> str:
    return f" Foreground is a probability above {metrics['threshold']:g}." if "threshold" in metrics else ""


def _false_foreground(free: Mapping[str, Any]) -> str:
    return str(msgspec.convert(free, FalseForeground))


def _limits(info: ModelInfo, results: Results | None) -> Iterator[str]:
    yield "It knows only the classes above. Anything else in an image is background or mistaken for one of them."
    yield f"It sees images at {info.preprocessing.image_size_px} pixels (`{info.preprocessing.resize}`): " \
          "objects that are very small at that size are lost."  # fmt: skip
    if exif := _EXIF.get(info.params.get("exif", "")):
        yield exif
    if str(info.encoder).startswith("mit_"):
        yield "Its encoder comes from weights or code for non-commercial use (NVIDIA's SegFormer)."
    if info.initial is not None:
        first = f"`{_plain(info.initial.sha256)[:12]}`, {info.initial.tensors} tensors"
        yield f"It starts from another model's weights ({first}), whose training images have their own terms of use."
        if start_warnings(info):
            yield "Those weights may have been trained on images that are scored here; then the scores are too good."
    if info.pretrained in ("imagenet", "coco"):
        yield f"It starts from {info.pretrained} weights, whose training images have their own terms of use."
    if results is not None:
        yield from _limits_of_scores(info, results)


def _limits_of_scores(info: ModelInfo, results: Results) -> Iterator[str]:
    metrics = results.metrics
    yield "The scores hold for images like those of the source above. It has not been tested on others."
    if metrics["split"] == "val":
        best = info.best_threshold
        chose = "the epoch and the threshold" if best and metrics.get("threshold") == best.threshold else "the epoch"
        yield f"The scores are of the validation side, which chose {chose}, so they are too good."
    across = results.split.get("near_duplicates", {}).get("across_sides", 0)
    if across:
        yield f"On different sides: {counted(across, 'pair')} of near-duplicate images."
    seen = metrics.get("seen_in_pretraining") or {}
    if any(seen.values()):
        yield (
            f"Of the scored images, {seen['images']} were used to train the COCO weights, and {seen['images_perhaps']} "
            "more may have been, so the scores are too good."
        )
    known = {name: iou for name, iou in metrics["iou"].items() if iou is not None}
    zero = number(0.0, _FORM)  # as the table above shows it, where 0.0004 is no more
    if (zeros := sum(number(iou, _FORM) == zero for iou in known.values())) > 1:
        yield (
            f"Of the {len(known)} classes that were scored, {zeros} have an IoU of {zero}: the model did not learn "
            "them."
        )
    elif known:
        weakest = min(known, key=lambda name: known[name])
        yield f"The weakest class is {_plain(weakest)}, with an IoU of {known[weakest]:.3f}."
    train = results.split["sides"]["train"]["classes"]
    if unseen := [name for name in info.classes[1:] if not train.get(name, {}).get("images")]:
        yield f"Not learned, because no training image shows them: {', '.join(map(_plain, unseen))}."
    untested = [name for name, iou in metrics["iou"].items() if iou is None]
    if untested:
        yield f"Not tested, because no scored image shows them: {', '.join(map(_plain, untested))}."


def _interval(ends: Mapping[str, float] | None) -> str:
    ends = ends or {}
    return interval(ends.get("low"), ends.get("high"), _FORM)


def _value(value: Any) -> str:
    return UNKNOWN if value is None else _plain(value)


def _plain(value: Any) -> str:
    """Return text from a file on one line, without characters that have a meaning in Markdown or HTML."""
    return "".join("_" if letter in "|<>`[]\n\r" else letter for letter in str(value))[:200]


def _table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)


def _listed(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
