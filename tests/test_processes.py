"""One process or several, one machine or several: the same counts, and one that writes."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from small_data import write_pairs
from stage_runs import ROOT, start_stage
from test_resume import PARAMS, as_dvc_does, environment, outputs, work
from train.test_initial_weights import ENCODER, tensors, write_ours

from cocoseg.model.weights import load_checkpoint

__all__ = ["work"]

SCRIPT = Path(__file__).parent / "validate_side.py"


def printed(command: Sequence[str], **variables: str) -> Any:
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT / "tests")])
    finished = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **variables},
    )
    assert finished.returncode == 0, finished.stderr[-2000:]
    return json.loads(finished.stdout.splitlines()[-1])


def free_port() -> str:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return str(listening.getsockname()[1])


@pytest.mark.slow
def test_one_process_two_processes_and_torchrun_count_the_same(tmp_path: Path) -> None:
    write_pairs(tmp_path, 11)  # an odd number: nothing is padded, no image counts twice
    one = printed([sys.executable, str(SCRIPT), str(tmp_path)], COCOSEG_DEVICES="1")
    two = printed([sys.executable, str(SCRIPT), str(tmp_path)], COCOSEG_DEVICES="2")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    launched = printed([*torchrun, str(SCRIPT), str(tmp_path)])
    assert (one[0], two[0], launched[0]) == (1, 2, 2)
    assert one[2] == two[2] == launched[2]
    assert sum(map(sum, one[2])) == 11 * 31 * 32  # the top row of each mask of 32×32 is ignored
    assert one[1] == pytest.approx(two[1], rel=1e-5) == launched[1]


@pytest.mark.slow
def test_two_nodes_train_together_and_the_first_writes(work: Path, tmp_path: Path) -> None:
    (work / "params.yaml").write_text(
        "\n".join(f"{key}: {'null' if value is None else value}" for key, value in PARAMS.items()).replace(
            "False", "false"
        )
    )
    (work / "dvc.yaml").write_text(f"stages: {{train: {{params: [{', '.join(PARAMS)}]}}}}")
    as_dvc_does(work)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port(), "COCOSEG_NODES": "2", "COCOSEG_DEVICES": "1"}
    nodes = [
        subprocess.Popen(
            [sys.executable, str(ROOT / "stages/train.py")],
            cwd=work,
            env={
                **os.environ,
                **environment(tmp_path / f"cache{rank}"),
                **shared,
                "PYTHONPATH": str(ROOT / "src"),
                "NODE_RANK": str(rank),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in (0, 1)
    ]
    texts = [node.communicate(timeout=180)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], texts
    assert "epoch 8 of 8" in texts[0]
    assert "epoch" not in texts[1]
    assert "data/model/model.safetensors" in outputs(work)
    assert '"processes": 2' in (work / "metrics/timing/train.json").read_text()
    assert not list((tmp_path / "cache1").rglob("state.pt"))


@pytest.mark.slow
def test_two_processes_leave_a_frozen_encoder_as_it_came(work: Path, tmp_path: Path) -> None:
    given = write_ours(work / "weights")
    chosen = {"arch": "unet", "encoder": ENCODER, "epochs": 1, "freeze_encoder_epochs": 1}
    with start_stage(work, "train", PARAMS | chosen, environment(tmp_path) | {"COCOSEG_DEVICES": "2"}) as process:
        _, text = process.communicate(timeout=180)
    assert process.returncode == 0, text
    now = tensors(load_checkpoint(work / "data/model")[0])
    assert {name.startswith("encoder.") for name in now if not torch.equal(now[name], given[name])} == {False}
