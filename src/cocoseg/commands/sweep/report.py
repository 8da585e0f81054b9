"""What a sweep says: a table while it runs, and at the end the best run, and what is left of its score."""

import json
import shlex
import statistics
import sys
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from tabulate import tabulate

from cocoseg.commands.sweep.jobs import State
from cocoseg.commands.sweep.space import Values
from cocoseg.commands.sweep.study import Tried
from cocoseg.commands.sweep.trial import override
from cocoseg.core.errors import counted
from cocoseg.scores.formats import number

_MOST_LISTED = 10


def said_values(values: Values) -> str:
    """Return parameters as `-S` takes them."""
    return " ".join(f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in values.items())


class Progress:
    """The table of the runs under way: drawn anew in a terminal, elsewhere a line where a run ends."""

    def __init__(self, most: int, ended: int) -> None:
        self._most, self._count = most, ended
        self._kinds = Counter[str]()
        self._lines = 0
        self._began: dict[str, float] = {}

    def say(self, line: str) -> None:
        """Write a line above the table."""
        self._clear()
        sys.stderr.write(f"{line}\n")

    def end(self, name: str, values: Values, state: State) -> None:
        """Write how a run ended."""
        self._count += 1
        self._kinds[state.kind] += 1
        result = f"validation {number(state.score)}" if state.score is not None else f"{state.kind}: {state.why}"
        self.say(f"{self._count} of {self._most}  {name}  {said_values(values)}  {result}")

    def show(self, running: Mapping[str, tuple[Values, Sequence[float]]]) -> None:
        """Draw the table."""
        if not sys.stderr.isatty():
            return
        rows = []
        for name, (values, scores) in running.items():
            began = self._began.setdefault(name, time.monotonic())
            minutes = (time.monotonic() - began) / 60
            best = number(max(scores)) if scores else ""
            rows.append([name, said_values(values), str(len(scores)), best, f"{minutes:.0f} min"])
        self._clear()
        table = tabulate(rows, headers=["running", "parameters", "epochs", "best", "since"], disable_numparse=True)
        kinds = "".join(f", {count} {kind}" for kind, count in self._kinds.items())
        text = f"{table}\n{self._count} of {self._most} runs have ended{kinds}\n" if rows else ""
        sys.stderr.write(text)
        self._lines = text.count("\n")

    def _clear(self) -> None:
        if self._lines:
            sys.stderr.write(f"\x1b[{self._lines}F\x1b[J")
            self._lines = 0


def closing_report(
    tried: Sequence[Tried], best: Tried | None, confirmed: Sequence[float], lacking: Collection[str]
) -> str:
    """Return the runs, best first, and what fresh seeds leave of the best score; `lacking` have no experiment here."""
    ranked = sorted((run for run in tried if run.state == "done"), key=lambda run: -(run.score or 0))
    rows = [[run.name, said_values(run.values), number(run.score)] for run in ranked[:_MOST_LISTED]]
    counts = Counter(run.state for run in tried)
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    lines = [f"{counted(len(tried), 'run')}: {told}."]
    if best is None or best.score is None:
        return f"{lines[0]}\n"
    lines.append(tabulate(rows, headers=["best", "parameters", "validation"], disable_numparse=True))
    optimistic = (
        f"The {number(best.score)} of {best.name} is optimistic: it is the best of {len(ranked)}, by chance too."
    )
    if confirmed:
        mean = statistics.mean(confirmed)
        fell = f"{number(abs(best.score - mean))} {'less' if mean < best.score else 'more'}"
        optimistic += (
            f" On {counted(len(confirmed), 'fresh seed')} these parameters have {number(mean)} in validation, {fell}. "
            "What follows compares them with the commit on the same seeds: first the commit, then the best."
        )
    else:
        optimistic += " --confirm 3 trains it on fresh seeds."
    again = " ".join(f"-S {shlex.quote(override(key, value))}" for key, value in best.values.items())
    go_on = f"dvc exp run {again}" if best.name in lacking else f"dvc exp apply {best.name}"
    lines += [optimistic, f"To go on with it: {go_on}"]
    return "\n\n".join(lines) + "\n"
