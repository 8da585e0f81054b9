"""One record of a run, in dvclive and wherever else it was asked for."""

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from clones import git_repository

from cocoseg.coco.file_names import is_safe, same_name
from cocoseg.core.errors import CocosegError
from cocoseg.train.loggers import curve_names, open_run_log

PICTURE = np.full((8, 12, 3), 90, np.uint8)


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with a commit: dvclive asks git for it."""
    monkeypatch.chdir(tmp_path)
    git_repository(tmp_path)
    return tmp_path


def record_two_epochs(folder: Path) -> None:
    model = folder / "model"
    model.mkdir()
    (model / "model.json").write_text("{}")
    with open_run_log(folder / "live", {"lr": 0.1}, "f" * 64) as log:
        log.log_epoch({"train/loss": 2.0, "val/dice": 0.5, "val/dice/cat": 0.25}, {"epoch": 1, "val/miou": 0.5})
        log.log_validation_picture(PICTURE)
        log.log_epoch({"train/loss": 1.0, "val/dice": 0.75, "val/dice/cat": 0.5}, {"epoch": 2, "val/miou": 0.75})
        log.log_validation_picture(PICTURE)
        log.finish(model)


def test_dvclive_has_a_point_an_epoch_and_a_summary_of_the_last_and_the_best(repository: Path) -> None:
    record_two_epochs(repository)
    curve = (repository / "live/plots/metrics/val/dice/cat.tsv").read_text().splitlines()
    assert curve == ["step\tcat", "1\t0.25", "2\t0.5"]
    assert msgspec.json.decode((repository / "live/metrics.json").read_bytes()) == {
        "best": {"epoch": 2, "val/miou": 0.75},
        "train": {"loss": 1.0},
        "val": {"dice": 0.75, "dice/cat": 0.5},
        "step": 2,
    }
    assert msgspec.json.decode((repository / "live/best.json").read_bytes()) == {"best_epoch": 2, "val_miou": 0.75}
    assert (repository / "live/plots/images/validation.png").exists()
    assert (repository / "live/plots/images/curves.png").exists()


def test_tensorboard_gets_the_same_and_its_files_can_be_read_back(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCOSEG_TENSORBOARD", str(repository / "events"))
    record_two_epochs(repository)
    # In a process of its own: reading event files draws in much that warns.
    code = f"""
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator({str(repository / "events/ffffffffffff")!r}).Reload()
print([(point.step, point.value) for point in events.Scalars("val/dice/cat")])
print([(point.step, point.value) for point in events.Scalars("best/val_miou")])
print([(image.step, image.width, image.height) for image in events.Images("validation")])
print([(image.step, image.width, image.height) for image in events.Images("curves")])
"""
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == [
        "[(1, 0.25), (2, 0.5)]",
        "[(1, 0.5), (2, 0.75)]",
        "[(1, 12, 8), (2, 12, 8)]",
        "[(2, 640, 300)]",
    ]


@pytest.fixture
def temporary_run(repository: Path) -> Path:
    """The folder in which DVC runs a `--temp` or queued experiment of the repository, and which it deletes."""
    folder = repository / ".dvc/tmp/exps/standalone/tmp1"
    git_repository(folder)
    return folder


def test_tensorboards_files_of_a_temporary_run_are_in_the_users_clone(
    repository: Path, temporary_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(temporary_run)
    monkeypatch.setenv("DVC_ROOT", str(repository))
    monkeypatch.setenv("COCOSEG_TENSORBOARD", "runs")
    record_two_epochs(temporary_run)
    assert list((repository / "runs" / ("f" * 12)).glob("events.out.tfevents.*"))
    assert not (temporary_run / "runs").exists()


def test_weights_and_biases_gets_the_same_and_an_offline_run_can_be_read_back_from_the_users_clone(
    repository: Path, temporary_run: Path
) -> None:
    # In a process of its own: it starts a service, and changes how the process ends.
    code = f"""
import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})
from pathlib import Path
from train.test_loggers import record_two_epochs
record_two_epochs(Path({str(temporary_run)!r}))
"""
    environment = {"COCOSEG_WANDB": "cocoseg-test", "WANDB_MODE": "offline", "DVC_ROOT": str(repository)}
    environment |= {"WANDB_SILENT": "true", "HOME": str(repository), "PATH": "/usr/bin:/bin"}
    environment["PYTHONPATH"] = str(Path(__file__).parents[2] / "src")
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, env=environment, cwd=temporary_run, capture_output=True)
    (run,) = (repository / "wandb").glob("offline-run-*/run-*.wandb")
    protocol = importlib.import_module("wandb.proto.wandb_internal_pb2")
    steps: list[Any] = []
    artifacts: list[str] = []
    config: dict[str, str] = {}
    for data in log_records(run.read_bytes()):
        record = protocol.Record()
        record.ParseFromString(data)
        match record.WhichOneof("record_type"):
            case "history":
                items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
                pictures = [name for name in ("validation", "curves") if name in str(items)]
                steps.append((items["_step"], items["val/dice/cat"], pictures))
            case "artifact":
                artifacts.append(record.artifact.name)
            case "run":
                config |= {item.key: item.value_json for item in record.run.config.update}
    assert steps == [("1", "0.25", ["validation"]), ("2", "0.5", ["validation", "curves"])]
    assert artifacts == ["model"]
    assert config["lr"] == "0.1"


def log_records(log: bytes) -> Iterator[bytes]:
    """The records of a `.wandb` file: LevelDB's log format after a header of 7 bytes.

    https://github.com/google/leveldb/blob/main/doc/log_format.md
    """
    position, whole = 7, b""
    while position + 7 <= len(log):
        left = 32_768 - position % 32_768  # in this block
        if left < 7:
            position += left
            continue
        length, kind = int.from_bytes(log[position + 4 : position + 6], "little"), log[position + 6]
        whole += log[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield whole
            whole = b""


def test_a_library_that_is_not_installed_is_named_with_the_way_to_it(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COCOSEG_WANDB", "x")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        CocosegError,
        match="COCOSEG_WANDB is set, but wandb is not installed; it comes with the extra 'wandb': pip install",
    ):
        record_two_epochs(repository)


def test_a_class_whose_name_is_no_file_name_still_has_a_curve_that_can_be_read() -> None:
    names = ["traffic light", "café", "人", "../x", "a/b", "caffè: lungo", "con", "..", "e.g.", "long " + "x" * 90]
    expected = ["traffic light", "café", "人", "..%2Fx", "a%2Fb", "caffè%3A lungo", "_con", "_", "e.g", names[-1]]
    assert list(curve_names(names).values()) == expected


def test_two_classes_never_share_a_curve_even_where_case_is_ignored(repository: Path) -> None:
    names = [
        "a:b",
        "a%3Ab",
        "Car",
        "car",
        "car~2",
        "CAR",
        "é",
        "e\u0301",
        "😀" * 99,
        "😀" * 98,
        "a",
        "a.",
        "a ",
        ".",
        "..",
    ]
    curves = curve_names(names)
    assert list(curves) == names
    assert len({same_name(name) for name in curves.values()}) == len(names)
    assert (curves["Car"], curves["car"]) == ("Car", "car~2")
    with open_run_log(repository / "live", {}, "f" * 64) as log:
        log.log_epoch({f"val/iou/{name}": 0.5 for name in curves.values()}, {"epoch": 1, "val/miou": 0.5})
    written = list((repository / "live/plots/metrics/val/iou").iterdir())
    assert len(written) == len(names)
    assert all(is_safe(path.name) for path in written)
