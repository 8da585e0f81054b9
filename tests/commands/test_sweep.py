"""Sweeps of a small pipeline, with real DVC, git, Optuna and submitit."""

import os
import re
import signal
import socket
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import which
from typing import Any

import psutil
import pytest
from clones import PATH, Clone
from forks import kill
from ruamel.yaml import YAML
from toy_pipeline import SCRIPT, toy_pipeline

from cocoseg.cli import main
from cocoseg.commands.sweep import driver
from cocoseg.commands.sweep.jobs import JOB, Jobs, State, _Job, parse_place
from cocoseg.commands.sweep.space import check_space, parse_space
from cocoseg.commands.sweep.study import Pruning, Study, open_storage
from cocoseg.commands.sweep.trial import Ended, Trial, _reason, override, run_trial
from cocoseg.core.errors import CocosegError
from cocoseg.core.files import read_json, write_json
from cocoseg.train.loggers import SweepLogger

SOURCE = Path(__file__).parents[2] / "src"
PARAMS = YAML(typ="safe", pure=True).load(SOURCE.parent / "params.yaml")
STAGES = {
    name: entry["params"]
    for name, entry in YAML(typ="safe", pure=True).load(SOURCE.parent / "dvc.yaml")["stages"].items()
    if name != "evaluate"
}
# A training that takes a while, writes its epochs, can be pruned, and notes where it starts and ends.
TRAIN = """
        import os, time
        diary, notes = Path(os.environ["DIARY"]), os.environ.get("COCOSEG_SWEEP", "")
        def note(what):
            with diary.open("a") as file:
                file.write(f"{what} {params['wrong']} {params['seed']}\\n")
        note(f"start {os.getpid()}")
        while not Path(os.environ["GO"]).exists():  # as long as imports take
            time.sleep(0.05)
        from cocoseg.core.lifetime import end_with_dvc
        end_with_dvc()
        if params["wrong"] == 0.9:
            sys.exit("train: wrong is too much")
        for epoch in range(int(os.environ["EPOCHS"])):
            time.sleep(0.2)
            if notes:
                with open(f"{notes}/epochs", "a") as file:
                    file.write(f"{1 - params['wrong']}\\n")
                if Path(notes, "stop").exists():
                    sys.exit(f"train: pruned after epoch {epoch}")
        note("end")
"""


TRACE = """\
Traceback (most recent call last):
  File "/a/work/src/mine.py", line 2, in loss
    return options["weight"]
           ~~~~~~~^^^^^^^^^^
  File "/lib/torch/nn.py", line 9, in forward
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """Return a small pipeline whose training leaves a diary."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SOURCE))
        folder = tmp_path_factory.mktemp("sweep")
        patch.setenv("DIARY", str(folder / "diary"))
        patch.setenv("EPOCHS", "0")
        patch.setenv("GO", str(folder))
        return toy_pipeline(
            folder / "töy, it's #1", SCRIPT.replace('    case "train":\n', f'    case "train":{TRAIN}'), images=4
        )


# What users have in their own settings, which must not reach the clones that a sweep makes.
GIT_SETTINGS = """[core]
    hooksPath = {folder}
[push]
    gpgSign = true
[protocol "file"]
    allow = never
[status]
    showUntrackedFiles = no
"""


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let git's own settings refuse what they can, as a hook does."""
    (tmp_path / "post-checkout").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "post-checkout").chmod(0o755)
    (tmp_path / "gitconfig").write_text(GIT_SETTINGS.format(folder=tmp_path))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))


@pytest.fixture
def diary(repository: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the diary of a test."""
    for name, value in {"PYTHONPATH": SOURCE, "DIARY": tmp_path / "diary", "EPOCHS": 5, "GO": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    return tmp_path / "diary"


def runs(repository: Clone) -> list[str]:
    """Return the names of the experiments of sweeps."""
    return re.findall("sweep-.*", repository.git("for-each-ref", "--format=%(refname:lstrip=4)", "refs/exps"))


def worker_of(stage: int) -> psutil.Process:
    """Return the process that runs the trial of a stage."""
    [worker] = [one for one in psutil.Process(stage).parents() if "submitit.core._submit" in " ".join(one.cmdline())]
    return worker


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("lr", "lr: expected KEY=VALUES, where VALUES are uniform(low,high)"),
        ("lr=", "lr=: expected KEY=VALUES"),
        ("lr=[1", "lr=[1: not a list of values"),
        ("lr=log(1,2)", "lr=log(1,2): unknown distribution log; did you mean logint?"),
        ("lr=uniform(1)", "lr=uniform(1): expected two numbers, uniform(low,high)"),
        ("lr=uniform(2,1)", "lr=uniform(2,1): expected numbers with low < high"),
        ("lr=loguniform(0,1)", "lr=loguniform(0,1): expected numbers with 0 < low < high"),
        ("seed=int(0,1.5)", "seed=int(0,1.5): expected whole numbers with low < high"),
        ("seed=1 seed=2", "seed is given twice"),
        ("lr=loguniform(1e-4,3e4)", "lr=30000.0: lr is 30000.0; expected a number above 0 and at most 1000"),
        ("seed=uniform(0,9)", "seed=0.0: seed is 0.0; expected a whole number"),
        (
            "optimizer=adam,adamW",
            "optimizer=\"adamW\": optimizer is 'adamW'; expected one of adam, adamw, sgd; did you mean adamw?",
        ),
        (
            "loss=ce,focal label_smoothing=0,0.1",
            'loss="focal" label_smoothing=0.1: label_smoothing is 0.1, which has no',
        ),
        ("leraning_rate=1", "leraning_rate: not a parameter of train; expected one of accumulate_batches"),
        ("ls=1", "ls: not a parameter of train; did you mean loss?"),
        ("classes=[cat]", "classes: filter depends on it, so runs with other values cannot be ranked"),
        ("primary_score=miou", "primary_score: the choice of the best run depends on it"),
    ],
)
def test_what_is_wrong_with_a_space_is_said_before_anything_starts(text: str, said: str) -> None:
    with pytest.raises(CocosegError) as refused:
        check_space(parse_space(text.split()), PARAMS, STAGES)
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_the_examples_are_valid() -> None:
    texts = ["lr=loguniform(1e-4,3e-2)", "arch=unet,fpn", "clip_grad_norm=null,1.0", "augment=choice(none,light)"]
    check_space(space := parse_space(texts), PARAMS, STAGES)
    assert space.combinations()[1] == {"arch": "unet", "clip_grad_norm": 1.0}
    assert [override(key, value) for key, value in (("a", None), ("b", ["x", "traffic light"]), ("c", 1e-5))] == [
        "a=null",
        "b=[x,'traffic light']",
        "c=1e-05",
    ]


@pytest.mark.parametrize(
    "place", ["local", "local:0", "slurm", "slurm:gpu=1", "slurm:time=x", "slurm:time=1,x", "k8s:2"]
)
def test_an_unknown_place_is_refused(place: str) -> None:
    with pytest.raises(CocosegError, match="expected local:2 \\(two at a time\\), or slurm:gpu=1,time=120"):
        parse_place(place)


def test_each_job_of_this_machine_gets_a_gpu_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-b")
    monkeypatch.setenv("COCOSEG_CACHE", "cache")
    settings = {"needs": [], "repository": "", "project": "", "cache": ""}
    jobs, started = Jobs(parse_place("local:3"), tmp_path, "c" * 40, settings), list[Trial]()

    def submitted(self: Jobs, trial: Trial, notes: Path, _others: int) -> str:
        started.append(trial)
        return str(os.getpid())

    monkeypatch.setattr(Jobs, "_submit", submitted)
    for active in ([], ["run-0"], ["run-1"]):  # the third starts when the first has ended
        jobs.start(f"run-{len(started)}", {}, active)
    assert [trial.environment["CUDA_VISIBLE_DEVICES"] for trial in started] == ["3", "GPU-b", "3"]
    assert started[0].environment["COCOSEG_CACHE"] == str(Path.cwd() / "cache")
    with pytest.raises(CocosegError, match="/100%t/runs: its path has %t, which submitit and sbatch replace"):
        Jobs(parse_place("local:1"), Path("/100%t/runs"), "c" * 40, settings)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("echo PENDING", "running"),
        ("exit 0", "lost"),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", "lost"),
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", "running"),
    ],
)
def test_a_job_of_a_cluster_lives_until_its_queue_does_not_know_it(
    said: str, kind: str, repository: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "squeue").write_text(f"#!/bin/sh\n{said}\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{PATH}")
    monkeypatch.chdir(repository.folder)
    write_json(tmp_path / "one/job.json", {"id": "7", "host": "login", "created": None, "slot": 0})
    jobs = Jobs(parse_place("slurm:time=5"), tmp_path, "c" * 40, {"repository": "."})
    assert jobs.state("one").kind == kind


def study(place: str, *texts: str, most: int = 9, me: str = "here", pruning: Pruning = "none") -> Study:
    return Study(open_storage(place), "c" * 40, parse_space(texts), most, pruning, epochs=9, me=me)


def test_a_study_goes_on_after_a_kill_at_any_moment_and_never_repeats_itself(tmp_path: Path) -> None:
    journal, asked = str(tmp_path / "study"), ("lr=uniform(0,1)", "seed=0,1")
    first = [study(journal, *asked).next() for _ in range(4)]  # each of another driver, whose sampler begins anew
    assert len({one[1]["lr"] for one in first if one}) == 4
    assert [one[1]["seed"] for one in first if one] == [0, 1, 0, 1]
    with Path(journal).open("ab") as file:
        file.write(b'{"op_code": 4, "worker')  # what a full disk leaves
    again = study(journal, *asked)
    assert list(again.running()) == [one[0] for one in first if one]
    again.end(next(iter(again.running())), State("done", score=0.5))
    assert [run.score for run in study(journal, *asked).tried()] == [0.5, None, None, None]
    again.end(first[1][0] if first[1] else "", State("failed", "train: too much"))
    [failed] = [run for run in again.tried() if run.state == "failed"]
    again.revive(failed)
    assert failed.name in again.running()
    assert len(again.tried()) == 4
    with pytest.raises(CocosegError, match="the study cocoseg-cccccccccccc has another space"):
        study(journal, "lr=uniform(0,2)")
    few = study(f"sqlite:///{tmp_path}/few.db", "seed=int(1,3)")
    assert sorted(one[1]["seed"] for _ in range(3) if (one := few.next())) == [1, 2, 3]
    assert few.next() is None


def test_drivers_that_share_a_study_leave_each_other_alone_but_not_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal, asked = str(tmp_path / "study"), ("seed=0,1,2",)
    here, there = study(journal, *asked, me="here"), study(journal, *asked, me="there")
    runs = [one.next() for one in (here, there, here, there)]
    assert [one and one[1]["seed"] for one in runs] == [0, 1, 2, None]
    assert (len(here.running()), len(there.running())) == (2, 1)
    later = time.time() + 4000
    monkeypatch.setattr("time.time", lambda: later)
    assert len(study(journal, *asked, me="here").running()) == 3


def test_a_run_that_lags_behind_is_pruned_and_only_the_study_knows_it(tmp_path: Path) -> None:
    one = study(str(tmp_path / "study"), "seed=int(0,99)", pruning="median")
    for _ in range(4):
        name, _ = one.next() or ("", {})
        assert not one.is_hopeless(name, [0.5, 0.6, 0.7])
        one.end(name, State("done", score=0.7))
    name, _ = one.next() or ("", {})
    assert not one.is_hopeless(name, [0.1])  # an epoch of grace
    assert one.is_hopeless(name, [0.1, 0.2])
    one.end(name, State("pruned"))
    study(str(tmp_path / "other"), "seed=int(0,99)", pruning="hyperband")
    assert one.tried()[-1].state == "pruned"

    (tmp_path / "epochs").write_text("0.9\n")  # before it was resumed
    log = SweepLogger(tmp_path)
    log.log_epoch(1, {"val/miou": 0.25}, {"epoch": 1, "val/miou": 0.25})
    (tmp_path / "stop").touch()
    with pytest.raises(CocosegError, match="pruned after epoch 2"):
        log.log_epoch(2, {"val/miou": 0.5}, {"epoch": 2, "val/miou": 0.5})
    assert (tmp_path / "epochs").read_text() == "0.25\n0.5\n"


@pytest.mark.usefixtures("settings")
def test_after_kills_of_workers_and_driver_the_same_line_goes_on_and_nothing_is_done_twice(
    repository: Clone, diary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["cocoseg", "sweep", "wrong=0.1,0.2,0.9", "seed=0,1", "--on", "local:2", "--confirm", "0"]
    monkeypatch.setenv("GO", str(tmp_path / "go"))  # a training is killed before it can end, or notice that it should
    killed: list[int] = []
    refused: list[str] = []

    def kill_two_workers_and_then_the_driver(group: int) -> None:
        started = re.findall(r"^start (\d+) .*\n", diary.read_text(), re.M) if diary.exists() else []
        if len(killed) < min(2, len(started)):
            killed.append(int(started[len(killed)]))
            worker_of(killed[-1]).kill()
        elif len(started) == 4 and not refused:
            other = repository.run(sys.executable, "-m", *line, check=False)
            assert other.returncode == 1
            refused.append(other.stderr.partition(", process")[0])
            (tmp_path / "go").touch()
        elif refused and diary.read_text().count("end") >= 2:
            kill(group, alone=True)

    first = repository.disturbed(kill_two_workers_and_then_the_driver, *line, PATH=PATH)
    assert first.returncode == -9
    assert first.stderr.count("was killed; it starts again") == 2
    assert refused == [
        f"cocoseg sweep: a sweep runs in this clone already; {repository.folder}: in use by cocoseg sweep"
    ]
    second = repository.run(*line)
    assert "6 runs: 4 done, 2 failed." in second.stdout
    assert "failed: train: wrong is too much" in first.stderr + second.stderr
    done = Counter(one for one in diary.read_text().splitlines() if one.startswith("end"))
    assert done == {f"end {wrong} {seed}": 1 for wrong in (0.1, 0.2) for seed in (0, 1)}
    assert len(runs(repository)) == 4
    before = diary.read_text()
    assert repository.run(*line).stdout == second.stdout
    assert diary.read_text() == before
    assert repository.git("status", "--porcelain") == ""
    assert not list(repository.folder.glob(".dvc/tmp/sweep/runs/*/work"))


@pytest.mark.slow
def test_ctrl_c_leaves_what_has_started_and_the_best_is_confirmed_on_fresh_seeds(
    repository: Clone, diary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = ["cocoseg", "sweep", "wrong=0.15", "--on", "local:3"]
    monkeypatch.setenv("SHELL", "/bin/sh")  # dash waits for the training, and unblocks Ctrl-C that bash leaves blocked
    pressed: list[int] = []
    held: list[str] = []

    def press_ctrl_c(group: int) -> None:
        if diary.exists() and not pressed:
            pressed.append(group)
            held.extend(Path(one.path).name for child in psutil.Process(group).children() for one in child.open_files())
            os.killpg(group, signal.SIGINT)

    interrupted = repository.disturbed(press_ctrl_c, *line, PATH=PATH)
    assert interrupted.returncode == 130
    assert not {"out", "err"} & {*held}  # the streams of the sweep: else a terminal could not close before its runs end
    assert interrupted.stderr.splitlines()[-1] == (
        "cocoseg sweep: interrupted; runs that have started go on; run the same line again"
    )
    monkeypatch.setenv("EPOCHS", "0")
    said = repository.run(*line).stdout
    assert diary.read_text().count("end 0.15 0\n") == 1, said
    seeds = sorted(one for one in diary.read_text().splitlines() if one.startswith("end"))[1:]
    assert seeds == sorted(f"end {wrong} {seed}" for wrong in (0.15, 0.3) for seed in (1, 2, 3))
    assert re.search(
        r"^The 0\.8\d+ of \S+ is optimistic: .* On 3 fresh seeds these parameters have 0\.8\d+", said, re.M
    )
    assert re.search(r"^this change +0\.\d+ +0\.\d+ ", said, re.M)
    table = said[said.index("Runs, best in validation first") :]
    judged = re.findall(r"^(base|new) .*\) +(\d) ", table, re.M)
    assert sorted(judged) == [(side, seed) for side in ("base", "new") for seed in "123"]


def test_trouble_of_a_machine_says_nothing_of_parameters_and_the_same_line_goes_on(
    repository: Clone, diary: Path, tmp_path: Path
) -> None:
    line = ["cocoseg", "sweep", "wrong=0.25,0.35", "--confirm", "0"]
    (tmp_path / "git").write_text(
        f'#!/bin/sh\ncase " $* " in *" clone "*) echo "fatal: the disk is gone" >&2; exit 1; esac\n'
        f'exec {which("git")} "$@"\n'
    )
    (tmp_path / "git").chmod(0o755)
    stopped = repository.run(*line, check=False, PATH=f"{tmp_path}:{PATH}")
    assert (stopped.returncode, stopped.stdout) == (1, "")
    assert re.fullmatch(
        "checking the data; its stages that are out of date run first\n"
        r"2 runs, 0 ended, 1 at a time; logs: .dvc/tmp/sweep/runs/NAME/log\n"
        rf"cocoseg sweep: sweep-\w+-\w+: {socket.gethostname()}: fatal: the disk is gone; fix that, then run the "
        "same line again\n",
        stopped.stderr,
    )
    assert not diary.exists()
    assert "2 runs: 2 done." in repository.run(*line).stdout
    assert diary.read_text().count("start") == 2


def test_a_node_without_the_cache_says_which_and_where(
    repository: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nowhere, clone = str(tmp_path / "cache"), str(repository.folder)
    run_trial(Trial(name="one", commit="c" * 40, values={}, needs=[], repository=clone, project="", cache=nowhere,
                    notes=str(tmp_path), environment={}))  # fmt: skip
    ended = read_json(tmp_path / "ended.json", Ended)
    assert ended.is_trouble
    assert ended.why.startswith(
        f"{socket.gethostname()}: {nowhere}: not found; the clone and the DVC cache must lie on"
    )


@pytest.mark.usefixtures("settings")
def test_what_is_not_committed_is_named(
    repository: Clone, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(repository.folder)
    request.addfinalizer(lambda: repository.git("clean", "--quiet", "--force"))
    for number in range(7):
        (repository.folder / f"new {number}.py").touch()
    with pytest.raises(SystemExit) as refused:
        main(["sweep", "wrong=0.1"])
    assert str(refused.value).startswith(
        'cocoseg sweep: not committed: "new 0.py", "new 1.py", "new 2.py", "new 3.py", "new 4.py" and 2 more; a run '
        "gets what is committed: git add and git commit, or git stash -u"
    )


def test_a_cluster_that_refuses_is_one_line(repository: Clone, tmp_path: Path) -> None:
    for name, said in {
        "srun": "",
        "sbatch": "echo 'sbatch: error: invalid partition specified: x' >&2; exit 1",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{said}\n")
        (tmp_path / name).chmod(0o755)
    line = ["cocoseg", "sweep", "wrong=0.45", "--on", "slurm:time=5,partition=x"]
    refused = repository.run(*line, check=False, PATH=f"{tmp_path}:{PATH}")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.splitlines()[-1].startswith(
        "cocoseg sweep: --on slurm: the cluster refuses: sbatch: error: invalid partition specified: x; expected local"
    )


@pytest.mark.slow
def test_two_clones_share_a_study_and_each_ends_with_all_runs(repository: Clone, diary: Path, tmp_path: Path) -> None:
    repository.git("init", "--quiet", "--bare", str(tmp_path / "origin"))
    clones = [Clone(tmp_path / name) for name in ("here", "there")]
    for clone in clones:
        repository.git("clone", "--quiet", ".", str(clone.folder))
        clone.git("remote", "set-url", "origin", str(tmp_path / "origin"))
        clone.dvc_here("remote", "add", "--local", "--default", "store", str(tmp_path / "store"))
    clones[0].git("push", "--quiet", "origin", "main")
    line = [sys.executable, "-m", "cocoseg", "sweep", "wrong=0.1,0.2", "seed=4,5,6", "--confirm", "0"]
    line += ["--on", "local:2", "--study", str(tmp_path / "study")]
    with ThreadPoolExecutor() as pool:
        both = list(pool.map(lambda clone: clone.run(*line), clones))
    done = Counter(one for one in diary.read_text().splitlines() if one.startswith("end"))
    assert done == {f"end {wrong} {seed}": 1 for wrong in (0.1, 0.2) for seed in (4, 5, 6)}
    assert any("6 runs: 6 done." in one.stdout for one in both)
    for clone in clones:
        assert "6 runs: 6 done." in clone.run(*line).stdout
        assert len(set(runs(clone))) == 6


@pytest.mark.parametrize(
    ("said", "status", "why"),
    [
        ("train: lr is too high\n", 1, "train: lr is too high"),
        ("train: epoch 1\ntrain: interrupted\n", 130, "train: interrupted"),
        ("train: epoch 1\n", -9, "train was killed by SIGKILL, as where memory runs out"),
        ("train: epoch 1\n", 137, "train was killed by SIGKILL, as where memory runs out"),
        ("train: epoch 1\n", -15, "train was killed by SIGTERM"),
        ("train: epoch 1\n", 3, "train exited with 3; before that: train: epoch 1"),
        ("", 1, "ERROR: failed to reproduce 'train': failed to run: python x.py, exited with 1"),
        (f"{TRACE}KeyError: 'weight'\n", 1, "KeyError: 'weight' (src/mine.py, line 2)"),
        (f"{TRACE}RuntimeError: CUDA error\nCompile with X\n", 1, "RuntimeError: CUDA error (src/mine.py, line 2)"),
        (f"{TRACE}MemoryError\n\nthe cause of:\n\n{TRACE}ValueError: no\n", 1, "ValueError: no (src/mine.py, line 2)"),
        (f"{TRACE}Ignored\ntrain: the disk is full\n", 1, "train: the disk is full"),
    ],
)
def test_why_a_stage_failed_is_its_cause_and_not_its_last_words(
    said: str, status: int, why: str, tmp_path: Path
) -> None:
    log = (
        f"Running stage 'train':\n> python x.py\n{said}ERROR: failed to reproduce 'train': failed to run: python x.py, "
    )
    (tmp_path / "log").write_text(f"{log}exited with {status}\nmore\n")
    assert _reason(tmp_path / "log") == why


def test_a_run_that_an_earlier_sweep_left_takes_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = Jobs(parse_place("local:1"), tmp_path, "c" * 40, {})
    for name, created in (("left", psutil.Process().create_time()), ("gone", 0.0)):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / JOB, _Job(id=str(os.getpid()), host=socket.gethostname(), created=created, slot=0))
    kinds = {"left": ["running"] * 3 + ["done"] * 9, "next": ["absent"]}
    looked: list[str] = []

    def state(_: Jobs, name: str) -> State:
        looked.append(name)
        kind: Any = kinds[name].pop(0)
        return State(kind, score=0.5)

    monkeypatch.setattr(Jobs, "state", state)
    monkeypatch.setattr(Jobs, "start", lambda _, name, values, active: kinds[name].extend(["running", "done"]))
    monkeypatch.setattr(driver, "_LOOK_EVERY_S", 0)
    driver._drive(jobs, agenda := driver.Listed(jobs, {"next": {}}), 1)
    assert looked == ["next", "left", "left", "left", "left", "next", "next"]
    assert agenda.scores == {"next": 0.5}
    assert capsys.readouterr().err.splitlines() == [
        "still running, from another sweep: left; each takes one of the places",
        "1 of 1  next    validation 0.5000",
    ]


@pytest.mark.usefixtures("capfd")  # it gives back the streams that a trial sends to its log
@pytest.mark.parametrize(
    ("logged", "why"),
    [
        ("", "{folder}/log: does not say why the run failed, as where the disk is full"),
        ("ERROR: failed to transfer 'd9' - [Errno 13] Permission denied: '/c'", "Permission denied: '/c'"),
        (None, "ValueError: a bug; see {folder}"),
    ],
)
def test_what_is_no_failure_of_a_run_is_the_trouble_of_its_machine(
    logged: str | None, why: str, repository: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_dvc(*words: str) -> int:
        if words[0] == "exp" and logged is None:
            raise ValueError("a bug")
        os.write(1, (logged or "").encode())
        return int(words[0] == "exp")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cocoseg.commands.dvc_adapter.run_dvc", run_dvc)
    run_trial(Trial(name="one", commit=repository.git("rev-parse", "HEAD").strip(), values={}, needs=[],
                    repository=str(repository.folder), project="", cache=str(repository.folder / ".dvc/cache"),
                    notes=str(tmp_path), environment={}))  # fmt: skip
    ended = read_json(tmp_path / "ended.json", Ended)
    assert ended.is_trouble
    assert ended.why.endswith(why.format(folder=tmp_path))
