"""Score a side of the split with a model: what the stage and `cocoseg evaluate` share."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from torch import nn

from cocoseg.evaluate.baselines import DecodedPair, baseline_scores
from cocoseg.evaluate.evaluation import EvaluateParams, Evaluation, evaluate, evaluation_metrics
from cocoseg.evaluate.pretraining import seen_in_pretraining
from cocoseg.images.pairs import Pair, SplitFiles, read_pair
from cocoseg.model.weights import ModelInfo
from cocoseg.tables import ImageRow


class Side(NamedTuple):
    """What is scored: its name, and its pairs."""

    name: str
    pairs: list[Pair]


class ScoredSide(NamedTuple):
    """What scoring a side gave: the counts, `metrics/evaluate.json` of them, and what must be said of them."""

    side: Side
    evaluation: Evaluation
    metrics: dict[str, Any]
    warnings: list[str]


def side_to_score(sides: SplitFiles) -> Side:
    """Return the test side, or the validation side where there is no test side."""
    test = sides.pairs("test")
    return Side("test", test) if test else Side("val", sides.pairs("val"))


def score_side(
    params: EvaluateParams,
    model: tuple[nn.Module, ModelInfo],
    side: Side,
    images: Sequence[ImageRow],
    predictions: Path,
    baselines: dict[str, Any],
) -> ScoredSide:
    """Predict a side into `predictions` and score it. `images`: the table of all images."""
    network, info = model
    seen = seen_in_pretraining(info, [pair.file_name for pair in side.pairs], images)
    result = evaluate(network, info, side.pairs, predictions)
    metrics = evaluation_metrics(result, params, info.classes, side.name, baselines, seen)
    return ScoredSide(side, result, metrics, seen.warnings(len(side.pairs)) if seen else [])


def score_test_side(
    params: EvaluateParams,
    model: tuple[nn.Module, ModelInfo],
    sides: SplitFiles,
    images: Sequence[ImageRow],
    predictions: Path,
) -> ScoredSide:
    """Score the test side as `score_side` does, beside the baselines that it has to beat."""
    side, classes = side_to_score(sides), len(model[1].classes)
    train, test = (_decoded(pairs, classes) for pairs in (sides.pairs("train"), side.pairs))
    return score_side(params, model, side, images, predictions, baseline_scores(train, test, classes))


def _decoded(pairs: Sequence[Pair], classes: int) -> Iterator[DecodedPair]:
    return (read_pair(pair, classes) for pair in pairs)
