"""What each auxiliary head is worth, added up and gated: `python -m experiments.studies.heads`.

The arms learn the same task from the same seeds: one without a head, and for each head one per
gate.  A run's results are its mean return in the last tenth of its steps (`final`) and over all
of them (`whole`); an arm's are the mean differences from the arm without a head, seed by seed,
with 95 % bootstrap intervals.  A head `helped` or `harmed` where a sign-flip test of the pairs says
so after Holm's correction for the number of arms; else it is `open`.  With 22 arms that takes 10
seeds at the least: fewer show which way it goes, no more.

Flags of `train.py` go after `--`; those of heads and gates are left out where there is no head:

    python -m experiments.studies.heads --env Gridworld --seeds 1 2 3 4 5 -- --threads 1
    python -m experiments.studies.heads --keep    # run what is missing, and draw again
"""

import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from agents.heads import Heads
from benchmarks.measure import header, read_table, split_flags
from configs.choice import names
from experiments.report.runs import LATE
from experiments.studies.harm import ALONE
from experiments.studies.trained import average, train_log, without_heads
from experiments.studies.worth import POINTS, Outcome, draw, summary

RUNS, CURVES, SUMMARY, FIGURE = "runs.csv", "curves.csv", "summary.csv", "heads.png"
COLUMNS = ("final", "whole", "cosine", "passed", "seconds")
PROBE = "adversarial"
"""Made to do harm: experiments/studies/adversarial.py is about it."""


@dataclass(frozen=True)
class Options:
    """What to train."""

    env: str = "Gridworld"
    """The task."""
    heads: tuple[str, ...] = tuple(name for name in names("aux") if name != PROBE)
    """One at a time."""
    gates: tuple[str, ...] = ("sum", "cosine")
    """Through which each passes."""
    scale: float = 1.0
    """Times each head's own coefficient."""
    steps: int = 1_000_000
    """Agent steps of each run."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Each for every arm."""
    output: Path = Path("benchmarks/results/heads_gridworld")
    """A folder for runs.csv, curves.csv, summary.csv and heads.png."""
    keep: bool = False
    """Run only what the runs.csv that is there lacks."""

    @property
    def arms(self) -> list[tuple[str, str]]:
        """Heads and gates."""
        return [(ALONE, ""), *((head, gate) for head in self.heads for gate in self.gates)]


def run(head: str, gate: str, seed: int, options: Options, flags: Sequence[str]) -> Outcome:
    """Trains once, in this process.

    Raises:
        ValueError: `train.py` refused or failed; holds what it said.
    """
    if head == ALONE:
        aux, flags = [], without_heads(flags)
    else:
        aux = ["--aux", head, "--gate", gate, *_coefficient(head, options.scale)]
    began = time.process_time()
    arguments = f"--env {options.env} --steps {options.steps} --seed {seed}".split()
    logs = ["--log-steps", str(max(1, options.steps // (4 * POINTS)))]
    try:
        rows = train_log([*arguments, *aux, *logs, *flags])
    except ValueError as error:
        raise ValueError(f"{head}, {gate}, seed {seed}: {error}") from error
    steps = np.array([int(row["step"]) for row in rows])
    places = np.minimum(POINTS * steps // (options.steps + 1), POINTS - 1)
    return Outcome(
        head,
        gate,
        seed,
        final=average("return", [row for row in rows if int(row["step"]) >= LATE * options.steps]),
        whole=average("return", rows),
        cosine=average(f"{head}/cosine", rows),
        passed=average(f"{head}/passed", rows),
        seconds=time.process_time() - began,
        curve=np.array(
            [
                average("return", [row for row, at in zip(rows, places, strict=True) if at == bin])
                for bin in range(POINTS)
            ]
        ),
    )


def _coefficient(head: str, scale: float) -> list[str]:
    if scale == 1:
        return []
    own = getattr(Heads(), head).coefficient
    return [f"--aux.{head.replace('_', '-')}.coefficient", f"{scale * own:g}"]


def measured(
    options: Options, flags: Sequence[str], done: Collection[tuple[str, str, int]]
) -> Iterator[Outcome]:
    """Trains all arms that are not done, seed by seed, and says how each ended."""
    for seed in options.seeds:
        for head, gate in options.arms:
            if (head, gate, seed) in done:
                continue
            outcome = run(head, gate, seed, options, flags)
            said = f"{outcome.final:+.2f}, whole {outcome.whole:+.2f}, {outcome.seconds:.0f} s"
            print(f"{head:18} {gate:18} seed {seed}: {said}", flush=True)
            yield outcome


def record(outcome: Outcome, folder: Path) -> None:
    """Adds a run to `curves.csv` and, last, to `runs.csv`: what is there is whole."""
    about = f"{outcome.head},{outcome.gate},{outcome.seed}"
    with (folder / CURVES).open("a", encoding="utf-8") as file:
        file.write(",".join([about, *map(_number, outcome.curve)]) + "\n")
    with (folder / RUNS).open("a", encoding="utf-8") as file:
        file.write(",".join([about, *(_number(getattr(outcome, x)) for x in COLUMNS)]) + "\n")


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.5g}"


def read(folder: Path) -> tuple[list[str], list[Outcome]]:
    """The remarks and the runs that a folder holds; none if it is new."""
    if not (folder / RUNS).is_file():
        return [], []
    remarks, rows = read_table(folder / RUNS)
    _, curves = read_table(folder / CURVES)
    by_run = {
        (row["head"], row["gate"], row["seed"]): np.array(
            [float(row[str(point)] or "nan") for point in range(POINTS)]
        )
        for row in curves
    }
    return remarks, [
        Outcome(
            row["head"],
            row["gate"],
            int(row["seed"]),
            **{name: float(row[name] or "nan") for name in COLUMNS},
            curve=by_run[row["head"], row["gate"], row["seed"]],
        )
        for row in rows
    ]


def begin(options: Options, arguments: Sequence[str]) -> list[Outcome]:
    """Makes the tables ready to be added to; returns the runs that they hold already."""
    options.output.mkdir(parents=True, exist_ok=True)
    remarks, kept = read(options.output) if options.keep else ([], [])
    missing = {(*arm, seed) for arm in options.arms for seed in options.seeds}
    if missing - {(each.head, each.gate, each.seed) for each in kept}:
        remarks += header("-m experiments.studies.heads", arguments)
    for name, columns in (CURVES, map(str, range(POINTS))), (RUNS, COLUMNS):
        lines = [*remarks, ",".join(["head,gate,seed", *columns])]
        (options.output / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    for outcome in kept:
        record(outcome, options.output)
    return kept


def main(arguments: Sequence[str]) -> int:
    """Trains, judges and draws; returns the exit code."""
    own, flags = split_flags(arguments)
    options = tyro.cli(Options, args=own, description=__doc__)
    kept = begin(options, arguments)
    try:
        for outcome in measured(options, flags, {(x.head, x.gate, x.seed) for x in kept}):
            # At once: what is interrupted goes on with --keep.
            record(outcome, options.output)
        remarks, outcomes = read(options.output)
        # What was run later (--keep) takes its place.
        outcomes.sort(key=lambda outcome: (ALONE, *names("aux")).index(outcome.head))
        lines = summary(outcomes)
    except ValueError as error:
        print(f"heads: {error}", file=sys.stderr)
        return 2
    text = "\n".join([*remarks, *lines]) + "\n"
    (options.output / SUMMARY).write_text(text, encoding="utf-8")
    print("\n".join(lines))
    seeds = len({outcome.seed for outcome in outcomes})
    weight = "" if options.scale == 1 else f", coefficients times {options.scale:g}"
    title = f"{options.env}, {options.steps:,} steps, {seeds} seeds{weight}"
    draw(outcomes, options.steps, title, options.output / FIGURE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
