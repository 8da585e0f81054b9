"""Where a model comes from: a folder here, a git revision or an experiment, or another repository through DVC."""

from pathlib import Path

from torch import nn

from cocoseg.errors import CocosegError
from cocoseg.revisions import OtherRepository, find_revision
from cocoseg.weights import CARD, WEIGHTS, ModelCard, decoded_checkpoint, load_checkpoint


def load_model(folder: str, rev: str | None, repo: str | None) -> tuple[nn.Module, ModelCard]:
    """The model and its card from `folder`: on this disk, or as `rev` has it, or another repository, at `rev` if given.

    Raises `CocosegError` where there is none.
    """
    if rev is None and repo is None:
        return load_checkpoint(Path(folder))
    revision = find_revision(rev) if repo is None else OtherRepository(repo, rev)
    place = f"{revision.name}: {folder}"
    if not revision.has(folder):
        raise CocosegError(f"{place}: there is no model; expected a revision in whose dvc.lock it is, as dvc repro "
                           "and a commit leave it")  # fmt: skip
    return decoded_checkpoint(revision.cached(f"{folder}/{CARD}"), revision.cached(f"{folder}/{WEIGHTS}"), place)
