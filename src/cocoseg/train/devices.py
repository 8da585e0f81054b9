"""The devices, processes and precision of training. They come from the machine, never from `params.yaml`."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment

from cocoseg.core.errors import CocosegError
from cocoseg.hardware import out_of_memory
from cocoseg.train.params import TrainParams
from cocoseg.workers import counted_in


def launched_fabric(params: TrainParams) -> Fabric:
    """Start the training processes of this machine and return their Fabric, seeded.

    Raises `CocosegError` if they cannot be started, or if a batch has fewer images than there are processes.
    """
    # Its messages on devices and precision would stand between ours; both are in the timing metrics.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # In a SLURM batch script without srun, Fabric would wait for tasks that are never started.
    alone = LightningEnvironment() if "SLURM_NTASKS" in os.environ and not started_by_srun() else None
    try:
        fabric = Fabric(devices=device_count(), num_nodes=node_count(), precision=training_precision(), plugins=alone)
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        raise CocosegError(f"the training processes cannot be started: {' '.join(str(error).split())}") from None
    if params.batch_size < fabric.world_size:
        raise CocosegError(
            f"params.yaml: batch_size is {params.batch_size} for {fabric.world_size} processes; expected at least "
            f"{fabric.world_size}, one image per process, or fewer processes with COCOSEG_DEVICES"
        )
    fabric.seed_everything(params.seed, verbose=False)
    return fabric


def device_count() -> int | str:
    """Return how many processes train on this machine, one per accelerator.

    As many as `torchrun` or SLURM started; else `COCOSEG_DEVICES`, or "auto" for what Fabric finds.
    """
    return (
        counted_in("LOCAL_WORLD_SIZE")  # torchrun's
        or (counted_in("SLURM_NTASKS_PER_NODE") if started_by_srun() else None)
        or counted_in("COCOSEG_DEVICES")
        or "auto"
    )


def node_count() -> int:
    """Return how many machines train together: what `torchrun` or SLURM says, or `COCOSEG_NODES`, or 1."""
    started, here = counted_in("WORLD_SIZE"), counted_in("LOCAL_WORLD_SIZE")  # torchrun's
    if started and here:
        return started // here
    return (counted_in("SLURM_NNODES") if started_by_srun() else None) or counted_in("COCOSEG_NODES") or 1


def started_by_srun() -> bool:
    """Return whether srun started this process as one of several; a SLURM batch script itself runs only once."""
    return "SLURM_STEP_ID" in os.environ and "SLURM_NTASKS" in os.environ


def training_precision() -> Literal["bf16-mixed", "16-mixed", "32-true"]:
    """Return Fabric's name of the precision: bfloat16 where the chip supports it, float16 on older GPUs, or float32.

    Where a chip computes in bfloat16, training is nearly twice as fast.
    """
    if full_precision():
        return "32-true"
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


def full_precision() -> bool:
    """Return whether `COCOSEG_PRECISION=32` asks for float32; 16, the default, takes what the chip supports."""
    asked = os.environ.get("COCOSEG_PRECISION", "16")
    if asked not in ("16", "32"):
        raise CocosegError(f"COCOSEG_PRECISION is {asked!r}; expected 16 or 32")
    return asked == "32"


@contextmanager
def memory_explained(params: TrainParams) -> Iterator[None]:
    """Turn an out-of-memory error into one line that suggests a smaller batch or image."""
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
