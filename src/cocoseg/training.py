"""Training: one loop, from parameters and pairs to the best model by validation mIoU.

Devices and processes are lightning-fabric's; which ones comes from the machine (`hardware`), never from `params.yaml`.
"""

import logging
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import msgspec
import numpy as np
import torch
from dvclive.live import Live
from lightning_fabric import Fabric
from msgspec import Meta
from numpy.typing import NDArray
from scmrepo.exceptions import SCMError
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from cocoseg.augment import AugmentName
from cocoseg.categories import IGNORE, CategoryMapping, Task
from cocoseg.confusion import scores
from cocoseg.errors import CocosegError
from cocoseg.file_names import is_safe
from cocoseg.geometry import Preprocessing, ResizeName, normalised, predicted_labels
from cocoseg.hardware import device_count, full_precision, node_count
from cocoseg.losses import LossName, resolved_loss, segmentation_loss
from cocoseg.models import PretrainedName, build_model, check_model, parameter_count
from cocoseg.pairs import Pair
from cocoseg.pictures import Row, gallery
from cocoseg.samples import Samples, TrainingBatches, ValidationBatches, loader
from cocoseg.schedule import ScheduleName, lr_factor
from cocoseg.weights import ModelCard, TrainingData, library_versions, output_channels, save_checkpoint
from cocoseg.workers import worker_count

# With more classes than this a curve for each would bury the others.
MOST_CLASSES_WITH_CURVES = 20
STRIP_IMAGES = 4

Batches = DataLoader[tuple[Tensor, Tensor]]


class TrainParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `train`."""

    task: Task
    arch: str
    encoder: str
    pretrained: PretrainedName
    image_size_px: Annotated[int, Meta(ge=16, le=4096, extra_json_schema={"examples": [128]})]
    resize: ResizeName
    augment: AugmentName
    loss: LossName
    optimizer: Literal["adamw", "adam", "sgd"]
    lr: Annotated[float, Meta(gt=0, le=1000, extra_json_schema={"examples": [0.001]})]
    weight_decay: Annotated[float, Meta(ge=0, le=1000, extra_json_schema={"examples": [0.01]})]
    schedule: ScheduleName
    warmup_epochs: Annotated[float, Meta(ge=0, le=100_000, extra_json_schema={"examples": [1]})]
    batch_size: Annotated[int, Meta(ge=1, le=65_536, extra_json_schema={"examples": [16]})]
    epochs: Annotated[int, Meta(ge=1, le=100_000, extra_json_schema={"examples": [10]})]
    seed: Annotated[int, Meta(ge=0, lt=2**32, extra_json_schema={"examples": [0]})]

    def __post_init__(self) -> None:
        if self.loss == "bce" and self.task == "multiclass":
            raise ValueError("loss is bce, which knows two classes; expected ce, dice, ce_dice or task: binary")
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs:g}; expected at most epochs, {self.epochs}")


class Validation(msgspec.Struct, frozen=True, kw_only=True):
    """The validation side after one epoch, at the network's size. `confusion` as in `cocoseg.confusion`."""

    loss: float
    confusion: NDArray[np.int64]


def train(
    params: TrainParams,
    mapping: CategoryMapping,
    train_pairs: Sequence[Pair],
    val_pairs: Sequence[Pair],
    fingerprint: str,
    model_folder: Path,
    live_folder: Path,
) -> dict[str, Any]:
    """Train, log each epoch, and leave the best model in `model_folder`; returns the cost for the timing metrics.

    Raises `CocosegError` for a model that cannot be built, data that cannot be trained on, or a loss that is no number.
    """
    _check_sides(train_pairs, val_pairs)
    # Its notes on devices and precision belong to nobody's one line; both are in the timing metrics.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    fabric = Fabric(accelerator="auto", devices=device_count(), num_nodes=node_count(), precision=_precision())
    fabric.launch()
    if params.batch_size < fabric.world_size:
        raise CocosegError(
            f"params.yaml: batch_size is {params.batch_size}, over {fabric.world_size} processes; expected at "
            "least one image each, or set COCOSEG_DEVICES"
        )
    fabric.seed_everything(params.seed, verbose=False)
    classes = mapping.classes
    preprocessing = Preprocessing(image_size_px=params.image_size_px, resize=params.resize)

    model = build_model(params.arch, params.encoder, params.pretrained, output_channels(mapping.task, classes))
    check_model(model, params.image_size_px, smallest_batch=params.batch_size // fabric.world_size)
    model = model.to(memory_format=torch.channels_last)
    network, optimizer = fabric.setup(model, _optimizer(params, model))
    loss_name = resolved_loss(params.loss, binary=mapping.task == "binary")

    train_samples = Samples(train_pairs, len(classes), preprocessing, params.augment, params.seed)
    val_samples = Samples(val_pairs, len(classes), preprocessing, None, params.seed)
    in_memory = [train_samples.keep_in_memory("training images"), val_samples.keep_in_memory("validation images")]
    on_cpu = fabric.device.type == "cpu"
    workers = 0 if all(in_memory) and on_cpu else min(worker_count(), 16)
    rank, world = fabric.global_rank, fabric.world_size
    plan = TrainingBatches(len(train_samples), params.batch_size, params.seed, rank, world)
    # Images of unequal size go through alone: in a batch a border would change their edges.
    val_batch = 1 if params.resize == "short_side" else max(1, params.batch_size // world)
    train_batches = loader(train_samples, plan, workers, pin_memory=not on_cpu)
    val_batches = loader(val_samples, ValidationBatches(len(val_samples), val_batch, rank, world), workers, not on_cpu)

    best: ModelCard | None = None
    seconds: list[float] = []
    with _live(live_folder, fabric) as live, tqdm(
        range(params.epochs), desc="train", unit="epoch", disable=None if fabric.is_global_zero else True
    ) as progress:  # fmt: skip
        for epoch in progress:
            plan.epoch = epoch
            started = time.perf_counter()
            train_loss = _train_epoch(
                params, fabric, network, optimizer, train_batches, epoch, loss_name, preprocessing
            )
            seconds.append(time.perf_counter() - started)
            validation = _validate(fabric, model, val_batches, len(classes), loss_name, preprocessing)
            result = scores(validation.confusion, classes)
            if result.miou is None:
                raise CocosegError("data/splits/val.txt: the masks of these images have no pixel that counts; "
                                   "choose more images or a larger val_share")  # fmt: skip
            summary = f"loss {train_loss:.3f}, val mIoU {result.miou:.3f}"
            progress.set_postfix_str(summary)
            if progress.disable and fabric.is_global_zero:  # no terminal: a line an epoch
                tqdm.write(f"train: epoch {epoch + 1} of {params.epochs}: {summary}", file=sys.stderr)
            improved = best is None or result.miou > best.val_miou
            if best is None or improved:
                best = ModelCard(
                    arch=params.arch,
                    encoder=params.encoder,
                    task=mapping.task,
                    classes=classes,
                    preprocessing=preprocessing,
                    epoch=epoch + 1,
                    val_miou=result.miou,
                    params=msgspec.to_builtins(params),
                    data=TrainingData(
                        train_images=len(train_pairs), val_images=len(val_pairs), fingerprint=fingerprint
                    ),
                    versions=library_versions(),
                )
            if live is not None:
                if improved:
                    save_checkpoint(model_folder, model, best)
                metrics = {"train/loss": train_loss, "val/loss": validation.loss, "lr": _lr(optimizer)}
                metrics |= _validation_metrics(validation, classes)
                _log_epoch(live, metrics, best)
                live.log_image("validation.png", _strip(model, val_samples, classes, preprocessing, fabric))
                live.next_step()  # type: ignore[no-untyped-call]
            fabric.barrier()
    return _cost(fabric, model, seconds, len(train_pairs))


def _train_epoch(
    params: TrainParams,
    fabric: Fabric,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    batches: Batches,
    epoch: int,
    loss_name: LossName,
    preprocessing: Preprocessing,
) -> float:
    """One pass over the training side; returns the mean loss of its batches."""
    network.train()
    steps, warmup_steps = params.epochs * len(batches), round(params.warmup_epochs * len(batches))
    losses: list[Tensor] = []
    for batch, (images, target) in enumerate(batches):
        factor = lr_factor(epoch * len(batches) + batch, steps, warmup_steps, params.schedule)
        for group in optimizer.param_groups:
            group["lr"] = params.lr * factor
        images, target = _on_device(images, target, fabric)
        output = network(normalised(images, preprocessing))
        loss = segmentation_loss(output, target, loss_name)
        fabric.backward(loss)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
        # Looking at a loss makes a GPU wait for it, so not at each.
        if batch % 10 == 9 or batch == len(batches) - 1:
            _refuse_nan(losses, epoch)
    return _summed(fabric, torch.stack(losses).mean()).item() / fabric.world_size


@torch.no_grad()
def _validate(
    fabric: Fabric,
    model: nn.Module,
    batches: Batches,
    classes: int,
    loss_name: LossName,
    preprocessing: Preprocessing,
) -> Validation:
    """Loss and confusion matrix of the validation side; each process counts its share, and the counts are summed."""
    model.eval()
    if fabric.world_size > 1:
        for buffer in model.buffers():
            # Running statistics of BatchNorm differ after each process's own last batch.
            torch.distributed.broadcast(buffer, src=0)
    confusion = torch.zeros(classes, classes, dtype=torch.int64, device=fabric.device)
    loss_and_images = torch.zeros(2, dtype=torch.float64, device=fabric.device)
    for images, target in batches:
        images, target = _on_device(images, target, fabric)
        with fabric.autocast():
            logits = model(normalised(images, preprocessing))
        loss = segmentation_loss(logits, target, loss_name)
        loss_and_images += torch.tensor([loss.item() * len(images), len(images)], dtype=torch.float64).to(loss.device)
        confusion += counted(target, predicted_labels(logits), classes)
    confusion = _summed(fabric, confusion)
    total, images_seen = _summed(fabric, loss_and_images).tolist()
    return Validation(loss=total / images_seen, confusion=confusion.cpu().numpy())


def counted(target: Tensor, prediction: Tensor, classes: int) -> Tensor:
    """The confusion matrix of a batch of label maps, (classes, classes) int64, on their device; rows the target."""
    used = target != IGNORE
    cells = target[used].long() * classes + prediction[used].long()
    return torch.bincount(cells, minlength=classes**2).view(classes, classes)


def _summed(fabric: Fabric, values: Tensor) -> Tensor:
    """The sum of a tensor over all processes."""
    total = fabric.all_reduce(values, reduce_op="sum")
    assert isinstance(total, Tensor)  # all_reduce also takes collections
    return total


def _on_device(images: Tensor, target: Tensor, fabric: Fabric) -> tuple[Tensor, Tensor]:
    return images.to(fabric.device, non_blocking=True), target.to(fabric.device, non_blocking=True)


def _validation_metrics(validation: Validation, classes: Sequence[str]) -> dict[str, float]:
    """Names and values for the log. A class without a target pixel in the validation side has no curve."""
    result = scores(validation.confusion, classes)
    metrics = {"val/miou": result.miou, "val/dice": result.mean_dice, "val/pixel_accuracy": result.pixel_accuracy}
    if len(classes) <= MOST_CLASSES_WITH_CURVES:
        metrics |= {f"val/iou/{_file_part(name)}": value for name, value in result.iou.items()}
        metrics |= {f"val/dice/{_file_part(name)}": value for name, value in result.dice.items()}
    return {name: value for name, value in metrics.items() if value is not None}


def _log_epoch(live: Live, metrics: Mapping[str, float], best: ModelCard) -> None:
    """One point on each curve, and the summary of the last and the best epoch."""
    # dvclive nests names at each slash, where `val/dice` cannot be both a number and the parent of `val/dice/person`.
    # So the summary is built here, nested at the first slash only.
    summary: dict[str, Any] = {"best": {"epoch": best.epoch, "val/miou": _readable(best.val_miou)}}
    for name, value in metrics.items():
        live.summary = {}
        live.log_metric(name, _readable(value))
        group, _, rest = name.partition("/")
        if rest:
            summary.setdefault(group, {})[rest] = _readable(value)
        else:
            summary[name] = _readable(value)
    live.summary = summary


def _readable(value: float) -> float:
    return float(f"{value:.6g}")


def _file_part(class_name: str) -> str:
    """The name of a class as dvclive can make a file of it: a stranger's annotations may name one `../x`."""
    return class_name if "/" not in class_name and is_safe(class_name) else quote(class_name[:60], safe="").strip(".")


def _refuse_nan(losses: Sequence[Tensor], epoch: int) -> None:
    finite = torch.isfinite(torch.stack(list(losses)))
    if not finite.all():
        batch = int((~finite).nonzero()[0]) + 1
        raise CocosegError(
            f"the loss is no longer a number in epoch {epoch + 1}, batch {batch}; try a smaller lr or a longer warm-up"
        )


def _optimizer(params: TrainParams, model: nn.Module) -> torch.optim.Optimizer:
    # Biases and the scales of norms are not decayed: drawing them to zero restrains nothing that overfits.
    matrices = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    others = [parameter for parameter in model.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": params.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    match params.optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, lr=params.lr)
        case "adam":
            return torch.optim.Adam(groups, lr=params.lr)
        case "sgd":
            return torch.optim.SGD(groups, lr=params.lr, momentum=0.9)


def _lr(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def _precision() -> Literal["bf16-mixed", "32-true"]:
    """bfloat16 where the chip computes in it, which halves the time or nearly so; else float32."""
    if torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported()
    return "bf16-mixed" if native and not full_precision() else "32-true"


def _check_sides(train_pairs: Sequence[Pair], val_pairs: Sequence[Pair]) -> None:
    for side, pairs in (("train", train_pairs), ("val", val_pairs)):
        if not pairs:
            raise CocosegError(
                f"data/splits/{side}.txt: holds no image, and training needs some; set {side}_share above 0 "
                "or choose more images"
            )


@contextmanager
def _live(folder: Path, fabric: Fabric) -> Iterator[Live | None]:
    """The log of this run; `None` in all processes but the first."""
    if not fabric.is_global_zero:
        yield None
        return
    try:
        # dvcyaml: dvc.yaml is written by hand. save_dvc_exp: the run belongs to DVC already.
        live = Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False)
    except SCMError:
        raise CocosegError("this repository has no commit yet, and the log names the commit; run: git commit") from None
    with live:
        yield live


@torch.no_grad()
def _strip(
    model: nn.Module, samples: Samples, classes: Sequence[str], preprocessing: Preprocessing, fabric: Fabric
) -> NDArray[np.uint8]:
    """The same few validation images after every epoch, as the network sees them."""
    model.eval()
    rows = []
    for index in range(min(STRIP_IMAGES, len(samples))):
        image, truth = samples[0, index]
        logits = model(normalised(image[None].to(fabric.device), preprocessing))
        prediction = predicted_labels(logits)[0].cpu().numpy()
        rows.append(Row(image=image.permute(1, 2, 0).numpy(), truth=truth.numpy(), prediction=prediction))
    return gallery(rows, classes)


def _cost(fabric: Fabric, model: nn.Module, seconds: Sequence[float], images: int) -> dict[str, Any]:
    """What the run took, for the timing metrics. The first epoch warms up and counts only if there is no other."""
    later = seconds[1:] or seconds
    on_gpu = fabric.device.type == "cuda"
    peak = torch.cuda.max_memory_allocated() if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {
        "train_images_per_second": round(images * len(later) / sum(later), 1),
        "parameters": parameter_count(model),
        "peak_memory_mb": round(peak / 2**20),
        "device": torch.cuda.get_device_name() if on_gpu else f"cpu, {torch.get_num_threads()} threads",
        "processes": fabric.world_size,
        "precision": _precision(),
        "versions": library_versions(),
    }
