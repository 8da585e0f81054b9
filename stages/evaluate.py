"""Score the model on the test side, or on the validation side if the test side is empty."""

from cocoseg import paths
from cocoseg.coco.categories import CategoryMapping
from cocoseg.core.files import read_json, read_table, write_json, write_table
from cocoseg.core.stage import run, say
from cocoseg.evaluate.cost import model_cost
from cocoseg.evaluate.evaluation import check_task_and_classes
from cocoseg.evaluate.headline import closing_line, headline_scores
from cocoseg.evaluate.model_card import write_card
from cocoseg.evaluate.params import EvaluateParams
from cocoseg.evaluate.plots import write_plots
from cocoseg.evaluate.scored_side import score_test_side
from cocoseg.images.pairs import SplitFiles
from cocoseg.model.weights import load_checkpoint
from cocoseg.tables import ClassPixels, ImageRow


def main(params: EvaluateParams) -> dict[str, object]:
    """Predict the side, score it, and write metrics, tables and pictures."""
    sides = SplitFiles(
        splits=paths.SPLITS,
        mask_map=paths.IMAGE_MASK_MAP,
        images=paths.IMAGES,
        image_table=paths.IMAGE_TABLE,
        masks=paths.MASKS,
    )
    model, info = load_checkpoint(paths.MODEL)
    check_task_and_classes(info, read_json(paths.CATEGORY_MAPPING, CategoryMapping), str(paths.MODEL))
    images = read_table(paths.IMAGE_TABLE, ImageRow)
    scored = score_test_side(params, (model, info), sides, images, paths.PREDICTIONS)
    for warning in scored.warnings:
        say(warning)
    cost = model_cost(model, info.preprocessing.image_size_px)
    write_json(paths.EVALUATE_METRICS, scored.metrics)
    write_json(paths.HEADLINE_SCORES, headline_scores(scored.metrics))
    write_table(paths.PER_IMAGE, scored.evaluation.per_image, ClassPixels)
    stages = {"filter": paths.FILTER_METRICS, "mask": paths.MASK_METRICS, "split": paths.SPLIT_METRICS}
    write_card(paths.MODEL_CARD, info, cost, scored.metrics, sides, stages, paths.FILTERED)
    write_plots(paths.EVALUATE_PLOTS, scored, paths.PREDICTIONS, params.gallery_images)
    say(f"{closing_line(scored.metrics)}; see {paths.MODEL_CARD} and {paths.EVALUATE_PLOTS}/")
    return {"images_per_second": round(len(scored.side.pairs) / scored.evaluation.seconds, 1), **cost}


if __name__ == "__main__":
    run(main, EvaluateParams)
