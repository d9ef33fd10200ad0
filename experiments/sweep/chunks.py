"""Trains the students of a sweep chunk by chunk, in several processes.

A chunk is some worlds with all their students: one process trains it at once, and writes it at
once.  Chunks are independent of each other.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from multiprocessing.connection import wait
from multiprocessing.queues import SimpleQueue
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from threading import Thread

import torch
from torch import Tensor

from agents.runtime.random import derived_seed
from agents.tabular import (
    GateGroup,
    Lesson,
    Practice,
    Students,
    TeacherAdvantage,
    exact_signal,
)
from configs.programs import WHERE, SweepConfig, parse_gate
from envs.base import is_out_of_memory
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
    signal = (
        partial(exact_signal, students)
        if config.gradients == "exact"
        else Practice(students, config.practice, streams, seed).signal
    )
    taught = len(teachers) * len(worlds)
    gated = [
        GateGroup(taught, parse_gate(gate), TeacherAdvantage() if gate.endswith(WHERE) else None)
        for gate in config.gates
    ]
    return Lesson(students, [GateGroup(len(worlds), None), *gated], signal, config.rate)


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
    returns = [evaluate(worlds, policy, discount).expected_return for policy in teachers]
    levels = {
        "teacher": torch.stack(returns),
        "optimum": optimum,
        "random": idle.expected_return,
        "cells": live.sum(1),
        "aliased": alike.sum(1),
    }
    return {name: level.cpu() for name, level in levels.items()}


TOO_LARGE = "Memory is too small for so many students at once: use a smaller --chunk or --workers."
PATIENCE = 0.2
"""Seconds between two checks of the workers."""


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
    return config.workers or len(os.sched_getaffinity(0))


class WorkerError(RuntimeError):
    """A worker process died, or could not write, before it was done with its chunk."""


def written(error: OSError) -> str:
    """What could not be written, in one sentence."""
    reason = error.strerror or error
    return f"{error.filename or 'A file'} cannot be written ({reason})."


def compute_all(work: Work, workers: int, learnt: Callable[[int], None]) -> None:
    """Computes all missing chunks; each one done stays done if the sweep is interrupted.

    Args:
        work: the sweep and its missing chunks.
        workers: number of processes; with 1 all is computed in this process.
        learnt: called with the number of updates, summed over students, since its last call.

    Raises:
        ValueError: no world can be made with these settings.
        OSError: a chunk cannot be written.
        WorkerError: nor can a worker's, or a worker died; its own output says why.
    """
    if min(workers, len(work.missing)) <= 1:
        torch.set_num_threads(1)
        for number in work.missing:
            work.do(number, learnt)
        return
    context = multiprocessing.get_context("spawn")
    # Signed, of 64 bits.
    taken, done = context.Value("q", 0), context.Value("q", 0)
    complaints = context.SimpleQueue()
    team = [
        context.Process(target=_labour, args=(work, taken, done, complaints), daemon=True)
        for _ in range(min(workers, len(work.missing)))
    ]
    try:
        for process in team:
            process.start()
        told = 0
        while any(process.is_alive() for process in team):
            wait([process.sentinel for process in team if process.is_alive()], PATIENCE)
            now = done.value
            learnt(now - told)
            told = now
            if not complaints.empty():
                raise complaints.get()
            if any(process.exitcode for process in team):
                raise WorkerError("A worker died; see above.")
    finally:
        for process in team:
            process.terminate()


def _labour(
    work: Work,
    taken: "Synchronized[int]",
    done: "Synchronized[int]",
    complaints: "SimpleQueue[Exception]",
) -> None:
    # The parent handles interrupts; without a parent the worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(1)

    def learnt(count: int) -> None:
        with done.get_lock():
            done.value += count

    while True:
        with taken.get_lock():
            place = taken.value
            taken.value += 1
        if place >= len(work.missing):
            return
        try:
            work.do(work.missing[place], learnt)
        except ValueError as error:
            complaints.put(ValueError(str(error)))
            return
        except OSError as error:
            complaints.put(WorkerError(written(error)))
            return
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            complaints.put(WorkerError(TOO_LARGE))
            return


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    wait([parent.sentinel])
    os._exit(1)
