"""A report's numbers as CSV files, as JSON and as a table for the terminal."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from experiments.report.arms import Arm
from experiments.report.runs import Run
from experiments.report.scores import (
    ALL,
    AREA,
    FINAL,
    HUMAN,
    Comparison,
    Summary,
    common_games,
    corrected,
    final_is_evaluation,
    games_of,
    measures,
    units,
)
from experiments.statistics import LEVEL, REPLICATES, Estimate

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
    """All numbers and the arms that they come from."""

    arms: Sequence[Arm]
    summaries: Sequence[Summary]
    comparisons: Sequence[Comparison]
    teacher: float | None = None
    """A score at which a line is drawn, besides those of the teachers that the runs name."""


def write(report: Report, words: Sequence[str], folder: Path) -> None:
    """Writes summary.csv, comparison.csv and report.json.

    Args:
        report: the numbers.
        words: the sentences below the tables, which report.json repeats.
        folder: where the files go; comparison.csv of an earlier report is removed if none is due.
    """
    _write_csv(folder / "summary.csv", SUMMARY_LINES, list(map(summary_row, report.summaries)))
    if report.comparisons:
        rows = list(map(comparison_row, report.comparisons))
        _write_csv(folder / "comparison.csv", COMPARISON_LINES, rows)
    else:
        # Of an earlier report with more arms.
        (folder / "comparison.csv").unlink(missing_ok=True)
    content = {
        "final_is": "evaluation" if final_is_evaluation(report.arms) else "last tenth of the curve",
        "first": report.arms[0].name,
        "teacher": report.teacher,
        "words": list(words),
        "intervals": {"level": LEVEL, "replicates": REPLICATES, "method": "percentile bootstrap"},
        "runs": _runs(report),
        "summary": [asdict(row) for row in report.summaries],
        "comparison": [asdict(row) for row in report.comparisons],
        "tests": [
            {"arm": row.arm, "against": row.against, "env": row.env}
            | {"p_value": row.p_value, "holm": p_value}
            for row, p_value in corrected(report.comparisons, report.arms[0].name)
        ],
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
    """Formats an interval; a dash if there is none."""
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


FEW = 5
"""Runs below which an interval is known to be too narrow (Agarwal et al. 2021, section 3)."""


def sentences(report: Report) -> list[str]:
    """The sentences below the tables."""
    return [_what_is_final(report), *_comparisons(report), *_cautions(report)]


def _what_is_final(report: Report) -> str:
    if not final_is_evaluation(report.arms):
        return (
            "Final is the mean training return in the last tenth of a run's steps (not every run "
            "has an evaluation.json of its last policy); whole run is the mean over all its steps."
        )
    runs = all_runs(report)
    episodes = min(run.evaluation["episodes"] for run in runs if run.evaluation is not None)
    return (
        f"Final is the mean of evaluation.json, {episodes} episodes a run or more; whole run is "
        "the mean training return over all its steps."
    )


def _comparisons(report: Report) -> list[str]:
    """The leading arm against the first and against the next best, on all games or on each."""
    common = common_games(report.arms)
    scopes = (ALL,) if len(common) > 1 and units(common) else games_of(report.arms)
    found = []
    for env in scopes:
        ranked = _ranked(report, env)
        if len(ranked) < 2:
            continue
        first = report.arms[0].name
        rivals = dict.fromkeys([first if first in ranked[1:] else ranked[1], ranked[1]])
        found += [_comparison(report, ranked[0], rival, env) for rival in rivals]
    return found


def _ranked(report: Report, env: str) -> list[str]:
    """The arms that have played a game, the highest final IQM first."""
    rows = [row for row in report.summaries if (row.env, row.measure) == (env, FINAL)]
    rows = [row for row in rows if row.unit == rows[0].unit]
    return [row.arm for row in sorted(rows, key=lambda row: -row.iqm.value)]


def _comparison(report: Report, leader: str, rival: str, env: str) -> str:
    row = next(
        row
        for row in report.comparisons
        if {row.arm, row.against} == {leader, rival} and (row.env, row.measure) == (env, FINAL)
    )
    turned = row.arm == rival
    value, interval = row.probability.value, row.probability.interval
    if turned:
        value = 1 - value
    text = (
        f"On {env}, '{leader}' ends above '{rival}' with probability {value:.2f}, judged by "
        f"{row.runs + row.runs_against} runs"
    )
    if interval is not None:
        low, high = interval.low, interval.high
        if turned:
            low, high = 1 - high, 1 - low
        text += f" (95 % interval {low:.2f} to {high:.2f})"
    elif min(row.runs, row.runs_against) > 1:
        text += " (no interval: all resamples of these runs say the same)"
    else:
        text += " (no interval: one of them has a single run)"
    return f"{text}{_paired(row, -1 if turned else 1)}."


def _paired(row: Comparison, sign: int) -> str:
    if row.difference is None or row.p_value is None:
        return "; they have no seeds in common" if row.unit else ""
    value, interval = row.difference.value, row.difference.interval
    # Said with the sign that makes it positive.
    turn = 1 if value >= 0 else -1
    between = ""
    if interval is not None:
        ends = sorted((turn * interval.low, turn * interval.high))
        between = f", 95 % interval {ends[0]:.2f} to {ends[1]:.2f}"
    pairs = f"{row.pairs} pair{'s' if row.pairs > 1 else ''}"
    least = f", the least that {pairs} can give" if row.p_value <= 2 ** (1 - row.pairs) else ""
    unit = " human-normalised" if row.unit == HUMAN else ""
    side = "higher" if turn == sign else "lower"
    return (
        f"; of the same seed it ends {turn * value:.2f}{unit} {side} on average "
        f"({pairs}{between}, sign-flip p = {row.p_value:.2g}{least})"
    )


def _cautions(report: Report) -> list[str]:
    runs = all_runs(report)
    found = []
    if any(row.iqm.interval is None for row in report.summaries):
        found.append(
            "A dash (in the files: an empty cell) is no interval: that takes two runs of each "
            "game, and runs that differ."
        )
    if any(1 < len(of_game) < FEW for arm in report.arms for of_game in arm.runs.values()):
        found.append(
            f"Intervals from fewer than {FEW} runs are too narrow (with two they are the range of "
            "the two): take the order of the arms from them, not the digits."
        )
    return found + _scales(report) + _provenance(runs)


def _scales(report: Report) -> list[str]:
    """Caveats of an average over games."""
    common = common_games(report.arms)
    if len(common) < 2 or units(common) == (HUMAN,):
        return []
    if not units(common):
        return ["Some games have a human reference and some not: there is no average over games."]
    return [
        "No game has a human reference: all games together average raw scores, which says "
        "something only if the games count alike."
    ]


def _provenance(runs: Sequence[Run]) -> list[str]:
    found = []
    short = [run.path.stem for run in runs if not run.finished]
    if short:
        found.append(f"Not trained to the end: {', '.join(short)}.")
    commits = {run.about["commit"] for run in runs}
    if len(commits) > 1:
        found.append(f"The runs come from {len(commits)} commits; report.json says which.")
    if any("dirty" in commit for commit in commits):
        found.append("Some were made with uncommitted changes (dirty).")
    protocols: dict[str, set[str]] = {}
    for run in runs:
        protocols.setdefault(run.env, set()).add(run.about.get("protocol", "unknown"))
    found += [
        f"Scores of {env} come from several protocols ({', '.join(sorted(names))}) and do not "
        "compare."
        for env, names in protocols.items()
        if len(names) > 1
    ]
    return found


def all_runs(report: Report) -> list[Run]:
    """The runs of all arms, game by game."""
    return [run for arm in report.arms for runs in arm.runs.values() for run in runs]
