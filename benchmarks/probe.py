"""What a harmful head does to a run, through every gate: `python benchmarks/probe.py`.

The arms learn the same task from the same seeds: one without a head, one with the head
for each gate.  A run's result is the mean return in the last tenth of its steps; an arm's
is the mean difference from the arm without a head, seed by seed, with a 95 % bootstrap
interval.  An arm is harmed where that interval lies below zero.  A head that does not
harm `sum` is no probe: raise its coefficient.

Flags of `train.py` for all arms go after `--`:

    python benchmarks/probe.py --gates sum cosine projection --seeds 1 2 3
    python benchmarks/probe.py --keep    # run what is missing, and draw again
"""

import contextlib
import csv
import io
import sys
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import matplotlib as mpl
import numpy as np
import tyro
from jaxtyping import Float

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import train
from agents.gates import Gates
from agents.report import METRICS_FILE
from benchmarks.measure import header, split_flags
from benchmarks.reporting.estimates import Interval, mean, stratified_bootstrap
from benchmarks.reporting.look import COLOURS, tidy
from benchmarks.reporting.runs import LATE

mpl.use("Agg")
import matplotlib.pyplot as plt

ALONE = "main only"
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
    """Mean over the run, of the head's gradient."""


def run(arm: str, seed: int, options: Options, flags: Sequence[str]) -> Result:
    """Trains once, in this process.

    Raises:
        ValueError: `train.py` refused or failed; holds what it said.
    """
    aux = [] if arm == ALONE else ["--aux", options.head, "--gate", arm]
    with tempfile.TemporaryDirectory() as folder:
        said = io.StringIO()
        arguments = f"--env {options.env} --steps {options.steps} --seed {seed}".split()
        logs = ["--log-steps", str(max(1, options.steps // 100)), "--run-dir", f"{folder}/run"]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
            code = train.main([*arguments, *aux, *logs, *flags])
        if code != train.DONE:
            raise ValueError(f"{arm}, seed {seed}: {said.getvalue().strip()}")
        with (Path(folder) / "run" / METRICS_FILE).open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    late = [row for row in rows if int(row["step"]) >= LATE * options.steps]

    def average(column: str, rows: Sequence[dict[str, str]]) -> float:
        values = [float(row[column]) for row in rows if row.get(column)]
        return float(np.mean(values)) if values else float("nan")

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


@dataclass(frozen=True)
class Verdict:
    """One arm beside the one without a head."""

    arm: str
    finals: Float[np.ndarray, " seeds"]
    difference: float
    interval: Interval | None
    """Of the difference; none of a single seed."""
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


def judge(results: Sequence[Result]) -> list[Verdict]:
    """Compares each arm with the one without a head, the best first.

    Raises:
        ValueError: an arm lacks a seed.
    """
    by_arm: dict[str, dict[int, Result]] = {}
    for result in results:
        by_arm.setdefault(result.arm, {})[result.seed] = result
    alone = by_arm[ALONE]
    verdicts = []
    for arm, runs in by_arm.items():
        if runs.keys() != alone.keys():
            raise ValueError(f"{arm} has other seeds than {ALONE}: run all arms with the same.")
        finals = np.array([runs[seed].final for seed in alone])
        pairs = finals - np.array([result.final for result in alone.values()])
        difference = float(pairs.mean())
        interval = stratified_bootstrap(mean, [pairs])
        if interval is None and len(pairs) > 1:
            # All seeds differ by the same: a closed gate is the arm without a head, bit for bit.
            interval = Interval(difference, difference)
        verdicts.append(
            Verdict(
                arm,
                finals,
                difference,
                interval,
                float(np.mean([result.cosine for result in runs.values()])),
                float(np.mean([result.passed for result in runs.values()])),
            )
        )
    return sorted(verdicts, key=lambda verdict: -verdict.finals.mean())


def table(verdicts: Sequence[Verdict]) -> list[str]:
    """The lines of `summary.csv`."""
    lines = ["arm,seeds,final,difference,low,high,verdict,cosine,passed"]
    for verdict in verdicts:
        low, high = ("", "")
        if verdict.interval is not None:
            low, high = f"{verdict.interval.low:.3f}", f"{verdict.interval.high:.3f}"
        cosine, passed = (
            "" if np.isnan(value) else f"{value:.3f}" for value in (verdict.cosine, verdict.passed)
        )
        lines.append(
            f"{verdict.arm},{len(verdict.finals)},{verdict.finals.mean():.3f},"
            f"{verdict.difference:.3f},{low},{high},{verdict.word},{cosine},{passed}"
        )
    return lines


def draw(verdicts: Sequence[Verdict], title: str, path: Path) -> None:
    """One line per arm: a point for each seed, the mean, and the interval around it."""
    figure, axes = plt.subplots(figsize=(7.5, 1.4 + 0.32 * len(verdicts)), layout="constrained")
    alone = next(verdict for verdict in verdicts if verdict.arm == ALONE).finals.mean()
    axes.axvline(alone, color="black", linewidth=0.8, linestyle=":")
    inks = {"harmed": COLOURS[2], "unharmed": COLOURS[1], "helped": COLOURS[3]}
    for place, verdict in enumerate(reversed(verdicts)):
        ink = inks.get(verdict.word, COLOURS[0])
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
        "mean return in the last tenth; bar: main only plus the 95 % interval of the difference"
    )
    axes.set_title(title, fontsize=10)
    tidy(axes)
    figure.savefig(path, dpi=140)
    plt.close(figure)


def read(path: Path) -> tuple[list[str], list[Result]]:
    """The remarks and the runs of a `runs.csv`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    results = [
        Result(
            row["arm"],
            int(row["seed"]),
            *(float(row[name] or "nan") for name in ("final", "cosine", "passed")),
        )
        for row in rows
    ]
    return [line for line in lines if line.startswith("#")], results


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
        remarks += header("probe.py", arguments)
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
    seeds = len(verdicts[0].finals)
    draw(
        verdicts,
        f"{options.env}, a harmful head ({options.head}), {options.steps:,} steps, {seeds} seeds",
        options.output / FIGURE,
    )
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
