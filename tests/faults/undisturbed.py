"""The states that a run goes through which nothing disturbs, and what another must come to after it was disturbed."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from faults.disturbed import STAGES, Sandbox, fresh_sandbox

# What DVC 3.67 says of its own notes where it was killed while it wrote them; see cocoseg.commands.verify.dvc_state.
BROKEN_NOTES = (
    "join() argument must be str, bytes, or os.PathLike object, not 'NoneType'",
    "Unable to read RWLock-file",
    "'./dvc.lock' validation failed",
)
Record = Callable[[str, object], None]  # pytest's record_property


class Undisturbed:
    """The states between the stages of a run that nothing disturbed, and one sandbox to disturb."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.sandbox = Sandbox(folder / "sandbox")
        self._states = [folder / "0"]
        fresh_sandbox(self._states[0])

    def before(self, stage: str) -> Path:
        """The sandbox as it was before a stage; made when it is first asked for."""
        return self._state(STAGES.index(stage))

    def after(self, stage: str) -> Path:
        """The sandbox as it was after a stage."""
        return self._state(STAGES.index(stage) + 1)

    def pushed(self) -> Path:
        """The sandbox after the data stages, all of it on the remote."""
        pushed = self._folder / "pushed"
        if not pushed.exists():
            self.sandbox.become(self.after("split"))
            ended = self.sandbox.dvc("push", "--with-deps", "split")
            assert ended.status == 0, ended.said
            shutil.copytree(self.sandbox.folder, pushed, symlinks=True)
        return pushed

    def _state(self, number: int) -> Path:
        while len(self._states) <= number:
            self.sandbox.become(self._states[-1])
            ended = self.sandbox.dvc("repro", STAGES[len(self._states) - 1])
            assert ended.status == 0, ended.said
            state = self._folder / str(len(self._states))
            shutil.copytree(self.sandbox.folder, state, symlinks=True)
            self._states.append(state)
        return self._states[number]


def again(sandbox: Sandbox, *arguments: str) -> bool:
    """Run a command that was killed once more. Returns whether DVC first failed on its own notes, which
    `cocoseg verify --repair` repairs.
    """
    ended = sandbox.dvc(*arguments)
    if ended.status and any(line in ended.said for line in BROKEN_NOTES):
        sandbox.cocoseg("verify", "--repair", "--no-remote")
        ended = sandbox.dvc(*arguments)
        assert ended.status == 0, ended.said
        return True
    assert ended.status == 0, ended.said
    return False


def each(points: Iterable[int], claim: Callable[[int], None]) -> dict[int, str]:
    """The points at which the claim does not hold, and why not."""
    failed = {}
    for point in points:
        try:
            claim(point)
        except AssertionError as error:
            failed[point] = str(error)
    return failed


def as_undisturbed(sandbox: Sandbox, reference: Path) -> None:
    assert sandbox.content() == Sandbox(reference).content()
    assert sandbox.broken_objects() == []
