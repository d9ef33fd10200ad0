"""Trains a run: builds or resumes it, updates to its last step, reports and saves on the way.

`train.py` is `main`.  An experiment composes the same pieces: `start` or `resume` makes a `Run`
(`Parts` replaces its collector or learner), and a `Trainer` trains it.  `Trainer.updates` is the
loop alone, for a caller that logs and saves by itself.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from agents.logs.report import NoReport, Progress, Report, Split
from agents.runtime.checkpoint import load_checkpoint
from agents.runtime.distributed import leave
from agents.statistics import RunningMean
from agents.teachers import ChangedTeacherError
from configs.cli import ResumeOptions, is_resume, parse, parse_resume
from configs.errors import UsageError
from configs.presets import untuned
from configs.training import TrainConfig
from experiments.training import run_folder as rundir
from experiments.training.build import USUAL, Parts, build
from experiments.training.hardware import StopRequest, choose_hardware, keep_freed_memory
from experiments.training.session import Session

FIRST_CHECKPOINT_SECONDS = 30.0
DONE, DIVERGED, MISTAKEN, STOPPED = 0, 1, 2, 130
"""Exit codes of `train.py`."""


@dataclass(frozen=True)
class Run:
    """A run that is ready to train."""

    config: TrainConfig
    folder: Path
    session: Session
    notes: tuple[str, ...]
    """Printed before training starts."""


def prepare(arguments: Sequence[str], parts: Parts = USUAL) -> Run:
    """Starts or resumes the run that a command line of `train.py` asks for.

    Raises:
        UsageError: the arguments are wrong, or the run cannot be built or resumed.
    """
    if is_resume(arguments):
        return resume(parse_resume(arguments), parts)
    return start(parse(arguments), parts)


def start(config: TrainConfig, parts: Parts = USUAL) -> Run:
    """Builds a new run and then its folder, so that a run that cannot be built leaves no folder.

    Raises:
        UsageError: the config cannot be built, or the folder cannot be written.
    """
    session, reason = set_up(config, parts=parts)
    folder = rundir.create(config, parts.variant) if session.processes.leads else Path()
    notes = filter(None, (reason, untuned(config.choice.family, config.choice.algo)))
    return Run(config, folder, session, tuple(notes))


def resume(options: ResumeOptions, parts: Parts = USUAL) -> Run:
    """Builds a run again and restores its last checkpoint.

    Raises:
        UsageError: there is no such run, it is done, or its checkpoints cannot be restored.
    """
    given = rundir.resumed(options)
    try:
        loaded = load_checkpoint(given.source / rundir.CHECKPOINTS)
    except ValueError as error:
        raise UsageError(f"--resume {given.source}: {error}") from error
    if loaded.step >= given.config.run.steps:
        raise UsageError(
            f"--resume {given.source}: the run has done its {loaded.step:,} steps; "
            f"give it more with --steps."
        )
    session, reason = set_up(given.config, loaded.step, parts)
    try:
        resumed = session.restore(loaded.state)
    except ChangedTeacherError as error:
        raise UsageError(
            f"--resume {given.source}: {error}; put that one back, or start a new run."
        ) from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"--resume {given.source}: {loaded.path.name} does not fit this run's config.json, "
            "so it is another run's or another version's; start a new run."
        ) from error
    if session.processes.leads:
        rundir.go_on(given.source, given.folder, given.config)
    notes = (reason, *loaded.notes, resumed, *given.notes)
    return Run(given.config, given.folder, session, notes)


def set_up(config: TrainConfig, step: int = 0, parts: Parts = USUAL) -> tuple[Session, str]:
    """Chooses the hardware, configures torch for the whole process and builds the session.

    Args:
        config: of the run.
        step: agent steps that the run has made.
        parts: the classes of collector and learner.

    Returns:
        The session, and a sentence on what was chosen.

    Raises:
        UsageError: the device is missing, or the chosen components do not fit together.
    """
    run = config.run
    keep_freed_memory()
    if run.deterministic:
        # cuBLAS reads it when it starts; without it, its results may differ between runs.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(run.deterministic)
    hardware = choose_hardware(run.device, run.precision, run.threads, playing=run.pipeline)
    session = build(config, hardware, step, parts)
    choice = config.choice
    gated = f"{', '.join(choice.aux)} through --gate {choice.gate}." if choice.aux else ""
    said = (hardware.reason, gated, session.ungated, session.held)
    return session, " ".join(filter(None, said))


class Sink(Protocol):
    """Where the log of a run goes; `Report` writes files, TensorBoard and the terminal."""

    def note(self, text: str) -> None:
        """Takes a sentence for the user."""

    def log(self, progress: Progress) -> None:
        """Takes one line of the log."""

    def show(self, step: int, pictures: Mapping[str, UInt8[np.ndarray, "_ _ 3"]]) -> None:
        """Takes pictures by name."""

    def tick(self, step: int, seconds: float) -> None:
        """Shows how far the run is; called after every update."""

    def __enter__(self) -> "Sink":
        """Opens the sink for the run."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Closes the sink."""


def open_report(run: Run) -> Sink:
    """The files and the terminal; nothing for the processes that do not lead."""
    if not run.session.processes.leads:
        return NoReport()
    description = rundir.flat(run.config.to_json())
    return Report(run.folder, run.config.run.steps, description, run.session.learner.steps)


class Interval:
    """Tells when training passes the next multiple of a number of agent steps."""

    def __init__(self, steps: int, start: int = 0) -> None:
        """Counts from `start` agent steps."""
        self._steps, self._last = steps, start

    def passed(self, step: int) -> bool:
        """Whether a multiple lies after the last `step` that returned true, up to this one."""
        if step // self._steps == self._last // self._steps:
            return False
        self._last = step
        return True


@dataclass(frozen=True)
class Callback:
    """A function that the trainer calls at intervals, after an update."""

    every: int
    """Agent steps between calls."""
    call: Callable[["Trainer"], None]


class Trainer:
    """Trains a run to its last step, or until a signal or too many skipped updates.

    The run brings collector and learner (see `Parts`); sink, stop request and callbacks are
    arguments.  A subclass may override `step`, one update, and inherit everything around it.
    """

    def __init__(
        self,
        run: Run,
        sink: Callable[[Run], Sink] = open_report,
        stop: Callable[[], StopRequest] = StopRequest,
        callbacks: Sequence[Callback] = (),
    ) -> None:
        """Prepares to train; opens nothing yet.

        Args:
            run: a new or resumed run.
            sink: opens what takes the log when training starts.
            stop: makes the request to stop, which is entered while training.
            callbacks: called after the updates that pass their intervals.
        """
        self.run = run
        self.learner = run.session.learner
        self._open_sink, self._stop = sink, stop
        start = self.learner.steps
        self._callbacks = [(Interval(one.every, start), one.call) for one in callbacks]

    def step(self) -> dict[str, Tensor]:
        """Collects one trajectory and learns from it; returns scalars for the log."""
        return self.run.session.update()

    @property
    def finished(self) -> bool:
        """Whether the run has made all its agent steps."""
        return self.learner.steps >= self.run.config.run.steps

    def updates(self) -> Iterator[dict[str, Tensor]]:
        """Updates until the last step; yields the scalars of every update.

        Logging and saving are left to the caller, who may stop at any update.
        """
        while not self.finished:
            yield self.step()

    def train(self) -> int:
        """Trains, logs and saves until the run ends.

        Returns:
            `DONE`, `DIVERGED` or `STOPPED`.

        Raises:
            OSError: the log or a checkpoint cannot be written.
        """
        session, options, learner = self.run.session, self.run.config.run, self.learner
        processes = session.processes
        metrics = RunningMean(processes)
        began = logged_at = saved_at = time.monotonic()
        logged_step = learner.steps
        logs = Interval(options.log_interval, logged_step)
        pictures = Interval(options.picture_interval, logged_step)
        patience = min(FIRST_CHECKPOINT_SECONDS, 60 * options.checkpoint_minutes)
        over = diverged = False
        with self._open_sink(self.run) as sink, self._stop() as stop:
            for note in (*self.run.notes, f"Writing to {self.run.folder}"):
                sink.note(note)
            if learner.steps == 0 and processes.leads:
                # A run can then be resumed whenever it dies, and a full disk shows at once.
                session.save(self.run.folder)
            for scalars in self.updates():
                metrics.add(scalars)
                now, step = time.monotonic(), learner.steps
                over = self.finished or processes.any(stop.requested, session.env.device)
                if logs.passed(step) or over:
                    seconds, clock = now - logged_at, session.collector.clock.read()
                    split = (clock.environment / seconds, clock.acting / seconds)
                    progress = Progress(
                        step=step,
                        seconds=now - began,
                        steps_per_second=(step - logged_step) / seconds,
                        split=Split(*split, learning=1 - sum(split)),
                        episodes=session.collector.episodes.drain(processes.sum),
                        learning_rate=learner.learning_rate,
                        metrics=metrics.drain(),
                        gate=self.run.config.choice.gate,
                    )
                    sink.log(progress)
                    logged_at, logged_step = now, step
                    if pictures.passed(step) and processes.leads:
                        sink.show(step, session.pictures())
                    diverged = bool(learner.skipped_in_a_row >= options.max_skipped)
                    over = over or diverged
                sink.tick(step, now - began)
                if processes.leads and (over or now - saved_at >= patience):
                    session.save(self.run.folder)
                    saved_at, patience = now, 60 * options.checkpoint_minutes
                for interval, call in self._callbacks:
                    if interval.passed(step):
                        call(self)
                if over:
                    break
        return DIVERGED if diverged else DONE if self.finished else STOPPED


def farewell(run: Run, code: int) -> None:
    """Prints how the run ended and which command comes next.

    Args:
        run: that was trained.
        code: what `Trainer.train` returned.
    """
    steps = run.session.learner.steps
    if not run.session.processes.leads:
        return
    if code == DIVERGED:
        print(
            f"train.py: the last {run.config.run.max_skipped} updates were skipped because the "
            f"loss was not finite; the weights before them are saved in {run.folder}. Try a "
            "smaller --learning-rate.",
            file=sys.stderr,
        )
    elif code == STOPPED:
        print(f"Stopped at step {steps:,}. Go on with:")
        print(f"  python train.py --resume {run.folder}")
    else:
        for sentence in run.session.learner.gating.admissions.sentences():
            print(sentence)
        print(f"Done: {steps:,} steps. Score the policy with:")
        print(f"  python evaluate.py {run.folder}")


def main(
    arguments: Sequence[str] | None = None,
    parts: Parts = USUAL,
    trainer: Callable[[Run], Trainer] = Trainer,
) -> int:
    """Runs `train.py`: parses, builds or resumes, trains.

    Args:
        arguments: of the command line, without the name of the program; by default those of
            this process.
        parts: the classes of collector and learner.
        trainer: makes the trainer of the run.

    Returns:
        The exit code; a user's mistake prints one sentence and returns `MISTAKEN`.
    """
    try:
        run = prepare(sys.argv[1:] if arguments is None else arguments, parts)
        try:
            code = trainer(run).train()
            farewell(run, code)
            return code
        finally:
            run.session.close()
    except UsageError as error:
        print(f"train.py: {error}", file=sys.stderr)
    except OSError as error:
        print(
            f"train.py: writing failed ({error.strerror or error}): free some space or choose "
            "another --run-dir, then go on with --resume.",
            file=sys.stderr,
        )
    except torch.OutOfMemoryError:
        print(
            "train.py: the device has too little memory: use fewer --num-envs or a smaller "
            "--unroll-length, or another --device.",
            file=sys.stderr,
        )
    except KeyboardInterrupt:  # before the first update, or a second time while it saves
        return STOPPED
    finally:
        leave()
    return MISTAKEN
