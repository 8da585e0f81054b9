"""A sweep on a real cluster of two nodes."""

import re
from pathlib import Path

import pytest
from clones import Clone
from commands.test_sweep import diary, repository, runs
from slurm_cluster import SlurmCluster
from test_slurm import cluster

__all__ = ["cluster", "diary", "repository"]


@pytest.mark.slow
def test_six_trials_run_on_two_nodes_and_none_twice(cluster: SlurmCluster, repository: Clone, diary: Path) -> None:
    # a whole node each
    line = ["cocoseg", "sweep", "wrong=0.1,0.2,0.4", "seed=0,1", "--on", "slurm:cpu=32,time=9,jobs=2", "--confirm", "0"]
    conf = cluster.environment["SLURM_CONF"]
    first = repository.run(*line, SLURM_CONF=conf)
    assert "6 runs: 6 done" in first.stdout
    jobs = cluster.run("scontrol", "--oneliner", "show", "job").splitlines()
    assert len(jobs) == len(runs(repository)) == 6
    assert set(re.findall(r" NodeList=(\S+)", "\n".join(jobs))) == {"n1", "n2"}
    assert diary.read_text().count("end") == 6
    assert repository.run(*line, SLURM_CONF=conf).stdout == first.stdout
    assert diary.read_text().count("start") == 6
