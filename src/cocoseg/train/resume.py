"""What a training run needs to go on after a kill: one file in the user's cache, under the run's own fingerprint.

DVC removes the outputs of a stage before it starts, so the state holds the best model and the log's history too.
"""

import hashlib
import io
import pickle
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import torch
from tqdm import tqdm

from cocoseg.core.files import write_bytes
from cocoseg.download.cache import cache_folder

_FILE = "state.pt"
_DIGEST_BYTES = 32
_FORGOTTEN_AFTER_S = 14 * 24 * 3600


def run_fingerprint(facts: Sequence[Any], versions: Mapping[str, str]) -> str:
    """What tells one run from another: its parameters and data, the code that runs, the libraries below it."""
    digest = hashlib.sha256(msgspec.json.encode([facts, versions], order="deterministic"))
    for name in sorted(sys.modules):
        path = getattr(sys.modules[name], "__file__", None)
        if path and (name.startswith("cocoseg.") or name == "__main__"):
            digest.update(name.encode() + hashlib.sha256(Path(path).read_bytes()).digest())
    return digest.hexdigest()


class TrainingState:
    """The state of one run on disk."""

    def __init__(self, fingerprint: str) -> None:
        self.folder = cache_folder() / "training" / fingerprint[:32]
        self.path = self.folder / _FILE

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the state by `state`: tensors, numbers, texts, and lists and dictionaries of them."""
        data = io.BytesIO()
        torch.save(dict(state), data)
        content = data.getvalue()
        try:
            write_bytes(self.path, hashlib.sha256(content).digest() + content)
        except OSError as error:  # it is an insurance only
            tqdm.write(f"train: {self.path}: {error.strerror}; a kill would now start it afresh", file=sys.stderr)

    def load(self) -> dict[str, Any] | None:
        """The last state that was saved; nothing if there is none, or none that is whole, which a line says."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        data = content[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() == content[:_DIGEST_BYTES]:
            with suppress(pickle.UnpicklingError):
                # weights_only: of a pickle nothing is run but what rebuilds tensors
                state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
                return state
        tqdm.write(f"train: {self.path}: damaged, or not ours; training starts afresh", file=sys.stderr)
        return None

    def remove(self) -> None:
        """Leave nothing behind; states of other runs that nobody took up for two weeks go too."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for other in self.folder.parent.glob("*"):
            newest = max((path.stat().st_mtime for path in [other, *other.glob("*")]), default=0)
            if time.time() - newest > _FORGOTTEN_AFTER_S:
                shutil.rmtree(other, ignore_errors=True)
