"""The record of a run: one point an epoch in dvclive, and in TensorBoard and Weights & Biases where they are asked for.

`COCOSEG_TENSORBOARD` names the folder of TensorBoard's event files, `COCOSEG_WANDB` the project of Weights & Biases.
Both are fed what dvclive is fed, and neither is an output of the stage: DVC knows the one record.
"""

import importlib
import os
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

from cocoseg.coco.file_names import is_safe
from cocoseg.core.errors import CocosegError, missing_extra
from cocoseg.train.curves import learning_curves

STRIP, CURVES = "validation", "curves"


class Record(Protocol):
    """One place where a run is recorded."""

    def epoch(self, number: int, metrics: Mapping[str, float], best: Mapping[str, float]) -> None:
        """The metrics of epoch `number`, from 1, and epoch and score of the best so far."""

    def picture(self, name: str, number: int, picture: NDArray[np.uint8]) -> None:
        """A picture after epoch `number`, RGB (H, W, 3)."""

    def finish(self, model: Path) -> None:
        """The end of a run that left its best model in the folder `model`."""


class DVCLiveRecord:
    """`metrics/train/`: a TSV a metric, and the summary of the last and the best epoch."""

    def __init__(self, live: Live) -> None:
        self.live = live

    def epoch(self, number: int, metrics: Mapping[str, float], best: Mapping[str, float]) -> None:
        """One point on each curve."""
        # dvclive nests names at each slash, where `val/dice` cannot be both a number and the parent of
        # `val/dice/person`. So the summary is built here, nested at the first slash only.
        summary: dict[str, Any] = {"best": {name: _readable(value) for name, value in best.items()}}
        self.live.step = number - 1
        for name, value in metrics.items():
            self.live.summary = {}
            self.live.log_metric(name, _readable(value))
            group, _, rest = name.partition("/")
            if rest:
                summary.setdefault(group, {})[rest] = _readable(value)
            else:
                summary[name] = _readable(value)
        self.live.summary = summary
        self.live.next_step()  # type: ignore[no-untyped-call]

    def picture(self, name: str, number: int, picture: NDArray[np.uint8]) -> None:
        """One file a name, the last epoch's."""
        self.live.log_image(f"{name}.png", picture)

    def finish(self, model: Path) -> None:
        """Nothing: the model is an output of the stage."""


class TensorBoardRecord:
    """Event files in a folder of this run's own."""

    def __init__(self, folder: Path) -> None:
        writer = _required("torch.utils.tensorboard", "tensorboard").SummaryWriter
        # A run that goes on, or runs again, records all of its epochs anew.
        for events in folder.glob("events.out.tfevents.*"):
            events.unlink()
        self.writer = writer(str(folder))

    def epoch(self, number: int, metrics: Mapping[str, float], best: Mapping[str, float]) -> None:
        """A scalar a metric."""
        for name, value in metrics.items():
            self.writer.add_scalar(name, value, number)
        self.writer.add_scalar("best/val_miou", best["val/miou"], number)

    def picture(self, name: str, number: int, picture: NDArray[np.uint8]) -> None:
        """An image an epoch."""
        self.writer.add_image(name, picture, number, dataformats="HWC")

    def finish(self, model: Path) -> None:
        """Everything on disk."""
        self.writer.close()


class WandbRecord:
    """A run of a project of Weights & Biases, online or, with `WANDB_MODE=offline`, in the folder `wandb`."""

    def __init__(self, project: str, params: Mapping[str, Any], run_id: str) -> None:
        self.wandb = _required("wandb", "wandb")
        # One run under one id, also when it goes on after a kill; its epochs are recorded anew.
        self.run = self.wandb.init(project=project, config=dict(params), id=run_id, resume="allow")

    def epoch(self, number: int, metrics: Mapping[str, float], best: Mapping[str, float]) -> None:
        """A step an epoch."""
        self.run.log(dict(metrics), step=number)
        self.run.summary.update({f"best/{name}": value for name, value in best.items()})

    def picture(self, name: str, number: int, picture: NDArray[np.uint8]) -> None:
        """An image an epoch."""
        self.run.log({name: self.wandb.Image(picture)}, step=number)

    def finish(self, model: Path) -> None:
        """The model as an artifact, and the end of the run."""
        artifact = self.wandb.Artifact("model", type="model")
        artifact.add_dir(str(model))
        self.run.log_artifact(artifact)
        self.run.finish()


class History:
    """What has been recorded, kept in the training state, so that a resumed run's record is whole."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = records
        self.epochs: list[tuple[dict[str, float], dict[str, float]]] = []

    def epoch(self, metrics: Mapping[str, float], best: Mapping[str, float]) -> None:
        """One more epoch, in every record."""
        self.epochs.append((dict(metrics), dict(best)))
        for record in self.records:
            record.epoch(len(self.epochs), metrics, best)

    def strip(self, picture: NDArray[np.uint8]) -> None:
        """The validation images after the last epoch."""
        for record in self.records:
            record.picture(STRIP, len(self.epochs), picture)

    def finish(self, model: Path) -> None:
        """The end of the run, with a picture of its curves."""
        # Only now: with matplotlib's import it takes two seconds, as long as some epochs.
        curves = learning_curves([metrics for metrics, _ in self.epochs])
        for record in self.records:
            record.picture(CURVES, len(self.epochs), curves)
            record.finish(model)


@contextmanager
def recorded(folder: Path, params: Mapping[str, Any], fingerprint: str) -> Iterator[History]:
    """The records of this run: dvclive's in `folder`, and those that the environment asks for.

    Raises `CocosegError` if the repository has no commit, which dvclive's log names, or a library is missing.
    """
    try:
        # dvcyaml: dvc.yaml is written by hand. save_dvc_exp: the run belongs to DVC already.
        live = Live(str(folder), dvcyaml=None, save_dvc_exp=False, report=None, monitor_system=False)
    except SCMError:
        raise CocosegError("this repository has no commit yet, and the log names the commit; run: git commit") from None
    with live:
        records: list[Record] = [DVCLiveRecord(live)]
        if events := os.environ.get("COCOSEG_TENSORBOARD"):
            records.append(TensorBoardRecord(Path(events) / fingerprint[:12]))
        if project := os.environ.get("COCOSEG_WANDB"):
            records.append(WandbRecord(project, params, fingerprint[:12]))
        yield History(records)


def curve_name(group: str, class_name: str) -> str:
    """`val/iou/person`: a name that is a file's too, though a stranger's annotations may name a class `../x`."""
    safe = "/" not in class_name and is_safe(class_name)
    return f"{group}/{class_name if safe else quote(class_name[:60], safe='').strip('.')}"


def _readable(value: float) -> float:
    return value if isinstance(value, int) else float(f"{value:.6g}")


def _required(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (line := missing_extra(error)) is None:
            raise
        raise CocosegError(f"COCOSEG_{extra.upper()} is set, but {line}") from None
