"""The program `sweep.py`: computes what a sweep's folder lacks, then writes its results."""

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from configs.cli import parse_sweep
from configs.errors import UsageError, quoted
from configs.programs import SweepConfig
from envs.base import free_bytes, is_out_of_memory
from experiments.running.backends import Backend, Local, choose
from experiments.sweep import folder as folders
from experiments.sweep.arms import arms
from experiments.sweep.chunks import (
    Work,
    WorkerError,
    choose_workers,
    compute_all,
    num_chunks,
    written,
)
from experiments.sweep.folder import Results
from experiments.sweep.output import FIGURE, write
from experiments.sweep.summary import Verdict
from experiments.training.hardware import choose_device
from experiments.training.lock import FolderLock, VanishedError
from experiments.training.run_folder import CONFIG

DONE, FAILED, MISTAKEN, STOPPED = 0, 1, 2, 130


def sweep(
    config: SweepConfig, folder: Path, backend: Backend | None, console: Console
) -> list[Verdict]:
    """Computes the missing chunks of a sweep, then writes its results.

    Args:
        config: of the sweep.
        folder: of the sweep; chunks that it holds are kept.
        backend: computes the chunks; None for this process.
        console: shows the progress.

    Returns:
        What the results say of each gate.

    Raises:
        ValueError: the settings allow no solvable world.
        OSError: the folder cannot be written.
        WorkerError: a process has died.
    """
    chunks = num_chunks(config)
    missing = [n for n in range(chunks) if folders.load(folder, n, config) is None]
    students = config.num_worlds * config.seeds * len(arms(config))
    workers = 1 if backend is None else backend.slots
    console.print(
        f"{students:,} students in {config.num_worlds:,} worlds on {config.device}, "
        f"{workers} process{'es' if workers > 1 else ''}; writing to {folder}"
    )
    if len(missing) < chunks:
        console.print(f"{chunks - len(missing)} of {chunks} parts are done already.")
    columns = (TextColumn("learning"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        total = students * config.updates
        done = total - total * len(missing) // chunks
        task = progress.add_task("", total=total, completed=done)
        work = Work(config, folder, missing)
        compute_all(work, backend if missing else None, lambda n: progress.advance(task, n))
    learnt = [folders.load(folder, number, config) for number in range(chunks)]
    there = [chunk for chunk in learnt if chunk is not None]
    if len(there) < chunks:
        raise VanishedError(f"{folder} was removed, renamed or emptied")
    return write(Results.join(config, there), folder)


def settled(asked: SweepConfig, *, begun: bool = False) -> SweepConfig:
    """The options of a sweep with all that was left open, the device and the folder included.

    Args:
        asked: the options of the user, or those of the folder to go on with.
        begun: whether they are those of a folder.

    Raises:
        UsageError: there is no such device, or too little memory.
    """
    named = replace(asked, output=asked.output or str(folders.fresh(asked)))
    if asked.on != "local":
        # This machine need not have it.
        kind = {"auto": "cpu"}.get(asked.device, asked.device)
        return folders.settle(named, torch.device(kind))
    try:
        device, _ = choose_device(asked.device)
    except UsageError as error:
        if not begun:
            raise
        raise UsageError(
            f"{asked.output} was begun on {asked.device}, which this machine does not have: go on "
            "on a machine that has it, or begin a new sweep with --device cpu."
        ) from error
    config = folders.settle(named, device)
    check_memory(config, device)
    return config


def backend_for(config: SweepConfig) -> Backend | None:
    """What computes the chunks of a settled sweep; None where this process does.

    Raises:
        UsageError: it is not installed, or cannot be reached.
    """
    folder = Path(config.output)
    if config.on != "local":
        gpus = float(config.device == "cuda")
        return choose(config.on, config.workers, gpus, config.address, config.slurm, folder)
    workers = min(choose_workers(config), num_chunks(config))
    return Local(workers, 0) if workers > 1 else None


def check_memory(config: SweepConfig, device: torch.device) -> None:
    """Refuses a sweep whose worlds, students or results do not fit into memory.

    Args:
        config: of the sweep, settled.
        device: where students learn.

    Raises:
        UsageError: they do not.
    """
    kinds, students = len(arms(config)), config.num_worlds * config.seeds * len(arms(config))
    cells = config.world.cells
    # At the very least: pairs of worlds, a table of preferences with its gradients, and curves.
    worlds = 2 * 8 * cells * config.num_worlds
    learning = 3 * 4 * 4 * cells * min(max(config.chunk, kinds), students)
    curves = 16 * len(config.log_points) * students
    least, free = worlds + learning + curves, free_bytes(device)
    if free is not None and least > free:
        raise UsageError(
            f"The sweep needs {least / 2**30:,.1f} GiB or more, but {free / 2**30:.1f} GiB are "
            f"free on {device}: use fewer --worlds, --seeds or --points, or a smaller --chunk."
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `sweep.py`; a user's mistake prints one sentence.

    Args:
        arguments: of the command line, without the name of the program; by default those of
            this process.

    Returns:
        The exit code.
    """
    console = Console()
    try:
        asked = parse_sweep(sys.argv[1:] if arguments is None else arguments)
        begun = bool(asked.resume)
        config = settled(folders.resumed(asked) if begun else asked, begun=begun)
        backend = backend_for(config)
    except UsageError as error:
        print(f"sweep.py: {error}", file=sys.stderr)
        return MISTAKEN
    with ExitStack() as stack:
        if backend is not None:
            stack.callback(backend.close)
        return _sweep(config, backend, console)


def _sweep(config: SweepConfig, backend: Backend | None, console: Console) -> int:
    """Computes a sweep in its folder; returns the exit code."""
    try:
        folder = folders.create(config)
    except UsageError as error:
        print(f"sweep.py: {error}", file=sys.stderr)
        return MISTAKEN
    try:
        with FolderLock(folder) as lock:
            folders.clear(folder)
            for verdict in sweep(config, folder, backend, console):
                print(f"- {verdict}")
            lock.check(CONFIG)
    except ValueError as error:
        # Such as settings under which no world can be solved.
        print(f"sweep.py: {error}", file=sys.stderr)
        return MISTAKEN
    except VanishedError as error:
        print(
            f"sweep.py: {error}. Put it back and go on by --resume {quoted(folder)}.",
            file=sys.stderr,
        )
        return FAILED
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error) and not isinstance(error, WorkerError):
            raise
        print(f"sweep.py: {error} Go on by --resume {quoted(folder)}.", file=sys.stderr)
        return FAILED
    except OSError as error:
        print(f"sweep.py: {written(error)} Go on by --resume {quoted(folder)}.", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"\nsweep.py: stopped; go on by --resume {quoted(folder)}.", file=sys.stderr)
        return STOPPED
    print(f"Figure: {folder / FIGURE}")
    return DONE
