"""The paths of files that stages write and later stages and commands read, relative to the root of the project.

Only stage scripts and commands import them. Every other module gets its paths as arguments.
"""

from pathlib import Path

LOCK = Path("data/.lock")

RAW = Path("data/raw/instances.json")

FILTERED = Path("data/filtered/instances.json")
FILTER_METRICS = Path("metrics/filter.json")

IMAGES = Path("data/images")
IMAGE_TABLE = Path("data/images.csv")

MASKS = Path("data/masks")
MASK_TABLE = Path("data/masks.csv")
INSTANCE_MASKS = Path("data/instance_masks")
CATEGORY_MAPPING = Path("data/category_mapping.json")
IMAGE_MASK_MAP = Path("data/image_mask_map.json")
MASK_METRICS = Path("metrics/mask.json")
MASK_PLOTS = Path("plots/mask")

SPLITS = Path("data/splits")
SPLIT_METRICS = Path("metrics/split.json")
SPLIT_PLOTS = Path("plots/split")

MODEL = Path("data/model")
TRAIN_METRICS = Path("metrics/train")

EVALUATION = Path("data/evaluation")
PER_IMAGE = EVALUATION / "per_image.csv"
PREDICTIONS = EVALUATION / "predictions"
EVALUATE_METRICS = Path("metrics/evaluate.json")
HEADLINE_SCORES = Path("metrics/scores.json")
EVALUATE_PLOTS = Path("plots/evaluate")
MODEL_CARD = Path("metrics/model_card.md")

TIMING = Path("metrics/timing")
