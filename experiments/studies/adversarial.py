"""How much harm a harmful head does to a run, through every gate.

The arms of a study learn the same task from the same seeds: one without a head, one with the head
for each gate.  A run's result is the mean return in the last tenth of its steps; an arm's
is the mean difference from the arm without a head, seed by seed, with a 95 % bootstrap
interval.  An arm is harmed where that interval lies below zero.  A head that does no
harm through `sum` tests nothing: raise its coefficient.

    python study.py configs/studies/adversarial.toml
    python -m experiments.studies.adversarial runs/adversarial \
        --output benchmarks/results/adversarial
    python -m experiments.studies.adversarial --output benchmarks/results/adversarial  # draw again
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Float
from matplotlib.figure import Figure

from experiments.figures import BLACK, BLUE, GREEN, VERMILLION, tidy
from experiments.results import Row, Table, options_of, remark
from experiments.statistics import Interval, compare_with
from experiments.studies.engine import (
    ALONE,
    Key,
    Tables,
    Trained,
    average,
    late,
    number,
    parse_number,
    trained,
)

RUNS, FIGURE, SUMMARY = "runs.csv", "probe.png", "summary.csv"
COLUMNS = ("arm", "seed", "final", "cosine", "passed")


@dataclass(frozen=True)
class Options:
    """What to compare, and where the tables are."""

    output: Path
    """A folder for runs.csv, summary.csv and probe.png."""
    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="STUDY")] = ""
    """The folder of a study; without it the figure is drawn again from the table."""
    keep: bool = False
    """Add to the runs that the table has, instead of beginning it anew."""
    title: str = ""
    """Of the figure; empty: that of the table, or environment, steps, seeds and head of the
    STUDY."""


@dataclass(frozen=True)
class Result:
    """One run."""

    arm: str
    seed: int
    final: float
    """Mean return in the last tenth of the steps."""
    cosine: float
    """Mean over the run, between the gradients of head and main loss."""
    passed: float
    """Mean over the run of the part of the head's gradient that passes."""

    def cells(self) -> list[str]:
        """The numbers as `runs.csv` has them."""
        return [f"{self.final:.4f}", number(self.cosine, ".4f"), number(self.passed, ".4f")]


@dataclass(frozen=True)
class Verdict:
    """One arm, compared with the one without a head."""

    arm: str
    finals: Float[np.ndarray, " seeds"]
    difference: float
    interval: Interval | None
    """The interval of the difference; None with one seed, and for the arm without a head."""
    cosine: float
    passed: float

    @property
    def word(self) -> str:
        """Whether the head did harm."""
        if self.arm == ALONE:
            return "-"
        if self.interval is None:
            return "unknown"
        if self.interval.high < 0:
            return "harmed"
        return "helped" if self.interval.low > 0 else "unharmed"


def result(run: Trained) -> Result:
    """What became of a run, by its log."""
    options, rows = run.config.run, run.rows
    return Result(
        run.gate or ALONE,
        options.seed,
        average("return", late(rows, options.steps)),
        average(f"{run.head}/cosine", rows),
        average(f"{run.head}/passed", rows),
    )


def parse_result(row: Row) -> Result:
    """Reads a row of `runs.csv`."""
    numbers = (parse_number(row[name]) for name in COLUMNS[2:])
    return Result(row["arm"], int(row["seed"]), *numbers)


def compare(results: Sequence[Result]) -> list[Verdict]:
    """Compares each arm with the one without a head, the best first.

    Raises:
        ValueError: an arm lacks a seed.
    """
    by_arm: dict[str, dict[int, Result]] = {}
    for result in results:
        by_arm.setdefault(result.arm, {})[result.seed] = result
    finals = {arm: {seed: run.final for seed, run in runs.items()} for arm, runs in by_arm.items()}
    compared = compare_with(finals, ALONE)
    verdicts = [
        Verdict(
            arm,
            np.array([runs[seed].final for seed in by_arm[ALONE]]),
            compared[arm].value,
            None if arm == ALONE else compared[arm].interval,
            float(np.mean([result.cosine for result in runs.values()])),
            float(np.mean([result.passed for result in runs.values()])),
        )
        for arm, runs in by_arm.items()
    ]
    return sorted(verdicts, key=lambda verdict: -verdict.finals.mean())


def summary(verdicts: Sequence[Verdict]) -> list[str]:
    """The lines of `summary.csv`."""
    lines = ["arm,seeds,final,difference,low,high,verdict,cosine,passed"]
    for verdict in verdicts:
        low, high = ("", "")
        if verdict.interval is not None:
            low, high = f"{verdict.interval.low:.3f}", f"{verdict.interval.high:.3f}"
        lines.append(
            f"{verdict.arm},{len(verdict.finals)},{verdict.finals.mean():.3f},"
            f"{verdict.difference:.3f},{low},{high},{verdict.word},"
            f"{number(verdict.cosine, '.3f')},{number(verdict.passed, '.3f')}"
        )
    return lines


def draw(verdicts: Sequence[Verdict], title: str) -> Figure:
    """Draws a line per arm: a point for each seed, the mean, and the interval around it."""
    figure = Figure(figsize=(7.5, 1.4 + 0.32 * len(verdicts)), layout="constrained")
    axes = figure.subplots()
    alone = next(verdict for verdict in verdicts if verdict.arm == ALONE).finals.mean()
    axes.axvline(alone, color="black", linewidth=0.8, linestyle=":")
    inks = {"harmed": VERMILLION, "unharmed": BLUE, "helped": GREEN}
    for place, verdict in enumerate(reversed(verdicts)):
        ink = inks.get(verdict.word, BLACK)
        spots = np.full(len(verdict.finals), place)
        axes.plot(verdict.finals, spots, "o", color=ink, alpha=0.35, markersize=4)
        axes.plot(verdict.finals.mean(), place, "D", color=ink, markersize=6)
        if verdict.interval is not None:
            ends = [alone + verdict.interval.low, alone + verdict.interval.high]
            axes.plot(ends, [place, place], color=ink, linewidth=2)
    axes.set_yticks(
        range(len(verdicts)),
        [
            verdict.arm if verdict.arm == ALONE else f"{verdict.arm}: {verdict.word}"
            for verdict in reversed(verdicts)
        ],
    )
    axes.set_xlabel(
        "mean return in the last tenth of the steps\n"
        "bar: 95 % interval of the difference from main only, at the mean of main only"
    )
    axes.set_title(title, fontsize=10)
    tidy(axes)
    return figure


def read(folder: Path) -> tuple[list[str], list[Verdict]]:
    """The remarks above the table of a folder, and what its runs show.

    Raises:
        ValueError: there are no runs, or an arm lacks a seed.
    """
    remarks, rows = Table(folder / RUNS, COLUMNS).read()
    if not rows:
        raise ValueError(f"{folder} has no runs: give the folder of a STUDY.")
    return remarks, compare([parse_result(row) for row in rows])


def redraw(path: Path, title: str = "") -> None:
    """Draws the figure from the table next to it.

    Raises:
        ValueError: there are no runs, or an arm lacks a seed.
    """
    remarks, verdicts = read(path.parent)
    draw(verdicts, title or remark(remarks, "title")).savefig(path, dpi=140)


def main(arguments: Sequence[str]) -> int:
    """Compares and draws; returns the exit code."""
    options = options_of(Options, arguments, "adversarial.py", __doc__)
    table = Table(options.output / RUNS, COLUMNS)
    tables = Tables("-m experiments.studies.adversarial", COLUMNS[:2], (table,))
    try:
        if options.study:
            runs = trained(Path(options.study))
            heads = {run.head for run in runs.values() if run.head != ALONE}
            if len(heads) != 1:
                raise ValueError(f"{options.study} has {len(heads)} heads: give a study of one.")
            results: dict[Key, Result] = {
                (made.arm, str(made.seed)): made for made in (result(run) for run in runs.values())
            }
            first, seeds = next(iter(runs.values())).config, len({key[-1] for key in runs})
            said = f"{first.choice.env}, {first.run.steps:,} steps, {seeds} seeds: a harmful head"
            title = options.title or f"{said} ({heads.pop()})"
            tables.complete(
                list(results),
                lambda key: [results[key].cells()],
                arguments,
                [f"title: {title}"],
                keep=options.keep,
            )
        remarks, verdicts = read(options.output)
    except ValueError as error:
        print(f"adversarial: {error}", file=sys.stderr)
        return 2
    lines = summary(verdicts)
    (options.output / SUMMARY).write_text("\n".join([*remarks, *lines]) + "\n", encoding="utf-8")
    redraw(options.output / FIGURE, options.title)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
