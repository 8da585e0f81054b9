"""The devices and processes that train. They come from the machine, never from `params.yaml`."""

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
    """Start the processes of this machine and return the Fabric that holds them together, seeded."""
    # Its notes on devices and precision belong to nobody's one line; both are in the timing metrics.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    # In a batch script of SLURM that srun did not start, Fabric would wait for tasks that nobody starts.
    alone = LightningEnvironment() if "SLURM_NTASKS" in os.environ and not started_by_srun() else None
    try:
        fabric = Fabric(devices=device_count(), num_nodes=node_count(), precision=precision(), plugins=alone)
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


def device_count() -> int | str:
    """Return how many accelerators or processes of this machine train.

    Under `torchrun` or SLURM as many as they have started; else `COCOSEG_DEVICES`, or "auto": what Fabric finds.
    """
    return (
        counted_in("LOCAL_WORLD_SIZE")  # torchrun's
        or (counted_in("SLURM_NTASKS_PER_NODE") if started_by_srun() else None)
        or counted_in("COCOSEG_DEVICES")
        or "auto"
    )


def node_count() -> int:
    """Return how many machines train together: those of `torchrun` or SLURM, or `COCOSEG_NODES`, or 1."""
    started, here = counted_in("WORLD_SIZE"), counted_in("LOCAL_WORLD_SIZE")
    if started and here:
        return started // here
    return (counted_in("SLURM_NNODES") if started_by_srun() else None) or counted_in("COCOSEG_NODES") or 1


def started_by_srun() -> bool:
    """Return whether SLURM's srun started this process, one of as many as were asked for; a batch script runs once."""
    return "SLURM_STEP_ID" in os.environ and "SLURM_NTASKS" in os.environ


def precision() -> Literal["bf16-mixed", "16-mixed", "32-true"]:
    """Return bfloat16 where the chip computes in it, nearly twice as fast; float16 on older GPUs; or float32."""
    if full_precision():
        return "32-true"
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    return "bf16-mixed" if torch.cpu._is_avx512_bf16_supported() else "32-true"


def full_precision() -> bool:
    """Return whether `COCOSEG_PRECISION=32` forbids the chip's shorter numbers; 16 or nothing leaves it the choice."""
    asked = os.environ.get("COCOSEG_PRECISION", "16")
    if asked not in ("16", "32"):
        raise CocosegError(f"COCOSEG_PRECISION is {asked!r}; expected 16 or 32")
    return asked == "32"


@contextmanager
def memory_explained(params: TrainParams) -> Iterator[None]:
    """Turn an error of memory that does not suffice into one line."""
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
