"""A comparison as text: for a terminal, a pull request's comment, or another program."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from tabulate import tabulate

from cocoseg.commands.compare.claims import Claim, Difference
from cocoseg.commands.compare.compare import Comparison, Run
from cocoseg.commands.compare.differences import Differences
from cocoseg.commands.compare.gate import Gate
from cocoseg.scores.bootstrap import LEAST_IMAGES
from cocoseg.scores.formats import SCORE_NAMES, UNKNOWN, interval, number

Format = Literal["text", "md", "json"]

_SYMBOLS = {"better": "▲", "worse": "▼", "equivalent": "=", "undetermined": "?"}
_MOST_FILES = 12
SIGNED = "+.4f"
_PLOTS = {
    "IoU of each class": "plots/evaluate/iou.png",
    "learning curves": "metrics/train/plots/images/curves.png",
    "the images with the lowest IoU": "plots/evaluate/gallery_worst.png",
    "a sample of the test images": "plots/evaluate/gallery.png",
}


def report(comparison: Comparison, style: Format, picture: str | None = None, plots_url: str | None = None) -> str:
    """Return the whole comparison.

    `picture` shows the images that changed most, or says where they were drawn, or why not. `plots_url` is the URL
    below which `md` finds the committed plots of the new side.
    """
    if style == "json":
        return msgspec.json.format(msgspec.json.encode(comparison), indent=2).decode()
    markdown = style == "md"
    lines = [
        f"{'## ' if markdown else ''}{comparison.new} against {comparison.base}",
        *([f"The scores are not compared: {comparison.refused}."] if comparison.refused else []),
        *([_gate(comparison.gate, markdown)] if comparison.gate else []),
        *(f"{'> ' if markdown else ''}Note: {remark}." for remark in comparison.remarks),
    ]
    if comparison.checkpoint is not None:
        lines.append(_headline(comparison, comparison.checkpoint, markdown))
        lines += _claim_details(comparison, markdown)
    lines += _images(comparison, markdown, picture)
    lines += _runs(comparison, markdown)
    lines += _differences(comparison.differences, markdown)
    if markdown and plots_url:
        shown = "\n\n".join(f"![{name}]({plots_url.rstrip('/')}/{path})" for name, path in _PLOTS.items())
        lines.append(folded(f"Plots of {comparison.new}", shown, markdown))
    return "\n\n".join(lines) + "\n"


def _headline(comparison: Comparison, checkpoint: Claim, markdown: bool) -> str:
    rows = []
    for words, claim in (("these checkpoints on these images", checkpoint), ("this change", comparison.change)):
        if claim is None:
            continue
        *scores, verdict = _row(claim.primary, words)
        because = f": {claim.undetermined_because}" if claim.undetermined_because else ""
        rows.append([*scores, f"{verdict}{because}", number(claim.smallest_difference)])
    headers = [comparison.score, "base", "new", "difference", "95 % interval", "verdict", "detectable"]
    tested = f"in {len(comparison.folds)} folds" if len(comparison.folds) > 1 else f"of the {comparison.split} side"
    notes = (
        f'On {comparison.images} images {tested}. "Equivalent" is within '
        f'±{comparison.min_effect:g}. "Detectable" is the smallest difference that would be found four times in five.'
    )
    more = "".join(f"\n    {command}" for command in comparison.more_seeds)
    what = "folds" if comparison.folds else "seeds"
    asks = (
        f"\n\nTo judge the change, train more {what}:\n{more}\n\nWhen they are done (dvc queue status), share them, so "
        "that they count in a review too:\n\n    dvc exp push -A origin"
        if more
        else ""
    )
    return f"{table(rows, headers, markdown)}\n\n{notes}{asks}"


def _gate(gate: Gate, markdown: bool) -> str:
    about = "this change" if gate.claim == "change" else "these checkpoints on these images"
    bold = "**" if markdown else ""
    condition = f"Fails if {gate.fail_if.replace('-', ' ')}, judged by {about}"
    classes = f" Classes that are worse: {', '.join(gate.worse_classes)}." if gate.worse_classes else ""
    return f"{bold}{condition}: {gate.result}{bold}, {gate.because}.{classes}"


def _claim_details(comparison: Comparison, markdown: bool) -> list[str]:
    headers = ["", "base", "new", "difference", "95 % interval", "verdict"]
    lines = []
    for words, claim in (("These checkpoints", comparison.checkpoint), ("This change", comparison.change)):
        if claim is None or claim.undetermined_because:
            continue
        rows = [_row(one) for one in [claim.primary, *claim.others]]
        rows += [_row(one, f"IoU {one.name}") for one in claim.classes]
        note = (
            f"Verdicts are on {claim.primary.name} (the parameter primary_score) and on each class in at least "
            f"{LEAST_IMAGES} test images; {UNKNOWN} stands where none is given. The intervals of the classes hold "
            "jointly."
        )
        body = f"{table(rows, headers, markdown)}\n\n{note}"
        lines.append(folded(f"{words}: every score and class", body, markdown))
    return lines


def _images(comparison: Comparison, markdown: bool, picture: str | None) -> list[str]:
    if not comparison.images_changed:
        return []
    rows = [
        [
            change.file_name,
            number(change.base),
            number(change.new),
            number(change.new - change.base, SIGNED),
            change.reason or "",
        ]
        for change in comparison.images_changed
    ]
    # A comment can show a picture that is committed, but not a file of the machine that wrote it: that one is named.
    shown = [picture] if picture else []
    rows_shown = table(rows, ["image", "base IoU", "new IoU", "change", "classes"], markdown)
    return ["\n\n".join([heading("Images that changed most", markdown), *shown, rows_shown])]


def _runs(comparison: Comparison, markdown: bool) -> list[str]:
    def row(side: str, run: Run) -> list[str]:
        place = str(run.seed) if run.fold is None else f"{run.seed}, fold {run.fold}"
        return [side, run.name, place, number(run.val_score), number(run.test_score)]

    rows = [row(side, run) for side, runs in comparison.runs.items() for run in runs]
    names = {run.chosen_by for runs in comparison.runs.values() for run in runs}
    chosen_by = SCORE_NAMES.get(str(names.pop()), "score") if len(names) == 1 else "score"
    headers = ["side", "run", "seed", f"validation {chosen_by}", f"{comparison.split} {comparison.score}"]
    shown = [heading("Runs, best in validation first", markdown), table(rows, headers, markdown)]
    return ["\n\n".join([*shown, *chosen_by_luck(comparison.models_seen, comparison.split)])]


def chosen_by_luck(models_seen: int, split: str) -> list[str]:
    """Return what follows from the number of models that were scored on the same images, if there are several."""
    if models_seen < 2:
        return []
    return [f"Choose a run by its validation score: of the {models_seen} models scored on these {split} images that "
            "this clone knows, the best one there is partly the luckiest."]  # fmt: skip


def _differences(differences: Differences, markdown: bool) -> list[str]:
    lines = []
    if differences.params:
        lines.append(_both_sides("parameter", differences.params, markdown))
    if differences.data:
        rows = [[one.what, str(one.entered), str(one.left), str(one.changed)] for one in differences.data]
        lines.append(table(rows, ["data", "added", "removed", "changed"], markdown))
    if differences.code:
        shown = [f"`{path}`" if markdown else path for path in differences.code[:_MOST_FILES]]
        more = len(differences.code) - len(shown)
        lines.append("Code: " + ", ".join(shown) + (f" and {more} more files" if more else ""))
    if differences.environment:
        lines.append(_both_sides("environment", differences.environment, markdown))
    title = heading("What else differs", markdown)
    nothing = "Nothing: parameters, data, code and environment are the same."
    found = ["\n\n".join([title, *(lines or [nothing])])]
    if differences.cost:
        measured = (
            "Time and memory were measured once a side, on its own machine under its own load: compare them only if "
            "they lie far apart."
        )
        costs = _both_sides("of evaluation", differences.cost, markdown)
        found.append(f"{heading('Cost', markdown)}\n\n{costs}\n\n{measured}")
    return found


def _both_sides(what: str, values: Mapping[str, tuple[Any, Any]], markdown: bool) -> str:
    rows = [[key, value_text(old), value_text(new)] for key, (old, new) in values.items()]
    return table(rows, [what, "base", "new"], markdown)


def _row(one: Difference, name: str | None = None) -> list[str]:
    return [
        name or one.name,
        number(one.base),
        number(one.new),
        number(one.difference, SIGNED),
        interval_of_difference(one.low, one.high),
        _verdict(one),
    ]


def _verdict(one: Difference) -> str:
    return f"{_SYMBOLS[one.verdict]} {one.verdict}" if one.verdict else UNKNOWN


def interval_of_difference(low: float | None, high: float | None) -> str:
    """Return the interval of a difference as text, without what no difference of two scores in [0, 1] can be."""
    ends = [None if end is None else min(1.0, max(-1.0, end)) for end in (low, high)]
    return interval(ends[0], ends[1], SIGNED)


def value_text(value: object) -> str:
    """Return the value of a parameter or a cost as text."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def heading(words: str, markdown: bool) -> str:
    """Return a heading."""
    return f"### {words}" if markdown else f"{words}\n{'-' * len(words)}"


def folded(words: str, body: str, markdown: bool) -> str:
    """Return a part that Markdown shows folded."""
    if not markdown:
        return f"{heading(words, markdown)}\n\n{body}"
    return f"<details><summary>{words}</summary>\n\n{body}\n\n</details>"


def table(rows: Sequence[Sequence[str]], headers: Sequence[str], markdown: bool) -> str:
    """Return a table."""
    if markdown:
        # A file name must not end its column.
        rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in row] for row in rows]
    return tabulate(rows, headers=list(headers), tablefmt="github" if markdown else "simple", disable_numparse=True)
