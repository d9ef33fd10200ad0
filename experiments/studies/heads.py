"""What each auxiliary head is worth, added up and gated: `python -m experiments.studies.heads`.

The arms of a study learn the same task from the same seeds: one without a head, and for each head
one per gate.  A run's results are its mean return in the last tenth of its steps (`final`) and over
all of them (`whole`); an arm's are the mean differences from the arm without a head, seed by seed,
with 95 % bootstrap intervals.  A head `helped` or `harmed` where a sign-flip test of the pairs says
so after Holm's correction for the number of arms; else it is `open`.  With 22 arms that takes at
least 10 seeds: fewer only show a direction.

    python study.py configs/studies/heads.toml
    python -m experiments.studies.heads runs/heads --output benchmarks/results/heads_gridworld
    python -m experiments.studies.heads --output benchmarks/results/heads_gridworld   # draw again
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from configs.choice import names
from experiments.figures import NO_GATE, Ink, inks, tidy
from experiments.results import Row, Table, options_of, remark
from experiments.statistics import Difference, bootstrap_means, compare_with, holm
from experiments.studies.engine import (
    ALONE,
    Tables,
    Trained,
    average,
    late,
    number,
    parse_number,
    trained,
)

RUNS, CURVES, SUMMARY, FIGURE = "runs.csv", "curves.csv", "summary.csv", "heads.png"
KEY = ("head", "gate", "seed")
COLUMNS = ("final", "whole", "cosine", "passed", "seconds")
POINTS = 50
"""Points of a curve: means over equal parts of the steps."""
BAND_REPLICATES = 2_000
PANELS = 4
"""In a row of the figure."""
LIKELY = 0.05
"""A corrected p-value below it is a verdict."""

Measure = Literal["final", "whole"]
HeadArm = tuple[str, str]
"""A head and a gate."""


@dataclass(frozen=True)
class Options:
    """What to compare, and where the tables are."""

    output: Path
    """A folder for runs.csv, curves.csv, summary.csv and heads.png."""
    study: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="STUDY")] = ""
    """The folder of a study; without it the figure is drawn again from the tables."""
    keep: bool = False
    """Add to the runs that the tables have, instead of beginning them anew."""
    title: str = ""
    """Of the figure; empty: that of the tables, or environment, steps and seeds of the STUDY."""


@dataclass(frozen=True)
class Outcome:
    """One run."""

    head: str
    """`main only` for the run without."""
    gate: str
    seed: int
    final: float
    """Mean return in the last tenth of the steps."""
    whole: float
    """Mean return over all of them."""
    cosine: float
    """Mean over the run, between the gradients of head and main loss."""
    passed: float
    """Mean over the run of the part of the head's gradient that passes."""
    seconds: float
    """Seconds of training, by its log; of processor time in tables that were made before."""
    curve: Float[np.ndarray, " points"]
    """Mean returns; NaN where no episode had ended."""

    def cells(self) -> tuple[list[str], list[str]]:
        """The numbers as `curves.csv` and as `runs.csv` have them."""
        return list(map(number, self.curve)), [number(getattr(self, name)) for name in COLUMNS]


@dataclass(frozen=True)
class Worth:
    """One arm, compared with the one without a head in one measure."""

    mean: float
    difference: Difference
    p: float
    """Corrected by Holm's method for the number of arms."""

    @property
    def word(self) -> str:
        """What the difference shows."""
        if not self.p < LIKELY:
            return "open"
        return "helped" if self.difference.value > 0 else "harmed"


def outcome(run: Trained) -> Outcome:
    """What became of a run, by its log."""
    options, rows = run.config.run, run.rows
    steps = np.array([int(row["step"]) for row in rows])
    places = np.minimum(POINTS * steps // (options.steps + 1), POINTS - 1)
    return Outcome(
        run.head,
        run.gate,
        options.seed,
        final=average("return", late(rows, options.steps)),
        whole=average("return", rows),
        cosine=average(f"{run.head}/cosine", rows),
        passed=average(f"{run.head}/passed", rows),
        seconds=float(rows[-1]["seconds"]),
        curve=np.array(
            [
                average("return", [row for row, at in zip(rows, places, strict=True) if at == bin])
                for bin in range(POINTS)
            ]
        ),
    )


def tables_in(folder: Path) -> Tables:
    """The tables in a folder: `curves.csv`, and `runs.csv`, written last."""
    curves = Table(folder / CURVES, (*KEY, *map(str, range(POINTS))))
    return Tables(
        "-m experiments.studies.heads", KEY, (curves, Table(folder / RUNS, KEY + COLUMNS))
    )


def read(tables: Tables) -> tuple[list[str], list[Outcome]]:
    """The remarks above the tables, and the runs in them."""
    curves, runs = tables.tables
    remarks, rows = runs.read()
    by_run = {tables.key_of(row): row for row in curves.read()[1]}
    return remarks, [_parse(row, by_run[tables.key_of(row)]) for row in rows]


def read_ordered(folder: Path) -> tuple[list[str], list[Outcome]]:
    """What `read` finds in a folder, sorted by head: rows may have been added later (--keep).

    Raises:
        ValueError: there are no runs.
    """
    remarks, found = read(tables_in(folder))
    if not found:
        raise ValueError(f"{folder} has no runs: give the folder of a STUDY.")
    order = (ALONE, *names("aux"))
    return remarks, sorted(found, key=lambda each: order.index(each.head))


def _parse(row: Row, curve: Row) -> Outcome:
    return Outcome(
        row["head"],
        row["gate"],
        int(row["seed"]),
        **{name: parse_number(row[name]) for name in COLUMNS},
        curve=np.array([parse_number(curve[str(point)]) for point in range(POINTS)]),
    )


def verdicts(outcomes: Sequence[Outcome], measure: Measure) -> dict[HeadArm, Worth]:
    """Compares each arm with the one without a head.

    Raises:
        ValueError: an arm lacks a seed.
    """
    arms = {name(each.head, each.gate): (each.head, each.gate) for each in outcomes}
    by_arm: dict[str, dict[int, float]] = {arm: {} for arm in arms}
    for each in outcomes:
        by_arm[name(each.head, each.gate)][each.seed] = getattr(each, measure)
    compared = compare_with(by_arm, ALONE)
    del compared[ALONE]
    corrected = holm([each.p for each in compared.values()])
    return {
        arms[arm]: Worth(float(np.mean(list(by_arm[arm].values()))), compared[arm], p)
        for arm, p in zip(compared, corrected, strict=True)
    }


def name(head: str, gate: str) -> str:
    """The name of an arm."""
    return f"{head}, {gate}" if gate else head


def summary(outcomes: Sequence[Outcome]) -> list[str]:
    """The lines of `summary.csv`, in the order of the arms.

    Raises:
        ValueError: an arm lacks a seed.
    """
    measures: tuple[Measure, ...] = ("final", "whole")
    columns = [
        f"{measure}{suffix}"
        for measure in measures
        for suffix in ("", "_difference", "_low", "_high", "_p", "_verdict")
    ]
    lines = [",".join(["head,gate,seeds", *columns, "cosine,passed"])]
    alone = [each for each in outcomes if each.head == ALONE]
    means = [f"{np.mean([getattr(each, measure) for each in alone]):.3f}" for measure in measures]
    lines.append(f"{ALONE},,{len(alone)},{means[0]},,,,,,{means[1]},,,,,,,")
    by_measure = [verdicts(outcomes, measure) for measure in measures]
    for head, gate in by_measure[0]:
        cells = [head, gate, str(len(alone))]
        for each in by_measure:
            worth = each[head, gate]
            interval = worth.difference.interval
            ends = [f"{interval.low:.3f}", f"{interval.high:.3f}"] if interval else ["", ""]
            cells += [f"{worth.mean:.3f}", f"{worth.difference.value:.3f}", *ends]
            cells += [f"{worth.p:.4f}", worth.word]
        runs = [each for each in outcomes if (each.head, each.gate) == (head, gate)]
        logged = (np.mean([run.cosine for run in runs]), np.mean([run.passed for run in runs]))
        lines.append(",".join([*cells, *(number(float(x), ".3f") for x in logged)]))
    return lines


def draw(outcomes: Sequence[Outcome], steps: int, title: str) -> Figure:
    """Draws a panel per head: the curves of its gates and of the arm without a head.

    Args:
        outcomes: all runs.
        steps: agent steps of each.
        title: of the figure.
    """
    heads = list(dict.fromkeys(each.head for each in outcomes if each.head != ALONE))
    gates = list(dict.fromkeys(each.gate for each in outcomes if each.head != ALONE))
    columns = min(PANELS, len(heads))
    rows = -(-len(heads) // columns)
    # The lines below the panels need some width.
    size = (max(3.2 * columns + 0.4, 7.4), 2.5 * rows + 1.1)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    found = verdicts(outcomes, "whole")
    ink_of = dict(zip(gates, inks(gates), strict=True))
    for axes, head in zip(panels.flat, heads, strict=False):
        _curve(axes, [each for each in outcomes if each.head == ALONE], steps, ALONE, NO_GATE)
        words = []
        for gate, ink in ink_of.items():
            runs = [each for each in outcomes if (each.head, each.gate) == (head, gate)]
            if runs:
                _curve(axes, runs, steps, gate, ink)
                verdict = found[head, gate]
                words.append(f"{gate} {verdict.difference.value:+.3g} {verdict.word}")
        axes.set_title(f"{head}\n" + "; ".join(words), fontsize=8)
        tidy(axes)
    for axes in panels.flat[len(heads) :]:
        axes.set_axis_off()
    panels[0, 0].legend(loc="lower right", frameon=False, fontsize=8)
    figure.supxlabel(
        "million agent steps; band: 95 % bootstrap interval of the mean\n"
        "numbers: difference of the mean return over the whole run from main only; "
        "verdicts corrected for their number",
        fontsize=9,
    )
    figure.supylabel("episode return", fontsize=9)
    figure.suptitle(title, fontsize=11)
    return figure


def _curve(axes: Axes, runs: Sequence[Outcome], steps: int, label: str, ink: Ink) -> None:
    curves = np.stack([each.curve for each in runs])
    known = ~np.isnan(curves).any(0)
    at = (np.arange(POINTS) + 0.5)[known] * steps / POINTS / 1e6
    curves = curves[:, known]
    axes.plot(at, curves.mean(0), ink.dashes, color=ink.colour, linewidth=1.5, label=label)
    if len(runs) > 1:
        low, high = bootstrap_means(curves, BAND_REPLICATES)
        axes.fill_between(at, low, high, color=ink.colour, alpha=0.15, linewidth=0)


def redraw(path: Path, title: str = "") -> None:
    """Draws the figure from the tables next to it.

    Raises:
        ValueError: there are no runs, or not how many steps they made.
    """
    remarks, found = read_ordered(path.parent)
    steps = remark(remarks, "steps")
    if not steps:
        raise ValueError(f"{path.with_name(RUNS)} has no line '# steps: ' with those of each run.")
    draw(found, int(steps), title or remark(remarks, "title")).savefig(path, dpi=130)


def main(arguments: Sequence[str]) -> int:
    """Compares and draws; returns the exit code."""
    options = options_of(Options, arguments, "heads.py", __doc__)
    try:
        if options.study:
            runs = trained(Path(options.study))
            outcomes = {key: outcome(run) for key, run in runs.items()}
            first = next(iter(runs.values())).config
            steps, seeds = first.run.steps, len({key[-1] for key in runs})
            title = options.title or f"{first.choice.env}, {steps:,} steps, {seeds} seeds"
            tables_in(options.output).complete(
                list(runs),
                lambda key: outcomes[key].cells(),
                arguments,
                [f"title: {title}", f"steps: {steps}"],
                keep=options.keep,
            )
        remarks, found = read_ordered(options.output)
        lines = summary(found)
        redraw(options.output / FIGURE, options.title)
    except ValueError as error:
        print(f"heads: {error}", file=sys.stderr)
        return 2
    text = "\n".join([*remarks, *lines]) + "\n"
    (options.output / SUMMARY).write_text(text, encoding="utf-8")
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
