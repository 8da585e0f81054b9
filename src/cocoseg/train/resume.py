"""What a training run needs to go on after a kill: one file in the user's cache, under the run's own fingerprint.

DVC removes the outputs of a stage before it starts, so the state holds the best model and the log's history too.
"""

import hashlib
import io
import pickle
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import torch
from lightning_fabric import Fabric
from tqdm import tqdm

from cocoseg.core.errors import CocosegError
from cocoseg.core.files import write_bytes
from cocoseg.model.weights import WEIGHTS, ModelInfo, write_checkpoint
from cocoseg.train.learner import Learner, Progress
from cocoseg.train.loggers import History, recorded
from cocoseg.train.params import TrainParams
from cocoseg.user_cache import cache_folder

_FILE = "state.pt"
_DIGEST_BYTES = 32
_FORGOTTEN_AFTER_S = 14 * 24 * 3600


def run_fingerprint(facts: Sequence[Any], versions: Mapping[str, str]) -> str:
    """Return what tells one run from another: its parameters and data, the code that runs, the libraries below it."""
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
        except OSError as error:  # the state only insures against a kill
            tqdm.write(f"train: {self.path}: {error.strerror}; a kill would now start it afresh", file=sys.stderr)

    def load(self) -> dict[str, Any] | None:
        """Return the last state saved; `None` if there is none, or none that is whole, which a line says."""
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
        """Remove this run's state, and those of other runs that nobody took up for two weeks."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for other in self.folder.parent.glob("*"):
            newest = max((path.stat().st_mtime for path in [other, *other.glob("*")]), default=0)
            if time.time() - newest > _FORGOTTEN_AFTER_S:
                shutil.rmtree(other, ignore_errors=True)


class Records(msgspec.Struct, frozen=True):
    """What the first process writes down: the run's history, and its state in case of a kill."""

    history: History
    state: TrainingState


@contextmanager
def records_of(run: str, params: TrainParams, folder: Path, fabric: Fabric) -> Iterator[Records | None]:
    """Open the records of the run with the fingerprint `run`; `None` in all processes but the first.

    What stops that one stops them all.
    """
    records, error = None, None
    with ExitStack() as stack:
        if fabric.is_global_zero:
            try:
                state = TrainingState(run)
                records = Records(stack.enter_context(recorded(folder, msgspec.to_builtins(params), run)), state)
            except CocosegError as caught:
                error = str(caught)
        error = fabric.broadcast(error)
        if error is not None:
            raise CocosegError(error)
        yield records


def snapshot(learner: Learner, progress: Progress, history: History, model_folder: Path) -> dict[str, Any]:
    """Return all that `resumed` needs."""
    assert progress.best is not None
    return learner.state() | {
        "epochs": progress.epochs,
        "best": msgspec.json.encode(progress.best).decode(),
        "history": msgspec.json.encode(history.epochs).decode(),
        "train_seconds": progress.train_seconds,
        "val_seconds": progress.val_seconds,
        "best_weights": torch.frombuffer(bytearray((model_folder / WEIGHTS).read_bytes()), dtype=torch.uint8),
    }


def resumed(learner: Learner, records: Records | None, model_folder: Path) -> Progress:
    """Take up the same run where a kill stopped it; its history and best model are written anew."""
    progress = Progress()
    saved = learner.fabric.broadcast(records.state.load() if records is not None else None)
    if saved is None:
        return progress
    learner.restore(saved)
    progress.epochs = saved["epochs"]
    progress.best = msgspec.json.decode(saved["best"], type=ModelInfo)
    progress.train_seconds, progress.val_seconds = saved["train_seconds"], saved["val_seconds"]
    if records is not None:
        write_checkpoint(model_folder, saved["best_weights"].numpy().tobytes(), progress.best)
        # int first: a whole number stays whole, and a float a float, when both are written into the summary again.
        numbers = dict[str, int | float]
        for metrics, best in msgspec.json.decode(saved["history"], type=list[tuple[numbers, numbers]]):
            records.history.epoch(metrics, best)
        tqdm.write(f"train: goes on after epoch {progress.epochs}, where it was stopped", file=sys.stderr)
    return progress
