"""The workflows of GitHub and GitLab: valid, sparing with rights, and every command run as a runner would run it."""

import base64
import functools
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from clones import NOBODY, ROOT, Clone
from github_runner import ARTIFACT, Finished, Runner, bash
from github_server import TOKEN, GitHub
from ruamel.yaml import YAML
from toy_pipeline import toy_pipeline

FOLDER = ROOT / ".github/workflows"
FILES = sorted(FOLDER.glob("*.yml"))
WORKFLOWS: dict[str, dict[str, Any]] = {path.stem: YAML(typ="safe", pure=True).load(path) for path in FILES}
JOBS = {f"{name}/{job}": content for name, file in WORKFLOWS.items() for job, content in file["jobs"].items()}
STEPS = [step for job in JOBS.values() for step in job["steps"]]
GITLAB = YAML(typ="safe", pure=True).load(ROOT / ".gitlab-ci.yml")
# What the runner puts in place of an expression, whatever the event. A secret that is not set is empty.
EXPRESSIONS = {
    "secrets.AWS_ACCESS_KEY_ID": "",
    "secrets.AWS_SECRET_ACCESS_KEY": "",
    "github.token": TOKEN,
    "github.event.pull_request.number": "7",
    "github.event.pull_request.head.repo.full_name": "team/cocoseg",
    "vars.FAIL_IF": "",
}


@pytest.mark.parametrize(
    ("schema", "files"),
    [("github-workflows", FILES), ("gitlab-ci", [ROOT / ".gitlab-ci.yml"])],
    ids=["github", "gitlab"],
)
def test_the_workflows_are_valid_by_the_published_schema(schema: str, files: list[Path]) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    if schema == "gitlab-ci":
        command += ["--data-transform", "gitlab-ci"]
    command += map(str, files)
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
    assert GITLAB["tests"]["script"] == [".ci/run"]
    assert [step["run"] for step in JOBS["tests/tests"]["steps"] if "run" in step] == [".ci/run"]
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    assert all(workflow["defaults"]["run"]["shell"] == "bash" for workflow in WORKFLOWS.values())
    return Runner(tmp_path_factory.mktemp("runner"), EXPRESSIONS)


class Reviewed(NamedTuple):
    """What a review came to, and what GitHub had then."""

    finished: Finished
    head: str
    """The last commit of the branch; what is checked out is a merge of it that no branch keeps."""
    comments: list[str]


class PullRequest:
    """One of a toy pipeline whose results are shared: by git, by a remote, and the experiments by `dvc exp push`."""

    def __init__(self, runner: Runner, github: GitHub, folder: Path) -> None:
        self.runner = runner
        self.github = github
        self.workflow = WORKFLOWS["review"]
        self.author = author = toy_pipeline(folder / "author")
        ignored = shutil.ignore_patterns("__pycache__")
        for name in (".ci", ".github", "src/cocoseg"):
            shutil.copytree(ROOT / name, author.folder / name, ignore=ignored)
        for name in (".gitignore", "pyproject.toml", "README.md", "LICENSE"):
            shutil.copy2(ROOT / name, author.folder)
        author.dvc_here("remote", "add", "--default", "store", str(folder / "store"))
        author.commit("the command, the workflows and a remote")
        author.dvc_here("exp", "run", "--name", "other-seed", "-S", "seed=1")
        author.git("checkout", "--quiet", "--force", "-b", "better")
        author.set_params(wrong=0.2)
        author.dvc_here("repro")
        author.commit("fewer wrong pixels")
        author.git("checkout", "--quiet", "-b", "horses")
        author.set_params(classes=["cat", "horse"])
        author.dvc_here("repro")
        author.commit("horses instead of dogs")
        author.set_params(wrong=0.1)
        author.commit("still fewer, and nothing run")
        author.git("init", "--quiet", "--bare", "--initial-branch=main", str(folder / "origin"))
        author.git("remote", "add", "origin", str(folder / "origin"))
        author.git("push", "--quiet", "origin", "main", "better", "horses")
        author.dvc_here("push", "--all-branches")
        author.dvc_here("exp", "push", "-A", "origin")  # of a commit that is not checked out
        self.workspace = runner.checkout(folder / "origin", "review")

    def review(self, branch: str, fail_if: str = "", **environment: str) -> Reviewed:
        """Run the job on the merge commit that GitHub makes of a branch."""
        self.workspace.git("clean", "-dffqx", "--exclude=/uv.lock", "--exclude=/.dvc/config.local")
        self.workspace.git("checkout", "--quiet", "--detach", "origin/main")
        somebody = ("-c", "user.name=GitHub", "-c", "user.email=noreply@github.com")
        self.workspace.git(*somebody, "merge", "--quiet", "--no-ff", "--no-edit", f"origin/{branch}")
        self.workspace.git("update-ref", "refs/remotes/pull/7/merge", "HEAD")  # as actions/checkout fetches it
        head = self.workspace.git("rev-parse", f"origin/{branch}").strip()
        finished = self.runner.run(
            self.workflow,
            "review",
            self.workspace,
            {"github.event.pull_request.head.sha": head, "vars.FAIL_IF": fail_if},
            GITHUB_API_URL=self.github.url,
            GITHUB_EVENT_NAME="pull_request",
            GITHUB_BASE_REF="main",
            GITHUB_HEAD_REF=branch,
            GITHUB_SHA=self.workspace.git("rev-parse", "HEAD").strip(),
            **environment,
        )
        assert TOKEN not in finished.output + finished.summary
        return Reviewed(finished, head, self.github.bodies())

    def review_on_gitlab(
        self, branch: str, **environment: str
    ) -> tuple["subprocess.CompletedProcess[str]", dict[str, bytes]]:
        """Run the job on the last commit of a branch, in a clone that has no other branch. Return its artifacts too."""
        workspace = self.runner.folder / f"gitlab-{branch}"
        origin = self.author.folder.parent / "origin"
        single = ["git", "clone", "--quiet", "--single-branch", "--branch", branch, str(origin), str(workspace)]
        subprocess.run(single, check=True)
        if (ROOT / "uv.lock").is_file():
            shutil.copy2(ROOT / "uv.lock", workspace)
        finished = bash(
            "\n".join(GITLAB["review"]["script"]),
            workspace,
            self.runner.folder / "python/bin",
            UV_PROJECT_ENVIRONMENT=str(self.runner.folder / "environment"),
            CI_MERGE_REQUEST_TARGET_BRANCH_NAME="main",
            CI_PROJECT_URL="https://gitlab.com/team/cocoseg",
            CI_COMMIT_SHA="abc",
            **environment,
        )
        places = [workspace / place for place in GITLAB["review"]["artifacts"]["paths"]]
        found = [path for place in places for path in (place.iterdir() if place.is_dir() else [place])]
        return finished, {path.name: path.read_bytes() for path in found if path.is_file()}


@pytest.fixture(scope="module")
def request_to_merge(runner: Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PullRequest]:
    with GitHub() as github, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT / "src"))
        yield PullRequest(runner, github, tmp_path_factory.mktemp("request"))


@pytest.fixture(scope="module")
def reviews(request_to_merge: PullRequest) -> dict[str, Reviewed]:
    """A pull request from a fork, the same from a branch of the repository, and again after a later push."""
    request = request_to_merge
    request.workspace.set_remote("s3://bucket/store", endpointurl="http://127.0.0.1:9")
    request.github.refuse = (403, {})
    fork = request.review("better", **NOBODY)
    request.github.refuse = None
    (request.workspace.folder / ".dvc/config.local").unlink()
    made = {"fork": fork, "first": request.review("better"), "later": request.review("horses", fail_if="worse")}
    return made | {"monorepo": below_the_root(request).review("better", fail_if="not-better")}


def below_the_root(request: PullRequest) -> PullRequest:
    """Move the project of a pull request to `team/seg` of another repository, and its workflow as that says."""
    whole = Clone(request.author.folder.parent / "whole")
    inner = Clone(whole.folder / "team/seg")
    whole.folder.mkdir()
    whole.git("init", "--quiet", "--initial-branch=main")
    whole.git("config", "user.name", "A. Tester")
    whole.git("config", "user.email", "tester@example.org")
    for branch in ("main", "better"):
        request.author.git("checkout", "--quiet", "--force", branch)
        shutil.rmtree(inner.folder, ignore_errors=True)
        shutil.copytree(request.author.folder, inner.folder, ignore=shutil.ignore_patterns(".git", "data", "cache"))
        whole.git("checkout", "--quiet", "-B", branch)
        whole.commit(branch)
    request.github.comments.clear()
    request.workspace = request.runner.checkout(whole.folder, "monorepo")
    text = (FOLDER / "review.yml").read_text()
    assert text.count(" ./") == 3
    request.workflow = YAML(typ="safe", pure=True).load(text.replace(" ./", " team/seg/"))
    return request


def test_a_fork_without_secrets_is_reviewed_in_the_summary_which_says_why_nothing_is_compared(
    reviews: dict[str, Reviewed],
) -> None:
    finished, _, comments = reviews["fork"]
    assert finished.failed == [], finished.output
    gate, _, said = finished.summary.partition("\n```\n\n")
    why = "data not checked: there are no credentials for remote 'store' here"
    assert gate.startswith(f"**Gate: yellow, {why}**\n\n```\n")
    assert f"\nyellow: {why}" in gate
    assert f"::warning title=Gate::yellow, {why}\n" in finished.output
    assert finished.output.endswith(f"\nGate: yellow, {why}\n")
    assert re.fullmatch(
        r"cocoseg compare: origin/main: data/evaluation/per_image\.csv is neither in the cache nor on the "
        r"remote \(\w+\); run dvc push where it was made, or dvc repro at that commit here\n",
        said,
    )
    assert "comment: the token may not write comments" in finished.output
    assert (finished.artifact, comments) == ([], [])


def test_a_pull_request_gets_one_comment_with_the_gate_and_the_verdict(reviews: dict[str, Reviewed]) -> None:
    finished, _, comments = reviews["first"]
    assert finished.failed == [], finished.output
    assert comments == [f"<!-- the comparison of this pull request -->\n{finished.summary}"]
    assert finished.summary.startswith(
        "**Gate: green**\n\n```\ndvc.lock is up to date, 5 stages\nremote 'store' has all "
    )
    rows = {row[0]: row for row in table_rows(finished.summary)}
    assert rows["these checkpoints on these images"][5] == "▲ better"
    assert rows["wrong"] == ["wrong", "0.3", "0.2"]


def test_the_runs_of_other_seeds_that_were_shared_count_in_the_review(reviews: dict[str, Reviewed]) -> None:
    seeds = [
        (row[0], row[1].split()[0], row[2]) for row in table_rows(reviews["first"].finished.summary) if len(row) == 5
    ]
    assert sorted(run for run in seeds if run[0] in ("base", "new")) == [
        ("base", "origin/main", "0"),
        ("base", "other-seed", "1"),
        ("new", "HEAD", "0"),
    ]


def table_rows(markdown: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown.splitlines() if line.startswith("|")]


def test_the_images_that_changed_most_are_kept_and_linked(reviews: dict[str, Reviewed]) -> None:
    finished = reviews["first"].finished
    assert finished.artifact == ["changed.png"]
    assert "Drawn in comparison/changed.png." in finished.summary
    assert finished.summary.endswith(f"\n\n[The pictures]({ARTIFACT})\n")


def test_a_project_below_the_root_of_git_is_reviewed_there(reviews: dict[str, Reviewed]) -> None:
    finished, head, comments = reviews["monorepo"]
    assert finished.failed == ["Fail if the score says so"], finished.output  # one seed a side
    assert comments == [f"<!-- the comparison of this pull request -->\n{finished.summary}"]
    assert finished.summary.startswith("**Gate: green**\n\n```\ndvc.lock is up to date, 5 stages\nremote 'store' has")
    assert {row[0]: row for row in table_rows(finished.summary)}["these checkpoints on these images"][5] == "▲ better"
    assert f"https://github.com/team/cocoseg/raw/{head}/team/seg/plots/evaluate/gallery.png" in finished.summary
    assert finished.artifact == ["changed.png"]


def test_plots_are_shown_from_a_commit_that_stays(reviews: dict[str, Reviewed]) -> None:
    finished, head, _ = reviews["first"]
    plots = re.findall(r"!\[.+\]\(https://github.com/team/cocoseg/raw/(.+?)/(.+)\)", finished.summary)
    assert {commit for commit, _ in plots} == {head}
    assert "plots/evaluate/gallery.png" in [path for _, path in plots]


def test_more_seeds_are_trained_at_a_commit_that_stays(reviews: dict[str, Reviewed]) -> None:
    finished, head, _ = reviews["first"]
    assert f"git checkout -q {head[:12]} && dvc exp run --queue " in finished.summary
    assert finished.summary.count("git checkout -q ") == 4  # there and back, on both sides
    assert f"## HEAD (merge of {head[:7]}) against origin/main (" in finished.summary


def test_a_later_push_changes_the_comment_and_is_red_where_nothing_was_run(reviews: dict[str, Reviewed]) -> None:
    finished, _, comments = reviews["later"]
    assert finished.failed == ["Fail if the score says so", "Fail if the gate is red"], finished.output
    assert comments == [f"<!-- the comparison of this pull request -->\n{finished.summary}"]
    assert finished.summary.startswith(
        "**Gate: red**\n\n```\nred: dvc.lock: stage train is out of date: params.yaml:wrong (modified); run dvc repro"
    )


def test_why_scores_cannot_be_compared_is_said_once(reviews: dict[str, Reviewed]) -> None:
    finished = reviews["later"].finished
    refusal = "the classes differ, 1 removed (dog) and 1 added (horse): their scores do not measure the same thing"
    assert finished.summary.count(refusal) == 1
    assert (finished.artifact, "[The pictures]" in finished.summary) == ([], False)


def test_the_comment_names_the_condition_that_a_review_fails_on(reviews: dict[str, Reviewed]) -> None:
    said = "\n\n**Fails if not better, judged by this change: undetermined**, one seed per side.\n\n"
    assert said in reviews["monorepo"].finished.summary
    assert "Fails if" not in reviews["first"].finished.summary
    assert reviews["first"].finished.output.count("\nFail if: not asked; exit status of the comparison: 0\n") == 1


@pytest.mark.parametrize(
    ("fail_if", "allowed", "passing"),
    [("", "0", "0134"), ("worse", "0", "0"), ("worse", "0 4", "04"), ("not-better", "0 1 4", "014")],
)
def test_a_review_fails_on_every_status_that_is_not_allowed(fail_if: str, allowed: str, passing: str) -> None:
    step = next(step for step in STEPS if step.get("name") == "Fail if the score says so")
    assert step["env"]["ALLOWED"] == "0"
    ended = {
        status: bash(step["run"], ROOT, FAIL_IF=fail_if, ALLOWED=allowed, STATUS=status).returncode for status in "0134"
    }
    assert "".join(status for status, code in ended.items() if code == 0) == passing
    # GitHub gives no variables to a pull request from a fork.
    repositories = {"GITHUB_REPOSITORY": "team/seg", "HEAD_REPOSITORY": "other/seg"}
    said = bash(step["run"], ROOT, FAIL_IF=fail_if, ALLOWED=allowed, STATUS="0", **repositories).stdout
    assert ("::warning::" in said) == (not fail_if)


@pytest.mark.parametrize("shared", [["refs/exps/12/3456789012345678901234567890123456789a/ochre-wisp"], []])
def test_experiments_are_fetched_from_a_private_repository_too(tmp_path: Path, shared: list[str]) -> None:
    origin, workspace = Clone(tmp_path / "origin"), Clone(tmp_path / "workspace")
    for clone, kind in ((origin, "--bare"), (workspace, "--quiet")):
        clone.folder.mkdir()
        clone.git("init", "--quiet", kind)
    tree = origin.git("hash-object", "-w", "-t", "tree", "/dev/null").strip()
    author = ("-c", "user.name=A. Tester", "-c", "user.email=tester@example.org")
    commit = origin.git(*author, "commit-tree", "-m", "a run", tree).strip()
    for ref in ("refs/heads/main", *shared):
        origin.git("update-ref", ref, commit)
    origin.git("update-server-info")
    script = next(step["run"] for step in STEPS if step.get("name") == "Fetch the experiments")
    with Private(origin.folder) as server:
        workspace.git("remote", "add", "origin", f"http://127.0.0.1:{server.server_address[1]}/")
        finished = bash(script, workspace.folder, GITHUB_TOKEN=TOKEN, GIT_CONFIG_GLOBAL=os.devnull)
    assert finished.returncode == 0, finished.stderr
    assert TOKEN not in finished.stdout + finished.stderr
    assert workspace.git("for-each-ref", "--format=%(refname)").split() == shared


class Private(ThreadingHTTPServer):
    """Serves a bare repository to who knows the token; `with` it."""

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,))
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.headers["Authorization"] == f"Basic {base64.b64encode(f'x-access-token:{TOKEN}'.encode()).decode()}":
            super().do_GET()
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="GitHub"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: Any, **named: Any) -> None:
        """Nobody asks."""


def test_a_merge_request_on_gitlab_gets_the_gate_and_the_verdict_in_the_log_and_as_an_artifact(
    request_to_merge: PullRequest,
) -> None:
    finished, artifacts = request_to_merge.review_on_gitlab("better", FAIL_IF="worse")
    assert finished.returncode == 4, finished.stdout + finished.stderr  # two seeds against one
    assert "**Fails if worse, judged by this change: undetermined**" in finished.stdout
    assert sorted(artifacts) == ["changed.png", "comparison.md"]
    report = artifacts["comparison.md"].decode()
    assert {row[0]: row for row in table_rows(report)}["these checkpoints on these images"][5] == "▲ better"
    assert "other-seed" in {row[1].split()[0] for row in table_rows(report) if len(row) == 5}
    assert "https://gitlab.com/team/cocoseg/-/raw/abc/plots/evaluate/gallery.png" in report
    assert report in finished.stdout
    assert "dvc.lock is up to date, 5 stages" in finished.stdout.partition(report)[2]


def test_a_merge_request_on_gitlab_fails_with_the_gate_and_still_says_what_it_found(
    request_to_merge: PullRequest,
) -> None:
    finished, _ = request_to_merge.review_on_gitlab("horses")
    assert finished.returncode == 1
    assert "the classes differ, 1 removed (dog) and 1 added (horse)" in finished.stdout
    assert "red: dvc.lock: stage train is out of date" in finished.stdout


def test_the_site_of_main_has_every_page_and_every_plot(runner: Runner) -> None:
    # The last commit and not the working tree, whose dvc.lock lags behind the code while someone edits.
    workspace = runner.checkout(ROOT, "pages")
    (workspace.folder / ".dvc/config").write_text("")  # whatever remote is set, a test leaves it alone
    finished = runner.run(WORKFLOWS["pages"], "build", workspace, {}, GITHUB_EVENT_NAME="push")
    assert finished.failed == [], finished.output
    assert "Train segmentation models on COCO" in (workspace.folder / "page/index.html").read_text()
    assert "read_pair" in (workspace.folder / "page/docs/api/index.html").read_text()
    page = (workspace.folder / "page/charts/index.html").read_text()
    assert "DVC failed to load some plots" not in finished.output
    for name in ("vega", "confusion.png", "gallery.png", "funnel_images.png"):
        assert name in page
