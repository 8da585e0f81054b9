"""Where a model comes from: a folder, a git revision or experiment, or another repository through DVC."""

import posixpath
import sys
from functools import cached_property
from pathlib import Path
from typing import Annotated

import msgspec
from torch import nn

from cocoseg.commands.revisions import OtherRepository, Revision, find_revision
from cocoseg.core.errors import CocosegError
from cocoseg.model.params import Threshold
from cocoseg.model.threshold import EVEN, ChosenThreshold, chosen_threshold
from cocoseg.model.weights import INFO, WEIGHTS, ModelInfo, decoded_checkpoint, load_checkpoint

CARD = "metrics/model_card.md"
SCORES = "metrics/evaluate.json"


class _ScoredAt(msgspec.Struct):
    threshold: Annotated[float, msgspec.Meta(gt=0, lt=1)] | None = None


class ModelSource:
    """The model in `folder`: on this disk, at the revision `rev`, or in the repository `repo`, at `rev` if given."""

    def __init__(self, folder: str, rev: str | None = None, repo: str | None = None) -> None:
        self.folder = folder
        self.rev = rev
        self.repo = repo

    def load(self) -> tuple[nn.Module, ModelInfo]:
        """Return the model and its `model.json`; raise `CocosegError` where there is none."""
        if self._revision is None:
            model, info = load_checkpoint(Path(self.folder))
            if self.beside(CARD) is not None and not self.describes(info):
                sys.stderr.write(
                    f"{self.folder}: is not the model that {CARD} describes, but of a run that is not done, or of "
                    "another commit; for the committed one: --rev HEAD, or, if nothing runs, dvc checkout --force\n"
                )
            return model, info
        place = f"{self._revision.name}: {self.folder}"
        if not self._revision.has(self.folder):
            below = "" if self.repo is None else "; of a folder in that repository, name --model FOLDER/data/model"
            raise CocosegError(f"{place}: model not found; expected a revision whose dvc.lock names it, such as a "
                               f"commit after dvc repro{below}")  # fmt: skip
        info_json, weights = (self._revision.cached(f"{self.folder}/{name}") for name in (INFO, WEIGHTS))
        commit = self._revision.commit if self.repo is None else None
        return decoded_checkpoint(info_json, weights, place, (commit or "REVISION")[:12])

    def beside(self, path: str) -> bytes | None:
        """Return a file of the run that made the model, such as its card, or `None` if the run has none."""
        file = Path(self.folder, "../..", path)
        if self._revision is not None:
            name = posixpath.normpath(file.as_posix())
            return self._revision.cached(name) if self._revision.has(name) else None
        return file.read_bytes() if file.is_file() else None

    def describes(self, info: ModelInfo) -> bool:
        """Return whether the card beside the model, and so the metrics, are of these weights."""
        return info.weights_sha256[:12].encode() in (self.beside(CARD) or b"")

    def threshold(self, wanted: Threshold | None, info: ModelInfo) -> ChosenThreshold:
        """Return the threshold that is `wanted`, and what to tell the user of it.

        By default it is the one that these weights were scored with, so that predictions are as good as the scores
        say; without scores it is 0.5. Raises `CocosegError` for a threshold of a multiclass model.
        """
        if wanted is not None:
            chosen = chosen_threshold(wanted, info)
            how = "validation's best" if wanted == "auto" else "as told"
        else:
            scored = self._scored_at(info)
            chosen = ChosenThreshold(EVEN if scored is None else scored)
            how = "no scores name one" if scored is None else "as in the scores"
        if info.task != "binary" or chosen.remark:
            return chosen
        return ChosenThreshold(chosen.value, f"foreground is a probability above {chosen.value:g} ({how}; --threshold)")

    def _scored_at(self, info: ModelInfo) -> float | None:
        if info.task != "binary" or not self.describes(info):
            return None
        try:
            return msgspec.json.decode(self.beside(SCORES) or b"{}", type=_ScoredAt).threshold
        except msgspec.MsgspecError:  # such as with merge conflicts
            return None

    @cached_property
    def _revision(self) -> Revision | None:
        if self.repo is not None:
            return OtherRepository(self.repo, self.rev)
        return None if self.rev is None else find_revision(self.rev)
