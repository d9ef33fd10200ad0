"""A chunk: some worlds with all their students, learnt apart from all others.

It is what one process does at once, and what is written at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from jaxtyping import Float32, Float64, Int64
from torch import Tensor

from agents.runtime.random import derived_seed
from agents.tabular import Arm, Lesson, Practice, Students, exact_signal
from configs.sweep import SweepConfig, parse_gate
from experiments.sweep.arms import arms, pairs, teacher_policies, teachings
from gridworld import NUM_ACTIONS, Worlds, evaluate, optimal_values

CHUNK = {"cpu": 1_000, "cuda": 40_000}
"""Students at once: what fits the cache of a CPU, or keeps a GPU busy."""


@dataclass(frozen=True)
class Chunk:
    """The results of R rows, a row being a world with one set of random numbers."""

    expected_return: Float64[Tensor, "points K R"]
    """Of each arm, exact."""
    cosine: Float32[Tensor, "intervals K R"]
    """Between main and auxiliary gradients, averaged between points; 0 without a teacher."""
    weight: Float32[Tensor, "intervals K R"]
    """That the gate gave the auxiliary gradient."""
    teacher: Float64[Tensor, "teachings R"]
    """What each teacher earns in the student's world."""
    optimum: Float64[Tensor, " R"]
    random: Float64[Tensor, " R"]
    """What the uniform policy earns."""
    cells: Int64[Tensor, " R"]
    """On which one can come to act."""
    aliased: Int64[Tensor, " R"]
    """Of these, cells that look like another of them."""


def rows_per_chunk(config: SweepConfig) -> int:
    """How many rows learn at once, in a settled sweep."""
    return max(1, config.chunk // len(arms(config)))


def num_chunks(config: SweepConfig) -> int:
    """Into how many chunks a settled sweep falls."""
    return -(-config.num_worlds * config.seeds // rows_per_chunk(config))


def compute(
    config: SweepConfig, number: int, device: torch.device, learnt: Callable[[int], None]
) -> Chunk:
    """Teaches the students of one chunk.

    Args:
        config: the sweep's.
        number: of the chunk.
        device: to compute on.
        learnt: is told how many updates of how many students, together, are done since the
            last call.
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

    def by_arm(values: list[Tensor]) -> Tensor:
        return torch.stack(values).view(len(values), -1, len(rows)).cpu()

    return Chunk(
        expected_return=by_arm(returns),
        cosine=by_arm(cosines),
        weight=by_arm(weights),
        **_levels(after, teachers),
    )


def _begin(config: SweepConfig, worlds: Worlds, teachers: list[Tensor], seed: int) -> Lesson:
    """Seats the students, arm by arm: all rows of the first arm, all of the second, ..."""
    numbers = torch.arange(len(worlds), device=worlds.device)
    known = dict(zip(teachings(config), teachers, strict=True))
    everyone = arms(config)
    students = Students.fresh(
        worlds,
        numbers.repeat(len(everyone)),
        # Main-only students have no teacher; any will do, since nothing is made of it.
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
    judged = [Arm(taught, parse_gate(gate)) for gate in config.gates]
    return Lesson(students, [Arm(len(worlds), None), *judged], signal, config.rate)


def _levels(worlds: Worlds, teachers: list[Tensor]) -> dict[str, Tensor]:
    """What to compare the students of each row with."""
    discount = worlds.config.discount
    uniform = torch.full_like(teachers[0], 1 / NUM_ACTIONS)
    idle = evaluate(worlds, uniform, discount)
    # A walk at random comes wherever one can come.
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
