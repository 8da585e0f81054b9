"""The files that DVC put into the working tree, held against what it meant to put there."""

import os
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from cocoseg.commands.dvc_adapter import Output, Repository, folder_list
from cocoseg.commands.verify.stores import State, Store, file_chunks, md5
from cocoseg.core.files import UNFINISHED

SET_ASIDE = Path(".dvc/tmp/set-aside")  # git does not see it
_OURS = re.compile(re.escape(UNFINISHED) + "[0-9a-f]{16}")


class Workspace:
    """The working tree of DVC's `repository`. Paths are from its root."""

    name = "workspace"

    def __init__(self, repository: Repository) -> None:
        self._root = repository.root
        self._repository = repository
        # A folder for each run: what one has put aside never stands in the way of the next.
        self._aside = self._root / SET_ASIDE / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.urandom(2).hex()}"
        self._alone = Lock()  # names below SET_ASIDE are given to one at a time

    def path(self, name: str) -> Path:
        """Where a file is, whatever the working directory."""
        return self._root / name

    def files_in(self, folder: str) -> list[str]:
        """The files below a folder, by their name there; those that `.dvcignore` names are none."""
        return self._repository.files_in(self.path(folder))

    def list_of(self, folder: str) -> bytes | None:
        """The list that DVC would keep of a folder as it is; `None` if some of it cannot be read."""
        top = self.path(folder)
        try:
            return folder_list({inside: md5(file_chunks(top / inside)) for inside in self.files_in(folder)})
        except OSError:
            return None

    def state_of(self, name: str, object_: str) -> State:
        """Whether a file, or a folder as a whole, has the content of this object."""
        path = self.path(name)
        try:
            if object_.endswith(".dir"):
                if not path.is_dir():
                    return "corrupt" if path.exists() else "missing"
                found = md5([self.list_of(name) or b""])
            else:
                found = md5(file_chunks(path))
        except (FileNotFoundError, NotADirectoryError):
            return "missing"
        except IsADirectoryError:
            return "corrupt"
        except OSError:  # a disk that cannot read it, or a mode that forbids to: it may be right all the same
            return "unreadable"
        return "right" if found == object_.removesuffix(".dir") else "corrupt"

    def is_link_to(self, name: str, cache: Store, object_: str) -> bool:
        """Whether a file is the cached object itself, by a hard or a symbolic link."""
        try:
            return self.path(name).samefile(cache.path(object_))
        except OSError:
            return False

    def restore(self, name: str, object_: str, cache: Store, output: Output) -> None:
        """Make a file the cached object again, linked as DVC would; what was there before is set aside."""
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
        """Remove what a repair that was killed, or a stage, was about to write there; DVC does not see it."""
        for path in self.path(folder).rglob(f"{UNFINISHED}*"):
            if _OURS.fullmatch(path.name) and path.is_file():
                path.unlink()

    def set_aside(self, name: str) -> None:
        """Move what is there to `SET_ASIDE`."""
        if os.path.lexists(path := self.path(name)):  # a link that leads nowhere now may lead somewhere again
            with self._alone:
                self._move_aside(path, name)

    def set_object_aside(self, cache: Store, object_: str) -> None:
        """Move a cached object to `SET_ASIDE`, so that DVC no longer believes it to be there."""
        with self._alone:
            self._move_aside(Path(cache.path(object_)), f"{cache.name}/{object_}")

    def is_behind_link(self, name: str, output: Output) -> bool:
        """Whether a folder between an output and its file is a link: what is there belongs to someone else."""
        between = self.path(name).relative_to(self.path(output.path)).parents
        return any(self.path(output.path).joinpath(folder).is_symlink() for folder in between if folder.name)

    def _make_way(self, folder: Path, output: Path) -> None:
        """Make a folder of an output, where a file, or a link to another folder, may have taken its place."""
        with self._alone:
            for parent in (*reversed(folder.parents), folder):
                is_link = parent != output and parent.is_symlink()
                if parent.is_relative_to(output) and os.path.lexists(parent) and (is_link or not parent.is_dir()):
                    self._move_aside(parent, parent.relative_to(self._root).as_posix())
            folder.mkdir(parents=True, exist_ok=True)

    def _move_aside(self, path: Path, name: str) -> None:
        target = self._aside / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)  # which may be on another disk
