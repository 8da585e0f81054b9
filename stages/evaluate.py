"""Score the model on the test side, or on the validation side where there is no test side."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocoseg.baselines import baseline_scores
from cocoseg.categories import CategoryMapping
from cocoseg.confusion_picture import confusion_picture
from cocoseg.cost import model_cost
from cocoseg.evaluation import (
    EvaluateParams,
    checked_card,
    evaluate,
    evaluation_metrics,
    iou_rows,
)
from cocoseg.files import read_json, read_lines, read_table, write_bytes, write_json, write_table
from cocoseg.galleries import galleries
from cocoseg.model_card import Cost, Results, Source, model_card
from cocoseg.pairs import Pair, pairs, read_pair
from cocoseg.png import encode_png
from cocoseg.pretraining import seen_in_pretraining
from cocoseg.score_pictures import iou_bars
from cocoseg.stage import run, say
from cocoseg.tables import ClassIoU, ClassPixels, ImageRow
from cocoseg.weights import load_checkpoint

MODEL = Path("data/model")
FILTERED = Path("data/filtered/instances.json")
IMAGES = Path("data/images")
IMAGE_TABLE = Path("data/images.csv")
MASKS = Path("data/masks")
MAPPING = Path("data/category_mapping.json")
MASK_MAP = Path("data/image_mask_map.json")
SPLITS = Path("data/splits")
SPLIT_METRICS = Path("metrics/split.json")
METRICS = Path("metrics/evaluate.json")
MODEL_CARD = Path("metrics/model_card.md")
PER_IMAGE = Path("data/evaluation/per_image.csv")
PREDICTIONS = Path("data/evaluation/predictions")
PLOTS = Path("plots/evaluate")


def main(params: EvaluateParams) -> Mapping[str, Any]:
    """Predict, count, and write numbers and pictures."""
    mapping = read_json(MAPPING, CategoryMapping)
    model, card = load_checkpoint(MODEL)
    card = checked_card(card, mapping, str(MODEL))
    mask_map = read_json(MASK_MAP, dict[str, str])
    sides = {
        side: pairs(read_lines(SPLITS / f"{side}.txt"), mask_map, IMAGES, MASKS) for side in ("train", "val", "test")
    }
    split = "test" if sides["test"] else "val"
    scored = sides[split]
    PREDICTIONS.mkdir(parents=True, exist_ok=True)
    result = evaluate(model, card, scored, PREDICTIONS)
    cost = model_cost(model, card.preprocessing.image_size_px)

    classes = len(mapping.classes)
    baselines = baseline_scores(_decoded(sides["train"], classes), _decoded(scored, classes), classes)
    seen = seen_in_pretraining(card, [pair.file_name for pair in scored], read_table(IMAGE_TABLE, ImageRow))
    for warning in seen.warnings(len(scored)) if seen else ():
        say(warning)
    metrics = evaluation_metrics(result, params, mapping.classes, split, baselines, seen)
    write_json(METRICS, metrics)
    results = Results(
        metrics=metrics,
        split=read_json(SPLIT_METRICS, dict[str, Any]),
        source=read_json(FILTERED, Source),
        learnt_from=frozenset(pair.file_name for side in ("train", "val") for pair in sides[side]),
    )
    fixed_cost = Cost(parameters=cost["parameters"], multiply_adds=cost["multiply_adds"])
    write_bytes(MODEL_CARD, model_card(card, fixed_cost, results).encode())
    write_table(PER_IMAGE, result.per_image, ClassPixels)
    bars = iou_rows(metrics)
    write_table(PLOTS / "iou.csv", bars, ClassIoU)
    write_bytes(PLOTS / "confusion.png", encode_png(confusion_picture(result.confusion, mapping.classes)))
    write_bytes(PLOTS / "iou.png", encode_png(iou_bars(bars)))
    if params.gallery_images:
        shown = galleries(scored, PREDICTIONS, result.per_image, mapping.classes, params.gallery_images)
        for name, picture in shown:
            write_bytes(PLOTS / f"{name}.png", encode_png(picture))
    return {"images_per_second": round(len(scored) / result.seconds, 1), **cost}


def _decoded(side: Sequence[Pair], classes: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    return (read_pair(pair, classes) for pair in side)


if __name__ == "__main__":
    run(main, EvaluateParams)
