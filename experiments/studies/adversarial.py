"""How much harm a harmful head does to a run, through every gate.

The arms learn the same task from the same seeds: one without a head, one with the head
for each gate.  A run's result is the mean return in the last tenth of its steps; an arm's
is the mean difference from the arm without a head, seed by seed, with a 95 % bootstrap
interval.  An arm is harmed where that interval lies below zero.  A head that does no
harm through `sum` tests nothing: raise its coefficient.

Flags of `train.py` go after `--`; those of heads and gates (`--aux.`, `--gate.`) are left out
where there is no head:

    python -m experiments.studies.adversarial --gates sum cosine projection --seeds 1 2 3
    python -m experiments.studies.adversarial --keep    # run what is missing, and draw again
    python -m experiments.studies.adversarial -- --aux.adversarial.negates policy
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from agents.gates import Gates
from configs.parsing import read_or_exit
from experiments.figures import BLACK, BLUE, GREEN, VERMILLION, tidy
from experiments.report.runs import LATE
from experiments.results import Row, Table, split_flags
from experiments.statistics import Interval, compare_with
from experiments.studies.engine import (
    ALONE,
    Key,
    Study,
    average,
    by_seed,
    number,
    parse_number,
    train_arm,
)

RUNS, FIGURE, SUMMARY = "runs.csv", "probe.png", "summary.csv"
COLUMNS = ("arm", "seed", "final", "cosine", "passed")


@dataclass(frozen=True)
class Options:
    """What to train."""

    env: str = "Catch"
    """The environment's name."""
    head: str = "adversarial"
    """The harmful head."""
    steps: int = 60_000
    """Agent steps of each run."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Every arm is trained with each."""
    gates: tuple[str, ...] = tuple(field.name for field in fields(Gates))
    """The head is trained with each of these gates."""
    output: Path = Path("benchmarks/results/adversarial")
    """A folder for runs.csv, summary.csv and probe.png."""
    keep: bool = False
    """Run only what the existing runs.csv lacks."""


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


def run(arm: str, seed: int, options: Options, flags: Sequence[str]) -> Result:
    """Trains one arm with one seed, in this process, and says how it ended.

    Args:
        arm: a gate, or `main only`.
        seed: of the run.
        options: of the study.
        flags: of `train.py`.

    Raises:
        ValueError: `train.py` refused or failed; holds its message.
    """
    task = f"--env {options.env} --steps {options.steps} --seed {seed}".split()
    logs = ["--log-steps", str(max(1, options.steps // 100))]
    head = None if arm == ALONE else ["--aux", options.head, "--gate", arm]
    rows, seconds = train_arm(f"{arm}, seed {seed}", [*task, *logs], head, flags)
    result = Result(
        arm,
        seed,
        average("return", [row for row in rows if int(row["step"]) >= LATE * options.steps]),
        average(f"{options.head}/cosine", rows),
        average(f"{options.head}/passed", rows),
    )
    print(f"{arm:18} seed {seed}: {result.final:+.2f} ({seconds:.0f} s)", flush=True)
    return result


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


def main(arguments: Sequence[str]) -> int:
    """Trains, compares and draws; returns the exit code."""
    own, flags = split_flags(arguments)
    options = read_or_exit(Options, own, "adversarial", __doc__)
    runs = Table(options.output / RUNS, COLUMNS)
    study = Study("-m experiments.studies.adversarial", COLUMNS[:2], (runs,))

    def train(key: Key) -> list[list[str]]:
        arm, seed = key
        return [run(arm, int(seed), options, flags).cells()]

    arms = [(arm,) for arm in (ALONE, *options.gates)]
    try:
        study.complete(by_seed(arms, options.seeds), train, arguments, keep=options.keep)
        remarks, rows = runs.read()
        verdicts = compare([parse_result(row) for row in rows])
    except ValueError as error:
        print(f"adversarial: {error}", file=sys.stderr)
        return 2
    lines = summary(verdicts)
    (options.output / SUMMARY).write_text("\n".join([*remarks, *lines]) + "\n", encoding="utf-8")
    seeds = len(verdicts[0].finals)
    title = f"{options.env}, {options.steps:,} steps, {seeds} seeds: a harmful head"
    figure = draw(verdicts, f"{title} ({options.head})")
    figure.savefig(options.output / FIGURE, dpi=140)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
