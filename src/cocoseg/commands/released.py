"""torchvision's released models, for `cocoseg evaluate`."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from cocoseg.coco.categories import CategoryMapping
from cocoseg.core.errors import CocosegError
from cocoseg.model.architectures import torchvision_model
from cocoseg.model.params import TORCHVISION_ARCHITECTURES
from cocoseg.model.preprocessing import Preprocessing
from cocoseg.model.weights import (
    ModelInfo,
    TrainingData,
)

RELEASED = "torchvision:"
# As torchvision evaluates its released models: https://pytorch.org/vision, "Semantic segmentation".
_RELEASED_PREPROCESSING = Preprocessing(image_size_px=520, resize="short_side")


def released_checkpoint(model: str, mapping: CategoryMapping) -> tuple[nn.Module, ModelInfo]:
    """Return the released model that `model` names as `torchvision:ARCH`, and its description."""
    arch = model.removeprefix(RELEASED)
    if mapping.task == "binary":
        raise CocosegError(f"{model} has 20 classes, but the masks are binary; set task: multiclass")
    network = released_model(arch, mapping.classes)
    info = ModelInfo(
        arch=arch,
        encoder="",
        task=mapping.task,
        classes=mapping.classes,
        preprocessing=_RELEASED_PREPROCESSING,
        epoch=0,
        val_miou=0.0,
        params={"pretrained": "coco"},
        data=TrainingData(train_images=0, val_images=0, fingerprint=""),
        versions={},
    )
    return network, info


# The classes of torchvision's released weights after background: COCO's names in VOC's order.
VOC_CLASSES = (
    "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog",
    "horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv",
)  # fmt: skip


def released_model(arch: str, class_names: Sequence[str]) -> nn.Module:
    """Return torchvision's released model of `arch`, with its channels in the order of `class_names`.

    These are COCO's names for VOC's 20 classes, background first. Raises `CocosegError` for other classes, for an
    architecture without released weights, and for weights that cannot be downloaded.
    """
    if arch not in TORCHVISION_ARCHITECTURES:
        raise CocosegError(
            f"torchvision:{arch} not found; expected torchvision:{' or torchvision:'.join(TORCHVISION_ARCHITECTURES)}"
        )
    if sorted(class_names[1:]) != sorted(VOC_CLASSES):
        settings = "-S dataset=coco2017-val -S train_share=0 -S val_share=0 -S test_share=1"
        raise CocosegError(f"torchvision:{arch} predicts VOC's classes, but the masks have others; make them with: "
                           f"dvc exp run {settings} -S 'classes=[{','.join(VOC_CLASSES)}]' split")  # fmt: skip
    model = torchvision_model(arch, "coco", None)
    order = torch.tensor([0, *(1 + VOC_CLASSES.index(name) for name in class_names[1:])])
    classifier: Any = model.network.classifier
    last = classifier[-1]
    last.weight.data, last.bias.data = last.weight.data[order], last.bias.data[order]
    return model
