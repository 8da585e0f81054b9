"""The device, its memory, and the errors when it runs out."""

import re
import resource
import sys

import torch

_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|ALLOC_FAILED|DataLoader worker .* killed")


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error, of torch or not, means that the machine or the accelerator ran out of memory."""
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(str(error)))


def device_name(device: torch.device) -> str:
    """Return the name of the device, to stand beside a measured time: a GPU's own name, or "cpu, 2 threads"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{device.type}, {threads} thread{'' if threads == 1 else 's'}"


def peak_memory_mb(device: torch.device) -> int:
    """Return the peak memory of this process so far, in MiB: of its tensors on a GPU, else of all of it."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20)
    unit = 1 if sys.platform == "darwin" else 1024  # bytes per unit of ru_maxrss
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20)
