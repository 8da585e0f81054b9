"""Score a model on a side of the split, for the stage and for `cocoseg evaluate`."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn
from tqdm import tqdm

from cocoseg.coco.categories import IGNORE
from cocoseg.core.errors import CocosegError
from cocoseg.evaluate.baselines import FIT_IMAGES, DecodedPair, baseline_scores
from cocoseg.evaluate.evaluation import Evaluation, evaluate, evaluation_metrics
from cocoseg.evaluate.params import EvaluateParams
from cocoseg.evaluate.pretraining import seen_in_pretraining, start_warnings
from cocoseg.images.pairs import Pair, SplitFiles, read_pair
from cocoseg.model.threshold import chosen_threshold
from cocoseg.model.weights import ModelInfo
from cocoseg.tables import ImageRow


class SideToScore(NamedTuple):
    """A side of the split, by name, and its pairs."""

    name: str
    pairs: list[Pair]


class ScoredSide(NamedTuple):
    """A side with its counts, the content of `metrics/evaluate.json`, and warnings for the user."""

    side: SideToScore
    evaluation: Evaluation
    metrics: dict[str, Any]
    warnings: list[str]


def side_to_score(sides: SplitFiles) -> SideToScore:
    """Return the test side, or the validation side if the test side is empty."""
    test = sides.pairs("test")
    return SideToScore("test", test) if test else SideToScore("val", sides.pairs("val"))


def score_side(
    params: EvaluateParams,
    model: tuple[nn.Module, ModelInfo],
    side: SideToScore,
    images: Sequence[ImageRow],
    predictions: Path,
    baselines: dict[str, Any],
) -> ScoredSide:
    """Predict a side into the folder `predictions` and score it. `images`: the table of all images.

    Raises `CocosegError` if every pixel of its masks is ignored, or for a threshold of a multiclass model.
    """
    network, info = model
    seen = seen_in_pretraining(info, [pair.file_name for pair in side.pairs], images)
    threshold = chosen_threshold(params.threshold, info)
    result = evaluate(network, info, side.pairs, predictions, threshold.value)
    if not result.confusion.any():
        raise CocosegError(
            f"{side.name}: every pixel in the masks of these {len(side.pairs)} images is ignored ({IGNORE}); "
            "choose more images or a larger test_share"
        )
    metrics = evaluation_metrics(result, params, info, side.name, baselines, seen)
    warnings = [*start_warnings(info), *(seen.warnings(len(side.pairs)) if seen else [])]
    return ScoredSide(side, result, metrics, [*warnings, *([threshold.remark] if threshold.remark else [])])


def score_test_side(
    params: EvaluateParams,
    model: tuple[nn.Module, ModelInfo],
    sides: SplitFiles,
    images: Sequence[ImageRow],
    predictions: Path,
) -> ScoredSide:
    """Score the test side with `score_side`, and beside it the baselines that the model should beat."""
    chosen_threshold(params.threshold, model[1])  # before the baselines, which take their time
    side, classes = side_to_score(sides), len(model[1].classes)
    train = sides.pairs("train")[:FIT_IMAGES]
    with tqdm(total=len(train) + len(side.pairs), desc="baselines", unit="image", leave=False, disable=None) as bar:
        baselines = baseline_scores(_decoded(train, classes, bar), _decoded(side.pairs, classes, bar), classes)
    return score_side(params, model, side, images, predictions, baselines)


def _decoded(pairs: Sequence[Pair], classes: int, bar: "tqdm[Any]") -> Iterator[DecodedPair]:
    for pair in pairs:
        yield read_pair(pair, classes)
        bar.update()
