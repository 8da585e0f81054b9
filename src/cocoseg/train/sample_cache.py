"""A cache of decoded samples between epochs: in memory up to a budget, beyond it on disk.

Both are files without a name that are mapped into memory. A worker process gets the descriptor of such a file and so
shares the one copy. The kernel deletes the file with the last process that holds it, even if that was killed.
"""

import mmap
import os
import tempfile
import weakref
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.reduction import DupFd
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

# The share of the disk that stays free, for other programs and for what this run has yet to write.
DISK_RESERVE = 0.1


class SampleCache:
    """Images (3, h, w) and masks (h, w), uint8, by the index of their sample."""

    def __init__(self, samples: int, memory_bytes: float, disk: Path | None) -> None:
        """Make an empty cache of up to `memory_bytes` in memory, and beyond them in a file in the folder `disk`."""
        self.files = [_CacheFile(_memory_file(), memory_bytes)]
        if disk is not None:
            with suppress(OSError):  # read-only or full: the cache works without it
                self.files.append(_CacheFile(_disk_file(disk), None))
        # One row per sample: its file, counted from 1, or 0 if it is not cached; its first byte there; height; width.
        self.places = np.zeros((samples, 4), np.int64)

    def put(self, index: int, image: Tensor, mask: Tensor) -> bool:
        """Store a sample in the first file that has room; return whether one had."""
        for number, file in enumerate(self.files, start=1):
            first_byte = file.append((image, mask))
            if first_byte is not None:
                self.places[index] = number, first_byte, *mask.shape
                return True
        return False

    def get(self, index: int) -> tuple[Tensor, Tensor] | None:
        """Return the sample, or `None` if it is not cached. It is not a copy: do not write into it."""
        number, first_byte, height, width = self.places[index].tolist()
        if number == 0:
            return None
        pixels = height * width
        sample = self.files[number - 1].read(first_byte, 4 * pixels)
        return sample[: 3 * pixels].view(3, height, width), sample[3 * pixels :].view(height, width)

    def close(self) -> None:
        """Forget all samples. Memory and disk are freed once no other process and no tensor uses them."""
        self.places[:] = 0
        for file in self.files:
            file.close()


class _CacheFile:
    """A file that grows up to `limit_bytes`, or with `None` until only the disk's reserve is left."""

    def __init__(self, descriptor: int, limit_bytes: float | None) -> None:
        self.descriptor = descriptor
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.mapped: Tensor | None = None
        self.close_file = weakref.finalize(self, os.close, descriptor)

    def append(self, parts: Sequence[Tensor]) -> int | None:
        """Append the bytes of `parts`; return the position of the first, or `None` if there is no room."""
        needed = sum(part.nbytes for part in parts)
        if needed > self._room_bytes():
            return None
        first_byte = self.used_bytes
        try:
            # Not through the mapping: on a full disk a write fails, but touching a mapping kills the process.
            with os.fdopen(self.descriptor, "r+b", closefd=False) as file:
                file.seek(first_byte)
                for part in parts:
                    file.write(part.contiguous().numpy().data)
        except OSError:  # a quota, or another program took the space
            self.limit_bytes = self.used_bytes
            return None
        self.used_bytes += needed
        self.mapped = None
        return first_byte

    def read(self, first_byte: int, length: int) -> Tensor:
        """Return a stretch of bytes, (length,) uint8."""
        if self.mapped is None:
            # Shared and writable: torch warns about read-only memory, and the system would reserve memory for the whole
            # of a private mapping.
            self.mapped = torch.frombuffer(mmap.mmap(self.descriptor, self.used_bytes), dtype=torch.uint8)
        return self.mapped[first_byte : first_byte + length]

    def close(self) -> None:
        self.mapped = None
        self.close_file()

    def _room_bytes(self) -> float:
        if self.limit_bytes is not None:
            return self.limit_bytes - self.used_bytes
        disk = os.fstatvfs(self.descriptor)
        return (disk.f_bavail - DISK_RESERVE * disk.f_blocks) * disk.f_frsize

    def __getstate__(self) -> dict[str, Any]:
        # For a worker that is spawned, not forked: it gets a descriptor of the same file and maps it again.
        return {"descriptor": DupFd(self.descriptor), "limit_bytes": self.limit_bytes, "used_bytes": self.used_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["descriptor"].detach(), state["limit_bytes"])  # type: ignore[misc]
        self.used_bytes = state["used_bytes"]


def _memory_file() -> int:
    """Return the descriptor of a file in memory without a name; outside Linux, of one in the temporary folder."""
    # Not torch's shared memory: containers often give /dev/shm only 64 MB.
    return os.memfd_create("cocoseg") if hasattr(os, "memfd_create") else _disk_file(Path(tempfile.gettempdir()))


def _disk_file(folder: Path) -> int:
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.dup(file.fileno())
