"""The training loop: from parameters and data to the model of the epoch with the best score in validation.

Lightning Fabric runs it on any number of devices and processes; `devices` chooses them. `learner` holds the model,
`dataset` makes the batches, `validation` scores an epoch, and `resume` continues a run that was killed.
"""

import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import msgspec
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from tqdm import tqdm

from cocoseg.coco.categories import IGNORE
from cocoseg.core.errors import CocosegError
from cocoseg.hardware import device_name, peak_memory_mb
from cocoseg.model.architectures import parameter_count
from cocoseg.model.own_code import own_errors_explained, own_hashes
from cocoseg.model.preprocessing import normalized
from cocoseg.model.weights import ModelInfo, library_versions, save_checkpoint
from cocoseg.train.dataset import LoadedSide, sample_seed, training_side, validation_side
from cocoseg.train.devices import launched_fabric, memory_explained, training_precision
from cocoseg.train.learner import Learner, Progress
from cocoseg.train.losses import segmentation_loss
from cocoseg.train.memory import keep_freed_memory
from cocoseg.train.optimizer import current_lr, lr_factor, set_lr
from cocoseg.train.params import TrainParams
from cocoseg.train.resume import RunFiles, open_run_files, refuse_replaced, resume, run_fingerprint, snapshot
from cocoseg.train.run_data import RunData
from cocoseg.train.selection import EpochScore, epoch_score, warnings
from cocoseg.train.validation import (
    Validation,
    on_device,
    summed,
    validate,
    validation_metrics,
    validation_picture,
)

LAG = (
    "validation's loss is far above training's, as is common in first epochs: BatchNorm's running statistics lag "
    "behind weights that change fast; if the last epoch has it, too, lower lr or raise epochs"
)
DROPOUT = 2**31  # in place of a sample's index in a seed: for dropout, the other thing that an epoch draws


def train(params: TrainParams, data: RunData, model_folder: Path, log_folder: Path) -> dict[str, Any] | None:
    """Train, log each epoch to `log_folder`, and leave the best model in `model_folder`.

    Returns speed, memory and versions for the timing metrics; `None` in all processes but the first, which alone
    writes. A killed run with the same parameters, data and code is resumed after its last complete epoch.

    Raises `CocosegError` if the model cannot be built, the data cannot be trained on, the loss is not finite, or memory
    runs out.
    """
    data.check_sides()
    keep_freed_memory()
    fabric = launched_fabric(params)
    learner = Learner(params, data, fabric)
    train_side = training_side(data.train, learner.preprocessing, learner.classes, params, fabric, data.repeat_factors)
    val_side = validation_side(data.val, learner.preprocessing, learner.classes, params, fabric)
    batches = len(train_side.loader) + len(val_side.loader)
    fingerprint = _fingerprint(params, data, learner)
    with (
        open_run_files(fingerprint, params, log_folder, fabric) as files,  # None in all processes but the first
        _bar(params.epochs * batches, fabric) as bar,
        memory_explained(params),
        own_errors_explained(),
    ):
        progress = resume(learner, files, model_folder)
        bar.initial = bar.n = bar.last_print_n = progress.epochs * batches
        if files is not None and progress.epochs:  # resumed: DVC deleted the picture
            files.log.log_validation_picture(validation_picture(learner, val_side.dataset))
        lag_said = False
        while progress.epochs < params.epochs and not progress.out_of_patience(params.patience):
            started = time.perf_counter()
            bar.set_description(f"train: epoch {progress.epochs + 1} of {params.epochs}")
            train_loss = _train_epoch(learner, train_side, progress, bar)
            trained = time.perf_counter()
            validation = validate(learner, _counted(val_side.loader, bar))
            progress.count_epoch(trained - started, time.perf_counter() - trained)
            if not math.isfinite(validation.loss):
                raise _not_finite(f"in validation after epoch {progress.epochs}", progress.best)
            judged = epoch_score(validation.confusion, validation.histogram, learner.primary_score, learner.classes)
            best = progress.judge_epoch(learner, judged)
            if files is not None:
                refuse_replaced(model_folder, progress)
                if best.epoch == progress.epochs:
                    progress.saved_sha256 = save_checkpoint(model_folder, learner.validated_model, best)
                _log_epoch(files, learner, train_loss, validation, judged, best)
                files.log.log_validation_picture(validation_picture(learner, val_side.dataset))
                files.state.save(snapshot(learner, progress, files.log, model_folder))
                seconds = time.perf_counter() - started
                said = f"loss {train_loss:.3f}, val loss {validation.loss:.3f}, {judged}"
                bar.write(_epoch_line(progress, params.epochs, said, seconds), file=sys.stderr)
                if not lag_said and _statistics_lag(learner, train_loss, validation.loss):
                    lag_said = True
                    bar.write(f"train: {LAG}", file=sys.stderr)
            fabric.barrier()
        if files is not None:
            refuse_replaced(model_folder, progress)
            files.log.finish(model_folder)
            files.state.remove()
            for line in warnings(learner.primary_score, progress.best_score):
                bar.write(f"train: {line}", file=sys.stderr)
    return _cost(learner, progress, sum(train_side.sampler.sizes()), len(data.val)) if files is not None else None


def _train_epoch(learner: Learner, side: LoadedSide, progress: Progress, bar: "tqdm[Any]") -> float:
    """Pass over the training side once and return the mean loss of its batches, without those of ignored pixels."""
    params, fabric, network, optimizer = learner.params, learner.fabric, learner.network, learner.optimizer
    batches, epoch = side.loader, progress.epochs
    side.sampler.epoch = epoch
    # Dropout draws from this generator: an epoch must not depend on what was drawn before it.
    torch.manual_seed(sample_seed(params.seed, epoch, DROPOUT + fabric.global_rank))
    learner.start_epoch(epoch)
    accumulate = params.accumulate_batches
    steps = -(-len(batches) // accumulate)  # of the optimizer, in one epoch
    warmup_steps = round(params.warmup_epochs * steps)
    sizes = side.sampler.sizes()
    losses: list[Tensor] = []
    shown: list[Tensor] = []  # whether anything counted
    total = 0.0  # of the shares of the batches of this step
    for batch, (images, target) in enumerate(batches):
        step, place = divmod(batch, accumulate)
        group = sizes[step * accumulate :][:accumulate]  # batches of this step; the last may have fewer
        last_of_group = place == len(group) - 1
        share = sizes[batch] / sum(group) * _counted_share(target, fabric) if len(group) > 1 else 1.0
        images, target = on_device(images, target, fabric)
        with nullcontext() if last_of_group else fabric.no_backward_sync(network):
            output = network(normalized(images, learner.preprocessing))
            weights, shared = learner.class_weights, fabric.world_size > 1
            loss = segmentation_loss(output, target, learner.loss, weights, shared, params.label_smoothing)
            fabric.backward(loss * share if len(group) > 1 else loss)
        losses.append(loss.detach())
        shown.append((target != IGNORE).any())
        total = share + (total if place else 0.0)
        if last_of_group:
            learner.divide_gradients(total)
            factor = lr_factor(epoch * steps + step, params.epochs * steps, warmup_steps, params.schedule)
            set_lr(optimizer, params.lr * factor)
            learner.step()
        bar.update()
        # Reading a loss makes the CPU wait for the GPU, so it is not done after every batch.
        if batch % 10 == 9 or batch == len(batches) - 1:
            _refuse_non_finite(losses, progress, fabric)
    counted = summed(fabric, torch.stack(shown).float()).bool().sum().clamp_min(1)  # in any process
    return (summed(fabric, torch.stack(losses).sum()) / counted).item() / fabric.world_size


def _counted_share(target: Tensor, fabric: Fabric) -> float:
    """Return the share of the pixels of a batch, over all processes, that are not ignored; `target` is on the CPU."""
    pixels = torch.stack([(target != IGNORE).sum(), torch.tensor(target.numel())]).float()
    if fabric.world_size > 1:  # else a GPU would have to be waited for
        pixels = summed(fabric, pixels.to(fabric.device))
    counted, of_all = pixels.tolist()
    return float(counted / of_all)


def _statistics_lag(learner: Learner, train_loss: float, val_loss: float) -> bool:
    """Return whether validation's loss is beyond what a network can lose that only learned by heart."""
    has_statistics = any(isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm) for module in learner.model.modules())
    return has_statistics and val_loss > 10 * max(train_loss, math.log(len(learner.classes)))


def _log_epoch(
    files: RunFiles,
    learner: Learner,
    train_loss: float,
    validation: Validation,
    judged: EpochScore,
    best: ModelInfo,
) -> None:
    """Log the metrics of the last epoch, and which epoch is the best so far."""
    metrics = {"train/loss": train_loss, "lr": current_lr(learner.optimizer)}
    metrics |= validation_metrics(validation, judged, learner.classes)
    assert best.val_score is not None
    files.log.log_epoch(metrics, {"epoch": best.epoch, f"val/{best.primary_score}": best.val_score})


def _fingerprint(params: TrainParams, data: RunData, learner: Learner) -> str:
    """Return the fingerprint of the run. Raises `CocosegError` in a process whose own is not that of the first."""
    facts = [
        msgspec.to_builtins(params),
        msgspec.to_builtins(data.mapping),
        data.class_weights,
        data.repeat_factors,
        data.fingerprint,
        msgspec.to_builtins(learner.initial),
        training_precision(),
        own_hashes(),
    ]
    fingerprint = run_fingerprint(facts, library_versions())
    if learner.fabric.broadcast(fingerprint) != fingerprint:
        raise CocosegError(
            "this node has different parameters, data or code from the first; check out the same commit on both, then: "
            "dvc pull"
        )
    return fingerprint


def _bar(batches: int, fabric: Fabric) -> "tqdm[Any]":
    """Return the progress bar of the run: in a terminal alone, and of the first process alone."""
    # miniters: else it waits for as many slow batches as there were fast ones in the time between two looks.
    disable = None if fabric.is_global_zero else True
    return tqdm(total=batches, desc="train", unit="batch", miniters=1, leave=False, disable=disable)


def _counted(batches: Iterable[tuple[Tensor, Tensor]], bar: "tqdm[Any]") -> Iterator[tuple[Tensor, Tensor]]:
    for batch in batches:
        yield batch
        bar.update()


def _epoch_line(progress: Progress, epochs: int, said: str, seconds: float) -> str:
    """Return the result of the last epoch in words, short enough for 80 columns."""
    assert progress.best is not None
    return (
        f"train: epoch {progress.epochs} of {epochs}: {said}, best: {progress.best.epoch}, "
        f"{seconds:.{1 if seconds < 10 else 0}f} s"
    )


def _refuse_non_finite(losses: Sequence[Tensor], progress: Progress, fabric: Fabric) -> None:
    bad = ~torch.isfinite(torch.stack(list(losses)))
    # Summed, so that all processes stop: one that went on alone would wait for the others forever.
    bad_anywhere = summed(fabric, bad.float())
    if bad_anywhere.any():
        batch = int(bad_anywhere.nonzero()[0]) + 1
        raise _not_finite(f"in epoch {progress.epochs + 1}, batch {batch}", progress.best)


def _not_finite(where: str, best: ModelInfo | None) -> CocosegError:
    kept = f"; data/model holds the weights of epoch {best.epoch}" if best is not None else ""
    return CocosegError(
        f"the loss is not a finite number {where}; try a smaller lr, a longer warm-up or clip_grad_norm: 1{kept}"
    )


def _cost(learner: Learner, progress: Progress, train_images: int, val_images: int) -> dict[str, Any]:
    """Return the speed and memory of the run, for the timing metrics."""
    # The first epoch is slower, since it warms up, and counts only if it is the only one.
    train_seconds, val_seconds = (taken[1:] or taken for taken in (progress.train_seconds, progress.val_seconds))
    return {
        "train_images_per_second": round(train_images * len(train_seconds) / sum(train_seconds), 1),
        "val_images_per_second": round(val_images * len(val_seconds) / sum(val_seconds), 1),
        "parameters": parameter_count(learner.model),
        "peak_memory_mb": peak_memory_mb(learner.fabric.device),
        "device": device_name(learner.fabric.device),
        "processes": learner.fabric.world_size,
        "precision": training_precision(),
        "versions": library_versions(),
    }
