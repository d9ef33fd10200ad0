"""Steps per second of whole runs, side by side: `python benchmarks/throughput.py`.

Every arm is a run of `train.py` in a process of its own; arms alternate, so that a
machine that slows down slows all of them.  Reported are medians over the rounds and
their ratio to the first arm, and the largest memory of a process.  Machines differ:
the ratios are what to compare.
"""

import csv
import json
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

ROOT = Path(__file__).resolve().parent.parent

ARMS = {
    "sum": ["--aux", "distill", "--gate", "sum"],
    "cosine": ["--aux", "distill", "--gate", "cosine"],
    "cosine, every 4th": ["--aux", "distill", "--gate", "cosine", "--gate.every", "4"],
    "projection": ["--aux", "distill", "--gate", "projection"],
    "projection, average": [
        *("--aux", "distill", "--gate", "projection", "--gate.projection.decay", "0.99")
    ],
    "main only": [],
}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    env: str = "Breakout"
    """Passed on to train.py."""
    steps: int = 12_288
    """Agent steps of each run."""
    warm_up: int = 4_096
    """Agent steps at its beginning that do not count."""
    rounds: int = 3
    """Runs of each arm."""
    arms: tuple[str, ...] = tuple(ARMS)
    """Which of the arms, the reference first."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A CSV file to write; empty: print only."""
    extra: tuple[str, ...] = ()
    """Further flags for train.py."""


@dataclass(frozen=True)
class Measurement:
    """One run."""

    steps_per_second: float
    environment: float
    acting: float
    peak_mebibytes: float


def measure(options: Options, arm: str, folder: Path) -> Measurement:
    """Runs one arm and reads its metrics back."""
    command = [sys.executable, str(ROOT / "train.py"), "--env", options.env, *ARMS[arm]]
    command += ["--steps", str(options.steps), "--run-dir", str(folder), "--log-seconds", "0.5"]
    subprocess.run([*command, *options.extra], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    with (folder / "metrics.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    begin = next(row for row in rows if int(row["step"]) >= options.warm_up)
    kept = rows[rows.index(begin) + 1 :]
    seconds = float(kept[-1]["seconds"]) - float(begin["seconds"])
    return Measurement(
        (int(kept[-1]["step"]) - int(begin["step"])) / seconds,
        statistics.fmean(float(row["environment"]) for row in kept),
        statistics.fmean(float(row["acting"]) for row in kept),
        # The largest of all children so far: a bound for each.
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024,
    )


def main(options: Options) -> None:
    """Measures all arms in turn and prints the table."""
    results: dict[str, list[Measurement]] = {arm: [] for arm in options.arms}
    with tempfile.TemporaryDirectory() as scratch:
        for round_number in range(options.rounds):
            for index, arm in enumerate(options.arms):
                folder = Path(scratch) / f"{round_number}-{index}"
                results[arm].append(measure(options, arm, folder))
                print(f"{arm}: {results[arm][-1].steps_per_second:.0f} steps/s", flush=True)
        versions = json.loads((folder / "versions.json").read_text(encoding="utf-8"))
    lines = [
        f"# command: {shlex.join(['python', 'benchmarks/throughput.py', *sys.argv[1:]])}",
        f"# commit: {versions['commit']}{' (dirty)' if versions['dirty'] else ''}",
        f"# hardware: {versions['cpu']}, {versions['cores']} cores, GPU {versions['gpu']}",
        f"# packages: torch {versions['packages']['torch']}, "
        f"envpool {versions['packages']['envpool']}",
        "arm,steps_per_second,ratio,environment,acting,peak_mebibytes,runs",
    ]
    medians = {
        arm: statistics.median(run.steps_per_second for run in runs)
        for arm, runs in results.items()
    }
    reference = medians[options.arms[0]]
    for arm, runs in results.items():
        cells = [
            f"{medians[arm]:.0f}",
            f"{medians[arm] / reference:.3f}",
            f"{statistics.median(run.environment for run in runs):.2f}",
            f"{statistics.median(run.acting for run in runs):.2f}",
            f"{max(run.peak_mebibytes for run in runs):.0f}",
            " ".join(f"{run.steps_per_second:.0f}" for run in runs),
        ]
        lines.append(",".join([f'"{arm}"', *cells]))
    print("\n".join(lines))
    if options.output:
        Path(options.output).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
