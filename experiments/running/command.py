"""The program `study.py`: trains the runs that a study's folder lacks, then makes their report."""

import shlex
import sys
from collections import Counter, deque
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from rich.console import Console

from agents.logs.terminal import duration
from configs.errors import UsageError, quoted
from configs.grid import Planned
from experiments.running import folder as folders
from experiments.running.backends import Backend, choose
from experiments.running.checks import check
from experiments.running.folder import Study
from experiments.running.request import Request, plan, read_arguments
from experiments.running.search import Trials
from experiments.running.watch import Watch, failures, look, summary, tail, why
from experiments.running.worker import TrainingJob
from experiments.training.hardware import StopRequest
from experiments.training.trainer import DIVERGED, DONE

FAILED, MISTAKEN, STOPPED = 1, 2, 130
"""Exit codes besides `DONE`."""
POLL_SECONDS = 0.5


class Source(Protocol):
    """Where the runs of a study come from."""

    @property
    def more(self) -> bool:
        """Whether there are runs to come."""

    def take(self, count: int) -> list[TrainingJob]:
        """The next runs, at most so many."""

    def ended(self, name: str) -> None:
        """Takes note that a run has ended for good."""

    def give_up(self) -> Collection[str]:
        """The names of runs that are to end now."""


class Queue:
    """Runs that are all known from the start."""

    def __init__(self, jobs: Sequence[TrainingJob]) -> None:
        self._jobs = deque(jobs)

    @property
    def more(self) -> bool:
        """Whether there are runs to come."""
        return bool(self._jobs)

    def take(self, count: int) -> list[TrainingJob]:
        """The next runs, at most so many."""
        return [self._jobs.popleft() for _ in range(min(count, len(self._jobs)))]

    def ended(self, name: str) -> None:
        """Takes note of nothing."""

    def give_up(self) -> Collection[str]:
        """Gives up none."""
        return ()


def conduct(backend: Backend, source: Source, watch: Watch, retries: int) -> bool:
    """Trains runs until all have ended, or until a signal.

    Args:
        backend: trains them.
        source: of the runs.
        watch: shows how far they are.
        retries: how often a run that fails is tried again.

    Returns:
        Whether a signal stopped them.
    """
    again, attempts = deque[TrainingJob](), Counter[str]()
    by_name: dict[str, TrainingJob] = {}
    rows = watch.progress.rows
    with StopRequest() as stop:
        stopping = False
        while backend.busy or ((again or source.more) and not stopping):
            if not stopping and backend.free > 0:
                batch = [again.popleft() for _ in range(min(backend.free, len(again)))]
                batch += source.take(backend.free - len(batch))
                if batch:
                    backend.start(batch)
                by_name |= {job.name: job for job in batch}
                for job in batch:
                    rows[job.name].state = "queued"
            for name, code in backend.wait(POLL_SECONDS):
                job, row = by_name[name], rows[name]
                attempts[job.name] += 1
                if code == DONE and folders.is_done(job.folder, job.steps):
                    row.state, row.speed = "done", tail(job.folder)[1]
                    row.step = job.steps
                elif row.state == "pruned":
                    pass
                elif stop.requested:
                    row.state = "waiting"
                    continue
                else:
                    row.reason = why(watch.progress, job.name, code)
                    # A loss that is not finite will not be so the second time either.
                    if code != DIVERGED and attempts[job.name] <= retries:
                        row.state = "waiting"
                        again.append(job)
                        watch.note(f"{job.name} failed and is tried again: {row.reason}")
                        continue
                    row.state = "failed"
                watch.ended(row)
                source.ended(name)
            if not stopping and (hopeless := source.give_up()):
                backend.stop(hopeless)
                for job in [job for job in again if job.name in hopeless]:
                    again.remove(job)
                    source.ended(job.name)
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
    if study.search:
        console.print(
            f"{study.search.trials:,} trials between these ends; {jobs} runs at a time.",
            highlight=False,
            soft_wrap=True,
        )
        return
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
        if request.axes:
            raise UsageError(
                f"--report makes the report of what is there: drop --{next(iter(request.axes))}."
            )
        study = folders.load(Path(options.resume))
        runs = study.runs()
        console.print(summary(look(study.folder, runs, 1)), highlight=False)
        report(study.folder)
        return DONE
    place = Path(options.resume or options.output)
    backend = choose(options.on, options.jobs, options.gpus, options.address, options.slurm, place)
    with ExitStack() as stack:
        stack.callback(backend.close)
        there = (place / folders.STUDY).is_file()
        if there and not options.dry_run:
            stack.enter_context(folders.locked(place))
        study, runs = plan(request, backend)
        check(runs)
        if options.dry_run:
            list_runs(study, runs, backend.slots, console)
            return DONE
        if not there:
            folders.make(place)
            stack.enter_context(folders.locked(place))
            # Another program may have begun the same one meanwhile, and ended.
            folders.check_free(place, request.axes)
        study.save()
        known = study.runs() if study.search else runs
        progress, home = look(study.folder, known, backend.slots), str(Path.cwd())
        pins = ", ".join(f"--{flag} {value}" for flag, value in study.pins.items())
        whole = f"{study.search.trials:,} trials" if study.search else f"{len(runs):,} runs"
        console.print(
            f"{whole}, {progress.count('done'):,} {'runs ' if study.search else ''}done; "
            f"{backend.slots} at a time; all with {pins}; writing to {study.folder}",
            highlight=False,
            soft_wrap=True,
        )
        with Watch(progress, console) as watch:
            source: Source
            trials = None
            if study.search:
                source = trials = Trials(study, home, backend.slots, watch)
            else:
                # One seed of everything comes first, so that arms can be compared early.
                ordered = sorted(runs, key=lambda run: run.config.run.seed)
                missing = [run for run in ordered if progress.rows[run.name].state != "done"]
                source = Queue([TrainingJob.of(run, study.folder, home) for run in missing])
            stopped = conduct(backend, source, watch, options.retries)
        return conclude(study, watch, stopped, console, trials.best() if trials else "")


def conclude(study: Study, watch: Watch, stopped: bool, console: Console, best: str = "") -> int:
    """Says how the study ended, and makes the report if any run is done.

    Args:
        study: that was trained.
        watch: its progress.
        stopped: whether a signal stopped it.
        console: where to.
        best: a sentence on the best trial of a search, if one has ended.

    Returns:
        The exit code.
    """
    failed = failures(watch.progress)
    if stopped:
        console.print(summary(watch.progress), highlight=False)
        print(f"Stopped. Go on with:\n  python study.py --resume {quoted(study.folder)}")
        return STOPPED
    if watch.progress.count("done"):
        report(study.folder)
    if best:
        print(best)
    if failed:
        for line in failed:
            print(f"study.py: failed: {line}", file=sys.stderr)
        print(
            f"study.py: {len(failed)} of {len(watch.progress.rows)} runs failed"
            + ("." if study.search else f"; try them again by --resume {quoted(study.folder)}."),
            file=sys.stderr,
        )
    # A search may propose what cannot be learnt with.
    if (study.search and not best) or (failed and not study.search):
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
