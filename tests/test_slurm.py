"""The batch scripts of docs/machines.md, and srun, on a real cluster of two nodes."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clones import ROOT, TINY, Clone, clone
from lacking import lacking
from slurm_cluster import NoCluster, SlurmCluster
from small_data import write_pairs
from test_processes import SCRIPT, printed
from test_resume import outputs

pytestmark = pytest.mark.slow
ONE_NODE, NODES = re.findall(r"^```sh\n(#!/bin/bash\n.*?)^```", (ROOT / "docs/machines.md").read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmCluster]:
    try:
        cluster = SlurmCluster(tmp_path_factory.mktemp("slurm"))
        cluster.start()
    except NoCluster as reason:
        lacking(f"no SLURM cluster: {reason}")
    yield cluster
    cluster.end()


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A clone in which the data stages have run, as on a login node."""
    split = clone(tmp_path_factory.mktemp("split"), TINY | {"epochs": 8})
    split.dvc("repro", "split")
    split.commit("split")
    activate = split.folder / ".venv/bin/activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'PATH="{Path(sys.executable).parent}:$PATH"\n')
    for name, script in (("one.sh", ONE_NODE), ("nodes.sh", NODES)):
        (split.folder / name).write_text(script)
    return split


def ended(cluster: SlurmCluster, *jobs: str) -> None:
    """Wait for jobs, which must not fail."""
    cluster.wait_for(lambda: not {"PENDING", "RUNNING", "COMPLETING"} & set(map(cluster.state, jobs)), 300)
    assert set(map(cluster.state, jobs)) == {"COMPLETED"}


def test_a_job_that_is_requeued_again_and_again_ends_as_one_that_never_was(
    cluster: SlurmCluster, split: Clone, tmp_path: Path
) -> None:
    jobs = {}
    for name in ("quiet", "requeued"):
        shutil.copytree(split.folder, tmp_path / name)
        jobs[name] = cluster.submit("one.sh", cwd=tmp_path / name, COCOSEG_CACHE=str(tmp_path / f"{name}.cache"))
    job, log = jobs["requeued"], tmp_path / f"requeued/slurm-{jobs['requeued']}.out"
    cluster.wait_for(lambda: any((tmp_path / "requeued.cache").rglob("state.pt")), 120)
    cluster.run("scontrol", "requeue", job)
    cluster.wait_for(lambda: "resuming after epoch" in log.read_text(), 120)
    resumed = len(log.read_text())
    cluster.wait_for(lambda: " of 8:" in log.read_text()[resumed:], 120)
    cluster.run("scancel", "--batch", "--signal=USR1", job)  # as when the time is nearly up
    ended(cluster, *jobs.values())
    said = log.read_text()
    first, second = (int(epoch) for epoch in re.findall(r"resuming after epoch (\d)", said))
    assert 1 <= first < second < 8
    assert "train: epoch 1 of 8" in said  # the log of the first part is kept
    quiet, requeued = (Clone(tmp_path / name) for name in jobs)
    assert outputs(requeued.folder) == outputs(quiet.folder)
    assert (requeued.folder / "dvc.lock").read_bytes() == (quiet.folder / "dvc.lock").read_bytes()


def test_two_steps_of_a_job_on_two_nodes_count_as_one_process_does(cluster: SlurmCluster, tmp_path: Path) -> None:
    write_pairs(tmp_path, 11)
    one = printed([sys.executable, str(SCRIPT), str(tmp_path)], COCOSEG_DEVICES="1")
    step = f"srun --exact -N2 -n2 {sys.executable} {SCRIPT} {tmp_path}"
    (tmp_path / "steps.sh").write_text(f"#!/bin/bash\n{step} > a & {step} > b & wait\n")
    path = f"{ROOT / 'src'}:{ROOT / 'tests'}"
    both = ("-N2", "--ntasks-per-node=2")  # else 3 and 1, and the second step waits for the first
    ended(cluster, cluster.submit(*both, "steps.sh", cwd=tmp_path, PYTHONPATH=path, OMP_NUM_THREADS="1"))
    for name in ("a", "b"):
        processes, loss, confusion = json.loads((tmp_path / name).read_text().splitlines()[-1])
        assert (processes, confusion) == (2, one[2])
        assert loss == pytest.approx(one[1], rel=1e-5)


def test_two_nodes_train_and_the_first_goes_on_with_dvc(cluster: SlurmCluster, split: Clone, tmp_path: Path) -> None:
    here = Clone(tmp_path / "clone")
    shutil.copytree(split.folder, here.folder)
    here.set_params(epochs=1)
    small = ("--ntasks-per-node=1", "--gres=gpu:1", "--cpus-per-task=1")
    job = cluster.submit(*small, "nodes.sh", cwd=here.folder, COCOSEG_CACHE=str(tmp_path / "cache"))
    ended(cluster, job)
    said = (here.folder / f"slurm-{job}.out").read_text()
    assert said.count("train: epoch 1 of 1") == 1, said
    assert json.loads((here.folder / "metrics/timing/train.json").read_text())["processes"] == 2
    assert here.stages_run(said) == ["evaluate"]
    assert "Data and pipelines are up to date" in here.dvc("status")
