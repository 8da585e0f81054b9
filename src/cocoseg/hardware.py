"""What this machine has. None of it enters `params.yaml`: a result must not depend on who had more cores."""

import re
import resource
import sys

import torch

_NO_MEMORY = re.compile(r"out of memory|can't allocate memory|ALLOC_FAILED|DataLoader worker .* killed")


def out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch's says that memory of the machine or of the accelerator does not suffice."""
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(str(error)))


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
