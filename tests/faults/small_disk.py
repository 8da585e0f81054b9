"""A disk of a chosen size: a file system in memory in its own namespace.

It needs no root, and nothing stays mounted.
"""

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

_PAGE_BYTES = 4096  # the unit of the file system


class NoSmallDisk(Exception):
    """The reason why there can be no small disk on this machine."""


class SmallDisk:
    """A disk, mounted at `folder` for what `command` starts. This process sees it at `seen`. A context manager."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.folder = folder
        if shutil.which("unshare") is None or shutil.which("nsenter") is None:
            raise NoSmallDisk("unshare or nsenter of util-linux was not found")
        folder.mkdir(parents=True, exist_ok=True)
        mount = f"mount -t tmpfs -o size={size_bytes} tmpfs {folder} && echo mounted && exec cat"
        self._holder = subprocess.Popen(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != "mounted\n":
            raise NoSmallDisk(self._holder.communicate()[1].strip())

    def __enter__(self) -> "SmallDisk":
        return self

    def __exit__(
        self, type_: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._holder.communicate("")

    @property
    def seen(self) -> Path:
        """The path of the disk for this process."""
        return Path(f"/proc/{self._holder.pid}/root{self.folder}")

    def command(self, *arguments: str) -> list[str]:
        """Return the command that runs another one where the disk is mounted."""
        enter = ["nsenter", f"--target={self._holder.pid}", "--user", "--mount", "--preserve-credentials"]
        return [*enter, f"--wd={Path.cwd()}", *arguments]

    @property
    def used_bytes(self) -> int:
        """The used bytes of the disk."""
        disk = os.statvfs(self.seen)
        return (disk.f_blocks - disk.f_bfree) * disk.f_frsize

    def resize(self, size_bytes: int) -> None:
        """Resize the disk to whole pages; not below the size of its content."""
        pages = -(-size_bytes // _PAGE_BYTES)
        remount = self.command("mount", "-o", f"remount,size={pages * _PAGE_BYTES}", str(self.folder))
        subprocess.run(remount, check=True, capture_output=True)
