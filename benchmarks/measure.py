"""Runs in processes of their own, their speed and memory, and the header above every result."""

import csv
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from statistics import fmean, median

from agents.logs.report import METRICS_FILE
from configs.cli import parse
from experiments.training import run_folder as rundir
from experiments.training.hardware import Hardware, choose_hardware

ROOT = Path(__file__).resolve().parent.parent
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


def run_alone(command: Sequence[str]) -> float:
    """Runs a command to its end and returns the most memory it held, in MiB.

    Raises:
        ValueError: it failed; holds the last line that it printed.
    """
    with tempfile.TemporaryFile(mode="w+", encoding="utf-8", errors="replace") as printed:
        process = subprocess.Popen(command, cwd=ROOT, stdout=printed, stderr=subprocess.STDOUT)
        try:
            # Not `process.wait`: this also tells what this one process used.
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            printed.seek(0)
            last = (printed.read().strip().splitlines() or ["it printed nothing"])[-1]
            raise ValueError(f"{shlex.join(command)} failed: {last}")
    # In bytes on macOS, in kibibytes elsewhere.
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def header(program: str, arguments: Sequence[str], remarks: Sequence[str] = ()) -> list[str]:
    """The lines above a result: how, of what and on what it was made."""
    versions = rundir.versions()
    packages = versions["packages"]
    return [
        f"# command: {shlex.join(['python', *program.split(), *arguments])}",
        f"# commit: {versions['commit']}{' (dirty)' if versions['dirty'] else ''}",
        f"# hardware: {versions['cpu']}, {versions['cores']} cores, GPU {versions['gpu']}",
        f"# packages: torch {packages['torch']}, envpool {packages['envpool']}",
        *(f"# {remark}" for remark in remarks),
    ]


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


def split_flags(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Parts a script's own arguments from those after `--`, which are another's."""
    words = list(arguments)
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """The remarks above a result, and its rows by column."""
    lines = path.read_text(encoding="utf-8").splitlines()
    remarks = [line for line in lines if line.startswith("#")]
    return remarks, list(csv.DictReader(line for line in lines if not line.startswith("#")))


def publish(lines: Sequence[str], path: str) -> None:
    """Prints a result, and writes it to `path` unless that is empty."""
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if path:
        Path(path).write_text(text, encoding="utf-8")
