"""Decoded samples between epochs, as bytes: in memory up to a budget, beyond it on disk. All processes share one copy.

Both shelves are files without a name that are mapped into memory. Such a file is passed on by its descriptor, and the
kernel frees it with the last process that holds it: nothing is left behind, not even by a process that was killed.
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

# The share of a disk that stays free: for those who work beside us, and for what this run itself has yet to write.
DISK_RESERVE = 0.1


class Shelves:
    """Images (3, h, w) and masks (h, w), uint8, by the index of their sample."""

    def __init__(self, samples: int, memory_bytes: float, disk: Path | None) -> None:
        """`memory_bytes` and a file in the folder `disk` may be filled."""
        self.shelves = [_Shelf(_memory_file(), memory_bytes)]
        if disk is not None:
            with suppress(OSError):  # read-only or full: then without it
                self.shelves.append(_Shelf(_disk_file(disk), None))
        # A row a sample: its shelf, counted from 1, or 0 while it is on none; its first byte there; height; width.
        self.places = np.zeros((samples, 4), np.int64)

    def put(self, index: int, image: Tensor, mask: Tensor) -> bool:
        """Keep a sample on the first shelf that has room; False if none has."""
        for number, shelf in enumerate(self.shelves, start=1):
            first_byte = shelf.put((image, mask))
            if first_byte is not None:
                self.places[index] = number, first_byte, *mask.shape
                return True
        return False

    def get(self, index: int) -> tuple[Tensor, Tensor] | None:
        """The sample, or `None` if it is on no shelf. Not a copy: nobody may write into it."""
        number, first_byte, height, width = self.places[index].tolist()
        if number == 0:
            return None
        pixels = height * width
        sample = self.shelves[number - 1].get(first_byte, 4 * pixels)
        return sample[: 3 * pixels].view(3, height, width), sample[3 * pixels :].view(height, width)

    def close(self) -> None:
        """Forget all samples; memory and disk are free as soon as no other process and no tensor needs them."""
        self.places[:] = 0
        for shelf in self.shelves:
            shelf.close()


class _Shelf:
    """Bytes one behind the other in a file. `limit_bytes`: `None` for as many as leave the disk its reserve."""

    def __init__(self, descriptor: int, limit_bytes: float | None) -> None:
        self.descriptor = descriptor
        self.limit_bytes = limit_bytes
        self.used_bytes = 0
        self.mapped: Tensor | None = None
        self.close_file = weakref.finalize(self, os.close, descriptor)

    def put(self, parts: Sequence[Tensor]) -> int | None:
        """Append; returns where the first byte is, or `None` without room."""
        needed = sum(part.nbytes for part in parts)
        if needed > self._room_bytes():
            return None
        first_byte = self.used_bytes
        try:
            # Written and not mapped: on a disk that fills up, writing fails, where touching a mapping would kill us.
            with os.fdopen(self.descriptor, "r+b", closefd=False) as file:
                file.seek(first_byte)
                for part in parts:
                    file.write(part.contiguous().numpy().data)
        except OSError:  # a quota, or someone else was faster
            self.limit_bytes = self.used_bytes
            return None
        self.used_bytes += needed
        self.mapped = None
        return first_byte

    def get(self, first_byte: int, length: int) -> Tensor:
        """A stretch of bytes, (length,) uint8."""
        if self.mapped is None:
            # Shared and writable, for torch takes no other memory without a warning, and a private copy of it all
            # would be counted against the memory that there is.
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
        # For a worker that is spawned and not forked: it gets a descriptor of the same file, and maps that.
        return {"descriptor": DupFd(self.descriptor), "limit_bytes": self.limit_bytes, "used_bytes": self.used_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["descriptor"].detach(), state["limit_bytes"])  # type: ignore[misc]
        self.used_bytes = state["used_bytes"]


def _memory_file() -> int:
    """A file that has no name and lies in memory; outside Linux one that the system may hold there."""
    # Not torch's shared memory: containers often leave /dev/shm 64 MB.
    return os.memfd_create("cocoseg") if hasattr(os, "memfd_create") else _disk_file(Path(tempfile.gettempdir()))


def _disk_file(folder: Path) -> int:
    with tempfile.TemporaryFile(dir=folder) as file:
        return os.dup(file.fileno())
