"""Where a model comes from: a folder, a git revision or experiment, or another repository through DVC."""

import posixpath
from functools import cached_property
from pathlib import Path

from torch import nn

from cocoseg.commands.revisions import OtherRepository, Revision, find_revision
from cocoseg.core.errors import CocosegError
from cocoseg.model.weights import INFO, WEIGHTS, ModelInfo, decoded_checkpoint, load_checkpoint


class ModelSource:
    """The model in `folder`: on this disk, at the revision `rev`, or in the repository `repo`, at `rev` if given."""

    def __init__(self, folder: str, rev: str | None = None, repo: str | None = None) -> None:
        self.folder = folder
        self.rev = rev
        self.repo = repo

    def load(self) -> tuple[nn.Module, ModelInfo]:
        """Return the model and its `model.json`; raise `CocosegError` where there is none."""
        if self._revision is None:
            return load_checkpoint(Path(self.folder))
        place = f"{self._revision.name}: {self.folder}"
        if not self._revision.has(self.folder):
            below = "" if self.repo is None else "; of a folder in that repository, name --model FOLDER/data/model"
            raise CocosegError(f"{place}: model not found; expected a revision whose dvc.lock names it, such as a "
                               f"commit after dvc repro{below}")  # fmt: skip
        info_json, weights = (self._revision.cached(f"{self.folder}/{name}") for name in (INFO, WEIGHTS))
        return decoded_checkpoint(info_json, weights, place)

    def beside(self, path: str) -> bytes | None:
        """Return a file of the run that made the model, such as its card, or `None` if the run has none."""
        file = Path(self.folder, "../..", path)
        if self._revision is not None:
            name = posixpath.normpath(file.as_posix())
            return self._revision.cached(name) if self._revision.has(name) else None
        return file.read_bytes() if file.is_file() else None

    @cached_property
    def _revision(self) -> Revision | None:
        if self.repo is not None:
            return OtherRepository(self.repo, self.rev)
        return None if self.rev is None else find_revision(self.rev)
