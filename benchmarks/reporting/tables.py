"""A report's numbers as CSV files, as JSON and as a table for the terminal."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.reporting.arms import Arm
from benchmarks.reporting.estimates import LEVEL, REPLICATES
from benchmarks.reporting.runs import Run
from benchmarks.reporting.scores import (
    AREA,
    FINAL,
    HUMAN,
    Comparison,
    Estimate,
    Summary,
    final_is_evaluation,
    measures,
)

Row = dict[str, str]

SUMMARY_LINES = (
    "# One row per game, unit, measure and arm; benchmarks/README.md explains the columns.",
    "# How each run was made: the first lines of its own CSV, and report.json.",
)
COMPARISON_LINES = (
    "# One row per game, measure and pair of arms; benchmarks/README.md explains the columns.",
    "# An empty cell: the runs cannot tell.",
)


@dataclass(frozen=True)
class Report:
    """All numbers, and what they come from."""

    arms: Sequence[Arm]
    summaries: Sequence[Summary]
    comparisons: Sequence[Comparison]


def write(report: Report, words: Sequence[str], folder: Path) -> None:
    """Writes summary.csv, comparison.csv and report.json."""
    _write_csv(folder / "summary.csv", SUMMARY_LINES, list(map(summary_row, report.summaries)))
    if report.comparisons:
        rows = list(map(comparison_row, report.comparisons))
        _write_csv(folder / "comparison.csv", COMPARISON_LINES, rows)
    else:
        # Of an earlier report with more arms.
        (folder / "comparison.csv").unlink(missing_ok=True)
    content = {
        "final_is": "evaluation" if final_is_evaluation(report.arms) else "last tenth of the curve",
        "words": list(words),
        "intervals": {"level": LEVEL, "replicates": REPLICATES, "method": "percentile bootstrap"},
        "runs": _runs(report),
        "summary": [asdict(row) for row in report.summaries],
        "comparison": [asdict(row) for row in report.comparisons],
    }
    (folder / "report.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def summary_row(row: Summary) -> Row:
    """A line of summary.csv."""
    return {
        "env": row.env,
        "unit": row.unit,
        "measure": row.measure,
        "arm": row.arm,
        "runs": str(row.runs),
        "steps": str(row.steps),
        **_cells("iqm", row.iqm),
        **_cells("mean", row.mean),
        **_cells("median", row.median),
        **_cells("optimality_gap", row.optimality_gap),
        "values": " ".join(map(_number, row.values)),
    }


def comparison_row(row: Comparison) -> Row:
    """A line of comparison.csv."""
    return {
        "env": row.env,
        "measure": row.measure,
        "arm": row.arm,
        "against": row.against,
        "runs": str(row.runs),
        "runs_against": str(row.runs_against),
        **_cells("probability", row.probability),
        "pairs": str(row.pairs),
        "unit": row.unit,
        **_cells("difference", row.difference),
        "p_value": _number(row.p_value),
    }


def for_terminal(report: Report, env: str) -> Table:
    """One game's table, or that of all games."""
    finals = [row for row in report.summaries if (row.env, row.measure) == (env, FINAL)]
    areas = [row for row in report.summaries if (row.env, row.measure) == (env, AREA)]
    unit = finals[0].unit
    normalised = {row.arm: row.iqm.value for row in finals if row.unit == HUMAN != unit}
    first = report.arms[0].name
    above = {
        row.arm: f"{row.probability.value:.2f}"
        for row in report.comparisons
        if (row.against, row.env, row.measure) == (first, env, FINAL)
    }
    caption = f"P: probability of ending above '{first}'" if above else None
    table = Table(title=f"{env} ({unit})", caption=caption, box=SIMPLE_HEAD)
    table.title_justify = table.caption_justify = "left"
    table.add_column("arm", overflow="fold")
    headings = ["runs", "final IQM", "95 % interval", "whole run"]
    headings += ["human"] if normalised else []
    headings += ["P"] if above else []
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in finals:
        if row.unit == unit:
            area = next(each for each in areas if (each.arm, each.unit) == (row.arm, unit))
            cells = [
                str(row.runs),
                f"{row.iqm.value:.2f}",
                bounds(row.iqm),
                f"{area.iqm.value:.2f}",
            ]
            cells += [f"{100 * normalised[row.arm]:.0f} %"] if normalised else []
            cells += [above.get(row.arm, "")] if above else []
            table.add_row(row.arm, *cells)
    return table


def bounds(estimate: Estimate) -> str:
    """An interval in words; a dash where there is none."""
    if estimate.interval is None:
        return "-"
    return f"{estimate.interval.low:.2f} to {estimate.interval.high:.2f}"


def _cells(name: str, estimate: Estimate | None) -> Row:
    interval = None if estimate is None else estimate.interval
    return {
        name: _number(None if estimate is None else estimate.value),
        f"{name}_low": _number(None if interval is None else interval.low),
        f"{name}_high": _number(None if interval is None else interval.high),
    }


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.5g}"


def _runs(report: Report) -> list[Mapping[str, object]]:
    return [
        _run(run, arm.name, {name: of(run) for name, of in measures(report.arms).items()})
        for arm in report.arms
        for runs in arm.runs.values()
        for run in runs
    ]


def _run(run: Run, arm: str, scores: Mapping[str, float]) -> Mapping[str, object]:
    about = {name: text for name, text in run.about.items() if name not in ("arm", "env", "seed")}
    return {
        "file": run.path.name,
        "arm": arm,
        "env": run.env,
        "seed": run.seed,
        "steps": run.steps,
        "finished": run.finished,
        **scores,
        **about,
    }


def _write_csv(path: Path, lines: Sequence[str], rows: Sequence[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text("\n".join(lines) + "\n" + text.getvalue(), encoding="utf-8")
