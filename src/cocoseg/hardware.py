"""What this machine has. None of it enters `params.yaml`: a result must not depend on who had more cores."""

import os
import re
import resource
import sys
from pathlib import Path

import torch

from cocoseg.core.errors import CocosegError
from cocoseg.workers import counted_in

# Limit and use of a container's memory, and what of it are cached files, under the second and the first kind of
# control groups.
_CGROUP_MEMORY = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)

_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|ALLOC_FAILED|DataLoader worker .* killed")


def free_memory_bytes() -> int:
    """Memory that can still be used: of the machine, or of the container if that has less."""
    free = _machine_memory_bytes()
    for folder, limit_file, used_file, cached in _CGROUP_MEMORY:
        try:
            limit, used = int((folder / limit_file).read_text()), int((folder / used_file).read_text())
            parts = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        except (OSError, ValueError):  # no container, or «max»
            continue
        # Cached files count as used, though they give way to whoever asks.
        free = min(free, limit - used + int(parts.get(cached, 0)))
    return max(0, free)


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch's says that memory of the machine or of the accelerator does not suffice."""
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(str(error)))


def device_count() -> int | str:
    """Accelerators or processes of this machine to train on.

    Under `torchrun` or SLURM what they have started; else `COCOSEG_DEVICES`, or what Fabric finds («auto»; one CPU).
    """
    return (
        counted_in("LOCAL_WORLD_SIZE")  # torchrun's
        or (counted_in("SLURM_NTASKS_PER_NODE") if started_by_srun() else None)
        or counted_in("COCOSEG_DEVICES")
        or "auto"
    )


def node_count() -> int:
    """Machines that train together: those of `torchrun` or SLURM, or `COCOSEG_NODES`, or 1."""
    started, here = counted_in("WORLD_SIZE"), counted_in("LOCAL_WORLD_SIZE")
    if started and here:
        return started // here
    return (counted_in("SLURM_NNODES") if started_by_srun() else None) or counted_in("COCOSEG_NODES") or 1


def started_by_srun() -> bool:
    """Whether SLURM's srun started this process, one of as many as were asked for; a batch script runs once."""
    return "SLURM_STEP_ID" in os.environ and "SLURM_NTASKS" in os.environ


def full_precision() -> bool:
    """Whether `COCOSEG_PRECISION=32` forbids the chip's faster, shorter numbers; 16 or nothing leaves it the choice."""
    asked = os.environ.get("COCOSEG_PRECISION", "16")
    if asked not in ("16", "32"):
        raise CocosegError(f"COCOSEG_PRECISION is {asked!r}; expected 16 or 32")
    return asked == "32"


def device_name(device: torch.device) -> str:
    """What a measured time belongs to: the name of a GPU, or «cpu, 2 threads»."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'' if threads == 1 else 's'}"


def peak_memory_mb(device: torch.device) -> int:
    """The most memory that this process has held so far, in MiB: its tensors on a GPU, else all of it."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)


def _machine_memory_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        # Not Linux: half of what is built in, a guess on the safe side.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 if hasattr(os, "sysconf") else 2**30
