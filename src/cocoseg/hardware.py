"""What this machine has. None of it enters `params.yaml`: a result must not depend on who had more cores."""

import os
from pathlib import Path

from cocoseg.errors import CocosegError
from cocoseg.workers import counted_in

# Limit and use of a container's memory, under the second and the first kind of control groups.
_CGROUP_MEMORY = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"), Path("/sys/fs/cgroup/memory/memory.usage_in_bytes")),
)


def free_memory_bytes() -> int:
    """Memory that can still be used: of the machine, or of the container if that has less."""
    free = _machine_memory_bytes()
    for limit_file, used_file in _CGROUP_MEMORY:
        try:
            limit, used = int(limit_file.read_text()), int(used_file.read_text())
        except (OSError, ValueError):  # no container, or «max»
            continue
        free = min(free, limit - used)
    return max(0, free)


def device_count() -> int | str:
    """Accelerators or processes to train on: `COCOSEG_DEVICES`, or as many as Fabric finds («auto»; one on a CPU)."""
    return counted_in("COCOSEG_DEVICES") or "auto"


def node_count() -> int:
    """Machines that train together: `COCOSEG_NODES`, or 1."""
    return counted_in("COCOSEG_NODES") or 1


def full_precision() -> bool:
    """Whether `COCOSEG_PRECISION=32` forbids the chip's faster, shorter numbers; 16 or nothing leaves it the choice."""
    asked = os.environ.get("COCOSEG_PRECISION", "16")
    if asked not in ("16", "32"):
        raise CocosegError(f"COCOSEG_PRECISION is {asked!r}; expected 16 or 32")
    return asked == "32"


def _machine_memory_bytes() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        # Not Linux: half of what is built in, a guess on the safe side.
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2 if hasattr(os, "sysconf") else 2**30
