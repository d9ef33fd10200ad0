"""The program `study.py`: trains the runs that a study's folder lacks, then makes their report."""

import os
import shlex
import sys
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from agents.logs.terminal import duration
from configs.cli import Axes, own_flags, parse_study, read_also, read_file, split
from configs.errors import UsageError
from configs.grid import Planned
from configs.programs import StudyOptions
from experiments.running import folder as folders
from experiments.running.backends import Backend, Local, cores
from experiments.running.checks import check
from experiments.running.folder import Grid, Study
from experiments.running.watch import Watch, failures, look, summary, tail, why
from experiments.running.worker import Task
from experiments.training.hardware import StopRequest
from experiments.training.trainer import DIVERGED, DONE

FAILED, MISTAKEN, STOPPED = 1, 2, 130
"""Exit codes besides `DONE`."""
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Request:
    """A command line of `study.py`."""

    options: StudyOptions
    axes: Axes
    also: tuple[Axes, ...] = ()
    """What the study file adds to the grid."""


def read_arguments(arguments: Sequence[str]) -> Request:
    """Reads a command line, and the study file that it may begin with.

    Raises:
        UsageError: with one sentence for the user.
        SystemExit: after printing `--help`.
    """
    own, rest = own_flags(), list(arguments)
    mine: list[str] = []
    axes: dict[str, tuple[str, ...]] = {}
    also: list[Axes] = []
    name = ""
    if rest and rest[0].endswith(".toml"):
        path = Path(rest.pop(0))
        name = path.stem
        mine, told = read_file(path, own)
        axes |= told
        also = read_also(path, own)
    given, changed = split(rest, own)
    # tyro takes the last of two.
    options = parse_study([*mine, *given])
    axes |= changed
    if options.seeds:
        if "seed" in axes:
            raise UsageError("--seeds 5 stands for --seed 1 2 3 4 5: give one of the two.")
        axes["seed"] = tuple(str(seed) for seed in range(1, options.seeds + 1))
    if not (options.output or options.resume):
        name = name or f"study-{time.strftime('%Y%m%d-%H%M%S')}"
        options = replace(options, output=str(Path("runs") / name))
    return Request(options, axes, tuple(also))


def choose(options: StudyOptions) -> Backend:
    """The backend that a command line asks for.

    Raises:
        UsageError: it is not installed, or cannot be reached.
    """
    if options.on == "local":
        return Local(options.jobs or cores(), options.gpus)
    # Both wait for much that a study on this machine does not need.
    from experiments.running.remote import RayTasks, SlurmArray

    if options.on == "ray":
        return RayTasks(options.jobs, options.gpus, options.address)
    place = Path(options.resume or options.output) / "slurm"
    return SlurmArray(options.jobs, options.gpus, options.slurm, place.absolute())


def plan(request: Request, backend: Backend) -> tuple[Study, list[Planned]]:
    """The study that is asked for, new or there already, and its runs; writes nothing.

    Args:
        request: of the command line.
        backend: which says what `auto` stands for.

    Raises:
        UsageError: with one sentence for the user.
    """
    options, axes = request.options, request.axes
    if options.resume:
        study = folders.load(Path(options.resume)).extended(axes)
    elif folders.check_free(Path(options.output), axes):
        study = folders.load(Path(options.output))
    else:
        pins = {**backend.pins(), "threads": "1", "env.num-threads": "1"}
        pins |= {flag: axes[flag][0] for flag in ("threads",) if axes.get(flag, ("0",)) != ("0",)}
        study = Study(Path(options.output), (Grid(axes),), pins)
        for more in request.also:
            study = study.extended(more)
    return study, study.runs()


def conduct(backend: Backend, tasks: Sequence[Task], watch: Watch, retries: int) -> bool:
    """Trains runs until all have ended, or until a signal.

    Args:
        backend: trains them.
        tasks: the runs.
        watch: shows how far they are.
        retries: how often a run that fails is tried again.

    Returns:
        Whether a signal stopped them.
    """
    waiting, attempts = deque(tasks), Counter[str]()
    rows = watch.progress.rows
    with StopRequest() as stop:
        stopping = False
        while backend.busy or (waiting and not stopping):
            if not stopping and waiting and backend.free > 0:
                batch = [waiting.popleft() for _ in range(min(backend.free, len(waiting)))]
                backend.start(batch)
                for task in batch:
                    rows[task.name].state = "queued"
            for task, code in backend.wait(POLL_SECONDS):
                row = rows[task.name]
                attempts[task.name] += 1
                if code == DONE and folders.is_done(task.folder, task.steps):
                    row.state, row.speed = "done", tail(task.folder)[1]
                    row.step = task.steps
                elif stop.requested:
                    row.state = "waiting"
                    continue
                else:
                    row.reason = why(watch.progress, task.name, code)
                    # A loss that is not finite will not be so the second time either.
                    if code != DIVERGED and attempts[task.name] <= retries:
                        row.state = "waiting"
                        waiting.append(task)
                        watch.note(f"{task.name} failed and is tried again: {row.reason}")
                        continue
                    row.state = "failed"
                watch.ended(row)
            if stop.requested and not stopping:
                stopping = True
                watch.note("Stopping: every run saves a checkpoint. Again to stop at once.")
                backend.stop()
            watch.update()
    return stopping


def report(folder: Path) -> None:
    """Makes the report of the runs in a study's folder; what goes wrong is one printed sentence."""
    # Drawing takes a second to import.
    from experiments.report.__main__ import main as make_report

    make_report([str(folder), "--output", str(folder / folders.REPORT)])


def list_runs(study: Study, runs: Sequence[Planned], jobs: int, console: Console) -> None:
    """Prints the command of every run, and how long all will take.

    Args:
        study: that they belong to.
        runs: all of them.
        jobs: that run at a time.
        console: where to.
    """
    progress = look(study.folder, runs, jobs)
    lines = []
    for run in runs:
        words = [*run.words, "--run-dir", str(study.folder / run.name)]
        done = "  # done" if progress.rows[run.name].state == "done" else ""
        lines.append(f"{shlex.join(['python', 'train.py', *words])}{done}\n")
    console.file.write("".join(lines))
    left = progress.seconds_left()
    steps = sum(run.config.run.steps for run in runs)
    time_left = "unknown, since nothing like it was measured" if left is None else duration(left)
    finished = progress.count("done")
    console.print(
        f"{len(runs):,} runs of {steps:,} steps together, {finished:,} done; {jobs} at a time; "
        f"estimated time: {time_left}.",
        highlight=False,
        soft_wrap=True,
    )


def study_runs(request: Request, console: Console) -> int:
    """Does what a command line asks for.

    Args:
        request: the command line.
        console: shows what happens.

    Returns:
        The exit code.

    Raises:
        UsageError: with one sentence for the user.
    """
    options = request.options
    if options.report:
        study = folders.load(Path(options.resume))
        runs = study.runs()
        console.print(summary(look(study.folder, runs, 1)), highlight=False)
        report(study.folder)
        return DONE
    backend = choose(options)
    try:
        study, runs = plan(request, backend)
        check(runs)
        jobs = backend.slots
        if options.dry_run:
            list_runs(study, runs, jobs, console)
            return DONE
        study.save()
        with folders.locked(study.folder):
            progress, home = look(study.folder, runs, jobs), str(Path.cwd())
            tasks = [
                Task(home, os.path.abspath(study.folder), run.name, run.words, run.config.run.steps)
                # One seed of everything comes first, so that arms can be compared early.
                for run in sorted(runs, key=lambda run: run.config.run.seed)
                if progress.rows[run.name].state != "done"
            ]
            pins = ", ".join(f"--{flag} {value}" for flag, value in study.pins.items())
            console.print(
                f"{len(runs):,} runs, {len(runs) - len(tasks):,} done; {jobs} at a time; all with "
                f"{pins}; writing to {study.folder}",
                highlight=False,
                soft_wrap=True,
            )
            with Watch(progress, console) as watch:
                stopped = conduct(backend, tasks, watch, options.retries)
        return conclude(study, watch, stopped, console)
    finally:
        backend.close()


def conclude(study: Study, watch: Watch, stopped: bool, console: Console) -> int:
    """Says how the study ended, and makes the report if any run is done.

    Args:
        study: that was trained.
        watch: its progress.
        stopped: whether a signal stopped it.
        console: where to.

    Returns:
        The exit code.
    """
    failed = failures(watch.progress)
    if stopped:
        console.print(summary(watch.progress), highlight=False)
        print(f"Stopped. Go on with:\n  python study.py --resume {study.folder}")
        return STOPPED
    if watch.progress.count("done"):
        report(study.folder)
    if failed:
        for line in failed:
            print(f"study.py: failed: {line}", file=sys.stderr)
        print(
            f"study.py: {len(failed)} of {len(watch.progress.rows)} runs failed; try them again "
            f"by --resume {study.folder}.",
            file=sys.stderr,
        )
        return FAILED
    print(f"Done: {len(watch.progress.rows)} runs in {study.folder}.")
    return DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `study.py`; a user's mistake prints one sentence.

    Args:
        arguments: of the command line, without the name of the program; by default those of
            this process.

    Returns:
        The exit code.
    """
    try:
        request = read_arguments(sys.argv[1:] if arguments is None else arguments)
        return study_runs(request, Console())
    except UsageError as error:
        print(f"study.py: {error}", file=sys.stderr)
    except OSError as error:
        print(
            f"study.py: writing failed ({error.strerror or error}): free some space, then go on "
            "by --resume.",
            file=sys.stderr,
        )
    except KeyboardInterrupt:  # before the first run, or a second time while runs save
        return STOPPED
    return MISTAKEN
