"""Score the model on the test side, or on the validation side where there is no test side."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cocoseg import paths
from cocoseg.coco.categories import CategoryMapping
from cocoseg.core.files import read_json, read_lines, read_table, write_bytes, write_json, write_table
from cocoseg.core.stage import run, say
from cocoseg.evaluate.baselines import baseline_scores
from cocoseg.evaluate.confusion_picture import confusion_picture
from cocoseg.evaluate.cost import model_cost
from cocoseg.evaluate.evaluation import (
    EvaluateParams,
    checked_info,
    evaluate,
    evaluation_metrics,
    iou_rows,
)
from cocoseg.evaluate.galleries import galleries
from cocoseg.evaluate.iou_bars import iou_bars
from cocoseg.evaluate.model_card import Cost, DatasetNotes, Results, model_card
from cocoseg.evaluate.pretraining import seen_in_pretraining
from cocoseg.images.pairs import Pair, pairs, read_pair
from cocoseg.images.png import encode_png
from cocoseg.model.weights import load_checkpoint
from cocoseg.tables import ClassIoU, ClassPixels, ImageRow


def main(params: EvaluateParams) -> Mapping[str, Any]:
    """Predict, count, and write numbers and pictures."""
    mapping = read_json(paths.CATEGORY_MAPPING, CategoryMapping)
    model, info = load_checkpoint(paths.MODEL)
    info = checked_info(info, mapping, str(paths.MODEL))
    mask_map = read_json(paths.IMAGE_MASK_MAP, dict[str, str])
    sides = {
        side: pairs(read_lines(paths.SPLITS / f"{side}.txt"), mask_map, paths.IMAGES, paths.MASKS)
        for side in ("train", "val", "test")
    }
    split = "test" if sides["test"] else "val"
    scored = sides[split]
    paths.PREDICTIONS.mkdir(parents=True, exist_ok=True)
    result = evaluate(model, info, scored, paths.PREDICTIONS)
    cost = model_cost(model, info.preprocessing.image_size_px)

    classes = len(mapping.classes)
    baselines = baseline_scores(_decoded(sides["train"], classes), _decoded(scored, classes), classes)
    seen = seen_in_pretraining(info, [pair.file_name for pair in scored], read_table(paths.IMAGE_TABLE, ImageRow))
    for warning in seen.warnings(len(scored)) if seen else ():
        say(warning)
    metrics = evaluation_metrics(result, params, mapping.classes, split, baselines, seen)
    write_json(paths.EVALUATE_METRICS, metrics)
    results = Results(
        metrics=metrics,
        split=read_json(paths.SPLIT_METRICS, dict[str, Any]),
        source=read_json(paths.FILTERED, DatasetNotes),
        learnt_from=frozenset(pair.file_name for side in ("train", "val") for pair in sides[side]),
    )
    fixed_cost = Cost(parameters=cost["parameters"], multiply_adds=cost["multiply_adds"])
    write_bytes(paths.MODEL_CARD, model_card(info, fixed_cost, results).encode())
    write_table(paths.PER_IMAGE, result.per_image, ClassPixels)
    bars = iou_rows(metrics)
    write_table(paths.EVALUATE_PLOTS / "iou.csv", bars, ClassIoU)
    write_bytes(
        paths.EVALUATE_PLOTS / "confusion.png", encode_png(confusion_picture(result.confusion, mapping.classes))
    )
    write_bytes(paths.EVALUATE_PLOTS / "iou.png", encode_png(iou_bars(bars)))
    if params.gallery_images:
        shown = galleries(scored, paths.PREDICTIONS, result.per_image, mapping.classes, params.gallery_images)
        for name, picture in shown:
            write_bytes(paths.EVALUATE_PLOTS / f"{name}.png", encode_png(picture))
    return {"images_per_second": round(len(scored) / result.seconds, 1), **cost}


def _decoded(side: Sequence[Pair], classes: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    return (read_pair(pair, classes) for pair in side)


if __name__ == "__main__":
    run(main, EvaluateParams)
