"""The front matter of a model card, which the Hugging Face Hub shows: license, dataset and scores.

https://huggingface.co/docs/hub/model-cards
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from cocoseg.commands.revisions import stages_of_lock
from cocoseg.core.errors import CocosegError
from cocoseg.model.weights import ModelInfo
from cocoseg.scores.formats import SCORE_NAMES

# Our scores by the Hub's names of metrics.
_METRICS = {"miou": "mean_iou", "mean_dice": "dice", "pixel_accuracy": "accuracy"}


def front_matter(info: ModelInfo, lock: bytes | None, metrics: bytes | None) -> str:
    """Return the front matter of a model from its run's `dvc.lock` and `metrics/evaluate.json`, if they are there.

    `metrics` must be `None` unless they are of these weights.
    """
    from huggingface_hub import ModelCardData

    dataset = _dataset(lock)
    data = ModelCardData(
        library_name="segmentation-models-pytorch",
        pipeline_tag="image-segmentation",
        tags=["semantic-segmentation", "segmentation-models-pytorch", "cocoseg"],
        datasets=None if dataset is None else [_hub_name(dataset)],
        model_name="-".join(filter(None, (info.arch, info.encoder))),
        eval_results=_results(dataset or "unknown", metrics) or None,
        **_license(info, dataset or ""),
    )
    return f"---\n{data.to_yaml()}\n---\n\n"


def _dataset(lock: bytes | None) -> str | None:
    """Return the parameter `dataset` that a run was made with, if its `dvc.lock` can be read."""
    try:
        return str(stages_of_lock(lock or b"", "dvc.lock")["download"].params["params.yaml"]["dataset"])
    except (CocosegError, KeyError):
        return None


def _hub_name(dataset: str) -> str:
    return "coco" if dataset.startswith("coco") else f"cocoseg-{dataset}"


def _results(dataset: str, metrics: bytes | None) -> list[Any]:
    from huggingface_hub import EvalResult

    try:
        scores: Mapping[str, Any] = msgspec.json.decode(metrics or b"{}", type=dict[str, Any])
    except msgspec.DecodeError:  # such as with merge conflicts
        return []
    return [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=_hub_name(dataset),
            dataset_name=f"{dataset}, {scores['images']} images",
            dataset_split=scores["split"],
            metric_type=metric,
            metric_name=SCORE_NAMES[name],
            metric_value=scores[name],
        )
        for name, metric in _METRICS.items()
        if scores.get(name) is not None and {"images", "split"} <= scores.keys()
    ]


def _license(info: ModelInfo, dataset: str) -> dict[str, Any]:
    """Return the license by the Hub's names. Photographs and pretrained weights have terms of their own."""
    if info.encoder.startswith("mit_"):  # NVIDIA's terms come on top of those of the data
        return {"license": "unknown"}
    if dataset.startswith("coco"):
        link = "https://cocodataset.org/#termsofuse"
        return {"license": "other", "license_name": "coco-terms-of-use", "license_link": link}
    drawn = dataset == "sample" and info.initial is None and info.pretrained == "none"
    return {"license": "mit" if drawn else "unknown"}
