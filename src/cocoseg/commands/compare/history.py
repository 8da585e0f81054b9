"""What git knows of the files of two runs: where they parted, and what has changed between them."""

from collections.abc import Sequence
from pathlib import Path

from cocoseg.commands.revisions import LOCK, Revision, git_output
from cocoseg.core.errors import CocosegError

# Lines of our `.dvcignore`: those by which only Python counts below `src`, and those that touch none of it.
_PYTHON_ALONE = frozenset({"src/**", "!src/**/", "!src/**/*.py"})
_NO_PYTHON = frozenset({".writing-*", "src/**/.*", "__pycache__"})


def kept_commit(commit: str) -> str:
    """Return the commit itself, or of a merge that no branch has, as GitHub makes one for a review, the branch's head.

    GitHub drops such a merge, so nobody could check it out. A stash is a merge, too, but of its own files.
    """
    stashed = (git_output("stash", "list", "--format=%H") or "").split()
    if commit in stashed or git_output("rev-parse", "--verify", "--quiet", f"{commit}^2") is None:
        return commit
    if any(not branch.startswith("refs/remotes/pull/") for branch in _branches_with(commit)):  # of actions/checkout
        return commit
    return git_output("rev-parse", f"{commit}^2") or commit


def other_results_since_parted(base: Revision, new: Revision) -> str | None:
    """Return the commit at which a branch (no experiment) and `new` parted, if the branch has other results since."""
    ends = [base.commit or "HEAD", new.commit or "HEAD"]
    at = git_output("merge-base", *ends)
    if at is None or at in (git_output("rev-parse", end) for end in ends) or not _branches_with(ends[0]):
        return None
    others = ([at], [new.commit] if new.commit else [])  # such as a commit that was amended: the same results
    return at if all(git_output("diff", "--name-only", ends[0], *other, "--", LOCK) for other in others) else None


def _branches_with(commit: str) -> list[str]:
    """Return the branches and tags that contain a commit, by their references."""
    places = ("refs/heads", "refs/remotes", "refs/tags")
    return (git_output("for-each-ref", f"--contains={commit}", "--format=%(refname)", *places) or "").split()


def changed_files(base: Revision, new: Revision, patterns: Sequence[str]) -> list[str]:
    """Return the files that match `patterns` and differ between two runs, by their paths from this folder.

    Of the working tree, files that git does not track yet count too.
    """
    ends = [run.commit for run in (base, new) if run.commit is not None]
    listed = git_output("diff", "--name-only", "--no-renames", "--relative", "-z", *ends, "--", *patterns) or ""
    if len(ends) < 2:
        listed += git_output("ls-files", "--others", "--exclude-standard", "-z", "--", *patterns) or ""
    return sorted({name for name in listed.split("\0") if name})


def files_changed_since_lock(revision: Revision, paths: Sequence[str]) -> list[str]:
    """Return the files below `paths` that differ from the commit that last changed the `dvc.lock` of a run.

    A `dvc.lock` that is not committed is newer than any: then all of `paths` may have changed.
    """
    if revision.commit is None and git_output("status", "--porcelain", "--", LOCK):
        return [*paths]
    last = git_output("log", "-1", "--format=%H", revision.commit or "HEAD", "--", LOCK)
    return changed_files(Revision(revision.name, last), revision, paths) if last and paths else []


def python_files_below(revision: Revision, folder: str) -> list[str] | None:
    """Return the Python files below a folder of `src`, those that our `.dvcignore` leaves; `None` if it has others."""
    try:
        lines = revision.tracked(".dvcignore").decode().splitlines()
    except (CocosegError, OSError, ValueError):
        return None
    rules = {line.rstrip() for line in lines if line.strip() and not line.startswith("#")}
    others = [rule for rule in rules - _PYTHON_ALONE - _NO_PYTHON if not rule.startswith("/data/")]
    if others or not rules >= _PYTHON_ALONE or folder.split("/")[0] != "src":
        return None
    if revision.commit is None:
        found = [path.as_posix() for path in Path(folder).rglob("*.py") if path.is_file()]
    else:
        found = (git_output("ls-tree", "-r", "--name-only", "-z", revision.commit, "--", folder) or "").split("\0")
    return sorted(name for name in found if name.endswith(".py") and "/." not in name)
