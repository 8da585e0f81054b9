"""A ranking as text, and as a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from cocoseg.commands.compare.rank import Ranking, Row
from cocoseg.commands.compare.report import (
    SIGNED,
    Format,
    chosen_by_luck,
    folded,
    heading,
    interval_of_difference,
    table,
    value_text,
)
from cocoseg.core.files import write_bytes
from cocoseg.images.png import encode_png
from cocoseg.scores.charts import BLUE, FAINT_INK, INK, rendered, short_name
from cocoseg.scores.formats import SCORE_NAMES, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "ranking.png"
_ROW_PX = 26


def rank_report(ranking: Ranking, style: Format, picture: str | None = None) -> str:
    """Return the whole ranking; `picture` says where it was drawn, or why not."""
    if style == "json":
        return msgspec.json.format(msgspec.json.encode(ranking), indent=2).decode()
    markdown = style == "md"
    lines = [
        f"{'## ' if markdown else ''}{_headline(ranking)}",
        *(f"{'> ' if markdown else ''}Note: {remark}." for remark in ranking.remarks),
        _rows(ranking, markdown),
        _notes(ranking),
        *([picture] if picture else []),
    ]
    if differing := [row for row in ranking.rows if row.params]:
        names = list(differing[0].params)
        body = table([[row.name, *(value_text(row.params[name]) for name in names)] for row in differing],
                     ["run", *names], markdown)  # fmt: skip
        lines.append(folded("What differs", body, markdown))
    if ranking.more_seeds:
        commands = "".join(f"\n    {command}" for command in ranking.more_seeds)
        lines.append(f"{heading('To rank the others, train what they lack', markdown)}\n{commands}")
    return "\n\n".join(lines) + "\n"


def write_forest(folder: Path, ranking: Ranking) -> str:
    """Draw the ranking below `folder`, and return the path of the picture."""
    path = folder / FILE
    rows = [row for row in ranking.rows if row.letters]
    height_px = 96 + _ROW_PX * max(1, len(rows))
    write_bytes(path, encode_png(rendered(lambda figure: _draw(figure, ranking, rows), height_px)))
    return path.as_posix()


def _headline(ranking: Ranking) -> str:
    rows = [row for row in ranking.rows if row.letters]
    if len(rows) < 2:
        return f"Nothing is ranked: fewer than two runs have {'all folds' if ranking.folds else 'enough seeds'}"
    others = [row for row in ranking.rows if not row.letters]
    higher = [f"{row.name} ({number(row.test_score)})" for row in others if row.test_score > rows[0].test_score]
    unranked = f"; higher, but not ranked: {', '.join(higher)}" if higher else ""
    alike = [row.name for row in rows[1:] if set(row.letters) & set(rows[0].letters)]
    if not alike:
        return f"{rows[0].name} is better than the others{' that are ranked' if others else ''}{unranked}"
    than = f"{len(alike)} others" if len(alike) > 3 else ", ".join(alike)
    if len(alike) == len(rows) - 1:
        than = "any other"
    of_those = " of the ranked rows" if others else ""
    return f"{rows[0].name} has the highest score{of_those}, but is not better than {than}{unranked}"


def _rows(ranking: Ranking, markdown: bool) -> str:
    chosen_by = SCORE_NAMES.get(str(ranking.chosen_by), "score")
    headers = ["", "run", "seeds", f"validation {chosen_by}", f"{ranking.split} {ranking.score}", "from the first",
               "95 % interval"]  # fmt: skip
    rows = [
        [
            row.letters or "?",
            row.name,
            str(len(row.seeds)),
            number(row.val_score),
            number(row.test_score),
            number(row.difference, SIGNED),
            row.not_ranked_because or interval_of_difference(row.low, row.high),
        ]
        for row in ranking.rows
    ]
    return table(rows, headers, markdown)


def _notes(ranking: Ranking) -> str:
    about = "seeds and images" if ranking.claim == "change" else "images alone, so it is about these checkpoints only"
    if ranking.folds:
        about = f"{ranking.folds} folds, whose trainings share images (Nadeau and Bengio's correction)"
    pairs = {1: "one pair"}.get(len(ranking.pairs), f"all {len(ranking.pairs)} pairs")
    looks = chosen_by_luck(ranking.models_seen, ranking.split)
    if not ranking.pairs:
        return " ".join(["No two rows can be compared, so there are no intervals.", *looks])
    return (
        f"Rows that share a letter cannot be told apart, or differ by less than ±{ranking.min_effect:g}. The intervals "
        f"hold jointly for {pairs}, on {ranking.images} images of the {ranking.split} side; chance is that of {about}."
        + "".join(f" {sentence}" for sentence in looks)
    )


def _draw(figure: "Figure", ranking: Ranking, rows: list[Row]) -> None:
    """Draw the difference of each row from the first with its interval, and each seed as a dot."""
    axes = figure.subplots()
    axes.axvspan(-ranking.min_effect, ranking.min_effect, color=FAINT_INK, alpha=0.15, linewidth=0)
    axes.axvline(0, color=FAINT_INK, linewidth=1)
    for place, row in enumerate(rows):
        dots: Any = [score - rows[0].test_score for score in row.test_scores]
        if len(dots) > 1:
            axes.plot(dots, [place] * len(dots), "o", color=FAINT_INK, markersize=3.5, alpha=0.7)
        if row.low is not None and row.high is not None:
            axes.plot([row.low, row.high], [place, place], "-", color=INK, linewidth=1.6)
        axes.plot([row.difference or 0.0], [place], "s", color=BLUE, markersize=6)
        text = f"{row.test_score:.3f}   {row.letters}"
        axes.text(1.02, place, text, verticalalignment="center", transform=axes.get_yaxis_transform())
    if not rows:
        axes.text(0.5, 0, "no row is ranked", horizontalalignment="center", verticalalignment="center")
    axes.set(ylim=(max(1, len(rows)) - 0.5, -0.5), xlabel="difference from the first row; dots are seeds")
    axes.set_title(f"{ranking.split} {SCORE_NAMES[ranking.score]}, joint 95 % intervals")
    axes.set_yticks(range(len(rows)), [short_name(row.name) for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
