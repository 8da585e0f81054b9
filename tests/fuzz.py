"""Mutate annotations, images, weights, locks and parameters by their structure; count what stages and commands say.

Each case is a fork of this process, which runs stages and commands as users do. It accepts the files, and then what it
wrote adds up, or it refuses them in one line; anything else is a finding.
"""

import argparse
import importlib
import math
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

from forked_case import VERDICTS, run_case
from forks import IMPORTED
from fuzz_cases import KINDS
from tabulate import tabulate

_DATA = ("download.annotations", "filter.choose", "download.images", "mask.masks", "mask.plots", "split.sides")
# Imported before the forks, as that takes longer than most cases.
_MODULES = {
    "annotations": _DATA,
    "images": (*_DATA, "cli", "commands.predict.predict"),
    "weights": ("commands.predict.predict", "commands.evaluate", "commands.export.export"),
    "locks": ("commands.compare.compare", "commands.compare.report", "commands.verify.verify"),
    "params": (*_DATA, "train.loop", "train.run_data", "evaluate.plots", "evaluate.scored_side"),
}


def fuzz(kind: str, mutations: int, seed: int, seconds: float, log: Path | None) -> list[Any]:
    """Run so many mutations of a kind, print what is found, and return the row of the table."""
    for name in ("core.stage", *_MODULES[kind]):
        importlib.import_module(f"cocoseg.{name}")
    for name in IMPORTED if kind == "locks" else ():
        importlib.import_module(name)
    counted: Counter[str] = Counter()
    worst_s = worst_mb = 0.0
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        for number, (what, run) in enumerate(KINDS[kind](Path(folder), Random(seed))):
            if number == mutations or time.monotonic() > deadline:
                break
            outcome = run_case(run, Path(folder))
            counted[outcome.verdict()] += 1
            worst_s, worst_mb = max(worst_s, outcome.cpu_s), max(worst_mb, outcome.megabytes)
            if outcome.verdict() not in ("accepted", "refused"):
                sys.stderr.write(
                    f"=== {kind} {seed}, {number}: {outcome.verdict()}, {outcome.cpu_s:.1f} s: {what}\n{outcome.said}\n"
                )
            if log is not None:
                with log.open("a") as file:
                    file.write(f"{kind} {number} {outcome.verdict()}: {what[:160]}: {outcome.said.strip()[-500:]!r}\n")
    return [kind, counted.total(), *(counted[verdict] for verdict in VERDICTS), f"{worst_s:.1f}", f"{worst_mb:.0f}"]


def main() -> None:
    """Run all kinds, print the table, and exit with 1 if anything was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--mutations", type=int, default=2000, help="of each kind; default: 2000")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=math.inf, help="the most for each kind")
    parser.add_argument("--log", metavar="FILE", type=Path, help="write the outcome of every mutation")
    options = parser.parse_args()
    rows = [fuzz(kind, options.mutations, options.seed, options.seconds, options.log) for kind in options.kinds]
    headers = ("kind", "mutations", *VERDICTS, "worst CPU s", "worst MB")
    sys.stdout.write(tabulate(rows, headers, tablefmt="github") + "\n")
    sys.exit(any(sum(row[4:7]) for row in rows))


if __name__ == "__main__":
    main()
