"""A run that is killed at any moment and started again ends as one that never was."""

import os
import random
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clones import git_repository
from faults.disturbed import kill_at
from small_data import MULTICLASS, write_pairs
from stage_runs import ROOT, run_stage, start_stage

from cocoseg.core.files import write_bytes, write_json, write_lines, write_table
from cocoseg.tables import ImageRow, MaskRow
from cocoseg.train.resume import TrainingState, run_fingerprint

KILLS = int(os.environ.get("COCOSEG_TEST_KILLS", "3"))
PARAMS: dict[str, Any] = {
    "task": "multiclass",
    "arch": "deeplabv3_mobilenet",  # it has dropout, BatchNorm and a second head
    "encoder": "resnet18",
    "pretrained": "none",
    "initial_weights": "weights",
    "encoder_lr_factor": 0.5,
    "freeze_encoder_epochs": 0,
    "image_size_px": 32,
    "resize": "squash",
    "crops_per_image": None,
    "exif": "auto",
    "augment": "strong",
    "flips": "horizontal",
    "sampling": "uniform",
    "loss": "auto",
    "class_weights": "none",
    "label_smoothing": 0,
    "optimizer": "adamw",
    "lr": 0.001,
    "weight_decay": 0.01,
    "schedule": "poly",
    "warmup_epochs": 1,
    "batch_size": 4,
    "accumulate_batches": 1,
    "clip_grad_norm": None,
    "epochs": 8,
    "patience": None,
    "primary_score": "auto",
    "ema_decay": 0.9,
    "compile": False,
    "seed": 0,
}


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """What the stage reads, in a repository with a commit."""
    folder = tmp_path / "work"
    pairs = write_pairs(folder / "data", 12)
    names = [pair.file_name for pair in pairs]
    write_json(folder / "data/category_mapping.json", MULTICLASS)
    write_json(folder / "data/image_mask_map.json", {name: name for name in names})
    rows = [ImageRow(image_id=number, file_name=name, status="ok") for number, name in enumerate(names)]
    write_table(folder / "data/images.csv", rows, ImageRow)
    write_table(folder / "data/masks.csv", [], MaskRow)
    for side, chosen in (("train", names[:8]), ("val", names[8:]), ("test", [])):
        write_lines(folder / f"data/splits/{side}.txt", chosen)
    git_repository(folder)
    write_bytes(folder / "weights/README.md", b"no model")
    return folder


def environment(cache: Path) -> dict[str, str]:
    return {"COCOSEG_CACHE": str(cache), "COCOSEG_WORKERS": "1", "OMP_NUM_THREADS": "1"}


def as_dvc_does(folder: Path) -> None:
    """Outputs are removed before a stage starts."""
    for output in ("data/model", "metrics/train"):
        shutil.rmtree(folder / output, ignore_errors=True)


def outputs(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for output in ("data/model", "metrics/train")
        for path in sorted((folder / output).rglob("*"))
        if path.is_file()
    }


def wait_for_state(process: "subprocess.Popen[str]", cache: Path) -> None:
    """Wait until a training has kept what it would go on from."""
    while not list((cache / "training").glob("*/state.pt")):
        assert process.poll() is None, "it ended first"
        time.sleep(0.01)


def moments(cache: Path, chance: random.Random) -> Iterator[str]:
    """Waits for one moment after the other to kill at: between epochs, inside one, while the state is written."""
    seen = -1.0
    while True:
        for moment in ("between", "writing", "inside"):
            while True:
                states = list((cache / "training").glob("*/state.pt"))
                changed = bool(states) and states[0].stat().st_mtime != seen
                if moment == "writing" and list((cache / "training").glob("*/.writing-*")):
                    break
                if moment != "writing" and changed:
                    seen = states[0].stat().st_mtime
                    time.sleep(chance.uniform(0.02, 0.3) if moment == "inside" else 0)
                    break
                time.sleep(0.0005)
                yield ""
            yield moment


@pytest.mark.slow
def test_killed_again_and_again_a_run_ends_with_the_weights_and_metrics_of_one_that_never_was(
    work: Path, tmp_path: Path
) -> None:
    status, lines = run_stage(work, "train", PARAMS, environment(tmp_path / "quiet"))
    assert status == 0, lines
    unbroken = outputs(work)
    assert len(unbroken) > 10
    assert not list((tmp_path / "quiet/training").glob("*"))  # a finished run leaves no state behind

    cache = tmp_path / "killed"
    kills: list[str] = []
    resumed_after: list[int] = []
    waiting = moments(cache, random.Random(0))
    while True:
        as_dvc_does(work)
        with start_stage(work, "train", PARAMS, environment(cache)) as process:
            while process.poll() is None and len(kills) < KILLS:
                moment = next(waiting)
                if moment and process.poll() is None:
                    process.kill()
                    kills.append(moment)
                    break
            _, text = process.communicate(timeout=120)
        resumed_after += [int(epoch) for epoch in re.findall(r"resuming after epoch (\d+)", text)]
        if process.returncode != -9:
            break
    assert process.returncode == 0
    assert len(kills) >= min(KILLS, 3)
    assert resumed_after == sorted(resumed_after)
    assert len(resumed_after) >= 2  # a kill while the first state is written leaves none
    assert resumed_after[-1] >= 2
    assert outputs(work) == unbroken
    assert not list((cache / "training").glob("*/state.pt"))


@pytest.mark.slow
def test_a_run_killed_after_its_last_epoch_ends_as_one_that_never_was(work: Path, tmp_path: Path) -> None:
    params = PARAMS | {"epochs": 2}

    def counted(name: str, **more: str) -> dict[str, str]:
        below = f"{work}/metrics:{tmp_path / name}"
        counting = {"LD_PRELOAD": str(kill_at()), "KILL_BELOW": below, "KILL_COUNT": str(tmp_path / f"{name}.count")}
        return environment(tmp_path / name) | counting | more

    assert run_stage(work, "train", params, counted("quiet", KILL_LOG=str(tmp_path / "log")))[0] == 0
    unbroken = outputs(work)
    operations = (tmp_path / "log").read_text().splitlines()
    [curves] = [number for number, line in enumerate(operations, start=1) if re.match("open .*/curves.png", line)]
    as_dvc_does(work)
    assert run_stage(work, "train", params, counted("killed", KILL_AT=str(curves), KILL_WHOM="process"))[0] == -9
    as_dvc_does(work)
    status, lines = run_stage(work, "train", params, environment(tmp_path / "killed"))
    assert (status, "train: resuming after epoch 2" in lines) == (0, True)
    assert outputs(work) == unbroken


def test_another_learning_rate_starts_afresh(work: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    with start_stage(work, "train", PARAMS, environment(cache)) as process:
        wait_for_state(process, cache)
        process.kill()
        process.communicate()
    as_dvc_does(work)
    status, lines = run_stage(work, "train", PARAMS | {"lr": 0.002, "epochs": 1}, environment(cache))
    assert status == 0
    assert not any("resuming" in line for line in lines)
    assert len((work / "metrics/train/plots/metrics/lr.tsv").read_text().splitlines()) == 2
    assert len(list((cache / "training").glob("*/state.pt"))) == 1  # the other run's, which may yet be taken up


@pytest.mark.slow
def test_a_run_whose_model_another_command_removes_or_replaces_stops_and_goes_on_later(
    work: Path, tmp_path: Path
) -> None:
    assert run_stage(work, "train", PARAMS, environment(tmp_path / "quiet"))[0] == 0
    unbroken = outputs(work)
    as_dvc_does(work)
    cache = tmp_path / "cache"
    with start_stage(work, "train", PARAMS, environment(cache)) as process:
        wait_for_state(process, cache)
        as_dvc_does(work)  # as a second `dvc repro` does before its stage is refused
        (work / "data/model").mkdir()
        (work / "data/model/model.safetensors").write_bytes(b"of another run, as dvc checkout restores it")
        _, text = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "data/model: another command has removed or replaced what this run wrote; run the same line again" in text
    as_dvc_does(work)
    status, lines = run_stage(work, "train", PARAMS, environment(cache))
    assert (status, any("resuming after epoch" in line for line in lines)) == (0, True)
    assert outputs(work) == unbroken


@pytest.mark.parametrize("content", [b"", b"x" * 10, b"x" * 1000])
def test_a_state_that_is_cut_or_not_ours_is_left_alone_with_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    monkeypatch.setenv("COCOSEG_CACHE", str(tmp_path))
    state = TrainingState("0" * 64)
    assert state.load() is None
    state.save({"epochs": 3})
    assert state.load() == {"epochs": 3}
    write_bytes(state.path, content)
    assert state.load() is None
    assert "corrupt, or not a training state; training starts over" in capsys.readouterr().err


def test_a_state_that_would_run_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COCOSEG_CACHE", str(tmp_path))
    state = TrainingState("0" * 64)
    state.save({"epochs": Path("x")})  # a class that is none of torch's
    assert state.load() is None


def test_the_fingerprint_differs_with_parameters_data_versions_and_code() -> None:
    base = run_fingerprint([{"lr": 0.1}, "data"], {"torch": "2"})
    assert run_fingerprint([{"lr": 0.1}, "data"], {"torch": "2"}) == base
    others = [
        run_fingerprint([{"lr": 0.2}, "data"], {"torch": "2"}),
        run_fingerprint([{"lr": 0.1}, "other"], {"torch": "2"}),
        run_fingerprint([{"lr": 0.1}, "data"], {"torch": "3"}),
    ]
    assert len({base, *others}) == 4
    code = "import cocoseg.core.errors; from cocoseg.train.resume import run_fingerprint as f; print(f([], {}))"
    finished = subprocess.run(
        [sys.executable, "-c", f"{code}; print(f([], {{}})); import cocoseg.train.sample_cache; print(f([], {{}}))"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        check=True,
        capture_output=True,
        text=True,
    )
    before, same, after = finished.stdout.splitlines()
    assert before == same != after
