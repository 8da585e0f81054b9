"""A folder for what strangers send: stages run in it as scripts, and nothing beside their outputs may change."""

import os
import runpy
import stat
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from stage_runs import ROOT, run_stage

from cocoseg.cli import main

# What `dvc.yaml` lets stages write, the cache, and what git and DVC keep for themselves.
_OUTPUTS = (
    "cache",
    "work/.dvc",
    "work/.git",
    "work/data",
    "work/metrics",
    "work/plots",
    "work/params.yaml",
    "work/dvc.yaml",
)


class Sandbox:
    """`work` is where stages run, `strange` where a stranger's files lie, `canary` what nobody may touch."""

    def __init__(
        self,
        folder: Path,
        monkeypatch: pytest.MonkeyPatch,
        captured: pytest.CaptureFixture[str],
        record: Callable[[str, object], None],
    ) -> None:
        self.folder = folder
        self.work, self.strange, self.cache = folder / "work", folder / "strange", folder / "cache"
        self._monkeypatch = monkeypatch
        self._captured = captured
        self._record = record
        for name in ("work", "strange", "canary"):
            (folder / name).mkdir()
        (folder / "canary/photo.jpg").write_text("not yours")
        monkeypatch.chdir(self.work)
        monkeypatch.setenv("COCOSEG_CACHE", str(self.cache))

    def tell(self, kind: str, what: str, line: str) -> None:
        """Note for the table what a hostile input came to."""
        self._record("stranger", (kind, what, line.replace(str(self.folder), "…").replace("|", "\\|")))

    def stage(self, name: str, params: Mapping[str, Any], *, text: str = "", process: bool = False) -> tuple[int, str]:
        """Run `stages/<name>.py`: its exit status and last line, without the stage's name and the way back.

        In this process unless `process`; with `text` as the very `params.yaml`. No other file than the stage's outputs
        may change, and each line must be the stage's own, or of the decoder of PNG, which talks.
        """
        before = self._everything_else()
        if process:
            status, lines = run_stage(self.work, name, params, {})
        else:
            status, lines = self._run_here(name, params, text)
        assert self._everything_else() == before
        assert not list(self.folder.rglob(".writing-*"))
        lines = [line for line in lines if not line.startswith("libpng ")]
        assert all(line.startswith(f"{name}: ") for line in lines), lines
        line = lines[-1].removeprefix(f"{name}: ") if lines else ""
        return status, line.partition(" (the last good outputs come back with:")[0]

    def command(self, *arguments: str) -> tuple[int, str]:
        """Run `cocoseg` with these arguments in this process: its exit status and last line, without its name."""
        before = self._everything_else()
        self._captured.readouterr()
        ended: object = None
        try:
            main(arguments)
        except SystemExit as end:
            ended = end.code
        assert self._everything_else() == before
        status, line = (1, ended) if isinstance(ended, str) else (int(str(ended or 0)), self._captured.readouterr().out)
        return status, line.removeprefix(f"cocoseg {arguments[0]}: ")

    def _run_here(self, name: str, params: Mapping[str, Any], text: str) -> tuple[int, list[str]]:
        (self.work / "params.yaml").write_bytes(text.encode() or msgspec.json.encode(params))
        (self.work / "dvc.yaml").write_bytes(msgspec.json.encode({"stages": {name: {"params": sorted(params)}}}))
        script = str(ROOT / "stages" / f"{name}.py")
        self._monkeypatch.setattr("sys.argv", [script])
        self._captured.readouterr()
        ended: object = None
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            ended = end.code
        lines = self._captured.readouterr().err.splitlines()
        return (1, [*lines, ended]) if isinstance(ended, str) else (0, lines)

    def _everything_else(self) -> dict[str, tuple[int, int, int]]:
        """Mode, size and time of every other file, pipes and links among them."""
        found = {}
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if not any(name == output or name.startswith(f"{output}/") for output in _OUTPUTS) and name != "work":
                about = os.lstat(path)
                found[name] = (about.st_mode, 0 if stat.S_ISDIR(about.st_mode) else about.st_size, about.st_mtime_ns)
        return found
