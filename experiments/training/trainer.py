"""Trains a run: builds or resumes it, updates to its last step, reports and saves on the way.

`start` or `resume` makes a `Run` (`Parts` replaces its collector or learner), and a `Trainer`
trains it, for `train.py` (`command`) and for experiments.  `Trainer.updates` is the loop alone,
for a caller that logs and saves by itself.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from agents.logs.report import NoReport, Progress, Report
from agents.logs.tracking import check_installed
from agents.networks.actor_critic import NotFiniteError
from agents.networks.torsos import MlpConfig
from agents.runtime.distributed import Agreement, will_lead
from configs.cli import ResumeOptions, is_resume, parse, parse_resume
from configs.errors import naming
from configs.presets import BY_OBSERVATION, hint_on_gpu, preset, untuned
from configs.training import TrainConfig
from experiments.training import run_folder as rundir
from experiments.training.build import USUAL, Parts, build
from experiments.training.endings import (
    Dropped,
    Writing,
    holding,
    unsound,
)
from experiments.training.evaluating import Evaluator, check_evaluation
from experiments.training.hardware import StopRequest, choose_hardware, keep_freed_memory
from experiments.training.lock import FolderLock
from experiments.training.meter import Every, Meter
from experiments.training.session import Session, load_latest, restore

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
    lock: FolderLock | None = None
    """Holds the folder; none for processes that do not lead."""


def prepare(arguments: Sequence[str], parts: Parts = USUAL) -> Run:
    """Starts or resumes the run that a command line of `train.py` asks for.

    Raises:
        UsageError: the arguments are wrong, or the run cannot be built or resumed.
        LeaderFailedError: the leading process raises a UsageError that it alone can meet.
    """
    if is_resume(arguments):
        return resume(parse_resume(arguments), parts)
    return start(parse(arguments), parts)


def start(config: TrainConfig, parts: Parts = USUAL) -> Run:
    """Builds a new run and then its folder, so that a run that cannot be built leaves no folder.

    Raises:
        UsageError: the config cannot be built, or the folder cannot be written.
    """
    chosen = Path(config.run.run_dir)
    if config.run.run_dir and chosen.is_dir():
        # `claim` asks again; setting up may take minutes, such as those of a teacher's trial.
        rundir.refuse_occupied(chosen)
    session, reason = set_up(config, parts=parts)
    with Writing(session).together():
        lock = rundir.claim(config, parts.variant) if session.processes.leads else None
    family, algo = config.choice.preset_family, config.choice.algo
    may_ask = session.env.device.type == "cuda" and config.tasks is None
    hint = hint_on_gpu(family, algo, config.run.num_envs) if may_ask else ""
    notes = filter(None, (reason, untuned(family, algo), hint))
    return Run(config, lock.folder if lock else Path(), session, tuple(notes), lock)


def resume(options: ResumeOptions, parts: Parts = USUAL) -> Run:
    """Builds a run again and restores its last checkpoint.

    A run that died before its first one starts over.

    Raises:
        UsageError: there is no such run, it is done or in use, or its checkpoints cannot be
            restored.
    """
    given = rundir.resumed(options)
    lock = rundir.hold(given.source, given.folder) if will_lead() else None
    try:
        return _resume(given, parts, lock)
    except BaseException:
        if lock is not None:
            lock.release()
        raise


def _resume(given: rundir.Resumed, parts: Parts, lock: FolderLock | None) -> Run:
    notes: tuple[str, ...]
    if rundir.never_began(given.source):
        session, reason = set_up(given.config, parts=parts)
        notes = ("The run had no checkpoint yet: it starts over.",)
    else:
        loaded = load_latest(given.source, given.config)
        session, reason = set_up(given.config, loaded.step, parts)
        notes = (*loaded.notes, restore(session, loaded, given.source))
    with Writing(session).together():
        if session.processes.leads:
            lock = rundir.go_on(given.source, given.folder, given.config, lock)
    return Run(given.config, given.folder, session, (reason, *notes, *given.notes), lock)


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
    with naming(run):
        check_installed(run.track)
    keep_freed_memory()
    if run.deterministic:
        # cuBLAS reads it when it starts; without it, its results may differ between runs.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(run.deterministic)
    small = isinstance(config.torso, MlpConfig) and config.torso.small
    hardware = choose_hardware(
        run.device, run.precision, run.threads, playing=run.pipeline, small=small
    )
    # The last digits of initial weights depend on the number of threads that compute them, and
    # runs of one seed begin alike on all machines.
    torch.set_num_threads(1)
    session = build(config, hardware, step, parts)
    with Writing(session).together():
        check_evaluation(config, session)  # by the process that leads
    choice = config.choice
    learner = session.learner
    gated = f"{', '.join(learner.names)} through --gate {choice.gate}." if learner.names else ""
    spec = session.env.spec
    shape = " x ".join(map(str, spec.observation_shape))
    torso = ""
    if preset(choice.preset_family).torso == BY_OBSERVATION:
        torso = f"The torso is {choice.torso}, for observations of {shape}."
    heads = (gated, session.ungated, session.held, session.remarks)
    said = (hardware.reason, session.graphs, torso, spec.note, *heads)
    return session, " ".join(filter(None, said))


class Sink(Protocol):
    """Where the log of a run goes; `Report` writes files, TensorBoard and the terminal."""

    def note(self, text: str) -> None:
        """Takes a sentence for the user."""

    def log(self, progress: Progress) -> None:
        """Takes one line of the log."""

    def show(self, step: int, pictures: Mapping[str, UInt8[np.ndarray, "_ _ 3"]]) -> None:
        """Takes pictures by name."""

    def evaluated(self, step: int, numbers: Mapping[str, float]) -> None:
        """Takes the numbers of one evaluation."""

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
    description = rundir.described(run.config)
    start, track = run.session.learner.steps, run.config.run.track
    return Report(run.folder, run.config.run.steps, description, start, track=track)


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
        self._callbacks = [(Every(one.every, start), one.call) for one in callbacks]

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
        """Trains, logs and saves until the run ends, then lets go of its folder.

        Returns:
            `DONE`, `DIVERGED` (also where most updates were skipped) or `STOPPED`.

        Raises:
            VanishedError: the folder is gone; says where the run was saved instead.
            OSError: the log or a checkpoint cannot be written; in processes that do not lead,
                `LeaderFailedError`.
        """
        with holding(self.run.lock, self.run.config, self.run.session):
            return self._train()

    def _train(self) -> int:
        session, options, learner = self.run.session, self.run.config.run, self.learner
        processes = session.processes
        # Other processes would wait for one that leaves the loop by itself.
        alone = processes.size == 1
        meter = Meter(session, self.run.config.choice.gate)
        logs = Every(options.log_interval, learner.steps)
        pictures = Every(options.picture_interval, learner.steps)
        saved_at, patience = 0.0, min(FIRST_CHECKPOINT_SECONDS, 60 * options.checkpoint_minutes)
        evaluator = Evaluator(self.run.config, session, self.run.folder)
        over = diverged = ruined = False
        stops = Agreement(processes, session.env.device)
        dropped = Dropped()
        writing = Writing(session, self.run.lock)
        with writing.together():
            opened = self._open_sink(self.run)
        with opened as sink, self._stop() as stop:
            with writing.together():
                for note in (*self.run.notes, f"Writing to {self.run.folder}"):
                    sink.note(note)
                if (learner.steps == 0 or self.finished) and processes.leads:
                    # A run can then be resumed whenever it dies, and a full disk shows at once;
                    # one that died after its last checkpoint gets its policy.
                    session.save(self.run.folder)
                if evaluator.due():  # it was interrupted
                    meter.leave_out(evaluator.evaluate(sink, stop))
            for scalars in self.updates():
                meter.add(scalars)
                seconds, step = meter.seconds, learner.steps
                over = stops.any(stop.requested or ruined or writing.failed) or self.finished
                if logs.passed(step) or over:
                    progress = meter.read()
                    with writing.kept():
                        if self.run.lock is not None:
                            self.run.lock.check(rundir.CONFIG)
                        sink.log(progress)
                        if pictures.passed(step) and processes.leads:
                            sink.show(step, session.pictures())
                    dropped.add(progress.metrics)
                    diverged = bool(learner.skipped_in_a_row >= options.max_skipped)
                    over = over or diverged
                due = evaluator.due()
                saves = processes.leads and (over or due or seconds - saved_at >= patience)
                with writing.kept():
                    sink.tick(step, seconds)
                    if saves and not writing.failed:
                        try:
                            session.save(self.run.folder)
                        except NotFiniteError:
                            ruined, over = True, over or alone
                        saved_at, patience = seconds, 60 * options.checkpoint_minutes
                if over:
                    # Only the process that saves knows; the run is over for all at this update.
                    ruined = stops.settle(ruined)
                if due and not (diverged or ruined or writing.failed or stop.requested):
                    with writing.kept():
                        # No step is made meanwhile, so the time is not that of training.
                        meter.leave_out(evaluator.evaluate(sink, stop))
                    over = over or (alone and stop.requested)
                for interval, call in self._callbacks:
                    if interval.passed(step):
                        call(self)
                if over:
                    writing.settle()
                    break
            for note in dropped.notes():
                sink.note(note)
        diverged = diverged or ruined or (self.finished and unsound(learner))
        return DIVERGED if diverged else DONE if self.finished else STOPPED
