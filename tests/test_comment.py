"""The comment of a pull request, against a server that answers as GitHub's API does for comments."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from clones import ROOT
from github_server import TOKEN, GitHub

SCRIPT = ROOT / ".github/comment.py"
MARKER = "<!-- the comparison of this pull request -->"


@pytest.fixture
def github() -> Iterator[GitHub]:
    with GitHub() as server:
        yield server


def post(url: str, text: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the script with this text, as the workflow does; no output may hold the token."""
    (folder / "comment.md").write_text(text)
    given = {"GITHUB_API_URL": url, "GITHUB_REPOSITORY": "team/cocoseg", "GITHUB_TOKEN": TOKEN, "PR_NUMBER": "7"}
    finished = subprocess.run(
        [sys.executable, SCRIPT, folder / "comment.md"],
        env={**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", **given, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert TOKEN not in finished.stdout + finished.stderr
    assert "Traceback" not in finished.stderr
    return finished


def test_the_first_run_posts_a_comment_and_says_where(github: GitHub, tmp_path: Path) -> None:
    github.add("Looks good to me.")
    finished = post(github.url, "mIoU 0.703 → 0.745\n", tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert github.bodies() == [f"{MARKER}\nmIoU 0.703 → 0.745\n"]
    assert finished.stdout == f"comment: {github.url}/team/cocoseg/pull/7#2\n"


def test_a_later_run_changes_that_comment_though_it_stands_pages_back(github: GitHub, tmp_path: Path) -> None:
    for number in range(70):
        github.add(f"Comment {number}.")
    post(github.url, "first", tmp_path)
    for number in range(70):
        github.add(f"Another {number}.")
    github.log.clear()
    assert post(github.url, "second", tmp_path).returncode == 0
    assert github.bodies() == [f"{MARKER}\nsecond"]
    assert github.log == ["GET", "GET", "GET", "PATCH"]  # the comment is the 71st, on the third page of 30


def test_comments_of_others_stay_as_they_are_even_with_the_marker(github: GitHub, tmp_path: Path) -> None:
    others = [(f"{MARKER}\nI copied this.", "User"), ("Coverage is 99%.", "Bot"), (f"{MARKER}\nGone.", None)]
    for body, kind in others:
        github.add(body, kind)
    assert post(github.url, "ours", tmp_path).returncode == 0
    assert [comment["body"] for comment in github.comments] == [*(body for body, _ in others), f"{MARKER}\nours"]


def test_a_text_that_github_would_not_take_is_cut_at_a_line_and_says_so_at_its_top(
    github: GitHub, tmp_path: Path
) -> None:
    post(github.url, "×" * (65536 - len(MARKER) - 1), tmp_path)
    assert len(github.bodies()[0]) == 65536
    assert "cut" not in github.bodies()[0]
    text = "".join(f"| {number:05} | × |\n" for number in range(9000))
    assert post(github.url, text, tmp_path).returncode == 0
    marker, says, empty, *lines = github.bodies()[0].split("\n")
    assert marker == MARKER
    assert "This comment is cut" in says
    assert empty == ""
    assert lines == text.splitlines()[: len(lines)]
    assert 65536 - 14 < len(github.bodies()[0]) <= 65536  # another line of 14 characters would not fit


def test_a_fork_whose_token_may_not_write_is_told_where_to_read_and_nothing_fails(
    github: GitHub, tmp_path: Path
) -> None:
    github.refuse = (403, {"x-ratelimit-remaining": "4999"})
    finished = post(github.url, "ours", tmp_path)
    assert finished.returncode == 0
    assert finished.stdout == (
        "comment: the token may not write comments, as in pull requests from forks; "
        "the summary of the workflow run has it\n"
    )


@pytest.mark.parametrize(
    ("status", "headers", "line"),
    [
        (500, {}, "GitHub answered 500 Internal Server Error"),
        (422, {}, "GitHub answered 422 Unprocessable Entity"),
        (403, {"x-ratelimit-remaining": "0"}, "GitHub answered 403 Forbidden"),
        (403, {"retry-after": "60"}, "GitHub answered 403 Forbidden"),
    ],
)
def test_every_other_refusal_is_one_line_and_fails(
    github: GitHub, tmp_path: Path, status: int, headers: dict[str, str], line: str
) -> None:
    github.refuse = (status, headers)
    finished = post(github.url, "ours", tmp_path)
    assert (finished.returncode, finished.stderr) == (1, f"comment: {line}\n")


def test_a_wrong_token_fails_without_being_shown(github: GitHub, tmp_path: Path) -> None:
    finished = post(github.url, "ours", tmp_path, GITHUB_TOKEN="another-token")
    assert (finished.returncode, finished.stderr) == (1, "comment: GitHub answered 401 Unauthorized\n")
    finished = post(github.url, "ours", tmp_path, GITHUB_TOKEN=f"{TOKEN}\n")  # as pasted into a secret
    assert finished.returncode == 0


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with GitHub() as server:
        pass
    finished = post(server.url, "ours", tmp_path)
    assert finished.returncode == 1
    assert finished.stderr.startswith("comment: ")
    assert finished.stderr.count("\n") == 1


def test_what_the_environment_lacks_is_named(github: GitHub, tmp_path: Path) -> None:
    finished = post(github.url, "ours", tmp_path, PR_NUMBER="", GITHUB_TOKEN="")
    assert (finished.returncode, finished.stderr) == (1, "comment: GITHUB_TOKEN, PR_NUMBER not set\n")
