"""Runs of a study next to the same runs in a hand-written loop: `benchmarks/study_throughput.py`.

Both train the same runs of Catch, without a head and with one, as many at a time: `study.py`, which
also makes its report, and `xargs -P` over `train.py`.  They take turns by blocks of seeds, so that
what else the machine does slows down both.  Overhead is the time for which a run takes a job's
place, less the time for which it trains by its own log; reports are part of it.  On a machine that
others use as well, the processor time of each run says more.
"""

import contextlib
import csv
import ctypes
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated

import tyro

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.logs.report import METRICS_FILE
from experiments.results import ROOT, header, publish
from experiments.running.folder import load

COLUMNS = (
    "block,runs,study_seconds,loop_seconds,ratio,study_overhead,loop_overhead,study_processor,"
    "loop_processor"
)
PR_SET_CHILD_SUBREAPER = 36
"""See prctl(2): Linux only."""
GRID = "--env Catch --aux none inverse --gate cosine"


@dataclass(frozen=True)
class Options:
    """How many runs, and where the result goes."""

    blocks: int = 4
    """Of each side."""
    seeds: int = 5
    """In each block, for both arms."""
    steps: int = 100_000
    """Agent steps of each run."""
    jobs: int = 2
    """Runs at a time."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A CSV file to write; empty: print only."""


def timed(command: Sequence[str], lines: str = "") -> tuple[float, float]:
    """Seconds that a command takes, and seconds of processor time.

    Args:
        command: to run, from the root of the repository.
        lines: what it reads.
    """
    began, used = time.monotonic(), os.times()
    subprocess.run(command, cwd=ROOT, input=lines, text=True, stdout=subprocess.DEVNULL, check=True)
    seconds = time.monotonic() - began
    with contextlib.suppress(ChildProcessError):
        while True:  # the processes that it left, which end with it
            os.wait()
    now = os.times()
    processor = now.children_user + now.children_system
    return seconds, processor - used.children_user - used.children_system


def trained(folders: Sequence[Path]) -> float:
    """Mean seconds of training, by the logs of runs."""
    seconds = []
    for folder in folders:
        with (folder / METRICS_FILE).open(encoding="utf-8", newline="") as file:
            seconds.append(float(list(csv.DictReader(file))[-1]["seconds"]))
    return fmean(seconds)


def measure(options: Options, place: Path) -> list[str]:
    """Trains all blocks on both sides; returns the rows of the table, the last one over all.

    Args:
        options: of the measurement.
        place: an empty folder.
    """
    study, loop, known, rows = place / "study", place / "loop", set[str](), []
    loop.mkdir()
    jobs, sums = str(options.jobs), [0.0] * 6
    for block in range(1, options.blocks + 1):
        seeds = ["--seeds", str(block * options.seeds), "--jobs", jobs]
        grid = [*GRID.split(), "--steps", str(options.steps), "--output", str(study)]
        asked = grid if block == 1 else ["--resume", str(study)]
        by_study, study_processor = timed([sys.executable, "study.py", *asked, *seeds])
        runs = [run for run in load(study).runs() if run.name not in known]
        known |= {run.name for run in runs}
        lines = "".join(
            f"{shlex.join([*run.words, '--run-dir', str(loop / run.name)])}\n" for run in runs
        )
        command = ["xargs", "-P", jobs, "-L", "1", sys.executable, "train.py"]
        by_loop, loop_processor = timed(command, lines)
        overheads = [
            options.jobs * seconds / len(runs) - trained([side / run.name for run in runs])
            for side, seconds in ((study, by_study), (loop, by_loop))
        ]
        processor = [seconds / len(runs) for seconds in (study_processor, loop_processor)]
        numbers = [by_study, by_loop, *overheads, *processor]
        sums = [total + number for total, number in zip(sums, numbers, strict=True)]
        rows.append(row(str(block), len(runs), numbers))
        print(rows[-1], flush=True)
    means = [*sums[:2], *(total / options.blocks for total in sums[2:])]
    return [*rows, row("all", len(known), means)]


def row(block: str, runs: int, numbers: Sequence[float]) -> str:
    """A line of the table.

    Args:
        block: its number.
        runs: of each side.
        numbers: seconds of study and loop, then seconds of overhead and of processor time for
            each run.
    """
    by_study, by_loop, *others = numbers
    said = ",".join(f"{seconds:.2f}" for seconds in others)
    return f"{block},{runs},{by_study:.1f},{by_loop:.1f},{by_loop / by_study:.3f},{said}"


def main() -> None:
    """Measures, prints and writes."""
    options = tyro.cli(Options, description=__doc__)
    # What a program leaves behind becomes this one's child, so that its time counts.
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(options, Path(folder))
    lines = header("benchmarks/study_throughput.py", sys.argv[1:])
    publish([*lines, COLUMNS, *rows], options.output)


if __name__ == "__main__":
    main()
