"""All measurements on a GPU in one process and less than eight minutes: `make gpu`.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --device cpu --quick      (a rehearsal: a minute of processor time)
    python benchmarks/gpu.py --stages training sweep

Every stage has its own limit of time, and writes a CSV row by row into the output folder: what was
measured before it was stopped, or before the machine went away, is there.  A table at the end says
how the stages ended; the exit code is 1 if one of them, or a program that it ran, failed.  Packages
that the machine lacks come from the folder `.gpu-wheels`, which `make gpu-wheels` fills where there
is a network.
"""

import gc
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Literal

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.gpu_wheels import carried

sys.path.append(str(carried()))

import torch
from rich.console import Console
from rich.table import Table as Shown

from benchmarks.gpu_stages import STAGES, Bench, Stage
from configs.parsing import read
from experiments.results import Table, header


@dataclass(frozen=True)
class Options:
    """Where and how much to measure."""

    device: Literal["cuda", "cpu"] = "cuda"
    """The CPU shows that the stages work; its numbers say nothing of a GPU."""
    quick: bool = False
    """Toy sizes, for a rehearsal."""
    output: str = "runs/gpu"
    """Folder of the CSVs."""
    stages: tuple[str, ...] = ()
    """Which stages to run; empty for all."""

    def __post_init__(self) -> None:
        known = [stage.name for stage in STAGES]
        for name in self.stages:
            if name not in known:
                raise ValueError(f"--stages {name!r} is unknown: choose from {', '.join(known)}.")


class OutOfTimeError(BaseException):
    """A stage has used up its time; no `except Exception` within it may hide that."""


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Stops a block of the main thread after so many seconds."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise OutOfTimeError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(stage: Stage, bench: Bench, table: Table) -> tuple[int, str]:
    """Runs a stage to its end or its limit.

    It has failed if it raises an error, or if one of its programs fails.

    Args:
        stage: yields the rows.
        bench: where and how large to measure.
        table: takes each row at once.

    Returns:
        The number of rows, and how it ended.
    """
    count, end = 0, "done"
    bench.failed.clear()
    seconds = stage.seconds * (4 if bench.quick else 1)  # a rehearsal is to come to its end
    try:
        with limit(seconds):
            for cells in stage.rows(bench):
                table.append([str(cell) for cell in cells])
                count += 1
                print("  " + ", ".join(map(str, cells)), flush=True)
    except OutOfTimeError:
        end = f"stopped after its {seconds} s"
    except Exception as error:  # the other stages are measured all the same
        traceback.print_exc()
        bench.failed.append(f"{type(error).__name__}: {' '.join(str(error).split())}")
    finally:
        gc.collect()
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
    if bench.failed:
        end = "failed: " + "; ".join(said[:200] for said in bench.failed)
    return count, end


def driver() -> str:
    """The driver's version, as the card's own tool tells it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip().splitlines()[0]


def main(arguments: Sequence[str]) -> int:
    """Runs the stages and prints how they ended; returns the exit code."""
    try:
        options = read(Options, arguments, "gpu.py", __doc__)
    except ValueError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "gpu.py: --device cuda finds no GPU here: run it on a machine that has one, or "
            "rehearse with --device cpu --quick.",
            file=sys.stderr,
        )
        return 2
    output = Path(options.output)
    cuda = f"driver {driver()}, CUDA {torch.version.cuda}" if options.device == "cuda" else "none"
    remarks = header("benchmarks/gpu.py", arguments, [f"GPU software: {cuda}"])
    remarks += ["# quick: toy sizes, no measurement"] * options.quick
    # cuBLAS reads it when it starts; the stage `exactness` needs it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    shown = Shown("stage", "seconds", "rows", "end", title=f"{output} ({options.device})")
    well = True
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        bench = Bench(torch.device(options.device), options.quick, Path(scratch))
        for stage in STAGES:
            if options.stages and stage.name not in options.stages:
                continue
            print(f"{stage.name}, at most {stage.seconds} s", flush=True)
            table = Table(output / f"{stage.name}.csv", tuple(stage.columns.split(",")))
            table.start(remarks)
            start = time.monotonic()
            rows, end = run(stage, bench, table)
            if end != "done":
                print(f"  {end}", flush=True)
            well = well and not end.startswith("failed")
            shown.add_row(stage.name, f"{time.monotonic() - start:.1f}", str(rows), end)
    shown.caption = f"{time.monotonic() - began:.0f} s in all"
    # What programs say may have brackets, which are no markup.
    Console(soft_wrap=True, markup=False).print(shown)
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
