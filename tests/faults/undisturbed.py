"""The states of an undisturbed run, which a disturbed one must reach as well."""

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from faults.disturbed import STAGES, Sandbox, fresh_sandbox

# Messages of DVC 3.67 about its own state if it was killed while writing it; see cocoseg.commands.verify.dvc_state.
BROKEN_NOTES = (
    "join() argument must be str, bytes, or os.PathLike object, not 'NoneType'",
    "Unable to read RWLock-file",
    "'./dvc.lock' validation failed",
)
Record = Callable[[str, object], None]  # pytest's record_property


class Undisturbed:
    """The states between the stages of an undisturbed run, and one sandbox to disturb."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.sandbox = Sandbox(folder / "sandbox")
        self._states = [folder / "0"]
        fresh_sandbox(self._states[0])

    def before(self, stage: str) -> Path:
        """Return the sandbox as it was before a stage; it is made on first use."""
        return self._state(STAGES.index(stage))

    def after(self, stage: str) -> Path:
        """Return the sandbox as it was after a stage."""
        return self._state(STAGES.index(stage) + 1)

    def pushed(self) -> Path:
        """Return the sandbox after the data stages, with everything on the remote."""
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
    """Run a killed command again. Return whether DVC first failed on its own state.

    If so, `cocoseg verify --repair` repairs it.
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
    """Return the points at which the claim fails, and why."""
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
