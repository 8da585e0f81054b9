"""Validation after an epoch: loss, confusion matrix, and a picture of a few images.

Each process counts its own share of the images; the counts are then summed over all processes.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import partial

import msgspec
import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from cocoseg.coco.categories import IGNORE
from cocoseg.model.preprocessing import normalized, predicted_labels
from cocoseg.model.threshold import threshold_logit
from cocoseg.model.windows import rows_of_parts, windowed_logits
from cocoseg.pictures.gallery import GalleryRow, gallery
from cocoseg.scores.confusion import scores
from cocoseg.train.dataset import SegmentationDataset
from cocoseg.train.learner import Learner
from cocoseg.train.loggers import curve_names
from cocoseg.train.losses import segmentation_loss
from cocoseg.train.selection import EpochScore
from cocoseg.train.thresholds import BINS, THRESHOLDS

# With more classes their curves would bury the others.
MOST_CLASSES_WITH_CURVES = 20
PICTURE_IMAGES = 4
_THRESHOLD_LOGITS = torch.tensor([threshold_logit(threshold) for threshold in THRESHOLDS])


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """The result of one epoch's validation, at the network's size. `confusion` as in `cocoseg.scores.confusion`."""

    loss: float
    confusion: NDArray[np.int64]
    histogram: NDArray[np.int64] | None
    """Of binary models, (2, `BINS`) as in `cocoseg.train.thresholds`."""


@torch.no_grad()  # not inference_mode: a network may keep tensors that it makes here, and train with them
def validate(learner: Learner, loader: Iterable[tuple[Tensor, Tensor]]) -> Validation:
    """Return the loss and the counts of the validation side, the same in every process."""
    fabric, model, classes = learner.fabric, learner.validated_model, len(learner.classes)
    model.eval()
    if fabric.world_size > 1:
        for buffer in model.buffers():
            # BatchNorm's running statistics differ between processes, since each saw its own batches.
            torch.distributed.broadcast(buffer, src=0)
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=fabric.device)
    histogram = torch.zeros(2, BINS, dtype=torch.int64, device=fabric.device) if learner.binary else None
    losses, weights = [], []
    for images, target in loader:
        images, target = on_device(images, target, fabric)
        for logits, truth in strips(learner, images, target):
            smoothing = learner.params.label_smoothing
            loss = segmentation_loss(logits, truth, learner.loss, learner.class_weights, label_smoothing=smoothing)
            # Of images of which anything counts: the loss of the others is 0. On the device: reading it would make the
            # CPU wait for the GPU.
            shown = (truth != IGNORE).flatten(1).any(dim=1).sum()
            weights.append(shown * (truth.numel() / target.numel()))  # in one strip, the images
            losses.append(loss * weights[-1])
            confusion += batch_confusion(truth, predicted_labels(logits), classes)
            if histogram is not None:
                histogram += batch_histogram(truth, logits)
    confusion = summed(fabric, confusion)
    histogram = None if histogram is None else summed(fabric, histogram)
    own = [sum(value.item() for value in values) for values in (losses, weights)]
    total, weight = summed(fabric, torch.tensor(own, device=fabric.device, dtype=_exact(fabric))).tolist()
    return Validation(
        loss=total / (weight or 1.0),
        confusion=confusion.cpu().numpy(),
        histogram=None if histogram is None else histogram.cpu().numpy(),
    )


def strips(learner: Learner, images: Tensor, target: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the logits (N, C, h, w) and target (N, h, w) of a batch: whole, or with `resize: crop` in strips."""
    preprocessing = learner.preprocessing

    def forward(images: Tensor) -> Tensor:
        with learner.fabric.autocast():
            logits: Tensor = learner.validated_model(normalized(images, preprocessing))
            return logits

    if preprocessing.resize != "crop":
        yield forward(images), target
        return
    top = 0
    parts = windowed_logits(forward, images[0], preprocessing.image_size_px, learner.params.batch_size)
    for logits in rows_of_parts(parts, images.shape[-1], partial(torch.cat, dim=-1)):
        yield logits[None], target[:, top : top + logits.shape[1]]
        top += logits.shape[1]


def validation_metrics(validation: Validation, judged: EpochScore, classes: Sequence[str]) -> dict[str, float]:
    """Return the metrics to log, by name. A class without a target pixel in the validation side has none."""
    result = scores(validation.confusion, classes)
    metrics: dict[str, float | None] = {
        "val/loss": validation.loss,
        "val/miou": result.miou,
        "val/dice": result.mean_dice,
        "val/pixel_accuracy": result.pixel_accuracy,
        f"val/{judged.name}": judged.value,
    }
    if len(classes) <= MOST_CLASSES_WITH_CURVES:
        curves = curve_names(classes)
        metrics |= {f"val/iou/{curves[name]}": value for name, value in result.iou.items()}
        metrics |= {f"val/dice/{curves[name]}": value for name, value in result.dice.items()}
    return {name: value for name, value in metrics.items() if value is not None}


@torch.no_grad()
def validation_picture(learner: Learner, dataset: SegmentationDataset) -> NDArray[np.uint8]:
    """Return a picture of a few validation images, the same after every epoch, and their predictions."""
    learner.validated_model.eval()
    rows = []
    for index in range(min(PICTURE_IMAGES, len(dataset))):
        image, truth = dataset[0, index]
        predicted = [
            predicted_labels(logits)[0]
            for logits, _ in strips(learner, *on_device(image[None], truth[None], learner.fabric))
        ]
        prediction = torch.cat(predicted).cpu().numpy()
        rows.append(GalleryRow(image=image.permute(1, 2, 0).numpy(), truth=truth.numpy(), prediction=prediction))
    return gallery(rows, learner.classes)


def batch_confusion(target: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """Return the confusion matrix of a batch of label maps, (classes, classes) int64 on their device."""
    cells = target.flatten().int() * classes + prediction.flatten().int()  # int64 would take three times as long
    # Row 255 is counted too and cut off after: masking its pixels before would take longer than all the rest.
    return torch.bincount(cells, minlength=(IGNORE + 1) * classes).view(IGNORE + 1, classes)[:classes]


def batch_histogram(target: Tensor, logits: Tensor) -> Tensor:
    """Return the histogram of a batch's logits (N, 1, H, W), (2, `BINS`) int64 as in `cocoseg.train.thresholds`."""
    # By the very comparison that predictions make, so that a threshold scores what its histogram says.
    bins = torch.bucketize(logits.float().contiguous(), _THRESHOLD_LOGITS.to(logits.device), out_int32=True)
    return batch_confusion(target, bins, BINS)[:2]


def summed(fabric: Fabric, values: Tensor) -> Tensor:
    """Return the sum of a tensor over all processes."""
    total = fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, Tensor)  # all_reduce also takes collections
    return total


def on_device(images: Tensor, target: Tensor, fabric: Fabric) -> tuple[Tensor, Tensor]:
    """Return a batch on the device of this process."""
    return images.to(fabric.device, non_blocking=True), target.to(fabric.device, non_blocking=True)


def _exact(fabric: Fabric) -> torch.dtype:
    return torch.float32 if fabric.device.type == "mps" else torch.float64  # MPS has no float64
