"""Training: one loop, from parameters and pairs to the best model by validation mIoU.

Devices and processes are lightning-fabric's; `devices` says which, `resume` what a killed run goes on from.
"""

import math
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import torch
from lightning_fabric import Fabric
from torch import Tensor
from tqdm import tqdm

from cocoseg.core.errors import CocosegError
from cocoseg.hardware import device_name, peak_memory_mb
from cocoseg.model.architectures import parameter_count
from cocoseg.model.preprocessing import normalized
from cocoseg.model.weights import ModelInfo, library_versions, save_checkpoint
from cocoseg.train.dataset import Side, sample_seed, training_side, validation_side
from cocoseg.train.devices import launched_fabric, memory_explained, precision
from cocoseg.train.learner import Learner, Progress
from cocoseg.train.losses import segmentation_loss
from cocoseg.train.optimizer import current_lr, lr_factor, set_lr
from cocoseg.train.params import TrainParams
from cocoseg.train.resume import Records, records_of, resumed, run_fingerprint, snapshot
from cocoseg.train.run_data import RunData
from cocoseg.train.validation import (
    Validation,
    on_device,
    strip,
    summed,
    validate,
    validation_metrics,
    validation_miou,
)

DROPOUT = 2**31  # stands where the index of a sample would, for what else is drawn in an epoch


def train(params: TrainParams, data: RunData, model_folder: Path, live_folder: Path) -> dict[str, Any] | None:
    """Train, record each epoch, and leave the best model in `model_folder`.

    Returns the cost for the timing metrics; `None` in all processes but the first, which alone writes.

    A run of the same parameters, data and code that was killed goes on after its last whole epoch. Raises
    `CocosegError` for a model that cannot be built, data that cannot be trained on, a loss that is not finite, or
    memory that does not suffice.
    """
    data.check_sides()
    fabric = launched_fabric(params)
    learner = Learner(params, data, fabric)
    train_side = training_side(data.train, learner.preprocessing, learner.classes, params, fabric)
    val_side = validation_side(data.val, learner.preprocessing, learner.classes, params, fabric)
    run = _fingerprint(params, data, fabric)
    with (
        records_of(run, params, live_folder, fabric) as records,
        tqdm(total=params.epochs, desc="train", unit="epoch", disable=None if fabric.is_global_zero else True) as bar,
        memory_explained(params),
    ):
        progress = resumed(learner, records, model_folder)
        bar.update(progress.epochs)
        if records is not None and progress.epochs:
            records.history.strip(strip(learner, val_side.samples))
        while progress.epochs < params.epochs and not progress.exhausted(params.patience):
            started = time.perf_counter()
            train_loss = _train_epoch(learner, train_side, progress)
            trained = time.perf_counter()
            validation = validate(learner, val_side.batches)
            progress.ended_epoch(trained - started, time.perf_counter() - trained)
            if not math.isfinite(validation.loss):
                raise _not_finite(f"in validation after epoch {progress.epochs}", progress.best)
            progress.judge(learner, validation_miou(validation, learner.classes))
            if records is not None:
                _record(records, learner, progress, (train_loss, validation), model_folder)
                records.history.strip(strip(learner, val_side.samples))
                records.state.save(snapshot(learner, progress, records.history, model_folder))
                _tell(bar, progress.epochs, f"loss {train_loss:.3f}, val mIoU {progress.miou:.3f}")
            fabric.barrier()
        if records is not None:
            records.history.finish(model_folder)
            records.state.remove()
    return _cost(learner, progress, len(data.train), len(data.val)) if records is not None else None


def _train_epoch(learner: Learner, side: Side, progress: Progress) -> float:
    """Pass once over the training side; return the mean loss of its batches."""
    params, fabric, network, optimizer = learner.params, learner.fabric, learner.network, learner.optimizer
    batches, epoch = side.batches, progress.epochs
    side.plan.epoch = epoch
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
            output = network(normalized(images, learner.preprocessing))
            loss = segmentation_loss(output, target, learner.loss_name, learner.class_weights)
            fabric.backward(loss / group if group > 1 else loss)
        losses.append(loss.detach())
        if last_of_group:
            factor = lr_factor(epoch * steps + step, params.epochs * steps, warmup_steps, params.schedule)
            set_lr(optimizer, params.lr * factor)
            learner.step()
        # Looking at a loss makes a GPU wait for it, so not at each.
        if batch % 10 == 9 or batch == len(batches) - 1:
            _refuse_non_finite(losses, progress, fabric)
    return summed(fabric, torch.stack(losses).mean()).item() / fabric.world_size


def _record(
    records: Records, learner: Learner, progress: Progress, epoch: tuple[float, Validation], model_folder: Path
) -> None:
    """Write the last epoch down, training loss and validation, and its weights if they are the best so far."""
    if progress.kept.epoch == progress.epochs:
        save_checkpoint(model_folder, learner.scored, progress.kept)
    train_loss, validation = epoch
    metrics = {"train/loss": train_loss, "lr": current_lr(learner.optimizer)}
    metrics |= validation_metrics(validation, learner.classes)
    records.history.epoch(metrics, {"epoch": progress.kept.epoch, "val/miou": progress.kept.val_miou})


def _fingerprint(params: TrainParams, data: RunData, fabric: Fabric) -> str:
    """Return the fingerprint of the run, which must be that of all processes."""
    facts = [
        msgspec.to_builtins(params),
        msgspec.to_builtins(data.mapping),
        data.class_weights,
        data.fingerprint,
        precision(),
    ]
    run = run_fingerprint(facts, library_versions())
    if fabric.broadcast(run) != run:
        raise CocosegError(
            "this node has other parameters, data or code than the first; bring both to one commit, dvc pull"
        )
    return run


def _tell(bar: "tqdm[Any]", epoch: int, summary: str) -> None:
    """Show the epoch's result in the bar, or as a line of its own where there is no terminal."""
    bar.set_postfix_str(summary, refresh=False)
    bar.update()
    if bar.disable:
        tqdm.write(f"train: epoch {epoch} of {bar.total}: {summary}", file=sys.stderr)


def _refuse_non_finite(losses: Sequence[Tensor], progress: Progress, fabric: Fabric) -> None:
    bad = ~torch.isfinite(torch.stack(list(losses)))
    # Summed, so that all processes stop: one that went on alone would wait for the others for ever.
    bad_anywhere = summed(fabric, bad.float())
    if bad_anywhere.any():
        batch = int(bad_anywhere.nonzero()[0]) + 1
        raise _not_finite(f"in epoch {progress.epochs + 1}, batch {batch}", progress.best)


def _not_finite(where: str, best: ModelInfo | None) -> CocosegError:
    kept = f"; data/model holds the weights of epoch {best.epoch}" if best is not None else ""
    return CocosegError(
        f"the loss is no longer a number {where}; try a smaller lr, a longer warm-up or clip_grad_norm: 1{kept}"
    )


def _cost(learner: Learner, progress: Progress, train_images: int, val_images: int) -> dict[str, Any]:
    """Return what the run took, for the timing metrics. The first epoch warms up and counts only if it is alone."""
    train_seconds, val_seconds = (taken[1:] or taken for taken in (progress.train_seconds, progress.val_seconds))
    return {
        "train_images_per_second": round(train_images * len(train_seconds) / sum(train_seconds), 1),
        "val_images_per_second": round(val_images * len(val_seconds) / sum(val_seconds), 1),
        "parameters": parameter_count(learner.model),
        "peak_memory_mb": peak_memory_mb(learner.fabric.device),
        "device": device_name(learner.fabric.device),
        "processes": learner.fabric.world_size,
        "precision": precision(),
        "versions": library_versions(),
    }
