"""The speed and the memory of runs, each in a separate process."""

import csv
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import fmean, median

from agents.logs.report import METRICS_FILE
from configs.cli import parse
from experiments.results import run_alone
from experiments.training.hardware import Hardware, choose_hardware

LOG_LINES = 8
"""Of a run, after the warm-up: its speed is read from its log."""


@dataclass(frozen=True)
class Measurement:
    """One process."""

    steps_per_second: float
    """Agent steps, after the warm-up."""
    peak_mebibytes: float
    """The most memory that it held at once."""
    environment: float = nan
    """Share of the time spent in the environments, where it was noted."""
    acting: float = nan
    """Share of the time spent choosing actions, where it was noted."""


def measure(command: Sequence[str], table: Path, warm_up: int) -> Measurement:
    """Runs a Python command from the repository's root and reads the table that it wrote.

    Args:
        command: what follows `python`.
        table: a CSV with the columns `step` and `seconds`, one line per update or so.
        warm_up: agent steps at the beginning that do not count.

    Raises:
        ValueError: the command failed, or ended with the warm-up.
    """
    peak = run_alone([sys.executable, *command])
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    counted = [row for row in rows if int(row["step"]) >= warm_up]
    if len(counted) < 2:
        raise ValueError(
            f"--steps leaves nothing to measure after a warm-up of {warm_up}: give more steps."
        )
    first, *later = counted
    steps = int(later[-1]["step"]) - int(first["step"])
    seconds = float(later[-1]["seconds"]) - float(first["seconds"])
    return Measurement(
        steps_per_second=steps / seconds,
        peak_mebibytes=peak,
        environment=_mean(later, "environment"),
        acting=_mean(later, "acting"),
    )


def _mean(rows: Sequence[Mapping[str, str]], column: str) -> float:
    return fmean(float(row[column]) for row in rows) if column in rows[0] else nan


def train_run(flags: Sequence[str], folder: Path, steps: int, warm_up: int) -> Measurement:
    """Measures a run of `train.py` in `folder`."""
    interval = max(1, (steps - warm_up) // LOG_LINES)
    command = ["train.py", *flags, "--steps", str(steps), "--log-steps", str(interval)]
    return measure([*command, "--run-dir", str(folder)], folder / METRICS_FILE, warm_up)


def hardware_of(flags: Sequence[str]) -> Hardware:
    """What `train.py` will compute on and in when called with these flags.

    Raises:
        UsageError: it will refuse them.
    """
    run = parse(flags).run
    return choose_hardware(run.device, run.precision, run.threads, playing=run.pipeline)


def commit_of(clone: Path) -> str:
    """The commit that a clone is at, or that it cannot be told."""
    command = ["git", "-C", str(clone), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def middle(runs: Sequence[Measurement]) -> float:
    """The median of their steps per second."""
    return median(run.steps_per_second for run in runs)
