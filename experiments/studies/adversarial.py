"""What a harmful head does to a run, through every gate.

The arms learn the same task from the same seeds: one without a head, one with the head
for each gate.  A run's result is the mean return in the last tenth of its steps; an arm's
is the mean difference from the arm without a head, seed by seed, with a 95 % bootstrap
interval.  An arm is harmed where that interval lies below zero.  A head that does not
harm `sum` is no probe: raise its coefficient.

Flags of `train.py` go after `--`; those of heads and gates (`--aux.`, `--gate.`) are left out
where there is no head:

    python -m experiments.studies.adversarial --gates sum cosine projection --seeds 1 2 3
    python -m experiments.studies.adversarial --keep    # run what is missing, and draw again
    python -m experiments.studies.adversarial -- --aux.adversarial.negates policy
"""

import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import tyro

from agents.gates import Gates
from benchmarks.measure import header, read_table, split_flags
from experiments.report.runs import LATE
from experiments.studies.harm import ALONE, Result, draw, judge, table
from experiments.studies.trained import average, train_log, without_heads

RUNS, FIGURE, SUMMARY = "runs.csv", "probe.png", "summary.csv"


@dataclass(frozen=True)
class Options:
    """What to probe."""

    env: str = "Catch"
    """The task."""
    head: str = "adversarial"
    """The harmful head."""
    steps: int = 60_000
    """Agent steps of each run."""
    seeds: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Each for every arm."""
    gates: tuple[str, ...] = tuple(field.name for field in fields(Gates))
    """Through which the head is to be kept in check."""
    output: Path = Path("benchmarks/results/adversarial")
    """A folder for runs.csv, summary.csv and probe.png."""
    keep: bool = False
    """Run only what the runs.csv that is there lacks."""


def run(arm: str, seed: int, options: Options, flags: Sequence[str]) -> Result:
    """Trains once, in this process.

    Raises:
        ValueError: `train.py` refused or failed; holds what it said.
    """
    if arm == ALONE:
        aux, flags = [], without_heads(flags)
    else:
        aux = ["--aux", options.head, "--gate", arm]
    arguments = f"--env {options.env} --steps {options.steps} --seed {seed}".split()
    logs = ["--log-steps", str(max(1, options.steps // 100))]
    try:
        rows = train_log([*arguments, *aux, *logs, *flags])
    except ValueError as error:
        raise ValueError(f"{arm}, seed {seed}: {error}") from error
    late = [row for row in rows if int(row["step"]) >= LATE * options.steps]
    return Result(
        arm,
        seed,
        average("return", late),
        average(f"{options.head}/cosine", rows),
        average(f"{options.head}/passed", rows),
    )


def measured(
    options: Options, flags: Sequence[str], done: Collection[tuple[str, int]]
) -> Iterator[Result]:
    """Runs all arms that are not done, seed by seed, and says how long each took."""
    for seed in options.seeds:
        for arm in (ALONE, *options.gates):
            if (arm, seed) in done:
                continue
            began = time.process_time()
            result = run(arm, seed, options, flags)
            seconds = time.process_time() - began
            print(f"{arm:18} seed {seed}: {result.final:+.2f} ({seconds:.0f} s)", flush=True)
            yield result


def read(path: Path) -> tuple[list[str], list[Result]]:
    """The remarks and the runs of a `runs.csv`."""
    remarks, rows = read_table(path)
    results = [
        Result(
            row["arm"],
            int(row["seed"]),
            *(float(row[name] or "nan") for name in ("final", "cosine", "passed")),
        )
        for row in rows
    ]
    return remarks, results


def record(result: Result) -> str:
    """A line of `runs.csv`."""
    numbers = ("" if np.isnan(x) else f"{x:.4f}" for x in (result.cosine, result.passed))
    return ",".join([result.arm, str(result.seed), f"{result.final:.4f}", *numbers])


def main(arguments: Sequence[str]) -> int:
    """Runs, judges and draws; returns the exit code."""
    own, flags = split_flags(arguments)
    options = tyro.cli(Options, args=own, description=__doc__)
    path = options.output / RUNS
    options.output.mkdir(parents=True, exist_ok=True)
    remarks, kept = read(path) if options.keep and path.is_file() else ([], [])
    done = {(result.arm, result.seed) for result in kept}
    missing = {(arm, seed) for arm in (ALONE, *options.gates) for seed in options.seeds} - done
    if missing:
        remarks += header("-m experiments.studies.adversarial", arguments)
    lines = [*remarks, "arm,seed,final,cosine,passed", *map(record, kept)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for result in measured(options, flags, done):
        # At once: what is interrupted goes on with --keep.
        with path.open("a", encoding="utf-8") as file:
            file.write(record(result) + "\n")
    remarks, results = read(path)
    verdicts = judge(results)
    lines = table(verdicts)
    (options.output / SUMMARY).write_text("\n".join([*remarks, *lines]) + "\n", encoding="utf-8")
    title = (
        f"{options.env}, {options.steps:,} steps, {len(verdicts[0].finals)} seeds: a harmful head"
    )
    draw(verdicts, f"{title} ({options.head})", options.output / FIGURE)
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
