"""Run stages as DVC does: as scripts, in a folder with its own parameters and pipeline."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from forked_python import forked_python

ROOT = Path(__file__).parent.parent


def start_stage(
    folder: Path,
    stage: str,
    params: Mapping[str, Any],
    environment: Mapping[str, str],
    python: str | Path = sys.executable,
) -> "subprocess.Popen[str]":
    """Start `stages/<stage>.py` in `folder`, with warnings as errors."""
    # JSON is YAML 1.2.
    (folder / "params.yaml").write_bytes(msgspec.json.encode(params))
    (folder / "dvc.yaml").write_bytes(msgspec.json.encode({"stages": {stage: {"params": sorted(params)}}}))
    return subprocess.Popen(
        [python, "-W", "error", str(ROOT / "stages" / f"{stage}.py")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def run_stage(
    folder: Path, stage: str, params: Mapping[str, Any], environment: Mapping[str, str]
) -> tuple[int, list[str]]:
    """Run a stage in a fork. Return its exit status, and its lines on standard error."""
    with start_stage(folder, stage, params, environment, forked_python() / "python") as process:
        _, text = process.communicate(timeout=60)
    return process.returncode, text.splitlines()
