"""Where a model comes from: a folder here, a git revision or an experiment, or another repository through DVC."""

from functools import cached_property
from pathlib import Path

from torch import nn

from cocoseg.commands.revisions import OtherRepository, Revision, find_revision
from cocoseg.core.errors import CocosegError
from cocoseg.model.weights import INFO, WEIGHTS, ModelInfo, decoded_checkpoint, load_checkpoint


class ModelSource:
    """A model's `folder`: on this disk, or as `rev` has it, or the repository `repo`, at `rev` if that is given too."""

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
            raise CocosegError(f"{place}: there is no model; expected a revision in whose dvc.lock it is, as dvc repro "
                               "and a commit leave it")  # fmt: skip
        info_json, weights = (self._revision.cached(f"{self.folder}/{name}") for name in (INFO, WEIGHTS))
        return decoded_checkpoint(info_json, weights, place)

    def beside(self, path: str) -> bytes | None:
        """A file of the run that the model is of, whose `data/model` it is; `None` if that has none."""
        if self._revision is not None:
            return self._revision.cached(path) if self._revision.has(path) else None
        file = Path(self.folder, "../..", path)
        return file.read_bytes() if file.is_file() else None

    @cached_property
    def _revision(self) -> Revision | None:
        if self.repo is not None:
            return OtherRepository(self.repo, self.rev)
        return None if self.rev is None else find_revision(self.rev)
