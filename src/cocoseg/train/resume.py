"""Resume a training run that was killed.

After each epoch the state of the run is saved to one file in the user's cache, under the fingerprint of the run. DVC
deletes a stage's outputs before it starts, so the state also holds what was in them: the best model and the log.
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
from cocoseg.train.loggers import RunLog, open_run_log
from cocoseg.train.params import TrainParams
from cocoseg.train.selection import EpochScore
from cocoseg.user_cache import cache_folder

_FILE = "state.pt"
_DIGEST_BYTES = 32
_FORGOTTEN_AFTER_S = 14 * 24 * 3600


def run_fingerprint(facts: Sequence[Any], versions: Mapping[str, str]) -> str:
    """Return the SHA-256 of all that a run depends on: `facts`, library `versions`, and our own modules in use."""
    digest = hashlib.sha256(msgspec.json.encode([facts, versions], order="deterministic"))
    for name in sorted(sys.modules):
        path = getattr(sys.modules[name], "__file__", None)
        if path and (name.startswith("cocoseg.") or name == "__main__"):
            digest.update(name.encode() + hashlib.sha256(Path(path).read_bytes()).digest())
    return digest.hexdigest()


class TrainingState:
    """The file that holds the state of one run."""

    def __init__(self, fingerprint: str) -> None:
        self.folder = cache_folder() / "training" / fingerprint[:32]
        self.path = self.folder / _FILE

    def save(self, state: Mapping[str, Any]) -> None:
        """Replace the file's content by `state`: tensors, numbers, strings, and lists and dictionaries of them."""
        data = io.BytesIO()
        torch.save(dict(state), data)
        content = data.getvalue()
        try:
            write_bytes(self.path, hashlib.sha256(content).digest() + content)
        except OSError as error:  # training can go on without it
            tqdm.write(f"train: {self.path}: {error.strerror}; a killed run would start over", file=sys.stderr)

    def load(self) -> dict[str, Any] | None:
        """Return the last saved state, or `None` if there is none. Reports a corrupt file on standard error."""
        try:
            content = self.path.read_bytes()
        except FileNotFoundError:
            return None
        data = content[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() == content[:_DIGEST_BYTES]:
            with suppress(pickle.UnpicklingError):
                # weights_only: a pickle may rebuild tensors but run no other code
                state: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
                return state
        tqdm.write(f"train: {self.path}: corrupt, or not a training state; training starts over", file=sys.stderr)
        return None

    def remove(self) -> None:
        """Remove the state of this run, and those of runs that have not been resumed for two weeks."""
        shutil.rmtree(self.folder, ignore_errors=True)
        for other in self.folder.parent.glob("*"):
            newest = max((path.stat().st_mtime for path in [other, *other.glob("*")]), default=0)
            if time.time() - newest > _FORGOTTEN_AFTER_S:
                shutil.rmtree(other, ignore_errors=True)


class RunFiles(msgspec.Struct, frozen=True):
    """What only the first process writes: the log of the run, and its state in case it is killed."""

    log: RunLog
    state: TrainingState


@contextmanager
def open_run_files(
    fingerprint: str, params: TrainParams, log_folder: Path, fabric: Fabric
) -> Iterator[RunFiles | None]:
    """Open the files of the run; yield `None` in all processes but the first.

    An error of the first process is raised in all of them, or the others would wait for it forever.
    """
    files, error = None, None
    with ExitStack() as stack:
        if fabric.is_global_zero:
            try:
                state = TrainingState(fingerprint)
                log = stack.enter_context(open_run_log(log_folder, msgspec.to_builtins(params), fingerprint))
                files = RunFiles(log, state)
            except CocosegError as caught:
                error = str(caught)
        error = fabric.broadcast(error)
        if error is not None:
            raise CocosegError(error)
        yield files


def refuse_replaced(model_folder: Path, progress: Progress) -> None:
    """Raise `CocosegError` if the best weights on disk are not those that this run has saved.

    Another `dvc repro` removes them even if its stage is then refused, and `dvc checkout` brings those of another run.
    """
    if not progress.saved_sha256:
        return
    with suppress(FileNotFoundError):
        if hashlib.sha256((model_folder / WEIGHTS).read_bytes()).hexdigest() == progress.saved_sha256:
            return
    raise CocosegError(
        f"{model_folder}: another command has removed or replaced what this run wrote; run the same line again: it "
        "goes on after its last saved epoch"
    )


def snapshot(learner: Learner, progress: Progress, log: RunLog, model_folder: Path) -> dict[str, Any]:
    """Return the state that `resume` needs. The best weights are read back from `model_folder`."""
    assert progress.best is not None
    assert progress.best_score is not None
    return learner.state() | {
        "epochs": progress.epochs,
        "best": msgspec.json.encode(progress.best).decode(),
        "best_score": msgspec.json.encode(progress.best_score).decode(),
        "waited": progress.waited,
        "log": msgspec.json.encode(log.epochs).decode(),
        "train_seconds": progress.train_seconds,
        "val_seconds": progress.val_seconds,
        "best_weights": torch.frombuffer(bytearray((model_folder / WEIGHTS).read_bytes()), dtype=torch.uint8),
    }


def resume(learner: Learner, files: RunFiles | None, model_folder: Path) -> Progress:
    """Restore a run from its saved state and return its progress; without a state, return that of a new run.

    The best model and the log are written again, since DVC deleted them.
    """
    progress = Progress()
    saved = learner.fabric.broadcast(files.state.load() if files is not None else None)
    if saved is None:
        return progress
    learner.restore(saved)
    progress.epochs = saved["epochs"]
    progress.best = msgspec.json.decode(saved["best"], type=ModelInfo)
    progress.best_score = msgspec.json.decode(saved["best_score"], type=EpochScore)
    progress.waited = saved["waited"]
    progress.train_seconds, progress.val_seconds = saved["train_seconds"], saved["val_seconds"]
    if files is not None:
        progress.saved_sha256 = write_checkpoint(model_folder, saved["best_weights"].numpy().tobytes(), progress.best)
        numbers = dict[str, int | float]  # both types, so that an epoch is logged as 2 again and not as 2.0
        for metrics, best in msgspec.json.decode(saved["log"], type=list[tuple[numbers, numbers]]):
            files.log.log_epoch(metrics, best)
        tqdm.write(f"train: resuming after epoch {progress.epochs}", file=sys.stderr)
    return progress
