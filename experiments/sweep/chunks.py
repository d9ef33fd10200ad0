"""Trains the students of a sweep chunk by chunk, in this process or as jobs of a backend.

A chunk is some worlds with all their students: one process trains it at once, and writes it at
once.  Chunks are independent of each other.
"""

import shutil
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from agents.runtime.random import derived_seed
from agents.tabular import (
    GateGroup,
    Lesson,
    Practice,
    Signal,
    Students,
    TeacherAdvantage,
    TeacherLead,
    exact_signal,
)
from configs.programs import ADVANTAGE, AHEAD, SweepConfig, parse_gate
from envs.base import is_out_of_memory
from envs.emulators import available_cores
from experiments.running.backends import Backend
from experiments.running.folder import LOGS
from experiments.running.worker import CRASHED, last_line
from experiments.sweep.arms import arms, pairs, teacher_policies, teachings
from experiments.sweep.folder import Chunk, save
from gridworld import NUM_ACTIONS, Worlds, evaluate, optimal_values


def rows_per_chunk(config: SweepConfig) -> int:
    """How many rows each chunk of a settled sweep has."""
    return max(1, config.chunk // len(arms(config)))


def num_chunks(config: SweepConfig) -> int:
    """How many chunks a settled sweep has."""
    return -(-config.num_worlds * config.seeds // rows_per_chunk(config))


def compute(
    config: SweepConfig, number: int, device: torch.device, learnt: Callable[[int], None]
) -> Chunk:
    """Trains the students of one chunk.

    Args:
        config: the sweep's.
        number: of the chunk.
        device: to compute on.
        learnt: called with the number of updates, summed over students, since its last call.
    """
    size = rows_per_chunk(config)
    rows = range(number * size, min((number + 1) * size, config.num_worlds * config.seeds))
    before, after = pairs(config, device)
    # The seeds of one world lie side by side.
    index = torch.arange(rows.start, rows.stop, device=device) // config.seeds
    before, after = before.select(index), after.select(index)
    seed = derived_seed(config.seed, f"chunk {number}")
    teachers = teacher_policies(config, before, after, seed)
    lesson = _begin(config, after, teachers, seed)
    returns, cosines, weights = [lesson.students.expected_return()], [], []
    for first, last in pairwise(config.log_points):
        for _ in range(first, last):
            lesson.update()
        cosine, weight = lesson.drain()
        cosines.append(cosine)
        weights.append(weight)
        returns.append(lesson.students.expected_return())
        learnt((last - first) * len(lesson.students))

    if not torch.stack(returns).isfinite().all():
        raise ValueError("students diverged: use a smaller --learning-rate.")

    def by_arm(values: list[Tensor]) -> Tensor:
        return torch.stack(values).view(len(values), -1, len(rows)).cpu()

    return Chunk(
        expected_return=by_arm(returns),
        cosine=by_arm(cosines),
        weight=by_arm(weights),
        **_levels(after, teachers),
    )


def _begin(config: SweepConfig, worlds: Worlds, teachers: list[Tensor], seed: int) -> Lesson:
    """Lines up the students: all rows of the first arm, all of the second, and so on."""
    numbers = torch.arange(len(worlds), device=worlds.device)
    known = dict(zip(teachings(config), teachers, strict=True))
    everyone = arms(config)
    students = Students.fresh(
        worlds,
        numbers.repeat(len(everyone)),
        # Main-only students have no teacher: any will do, since it is not used.
        torch.cat(
            [teachers[0] if arm.teaching is None else known[arm.teaching] for arm in everyone]
        ),
    )
    streams = numbers.repeat(len(everyone))
    signal: Callable[[], Signal]
    if config.gradients == "exact":
        signal = partial(exact_signal, students)
    else:
        told = any(gate.endswith(AHEAD) for gate in config.gates)
        signal = Practice(students, config.practice, streams, seed, tells_returns=told).signal
    taught = len(teachers) * len(worlds)
    gated = [
        GateGroup(taught, parse_gate(gate), _trust(gate, worlds, teachers)) for gate in config.gates
    ]
    return Lesson(students, [GateGroup(len(worlds), None), *gated], signal, config.rate)


def _trust(
    gate: str, worlds: Worlds, teachers: list[Tensor]
) -> TeacherAdvantage | TeacherLead | None:
    """How far the students of a gate follow their teachers; None: all the way."""
    if gate.endswith(ADVANTAGE):
        return TeacherAdvantage()
    if gate.endswith(AHEAD):
        return TeacherLead(torch.cat(_returns(worlds, teachers)).float())
    return None


def _returns(worlds: Worlds, teachers: list[Tensor]) -> list[Tensor]:
    """What each teacher is expected to earn in the worlds of its students."""
    discount = worlds.config.discount
    return [evaluate(worlds, policy, discount).expected_return for policy in teachers]


def _levels(worlds: Worlds, teachers: list[Tensor]) -> dict[str, Tensor]:
    """Returns and cells to compare the students of each row with."""
    discount = worlds.config.discount
    uniform = torch.full_like(teachers[0], 1 / NUM_ACTIONS)
    idle = evaluate(worlds, uniform, discount)
    # A random walk reaches every cell that can be reached.
    live = (idle.visitation > 0) & ~worlds.terminal
    seen = torch.zeros_like(live, dtype=torch.int64)
    seen.scatter_add_(1, worlds.observation, live.long())
    alike = live & (seen.gather(1, worlds.observation) > 1)
    optimum = optimal_values(worlds, discount).gather(1, worlds.start_cell[:, None]).squeeze(1)
    levels = {
        "teacher": torch.stack(_returns(worlds, teachers)),
        "optimum": optimum,
        "random": idle.expected_return,
        "cells": live.sum(1),
        "aliased": alike.sum(1),
    }
    return {name: level.cpu() for name, level in levels.items()}


TOO_LARGE = "Memory is too small for so many students at once: use a smaller --chunk or --workers."
PATIENCE = 0.2
"""Seconds between two checks of the workers."""
DONE, FAILED, MISTAKEN = 0, 1, 2
"""Exit codes of a job, besides `CRASHED`."""


@dataclass(frozen=True)
class Work:
    """The chunks that the workers compute, and what they need for it.

    A worker is a process of one thread, since the kernels are small: two processes do twice
    the work of one, two threads of one process hardly more than one thread.
    """

    config: SweepConfig
    folder: Path
    missing: Sequence[int]
    """The chunks to compute."""

    def do(self, number: int, learnt: Callable[[int], None]) -> None:
        """Computes one chunk and writes it."""
        chunk = compute(self.config, number, torch.device(self.config.device), learnt)
        save(self.folder, number, chunk, self.config)


def choose_workers(config: SweepConfig) -> int:
    """One process per core that this process may use, on a CPU; one alone feeds a GPU."""
    if torch.device(config.device).type != "cpu":
        return 1
    return config.workers or available_cores()


class WorkerError(RuntimeError):
    """A worker process died, or could not write, before it was done with its chunk."""


def written(error: OSError) -> str:
    """What could not be written, in one sentence."""
    reason = error.strerror or error
    return f"{error.filename or 'A file'} cannot be written ({reason})."


@dataclass(frozen=True)
class ChunkJob:
    """One chunk, for a backend."""

    work: Work
    number: int

    @property
    def name(self) -> str:
        """Of its log."""
        return f"chunk-{self.number:05d}"

    @property
    def log(self) -> Path:
        """Its last line is the number of updates so far, summed over students, or an error."""
        return self.work.folder / LOGS / f"{self.name}.log"

    @property
    def updates(self) -> int:
        """All its updates, summed over students."""
        config = self.work.config
        size = rows_per_chunk(config)
        rows = min(size, config.num_worlds * config.seeds - self.number * size)
        return rows * len(arms(config)) * config.updates

    def held(self) -> AbstractContextManager[None]:
        """Holds nothing: a chunk is written as a whole."""
        return nullcontext()

    def run(self) -> int:
        """Computes the chunk and writes it; returns an exit code."""
        torch.set_num_threads(1)
        done = 0
        with self.log.open("a", 1, encoding="utf-8", errors="backslashreplace") as log:

            def learnt(count: int) -> None:
                nonlocal done
                done += count
                print(done, file=log)

            try:
                self.work.do(self.number, learnt)
                return DONE
            except ValueError as error:
                print(error, file=log)
                return MISTAKEN
            except OSError as error:
                print(written(error), file=log)
                return FAILED
            except Exception as error:
                if is_out_of_memory(error):
                    print(TOO_LARGE, file=log)
                    return FAILED
                traceback.print_exc(file=log)
                return CRASHED


def compute_all(work: Work, backend: Backend | None, learnt: Callable[[int], None]) -> None:
    """Computes all missing chunks; each one done stays done if the sweep is interrupted.

    Args:
        work: the sweep and its missing chunks.
        backend: computes them; with None all is computed in this process.
        learnt: called with the number of updates, summed over students, since its last call.

    Raises:
        ValueError: no world can be made with these settings.
        OSError: a chunk cannot be written.
        WorkerError: nor can a worker's, or a worker died; says why.
    """
    if backend is None:
        torch.set_num_threads(1)
        for number in work.missing:
            work.do(number, learnt)
        return
    logs = work.folder / LOGS
    shutil.rmtree(logs, ignore_errors=True)  # of a sweep that was killed
    logs.mkdir()
    work = replace(work, folder=work.folder.absolute())
    jobs = {job.name: job for job in (ChunkJob(work, number) for number in work.missing)}
    waiting, told, done = deque(jobs.values()), 0, 0
    try:
        while waiting or backend.busy:
            if waiting and backend.free > 0:
                first = [waiting.popleft() for _ in range(min(backend.free, len(waiting)))]
                backend.start(first)
            for name, code in backend.wait(PATIENCE):
                job = jobs.pop(name)
                if code == MISTAKEN:
                    raise ValueError(last_line(job.log))
                if code != DONE:
                    why = f"signal {-code}" if code < 0 else last_line(job.log)
                    raise WorkerError(f"{name} failed: {why}" if code != FAILED else why)
                done += job.updates
            now = done + sum(_progress(job.log) for job in jobs.values())
            learnt(now - told)
            told = now
    except BaseException:
        backend.stop()
        raise
    shutil.rmtree(logs, ignore_errors=True)


def _progress(log: Path) -> int:
    said = last_line(log)
    return int(said) if said.isdecimal() else 0
