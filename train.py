"""Trains an actor-critic with gated auxiliary losses; `python train.py --help` explains."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from agents.logs.report import NoReport, Progress, Report, Split
from agents.runtime.checkpoint import load_checkpoint
from agents.runtime.distributed import leave
from agents.statistics import RunningMean
from agents.teachers import ChangedTeacherError
from configs.cli import parse
from configs.errors import UsageError
from configs.presets import untuned
from configs.training import TrainConfig
from experiments.training import run_folder as rundir
from experiments.training.build import build
from experiments.training.hardware import StopRequest, choose_hardware, keep_freed_memory
from experiments.training.run_folder import is_resume, parse_resume
from experiments.training.session import Session

FIRST_CHECKPOINT_SECONDS = 30.0
DONE, DIVERGED, MISTAKEN, STOPPED = 0, 1, 2, 130


@dataclass(frozen=True)
class Run:
    """A run that is ready to train."""

    config: TrainConfig
    folder: Path
    session: Session
    notes: tuple[str, ...]
    """Said before training starts."""


def start(arguments: Sequence[str]) -> Run:
    """Builds a new run, then its folder: what cannot be built leaves nothing behind."""
    config = parse(arguments)
    session, reason = set_up(config)
    folder = rundir.create(config) if session.processes.leads else Path()
    notes = filter(None, (reason, untuned(config.choice.family, config.choice.algo)))
    return Run(config, folder, session, tuple(notes))


def resume(arguments: Sequence[str]) -> Run:
    """Builds a run again and brings it to its last checkpoint."""
    given = parse_resume(arguments)
    try:
        loaded = load_checkpoint(given.source / rundir.CHECKPOINTS)
    except ValueError as error:
        raise UsageError(f"--resume {given.source}: {error}") from error
    if loaded.step >= given.config.run.steps:
        raise UsageError(
            f"--resume {given.source}: the run has done its {loaded.step:,} steps; "
            f"give it more with --steps."
        )
    session, reason = set_up(given.config, loaded.step)
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


def set_up(config: TrainConfig, step: int = 0) -> tuple[Session, str]:
    """Chooses the hardware, settles torch for the whole process and builds the session."""
    run = config.run
    keep_freed_memory()
    if run.deterministic:
        # cuBLAS reads it when it starts; without it, its results may differ between runs.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(run.deterministic)
    hardware = choose_hardware(run.device, run.precision, run.threads, playing=run.pipeline)
    session = build(config, hardware, step)
    choice = config.choice
    gated = f"{', '.join(choice.aux)} through --gate {choice.gate}." if choice.aux else ""
    said = (hardware.reason, gated, session.ungated, session.held)
    return session, " ".join(filter(None, said))


def train(run: Run) -> int:
    """Trains to the end or until a signal; returns the exit code."""
    session, options = run.session, run.config.run
    learner, processes = session.learner, session.processes
    metrics = RunningMean(processes)
    began = logged_at = saved_at = time.monotonic()
    logged_step = shown_step = learner.steps
    patience = min(FIRST_CHECKPOINT_SECONDS, 60 * options.checkpoint_minutes)
    with open_report(run) as report, StopRequest() as stop:
        for note in (*run.notes, f"Writing to {run.folder}"):
            report.note(note)
        if learner.steps == 0 and processes.leads:
            # So that a run can be resumed whenever it dies, and a full disk shows at once.
            session.save(run.folder)
        over = diverged = False
        while not over:
            metrics.add(session.update())
            now, step = time.monotonic(), learner.steps
            over = step >= options.steps or processes.any(stop.requested, session.env.device)
            if over or step // options.log_interval > logged_step // options.log_interval:
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
                    gate=run.config.choice.gate,
                )
                report.log(progress)
                logged_at, logged_step = now, step
                if step // options.picture_interval > shown_step // options.picture_interval:
                    if processes.leads:
                        report.show(step, session.pictures())
                    shown_step = step
                diverged = bool(learner.skipped_in_a_row >= options.max_skipped)
                over = over or diverged
            report.tick(step, now - began)
            if processes.leads and (over or now - saved_at >= patience):
                session.save(run.folder)
                saved_at, patience = now, 60 * options.checkpoint_minutes
    return farewell(run, diverged=diverged)


def open_report(run: Run) -> Report | NoReport:
    """The files and the terminal; nothing for the processes that do not lead."""
    if not run.session.processes.leads:
        return NoReport()
    description = rundir.flat(run.config.to_json())
    return Report(run.folder, run.config.run.steps, description, run.session.learner.steps)


def farewell(run: Run, *, diverged: bool) -> int:
    """Says how the run ended and what to do next; returns the exit code."""
    learner, options = run.session.learner, run.config.run
    if not run.session.processes.leads:
        return DIVERGED if diverged else DONE if learner.steps >= options.steps else STOPPED
    if diverged:
        print(
            f"train.py: the last {options.max_skipped} updates were skipped because the loss was "
            f"not finite; the weights before them are saved in {run.folder}. Try a smaller "
            "--learning-rate.",
            file=sys.stderr,
        )
        return DIVERGED
    if learner.steps < options.steps:
        print(f"Stopped at step {learner.steps:,}. Go on with:")
        print(f"  python train.py --resume {run.folder}")
        return STOPPED
    print(f"Done: {learner.steps:,} steps. Score the policy with:")
    print(f"  python evaluate.py {run.folder}")
    return DONE


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code; a mistake of the user's is one sentence."""
    try:
        run = resume(arguments) if is_resume(arguments) else start(arguments)
        try:
            return train(run)
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
