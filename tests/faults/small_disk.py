"""A disk of a size that the test chooses: a file system in memory, in a name space of its own, so nobody needs to be
root and nothing stays mounted.
"""

import os
import shutil
import subprocess
from pathlib import Path
from types import TracebackType

_PAGE_BYTES = 4096  # what the file system is counted in


class NoSmallDisk(Exception):
    """Why there can be none on this machine."""


class SmallDisk:
    """Mounted at `folder` for what `command` starts, and seen by this process at `seen`. `with` it: leaving ends it."""

    def __init__(self, folder: Path, size_bytes: int) -> None:
        self.folder = folder
        if shutil.which("unshare") is None or shutil.which("nsenter") is None:
            raise NoSmallDisk("no unshare and nsenter, of util-linux")
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
        """Where this process finds what is on the disk."""
        return Path(f"/proc/{self._holder.pid}/root{self.folder}")

    def command(self, *arguments: str) -> list[str]:
        """The command that runs another where the disk is mounted."""
        enter = ["nsenter", f"--target={self._holder.pid}", "--user", "--mount", "--preserve-credentials"]
        return [*enter, f"--wd={Path.cwd()}", *arguments]

    @property
    def used_bytes(self) -> int:
        """How much of it is used."""
        disk = os.statvfs(self.seen)
        return (disk.f_blocks - disk.f_bfree) * disk.f_frsize

    def resize(self, size_bytes: int) -> None:
        """Make it larger or smaller, but not smaller than what is on it; whole pages."""
        pages = -(-size_bytes // _PAGE_BYTES)
        remount = self.command("mount", "-o", f"remount,size={pages * _PAGE_BYTES}", str(self.folder))
        subprocess.run(remount, check=True, capture_output=True)
