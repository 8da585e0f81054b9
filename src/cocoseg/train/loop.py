"""Training: one loop, from parameters and pairs to the best model by validation mIoU.

Devices and processes are lightning-fabric's; which ones comes from the machine (`hardware`), never from `params.yaml`.
"""

import logging
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from msgspec import Meta
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from cocoseg.coco.categories import CategoryMapping, Task
from cocoseg.core.errors import CocosegError
from cocoseg.hardware import (
    device_count,
    device_name,
    full_precision,
    node_count,
    out_of_memory,
    peak_memory_mb,
    started_by_srun,
)
from cocoseg.images.pairs import Pair
from cocoseg.model.architectures import (
    PretrainedName,
    build_model,
    check_model,
    parameter_count,
    with_synchronised_norm,
)
from cocoseg.model.preprocessing import ImageSize, Preprocessing, ResizeName, normalised
from cocoseg.model.weights import (
    WEIGHTS,
    ModelCard,
    TrainingData,
    library_versions,
    output_channels,
    save_checkpoint,
    write_checkpoint,
)
from cocoseg.scores.confusion import scores
from cocoseg.train.augment import AugmentName
from cocoseg.train.class_weights import ClassWeightsName
from cocoseg.train.dataset import Samples, TrainingBatches, ValidationBatches, loader, processes_here, sample_seed
from cocoseg.train.loggers import History, recorded
from cocoseg.train.losses import LossName, resolved_loss, segmentation_loss
from cocoseg.train.optimizer import OptimizerName, averaged, current_lr, make_optimizer, set_lr
from cocoseg.train.resume import TrainingState, run_fingerprint
from cocoseg.train.schedule import ScheduleName, lr_factor
from cocoseg.train.validation import Batches, Validation, on_device, strip, summed, validate, validation_metrics
from cocoseg.workers import worker_count

DROPOUT = 2**31  # stands where the index of a sample would, for what else is drawn in an epoch


class TrainParams(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the stage `train`."""

    task: Task
    arch: str
    encoder: str
    pretrained: PretrainedName
    image_size_px: ImageSize
    resize: ResizeName
    augment: AugmentName
    loss: LossName
    class_weights: ClassWeightsName
    optimizer: OptimizerName
    lr: Annotated[float, Meta(gt=0, le=1000, extra_json_schema={"examples": [0.001]})]
    weight_decay: Annotated[float, Meta(ge=0, le=1000, extra_json_schema={"examples": [0.01]})]
    schedule: ScheduleName
    warmup_epochs: Annotated[float, Meta(ge=0, le=100_000, extra_json_schema={"examples": [1]})]
    batch_size: Annotated[int, Meta(ge=1, le=65_536, extra_json_schema={"examples": [16]})]
    accumulate_batches: Annotated[int, Meta(ge=1, le=65_536, extra_json_schema={"examples": [4]})]
    clip_grad_norm: Annotated[float, Meta(gt=0, le=1e6, extra_json_schema={"examples": [1.0]})] | None
    epochs: Annotated[int, Meta(ge=1, le=100_000, extra_json_schema={"examples": [10]})]
    patience: Annotated[int, Meta(ge=1, le=100_000, extra_json_schema={"examples": [5]})] | None
    ema_decay: Annotated[float, Meta(gt=0, lt=1, extra_json_schema={"examples": [0.99]})] | None
    compile: bool
    seed: Annotated[int, Meta(ge=0, lt=2**32, extra_json_schema={"examples": [0]})]

    def __post_init__(self) -> None:
        if self.loss == "bce" and self.task == "multiclass":
            raise ValueError("loss is bce, which knows two classes; expected ce, dice, ce_dice or task: binary")
        if self.warmup_epochs > self.epochs:
            raise ValueError(f"warmup_epochs is {self.warmup_epochs:g}; expected at most epochs, {self.epochs}")


class Progress:
    """How far a run has come."""

    def __init__(self) -> None:
        self.epochs = 0
        self.best: ModelCard | None = None
        self.train_seconds: list[float] = []
        self.val_seconds: list[float] = []

    def exhausted(self, patience: int | None) -> bool:
        """Whether validation has not improved for `patience` epochs."""
        return patience is not None and self.best is not None and self.epochs - self.best.epoch >= patience


class Learner:
    """The model, and all that changes it."""

    def __init__(
        self, params: TrainParams, mapping: CategoryMapping, class_weights: Sequence[float] | None, fabric: Fabric
    ) -> None:
        self.fabric = fabric
        self.params = params
        self.preprocessing = Preprocessing(image_size_px=params.image_size_px, resize=params.resize)
        self.loss_name = resolved_loss(params.loss, binary=mapping.task == "binary")
        self.class_weights = None if class_weights is None else torch.tensor(class_weights, device=fabric.device)
        channels = output_channels(mapping.task, mapping.classes)
        model = build_model(params.arch, params.encoder, params.pretrained, channels)
        synchronised = fabric.world_size > 1 and fabric.device.type == "cuda"
        check_model(model, params.image_size_px, params.batch_size // (1 if synchronised else fabric.world_size))
        if synchronised:
            model = with_synchronised_norm(model)
        self.model = model.to(memory_format=torch.channels_last)
        self._optimizer = make_optimizer(model, params.optimizer, params.lr, params.weight_decay)
        trained: Any = torch.compile(self.model) if params.compile else self.model
        self.network, self.optimizer = fabric.setup(trained, self._optimizer)
        self.average: AveragedModel | None = None
        if params.ema_decay is not None:
            self.average = averaged(self.model, params.ema_decay)

    @property
    def scored(self) -> nn.Module:
        """The model that is validated and kept: the average of weights where there is one."""
        return self.model if self.average is None else self.average.module

    def state(self) -> dict[str, Any]:
        """What has been learnt, and what the optimizer remembers."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "average": None if self.average is None else self.average.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a `state()`."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self.average is not None:
            self.average.load_state_dict(state["average"])
        if state["precision"]:
            self.fabric.strategy.precision.load_state_dict(state["precision"])


def train(
    params: TrainParams,
    mapping: CategoryMapping,
    train_pairs: Sequence[Pair],
    val_pairs: Sequence[Pair],
    class_weights: Sequence[float] | None,
    fingerprint: str,
    model_folder: Path,
    live_folder: Path,
) -> dict[str, Any] | None:
    """Train, record each epoch, and leave the best model in `model_folder`.

    Returns the cost for the timing metrics; nothing in all processes but the first, which alone writes.

    A run of the same parameters, data and code that was killed goes on after its last whole epoch. Raises
    `CocosegError` for a model that cannot be built, data that cannot be trained on, a loss that is no number, or
    memory that does not suffice.
    """
    _check_sides(train_pairs, val_pairs)
    fabric = _fabric(params)
    learner = Learner(params, mapping, class_weights, fabric)
    classes, preprocessing = mapping.classes, learner.preprocessing

    train_samples = Samples(train_pairs, len(classes), preprocessing, params.augment, params.seed)
    val_samples = Samples(val_pairs, len(classes), preprocessing, None, params.seed)
    kept = [train_samples.keep("training images"), val_samples.keep("validation images")]
    on_cpu = fabric.device.type == "cpu"
    workers = 0 if all(kept) and on_cpu else min(-(-worker_count() // processes_here()), 16)
    rank, world = fabric.global_rank, fabric.world_size
    plan = TrainingBatches(len(train_samples), params.batch_size, params.seed, rank, world)
    # Images of unequal size go through alone: in a batch a border would change their edges.
    val_plan = ValidationBatches(
        len(val_samples), 1 if params.resize == "short_side" else params.batch_size, rank, world
    )
    pin_memory = fabric.device.type == "cuda"
    train_batches = loader(train_samples, plan, workers, pin_memory)
    val_batches = loader(val_samples, val_plan, workers, pin_memory)

    def seen() -> NDArray[np.uint8]:
        return strip(learner.scored, val_samples, classes, preprocessing, fabric)

    data = TrainingData(train_images=len(train_pairs), val_images=len(val_pairs), fingerprint=fingerprint)
    facts = [msgspec.to_builtins(params), msgspec.to_builtins(mapping), class_weights, fingerprint, _precision()]
    run = run_fingerprint(facts, library_versions())
    if fabric.broadcast(run) != run:
        raise CocosegError(
            "this node has other parameters, data or code than the first; bring both to one commit, dvc pull"
        )
    with _records(live_folder, params, run, fabric) as records, _bar(params.epochs, fabric) as bar, _memory(params):
        progress = _resumed(learner, records, model_folder)
        bar.update(progress.epochs)
        if records is not None and progress.epochs:
            records.history.strip(seen())
        while progress.epochs < params.epochs and not progress.exhausted(params.patience):
            epoch = plan.epoch = progress.epochs
            started = time.perf_counter()
            train_loss = _train_epoch(learner, train_batches, epoch, progress.best)
            trained = time.perf_counter()
            validation = validate(
                fabric,
                learner.scored,
                val_batches,
                len(classes),
                learner.loss_name,
                learner.class_weights,
                preprocessing,
            )
            progress.train_seconds.append(trained - started)
            progress.val_seconds.append(time.perf_counter() - trained)
            progress.epochs += 1
            if not math.isfinite(validation.loss):
                raise _no_number(f"in validation after epoch {progress.epochs}", progress.best)
            miou = _checked_miou(validation, classes)
            improved = progress.best is None or miou > progress.best.val_miou
            if progress.best is None or improved:
                progress.best = _card(params, mapping, preprocessing, progress.epochs, miou, data)
            if records is not None:
                if improved:
                    save_checkpoint(model_folder, learner.scored, progress.best)
                metrics = {"train/loss": train_loss, "lr": current_lr(learner.optimizer)}
                metrics |= validation_metrics(validation, classes)
                records.history.epoch(metrics, {"epoch": progress.best.epoch, "val/miou": progress.best.val_miou})
                records.history.strip(seen())
                records.state.save(_snapshot(learner, progress, records.history, model_folder))
                _tell(bar, progress.epochs, f"loss {train_loss:.3f}, val mIoU {miou:.3f}")
            fabric.barrier()
        if records is not None:
            records.history.finish(model_folder)
            records.state.remove()
    return _cost(fabric, learner.model, progress, len(train_pairs), len(val_pairs)) if records is not None else None


def _train_epoch(learner: Learner, batches: Batches, epoch: int, best: ModelCard | None) -> float:
    """One pass over the training side; returns the mean loss of its batches."""
    params, fabric, network, optimizer = learner.params, learner.fabric, learner.network, learner.optimizer
    # Dropout draws from this generator: an epoch must not depend on what was drawn before it.
    torch.manual_seed(sample_seed(params.seed, epoch, DROPOUT + fabric.global_rank))
    network.train()
    together = params.accumulate_batches
    steps = -(-len(batches) // together)  # of the optimizer, in one epoch
    warmup_steps = round(params.warmup_epochs * steps)
    losses: list[Tensor] = []
    for batch, (images, target) in enumerate(batches):
        step, place = divmod(batch, together)
        group = min(together, len(batches) - step * together)  # the last may be smaller
        last_of_group = place == group - 1
        images, target = on_device(images, target, fabric)
        with nullcontext() if last_of_group else fabric.no_backward_sync(network):
            output = network(normalised(images, learner.preprocessing))
            loss = segmentation_loss(output, target, learner.loss_name, learner.class_weights)
            fabric.backward(loss / group if group > 1 else loss)
        losses.append(loss.detach())
        if last_of_group:
            factor = lr_factor(epoch * steps + step, params.epochs * steps, warmup_steps, params.schedule)
            set_lr(optimizer, params.lr * factor)
            if params.clip_grad_norm is not None:
                fabric.clip_gradients(network, optimizer, max_norm=params.clip_grad_norm, error_if_nonfinite=False)
            optimizer.step()
            optimizer.zero_grad()
            if learner.average is not None:
                learner.average.update_parameters(learner.model)
        # Looking at a loss makes a GPU wait for it, so not at each.
        if batch % 10 == 9 or batch == len(batches) - 1:
            _refuse_nan(losses, epoch, best, fabric)
    return summed(fabric, torch.stack(losses).mean()).item() / fabric.world_size


class Records(msgspec.Struct, frozen=True):
    """What the first process writes down: the run's history, and its state for the case of a kill."""

    history: History
    state: TrainingState


@contextmanager
def _records(folder: Path, params: TrainParams, run: str, fabric: Fabric) -> Iterator[Records | None]:
    """The records of this run; `None` in all processes but the first. What stops that one stops them all."""
    records, error = None, None
    with ExitStack() as stack:
        if fabric.is_global_zero:
            try:
                state = TrainingState(run)
                records = Records(stack.enter_context(recorded(folder, msgspec.to_builtins(params), run)), state)
            except CocosegError as caught:
                error = str(caught)
        error = fabric.broadcast(error)
        if error is not None:
            raise CocosegError(error)
        yield records


def _snapshot(learner: Learner, progress: Progress, history: History, model_folder: Path) -> dict[str, Any]:
    """All that `_resumed` needs."""
    assert progress.best is not None
    return learner.state() | {
        "epochs": progress.epochs,
        "best": msgspec.json.encode(progress.best).decode(),
        "history": msgspec.json.encode(history.epochs).decode(),
        "train_seconds": progress.train_seconds,
        "val_seconds": progress.val_seconds,
        "best_weights": torch.frombuffer(bytearray((model_folder / WEIGHTS).read_bytes()), dtype=torch.uint8),
    }


def _resumed(learner: Learner, records: Records | None, model_folder: Path) -> Progress:
    """Where the same run, killed before, had come to; its history and best model are written anew."""
    progress = Progress()
    saved = learner.fabric.broadcast(records.state.load() if records is not None else None)
    if saved is None:
        return progress
    learner.restore(saved)
    progress.epochs = saved["epochs"]
    progress.best = msgspec.json.decode(saved["best"], type=ModelCard)
    progress.train_seconds, progress.val_seconds = saved["train_seconds"], saved["val_seconds"]
    if records is not None:
        write_checkpoint(model_folder, saved["best_weights"].numpy().tobytes(), progress.best)
        # A number that was whole is, and one that was not is not: both are written into the summary once more.
        numbers = dict[str, int | float]
        for metrics, best in msgspec.json.decode(saved["history"], type=list[tuple[numbers, numbers]]):
            records.history.epoch(metrics, best)
        tqdm.write(f"train: goes on after epoch {progress.epochs}, where it was stopped", file=sys.stderr)
    return progress


def _fabric(params: TrainParams) -> Fabric:
    """The devices and processes of this machine, launched."""
    # Its notes on devices and precision belong to nobody's one line; both are in the timing metrics.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # In a batch script of SLURM that srun did not start, Fabric would wait for tasks that nobody starts.
    alone = LightningEnvironment() if "SLURM_NTASKS" in os.environ and not started_by_srun() else None
    try:
        fabric = Fabric(devices=device_count(), num_nodes=node_count(), precision=_precision(), plugins=alone)
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise CocosegError(f"the processes cannot be started: {' '.join(str(error).split())}") from None
    if params.batch_size < fabric.world_size:
        raise CocosegError(
            f"params.yaml: batch_size is {params.batch_size}, over {fabric.world_size} processes; expected at "
            "least one image each, or set COCOSEG_DEVICES"
        )
    fabric.seed_everything(params.seed, verbose=False)
    return fabric


def _precision() -> Literal["bf16-mixed", "16-mixed", "32-true"]:
    """bfloat16 where the chip computes in it, which halves the time or nearly so; float16 on older GPUs; or float32."""
    if full_precision():
        return "32-true"
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


def _bar(epochs: int, fabric: Fabric) -> "tqdm[Any]":
    return tqdm(total=epochs, desc="train", unit="epoch", disable=None if fabric.is_global_zero else True)


def _tell(bar: "tqdm[Any]", epoch: int, summary: str) -> None:
    """The epoch's result in the bar, or as a line of its own where there is no terminal."""
    bar.set_postfix_str(summary, refresh=False)
    bar.update()
    if bar.disable:
        tqdm.write(f"train: epoch {epoch} of {bar.total}: {summary}", file=sys.stderr)


@contextmanager
def _memory(params: TrainParams) -> Iterator[None]:
    """One line if memory does not suffice."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        smaller = params.batch_size // 2
        together = -(-params.accumulate_batches * params.batch_size // max(1, smaller))
        way_out = (
            f"batch_size: {smaller} with accumulate_batches: {together}" if smaller >= 2 else "a smaller image_size_px"
        )
        raise CocosegError(
            f"params.yaml: batch_size {params.batch_size} at image_size_px {params.image_size_px} does not fit into "
            f"memory; try {way_out}"
        ) from None


def _checked_miou(validation: Validation, classes: Sequence[str]) -> float:
    miou = scores(validation.confusion, classes).miou
    if miou is None:
        raise CocosegError(
            "data/splits/val.txt: the masks of these images have no pixel that counts; choose more images or a "
            "larger val_share"
        )
    return miou


def _card(
    params: TrainParams,
    mapping: CategoryMapping,
    preprocessing: Preprocessing,
    epoch: int,
    miou: float,
    data: TrainingData,
) -> ModelCard:
    return ModelCard(
        arch=params.arch,
        encoder=params.encoder,
        task=mapping.task,
        classes=mapping.classes,
        categories=mapping.categories,
        preprocessing=preprocessing,
        epoch=epoch,
        val_miou=miou,
        params=msgspec.to_builtins(params),
        data=data,
        versions=library_versions(),
    )


def _refuse_nan(losses: Sequence[Tensor], epoch: int, best: ModelCard | None, fabric: Fabric) -> None:
    bad = ~torch.isfinite(torch.stack(list(losses)))
    # Summed, so that all processes stop: one that went on alone would wait for the others for ever.
    bad_anywhere = summed(fabric, bad.float())
    if bad_anywhere.any():
        batch = int(bad_anywhere.nonzero()[0]) + 1
        raise _no_number(f"in epoch {epoch + 1}, batch {batch}", best)


def _no_number(where: str, best: ModelCard | None) -> CocosegError:
    kept = f"; data/model holds the weights of epoch {best.epoch}" if best is not None else ""
    return CocosegError(
        f"the loss is no longer a number {where}; try a smaller lr, a longer warm-up or clip_grad_norm: 1{kept}"
    )


def _check_sides(train_pairs: Sequence[Pair], val_pairs: Sequence[Pair]) -> None:
    for side, pairs in (("train", train_pairs), ("val", val_pairs)):
        if not pairs:
            raise CocosegError(
                f"data/splits/{side}.txt: holds no image, and training needs some; set {side}_share above 0 "
                "or choose more images"
            )


def _cost(fabric: Fabric, model: nn.Module, progress: Progress, train_images: int, val_images: int) -> dict[str, Any]:
    """What the run took, for the timing metrics. The first epoch warms up and counts only if there is no other."""
    train_seconds, val_seconds = (taken[1:] or taken for taken in (progress.train_seconds, progress.val_seconds))
    return {
        "train_images_per_second": round(train_images * len(train_seconds) / sum(train_seconds), 1),
        "val_images_per_second": round(val_images * len(val_seconds) / sum(val_seconds), 1),
        "parameters": parameter_count(model),
        "peak_memory_mb": peak_memory_mb(fabric.device),
        "device": device_name(fabric.device),
        "processes": fabric.world_size,
        "precision": _precision(),
        "versions": library_versions(),
    }
