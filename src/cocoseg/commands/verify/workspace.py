"""The files that DVC put into the working tree."""

import os
import re
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from cocoseg.commands.dvc_adapter import Output, Repository, folder_list
from cocoseg.commands.verify.stores import State, Store, file_md5, md5
from cocoseg.core.files import UNFINISHED

SET_ASIDE = Path(".dvc/tmp/set-aside")  # git ignores it
_OURS = re.compile(re.escape(UNFINISHED) + "[0-9a-f]{16}")


class Workspace:
    """The working tree of a repository. Names are paths from its root."""

    name = "workspace"

    def __init__(self, repository: Repository) -> None:
        self._root = repository.root
        self._start = f"{repository.root}{os.sep}"
        self._repository = repository
        # A folder per run, so that a run never overwrites what an earlier one set aside.
        self._aside = self._root / SET_ASIDE / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.urandom(2).hex()}"
        self._alone = Lock()  # one thread at a time moves files aside

    def path(self, name: str) -> Path:
        """Return the path of a file, whatever the current folder is."""
        return self._root / name

    def _name_of(self, name: str) -> str:
        """Return `path` as a string: to make a `Path` takes as long as to hash a small file."""
        return f"{self._start}{name}"

    def files_in(self, folder: str) -> list[str]:
        """Return the files below a folder, by their name there, without those that `.dvcignore` names."""
        return self._repository.files_in(self.path(folder))

    def list_of(self, folder: str) -> bytes | None:
        """Return the list that DVC would keep of a folder as it is, or `None` if a file cannot be read."""
        top = self.path(folder)
        try:
            return folder_list({inside: file_md5(f"{top}/{inside}") for inside in self.files_in(folder)})
        except OSError:
            return None

    def state_of(self, name: str, object_: str) -> State:
        """Return whether a file, or a folder as a whole, has the content of an object."""
        try:
            if object_.endswith(".dir"):
                path = self.path(name)
                if not path.is_dir():
                    return "corrupt" if path.exists() else "missing"
                found = md5([self.list_of(name) or b""])
            else:
                found = file_md5(self._name_of(name))
        except (FileNotFoundError, NotADirectoryError):
            return "missing"
        except IsADirectoryError:
            return "corrupt"
        except OSError:  # a bad disk, or no permission: it may be intact
            return "unreadable"
        return "right" if found == object_.removesuffix(".dir") else "corrupt"

    def is_link_to(self, name: str, cache: Store, object_: str) -> bool:
        """Return whether a file is the cached object itself, through a hard or symbolic link."""
        try:
            seen = os.lstat(self._name_of(name))
            if seen.st_nlink == 1 and not stat.S_ISLNK(seen.st_mode):  # nearly all: links are a setting of DVC
                return False
            return self.path(name).samefile(cache.path(object_))
        except OSError:
            return False

    def restore(self, name: str, object_: str, cache: Store, output: Output) -> None:
        """Replace a file by the cached object, linked as DVC would, and set aside what was there."""
        path = self.path(name)
        self._make_way(path.parent if not object_.endswith(".dir") else path, self.path(output.path))
        if object_.endswith(".dir"):  # a folder without files
            return
        temporary = path.parent / f"{UNFINISHED}{os.urandom(8).hex()}"
        try:
            cache.objects.check_out(object_, temporary)
            if temporary.lstat().st_nlink == 1:  # a copy
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
            self.set_aside(name)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
        if name == output.path:
            output.set_executable()

    def remove_unfinished(self, folder: str) -> None:
        """Remove the unfinished files of a killed repair or stage, which DVC ignores."""
        for path in self.path(folder).rglob(f"{UNFINISHED}*"):
            if _OURS.fullmatch(path.name) and path.is_file():
                path.unlink()

    def set_aside(self, name: str) -> None:
        """Move a file, folder or link to `SET_ASIDE`."""
        if os.path.lexists(path := self.path(name)):  # also a dangling link: its target may come back
            with self._alone:
                self._move_aside(path, name)

    def set_object_aside(self, cache: Store, object_: str) -> None:
        """Move a cached object to `SET_ASIDE`, so that DVC no longer uses it."""
        with self._alone:
            self._move_aside(Path(cache.path(object_)), f"{cache.name}/{object_}")

    def is_behind_link(self, name: str, output: Output) -> bool:
        """Return whether a folder between an output and its file is a link, which leads to files of someone else."""
        folder = name.rpartition("/")[0]
        while len(folder) > len(output.path):
            if self.path(folder).is_symlink():
                return True
            folder = folder.rpartition("/")[0]
        return False

    def _make_way(self, folder: Path, output: Path) -> None:
        """Make a folder of an output; set aside a file or link that is in its place."""
        with self._alone:
            for parent in (*reversed(folder.parents), folder):
                is_link = parent != output and parent.is_symlink()
                if parent.is_relative_to(output) and os.path.lexists(parent) and (is_link or not parent.is_dir()):
                    self._move_aside(parent, parent.relative_to(self._root).as_posix())
            folder.mkdir(parents=True, exist_ok=True)

    def _move_aside(self, path: Path, name: str) -> None:
        target = self._aside / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)  # it may be on another disk
