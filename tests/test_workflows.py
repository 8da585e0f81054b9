"""The workflows of GitHub: valid, sparing with rights, and every command of theirs run as a runner would run it."""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from clones import ROOT, Clone
from github_server import TOKEN, GitHub
from ruamel.yaml import YAML

FOLDER = ROOT / ".github/workflows"
FILES = sorted(FOLDER.glob("*.yml"))
WORKFLOWS: dict[str, dict[str, Any]] = {path.stem: YAML(typ="safe", pure=True).load(path) for path in FILES}
JOBS = {f"{name}/{job}": content for name, file in WORKFLOWS.items() for job, content in file["jobs"].items()}
STEPS = [step for job in JOBS.values() for step in job["steps"]]
# What the runner puts in place of an expression, besides the outputs of steps. A secret that is not set is empty.
EXPRESSIONS = {
    "secrets.AWS_ACCESS_KEY_ID": "",
    "secrets.AWS_SECRET_ACCESS_KEY": "",
    "github.token": TOKEN,
    "github.event.pull_request.number": "7",
    "steps.pictures.outputs.artifact-url": "https://example.org/comparison",
}


def test_the_workflows_are_valid_by_the_published_schema() -> None:
    command = [
        sys.executable,
        "-m",
        "check_jsonschema",
        "--builtin-schema",
        "vendor.github-workflows",
        *map(str, FILES),
    ]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert sorted(WORKFLOWS) == ["pages", "review", "tests"]


def test_no_expression_stands_in_a_script() -> None:
    # The title of a pull request or the name of a branch would be run as a part of it.
    assert [step["run"] for step in STEPS if "${{" in step.get("run", "")] == []


def test_secrets_reach_only_steps_that_read_the_remote() -> None:
    for path, workflow in zip(FILES, WORKFLOWS.values(), strict=True):
        given = [
            expression
            for job in workflow["jobs"].values()
            for step in job["steps"]
            for expression in step.get("env", {}).values()
            if "secrets." in expression
        ]
        assert len(given) == path.read_text().count("secrets.")
        assert set(given) <= {"${{ secrets.AWS_ACCESS_KEY_ID }}", "${{ secrets.AWS_SECRET_ACCESS_KEY }}"}
    assert {step["name"] for step in STEPS if "AWS_ACCESS_KEY_ID" in step.get("env", {})} == {"Gate", "Compare", "Draw"}


def test_rights_are_those_that_a_job_needs() -> None:
    read = {"contents": "read"}
    assert {name: workflow["permissions"] for name, workflow in WORKFLOWS.items()} == {
        "pages": read,
        "review": {**read, "pull-requests": "write"},
        "tests": read,
    }
    assert {name: job["permissions"] for name, job in JOBS.items() if "permissions" in job} == {
        "pages/deploy": {"pages": "write", "id-token": "write"}
    }
    # Neither event of a pull request hands a fork's code the rights of this repository.
    assert "pull_request_target" not in "".join(path.read_text() for path in FILES)
    checkouts = [step for step in STEPS if step.get("uses", "").startswith("actions/checkout@")]
    assert [step["with"]["persist-credentials"] for step in checkouts] == [False] * 3


def test_actions_are_githubs_own_and_pinned_by_major_version() -> None:
    actions = [step["uses"] for step in STEPS if "uses" in step]
    assert [action for action in actions if not re.fullmatch(r"actions/[a-z-]+@v\d+", action)] == []


def test_no_job_runs_for_hours_or_beside_a_newer_one() -> None:
    assert all(job["timeout-minutes"] <= 90 for job in JOBS.values())
    assert all(workflow["concurrency"]["group"] for workflow in WORKFLOWS.values())


def test_the_tests_are_the_command_that_a_clean_machine_runs() -> None:
    # Not run here: it is the suite that this test is a part of.
    assert [step["run"] for step in JOBS["tests/tests"]["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


class Finished(NamedTuple):
    """What a job came to."""

    failed: list[str]
    """Names of the steps that failed."""
    output: str
    summary: str


class Runner:
    """A machine as GitHub lends it: a checkout of the repository with `origin`, and a Python of its own with pip."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.origin = Clone(folder / "origin")
        self.workspace = Clone(folder / "workspace")
        # The last commit and not the working tree, whose dvc.lock lags behind the code while someone edits.
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.origin.folder)], check=True)
        for name in (".ci", ".github"):
            shutil.copytree(ROOT / name, self.origin.folder / name, dirs_exist_ok=True)
        (self.origin.folder / ".dvc/config").write_text("")  # whatever remote is set, a test leaves it alone
        self.origin.git("config", "user.name", "A. Tester")
        self.origin.git("config", "user.email", "tester@example.org")
        self.origin.git("checkout", "--quiet", "-B", "main")
        self.origin.commit("the workflows as they are now")
        self.origin.git("checkout", "--quiet", "-b", "faster")
        parameters = self.origin.folder / "params.yaml"
        parameters.write_text(parameters.read_text().replace("lr: 0.01\n", "lr: 0.02\n"))
        self.origin.commit("A larger rate, and nothing run")
        subprocess.run(["git", "clone", "--quiet", str(self.origin.folder), str(self.workspace.folder)], check=True)
        if (ROOT / "uv.lock").is_file():  # git ignores it; without it uv asks for versions that it knows already
            shutil.copy2(ROOT / "uv.lock", self.workspace.folder)
        venv.create(folder / "python", with_pip=True)

    def run(self, job: str, branch: str, **environment: str) -> Finished:
        """Check a branch out and run the commands of a job; actions, which only GitHub has, are passed over."""
        self.workspace.git("checkout", "--quiet", f"origin/{branch}")
        outputs: dict[str, str] = {}
        failed: list[str] = []
        output = ""
        summary = self.folder / "summary.md"
        summary.write_text("")
        for step in JOBS[job]["steps"]:
            if "run" not in step or (failed and step.get("if") != "${{ !cancelled() }}"):
                continue
            (self.folder / "outputs").write_text("")
            given = {name: self._value(text, outputs) for name, text in step.get("env", {}).items()}
            finished = self._bash(
                step["run"],
                {
                    **environment,
                    "GITHUB_OUTPUT": str(self.folder / "outputs"),
                    "GITHUB_STEP_SUMMARY": str(summary),
                    **given,
                },
            )
            output += finished.stdout + finished.stderr
            if finished.returncode:
                failed.append(step["name"])
            for line in (self.folder / "outputs").read_text().splitlines():
                name, _, value = line.partition("=")
                outputs[f"steps.{step['id']}.outputs.{name}"] = value
        return Finished(failed, output, summary.read_text())

    def _bash(self, script: str, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
        """Run a script as `shell: bash` has it run."""
        (self.folder / "script.sh").write_text(script)
        ours = str(Path(sys.executable).parent)
        path = [folder for folder in os.environ["PATH"].split(os.pathsep) if folder != ours]
        inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        return subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", self.folder / "script.sh"],
            cwd=self.workspace.folder,
            env={
                **inherited,
                "PATH": os.pathsep.join([str(self.folder / "python/bin"), *path]),
                "DVC_NO_ANALYTICS": "1",
                "NO_PROXY": "127.0.0.1",
                "no_proxy": "127.0.0.1",
                "CI": "true",
                "GITHUB_ACTIONS": "true",
                "GITHUB_WORKSPACE": str(self.workspace.folder),
                "GITHUB_REPOSITORY": "team/cocoseg",
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_SHA": "0" * 40,
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    @staticmethod
    def _value(text: str, outputs: Mapping[str, str]) -> str:
        return re.sub(r"\$\{\{ (\S+) \}\}", lambda match: {**EXPRESSIONS, **outputs}[match[1]], text)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    assert all(workflow["defaults"]["run"]["shell"] == "bash" for workflow in WORKFLOWS.values())
    return Runner(tmp_path_factory.mktemp("runner"))


@pytest.fixture(scope="module")
def github() -> Iterator[GitHub]:
    with GitHub() as server:
        yield server


def review(runner: Runner, github: GitHub, branch: str) -> Finished:
    event = {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_BASE_REF": "main", "GITHUB_HEAD_REF": branch}
    finished = runner.run("review/review", branch, GITHUB_API_URL=github.url, **event)
    assert TOKEN not in finished.output + finished.summary
    return finished


GREEN = """\
**Gate: green**

```
dvc.lock is up to date, 7 stages
no default remote is set: whether the data can be had was not checked
```

"""


def test_a_pull_request_of_a_fork_is_reviewed_in_the_summary(runner: Runner, github: GitHub) -> None:
    github.refuse = (403, {})
    finished = review(runner, github, "main")
    github.refuse = None
    assert finished.failed == [], finished.output
    assert finished.summary.startswith(GREEN)
    assert "comment: the token may not write comments" in finished.output
    assert github.comments == []


def test_a_pull_request_gets_one_comment_and_a_later_push_changes_it(runner: Runner, github: GitHub) -> None:
    finished = review(runner, github, "main")
    assert finished.failed == [], finished.output
    assert github.bodies() == [f"<!-- the comparison of this pull request -->\n{finished.summary}"]
    assert finished.summary.startswith(GREEN)
    said, link = finished.summary.removeprefix(GREEN).rsplit("\n\n", 1)
    assert said  # the comparison, or in a line why there is none
    assert link == "[The pictures](https://example.org/comparison)\n"

    finished = review(runner, github, "faster")
    assert finished.failed == ["End as the gate says"], finished.output
    assert github.bodies() == [f"<!-- the comparison of this pull request -->\n{finished.summary}"]
    assert finished.summary.startswith("**Gate: red**\n\n```\nred: dvc.lock: stage train is out of date: ")
    assert "params.yaml:lr (modified); run dvc repro and commit dvc.lock" in finished.summary


def test_the_page_of_main_has_every_plot(runner: Runner) -> None:
    finished = runner.run("pages/build", "main", GITHUB_EVENT_NAME="push")
    assert finished.failed == [], finished.output
    page = (runner.workspace.folder / "page/index.html").read_text()
    assert "DVC failed to load some plots" not in finished.output
    for name in ("vega", "confusion.png", "gallery.png", "funnel_images.png"):
        assert name in page
