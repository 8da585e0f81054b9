"""The devices, processes and precision of training. They come from the machine, never from `params.yaml`."""

import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

from cocoseg.core.errors import CocosegError
from cocoseg.core.lifetime import environment_of_dvc
from cocoseg.hardware import out_of_memory
from cocoseg.train.params import TrainParams
from cocoseg.workers import counted_in


def launched_fabric(params: TrainParams) -> Fabric:
    """Start the training processes of this machine and return their Fabric, seeded.

    Raises `CocosegError` if they cannot be started, or if a batch has fewer images than there are processes.
    """
    # Its messages on devices and precision would stand between ours; both are in the timing metrics.
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    if deterministic():
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS reads it once, when it starts
        torch.use_deterministic_algorithms(True, warn_only=True)
    devices, nodes, starter = device_count(), node_count(), process_starter()
    try:
        fabric = Fabric(devices=devices, num_nodes=nodes, precision=training_precision(), plugins=starter)
        fabric.launch()
    except (RuntimeError, ValueError) as error:
        way_out = "; choose another port with MASTER_PORT" if "EADDRINUSE" in str(error) else ""
        raise CocosegError(
            f"the training processes cannot be started: {' '.join(str(error).split())}{way_out}"
        ) from None
    if params.batch_size < fabric.world_size:
        raise CocosegError(
            f"params.yaml: batch_size is {params.batch_size} for {fabric.world_size} processes; expected at least "
            f"{fabric.world_size}, one image per process, or fewer processes with COCOSEG_DEVICES"
        )
    fabric.seed_everything(params.seed, verbose=False)
    return fabric


def device_count() -> int | str:
    """Return how many processes train on this machine, one per accelerator.

    As many as `torchrun` or `srun` started; else `COCOSEG_DEVICES`, or "auto" for what Fabric finds.
    """
    return counted_in("LOCAL_WORLD_SIZE") or _srun_tasks_per_node() or counted_in("COCOSEG_DEVICES") or "auto"


def node_count() -> int:
    """Return how many machines train together: what `torchrun` or `srun` says, or `COCOSEG_NODES`, or 1."""
    started, here = counted_in("WORLD_SIZE"), counted_in("LOCAL_WORLD_SIZE")  # torchrun's
    if started and here:
        return started // here
    return (counted_in("SLURM_STEP_NUM_NODES") if started_by_srun() else None) or counted_in("COCOSEG_NODES") or 1


def started_by_srun() -> bool:
    """Return whether srun started this process as one of several.

    A batch script, a shell in a job, and the single task of an srun are none: their `SLURM_NTASKS` is what the job may
    start.
    """
    return (counted_in("SLURM_STEP_NUM_TASKS") or 1) > 1


def _srun_tasks_per_node() -> int | None:
    """Return how many tasks srun started on each node; `None` if it did not start this process as one of several."""
    if not started_by_srun():
        return None
    tasks = os.environ.get("SLURM_STEP_TASKS_PER_NODE", "")
    if (equal := re.fullmatch(r"(\d+)(\(x\d+\))?", tasks)) is None:
        raise CocosegError(
            f"srun started {tasks} tasks on its nodes; expected as many on each, such as with srun --ntasks-per-node=1"
        )
    return int(equal[1])


def process_starter() -> ClusterEnvironment | None:
    """Return what starts the processes of a training: srun or Fabric, or `None` for torchrun, which Fabric knows.

    Fabric's own guess goes by `SLURM_NTASKS`, by whether a job is named bash, and by whether there is an srun.
    """
    if "LOCAL_WORLD_SIZE" in os.environ:
        return None
    if not started_by_srun():
        return LightningEnvironment()
    copies = environment_of_dvc().get("SLURM_STEP_NUM_TASKS", "1")
    if copies != "1":  # the training of each would wait for the others forever
        raise CocosegError(
            f"srun started DVC {copies} times; start it once: srun --ntasks=1 dvc repro; or let srun start the "
            "processes of the training: PYTHONPATH=src srun python stages/train.py"
        )
    os.environ["SLURM_NTASKS_PER_NODE"] = str(_srun_tasks_per_node())  # srun leaves that of the job, or none
    os.environ["SLURM_NODELIST"] = os.environ["SLURM_STEP_NODELIST"]  # a step may lack the job's first node
    os.environ.pop("SLURM_JOB_NAME", None)  # a job named bash would pass for a shell
    # Two steps of a job may share a node.
    job, step = counted_in("SLURM_JOB_ID") or 0, int(os.environ.get("SLURM_STEP_ID", "0"))
    os.environ.setdefault("MASTER_PORT", str(15_000 + (job + 1_009 * step) % 10_000))
    starter = SLURMEnvironment(auto_requeue=False)
    try:
        socket.getaddrinfo(starter.main_address, None)
    except OSError:
        raise CocosegError(
            f"{starter.main_address}, the first node of the step, is no host name here; set MASTER_ADDR to its address"
        ) from None
    return starter


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


def deterministic() -> bool:
    """Return whether `COCOSEG_DETERMINISTIC=1` asks for the same numbers in each run on a GPU; 0 is the default."""
    asked = os.environ.get("COCOSEG_DETERMINISTIC", "0")
    if asked not in ("0", "1"):
        raise CocosegError(f"COCOSEG_DETERMINISTIC is {asked!r}; expected 0 or 1")
    return asked == "1"


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
