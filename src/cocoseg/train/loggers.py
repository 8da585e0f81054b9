"""The log of a training run: one step an epoch in dvclive, and on request in TensorBoard and Weights & Biases.

`COCOSEG_TENSORBOARD` names the folder of TensorBoard's event files, `COCOSEG_WANDB` the Weights & Biases project.
All of them log the same. Only dvclive's files are outputs of the stage; the others are in the user's clone, also after
a queued run.
"""

import importlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
from dvclive.live import Live
from numpy.typing import NDArray
from scmrepo.exceptions import SCMError

from cocoseg.coco.file_names import is_safe, same_name
from cocoseg.core.errors import CocosegError, missing_extra
from cocoseg.core.files import write_json
from cocoseg.train.curves import best_score, learning_curves
from cocoseg.user_cache import kept_folder

BEST = "best.json"
VALIDATION_PICTURE, CURVES_PICTURE = "validation", "curves"
_NO_FILE_NAME = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f]')
_LONGEST_BYTES = 180  # of a class's curve: file systems allow 255, with the extension


class Logger(Protocol):
    """One place that a run is logged to."""

    def log_epoch(self, epoch: int, metrics: Mapping[str, float], best: Mapping[str, float]) -> None:
        """Log the metrics of `epoch`, counted from 1, and the number and score of the best epoch so far.

        `best` has two keys: `epoch`, and the name of the score that chooses, such as `val/miou`.
        """

    def log_picture(self, name: str, epoch: int, picture: NDArray[np.uint8]) -> None:
        """Log a picture made after `epoch`, RGB (H, W, 3)."""

    def finish(self, model_folder: Path) -> None:
        """End the log of a run that left its best model in `model_folder`."""


class DVCLiveLogger:
    """Logs to `metrics/train/`: one TSV per metric, a summary of the last epoch, and one of the best."""

    def __init__(self, live: Live) -> None:
        self.live = live

    def log_epoch(self, epoch: int, metrics: Mapping[str, float], best: Mapping[str, float]) -> None:
        """Add a point to the curve of each metric and write the summary."""
        # dvclive nests names at each slash, where `val/dice` cannot be both a number and the parent of
        # `val/dice/person`. So the summary is built here, nested at the first slash only.
        summary: dict[str, Any] = {"best": {name: _six_digits(value) for name, value in best.items()}}
        self.live.step = epoch
        for name, value in metrics.items():
            self.live.summary = {}
            self.live.log_metric(name, _six_digits(value))
            group, _, rest = name.partition("/")
            if rest:
                summary.setdefault(group, {})[rest] = _six_digits(value)
            else:
                summary[name] = _six_digits(value)
        self.live.summary = summary
        self.live.next_step()  # type: ignore[no-untyped-call]
        # What DVC compares of a training run.
        name, score = best_score(best)
        found = {"best_epoch": int(best["epoch"]), name.replace("/", "_"): _six_digits(score)}
        write_json(Path(str(self.live.dir)) / BEST, found)

    def log_picture(self, name: str, epoch: int, picture: NDArray[np.uint8]) -> None:
        """Write the picture over that of the epoch before."""
        self.live.log_image(f"{name}.png", picture)

    def finish(self, model_folder: Path) -> None:
        """Do nothing: the model is already an output of the stage."""


class TensorBoardLogger:
    """Logs to TensorBoard event files in a folder of this run's own."""

    def __init__(self, folder: Path) -> None:
        writer = _imported("torch.utils.tensorboard", "tensorboard").SummaryWriter
        # A run that is resumed or repeated logs all of its epochs again.
        for events in folder.glob("events.out.tfevents.*"):
            events.unlink()
        self.writer = writer(str(folder))

    def log_epoch(self, epoch: int, metrics: Mapping[str, float], best: Mapping[str, float]) -> None:
        """Add one scalar per metric."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, epoch)
        name, score = best_score(best)
        self.writer.add_scalar(f"best/{name.replace('/', '_')}", score, epoch)

    def log_picture(self, name: str, epoch: int, picture: NDArray[np.uint8]) -> None:
        """Add the picture of this epoch."""
        self.writer.add_image(name, picture, epoch, dataformats="HWC")

    def finish(self, model_folder: Path) -> None:
        """Write everything to disk."""
        self.writer.close()


class WandbLogger:
    """Logs to a run of a Weights & Biases project: online, or with `WANDB_MODE=offline` in `wandb/`."""

    def __init__(self, project: str, params: Mapping[str, Any], run_id: str) -> None:
        self.wandb = _imported("wandb", "wandb")
        # A run that is resumed after a kill keeps its id and logs all of its epochs again.
        folder = kept_folder(os.environ.get("WANDB_DIR", ""))
        self.run = self.wandb.init(project=project, config=dict(params), id=run_id, resume="allow", dir=str(folder))

    def log_epoch(self, epoch: int, metrics: Mapping[str, float], best: Mapping[str, float]) -> None:
        """Log one step and update the summary of the best epoch."""
        self.run.log(dict(metrics), step=epoch)
        self.run.summary.update({f"best/{name}": value for name, value in best.items()})

    def log_picture(self, name: str, epoch: int, picture: NDArray[np.uint8]) -> None:
        """Log the picture with this epoch's step."""
        self.run.log({name: self.wandb.Image(picture)}, step=epoch)

    def finish(self, model_folder: Path) -> None:
        """Log the model as an artifact and end the run."""
        artifact = self.wandb.Artifact("model", type="model")
        artifact.add_dir(str(model_folder))
        self.run.log_artifact(artifact)
        self.run.finish()


class SweepLogger:
    """Tells `cocoseg sweep` the score of each epoch, and ends the run if that has asked for it.

    With an error, so that DVC keeps nothing of it: its run cache would serve half a training as a whole one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "epochs").write_bytes(b"")  # a run that is resumed logs all of its epochs again

    def log_epoch(self, epoch: int, metrics: Mapping[str, float], best: Mapping[str, float]) -> None:
        """Add a line with the score that chooses."""
        with (self.folder / "epochs").open("a") as epochs:
            epochs.write(f"{metrics[best_score(best)[0]]}\n")
        if (self.folder / "stop").exists():
            raise CocosegError(f"pruned after epoch {epoch}: other runs of the sweep were better")

    def log_picture(self, name: str, epoch: int, picture: NDArray[np.uint8]) -> None:
        """Do nothing: the sweep looks at scores alone."""

    def finish(self, model_folder: Path) -> None:
        """Do nothing: the experiment has the result."""


class RunLog:
    """The log of a run, sent to every logger.

    `epochs` keeps what was logged, the metrics and the best epoch after each: the training state stores it, so that a
    resumed run can log its epochs again from the first.
    """

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self.loggers = loggers
        self.epochs: list[tuple[dict[str, float], dict[str, float]]] = []

    def log_epoch(self, metrics: Mapping[str, float], best: Mapping[str, float]) -> None:
        """Log one more epoch."""
        self.epochs.append((dict(metrics), dict(best)))
        for logger in self.loggers:
            logger.log_epoch(len(self.epochs), metrics, best)

    def log_validation_picture(self, picture: NDArray[np.uint8]) -> None:
        """Log the picture of validation images after the last epoch."""
        for logger in self.loggers:
            logger.log_picture(VALIDATION_PICTURE, len(self.epochs), picture)

    def finish(self, model_folder: Path) -> None:
        """Log the learning curves and end the log."""
        # Only now: with matplotlib's import it takes two seconds, as long as some epochs.
        curves = learning_curves([metrics for metrics, _ in self.epochs], self.epochs[-1][1] if self.epochs else {})
        for logger in self.loggers:
            logger.log_picture(CURVES_PICTURE, len(self.epochs), curves)
            logger.finish(model_folder)


@contextmanager
def open_run_log(folder: Path, params: Mapping[str, Any], fingerprint: str) -> Iterator[RunLog]:
    """Open the log of a run: dvclive's in `folder`, and those that the environment asks for.

    Raises `CocosegError` if a library is missing, or if the repository has no commit, whose hash dvclive logs.
    """
    try:
        # dvcyaml: we write dvc.yaml ourselves. save_dvc_exp: DVC already tracks this run.
        live = Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False)
    except SCMError:
        raise CocosegError("this repository has no commit yet, and dvclive logs the commit; run: git commit") from None
    with live:
        loggers: list[Logger] = [DVCLiveLogger(live)]
        if events := os.environ.get("COCOSEG_TENSORBOARD"):
            loggers.append(TensorBoardLogger(kept_folder(events) / fingerprint[:12]))
        if project := os.environ.get("COCOSEG_WANDB"):
            loggers.append(WandbLogger(project, params, fingerprint[:12]))
        if sweep := os.environ.get("COCOSEG_SWEEP"):
            loggers.append(SweepLogger(Path(sweep)))
        yield RunLog(loggers)


def curve_names(classes: Sequence[str]) -> dict[str, str]:
    """Return the name of each class's curve, a file name on every system: the class's own, as far as it is one.

    Other characters are quoted as in a URL. Two names are never one file, where case is ignored either: the later gets
    a number.
    """
    names: dict[str, str] = {}
    taken = set()
    for class_name in classes:
        own, number = _as_file_name(class_name), 1
        name = own
        while same_name(name) in taken:
            number += 1
            name = f"{own}~{number}"
        taken.add(same_name(name))
        names[class_name] = name
    return names


def _as_file_name(name: str) -> str:
    if is_safe(name) and not _NO_FILE_NAME.search(name):
        return name
    quoted = _NO_FILE_NAME.sub(lambda found: quote(found[0], safe=""), name).encode(errors="replace")
    short = quoted[:_LONGEST_BYTES].decode(errors="ignore").rstrip(". ")
    return short if is_safe(short) else f"_{short}"  # "con", "..", or nothing


def _six_digits(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _imported(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (line := missing_extra(error)) is None:
            raise
        raise CocosegError(f"COCOSEG_{extra.upper()} is set, but {line}") from None
