"""What worlds, steps and teachers of the gridworld cost: `python benchmarks/gridworlds.py`.

One line per measurement: seconds of the fastest round and how much was done per second.  On the
CPU with one thread it is the processor time of the process, so that others' work on the machine
counts by the caches that they share, and not more; else it is time on the wall.  `step` plays
random actions, looks at symbols and restarts in a random world of the pool; its randomness is
drawn one unroll at a time and counted.  `step, no chance` is the same in worlds without action
noise, in episodes of 100 steps.  `optimum` is the mean exact return of policies (of a teacher,
greedy) over that of the best ones.  `renew` puts freshly generated worlds into a pool in place
of others, as between two updates.

    python benchmarks/gridworlds.py --num-envs 1024 8192 --view-radius 2
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from experiments.results import header, options_of, publish
from gridworld import (
    NUM_ACTIONS,
    QLearningConfig,
    WorldConfig,
    Worlds,
    draw_chance,
    draw_worlds,
    evaluate,
    generate,
    optimal_values,
    q_learning,
    restart,
    softmax_policy,
    step,
    symbols,
)

UNIFORM = "evaluate a uniform policy"
COLUMNS = "measured,size,seconds,per_second,optimum"


@dataclass(frozen=True)
class Options:
    """What to measure."""

    num_envs: tuple[int, ...] = (1024, 8192, 65536)
    """Environments stepped together."""
    pool: int = 4096
    """Worlds they restart in."""
    view_radius: int = 2
    """Of the symbols that are looked at."""
    unroll_length: int = 8
    """Steps between draws of random numbers."""
    worlds: int = 1000
    """Worlds generated, solved, and taught in."""
    renewed: int = 64
    """How many of them are replaced at once."""
    learning_steps: int = QLearningConfig.steps
    """Agent steps of Q-learning; 0: it is left out."""
    rounds: int = 5
    """Measurements of each, twenty times as many of steps; Q-learning is measured once."""
    device: str = "cpu"
    """Where the worlds are."""
    threads: int = 1
    """That PyTorch computes with."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A CSV file to write; empty: print only."""

    def __post_init__(self) -> None:
        counts = (*self.num_envs, self.pool, self.unroll_length, self.worlds, self.rounds)
        if min(*counts, self.threads) < 1:
            raise ValueError("All numbers but --learning-steps must be at least 1.")
        if not 1 <= self.renewed <= self.worlds:
            raise ValueError(
                f"--renewed must be from 1 to --worlds {self.worlds}, not {self.renewed}."
            )


@dataclass(frozen=True)
class Line:
    """One measurement."""

    measured: str
    size: int
    """Worlds, policies or environments."""
    seconds: float
    done: int
    """How many of what counts: worlds, policies, agent steps."""
    optimum: float | None = None

    def __str__(self) -> str:
        optimum = "" if self.optimum is None else f"{self.optimum:.4f}"
        rate = self.done / self.seconds
        return f'"{self.measured}",{self.size},{self.seconds:.6f},{rate:.0f},{optimum}'


def fastest(work: Callable[[], object], options: Options, rounds: int) -> float:
    """Seconds of the fastest of several rounds."""
    alone = options.device == "cpu" and options.threads == 1
    clock = time.process_time if alone else time.perf_counter
    seconds = []
    for _ in range(rounds):
        start = clock()
        work()
        if options.device != "cpu":
            torch.cuda.synchronize()
        seconds.append(clock() - start)
    return min(seconds)


def player(worlds: Worlds, num_envs: int, options: Options) -> Callable[[], None]:
    """Makes a function that plays one unroll of random actions."""
    generator = torch.Generator(worlds.device).manual_seed(0)
    shape = (options.unroll_length, num_envs)
    view = worlds.config.view_size
    seen = torch.empty((*shape, view, view), dtype=torch.uint8, device=worlds.device)
    state = worlds.start[draw_worlds(worlds, (num_envs,), generator)]
    clock = torch.zeros_like(state)

    def play() -> None:
        nonlocal state, clock
        action = torch.randint(NUM_ACTIONS, shape, generator=generator, device=worlds.device)
        chance = draw_chance(worlds.config, shape, generator)
        fresh = draw_worlds(worlds, shape, generator)
        for t in range(options.unroll_length):
            after = step(worlds, state, clock, action[t], chance[t])
            ended = after.terminated | after.truncated
            state, clock = restart(worlds, after.state, after.time, ended, fresh[t])
            symbols(worlds, state, out=seen[t])

    return play


def stepping(options: Options) -> list[Line]:
    """Measures steps, with and without chance."""
    config = WorldConfig(view_radius=options.view_radius)
    calm = replace(config, action_noise=0.0, termination_probability=0.0, max_episode_steps=100)
    lines = []
    for name, family in (("step", config), ("step, no chance", calm)):
        worlds = generate(family, 1, range(options.pool), options.device)
        for num_envs in options.num_envs:
            seconds = fastest(player(worlds, num_envs, options), options, 20 * options.rounds)
            lines.append(Line(name, num_envs, seconds, options.unroll_length * num_envs))
    return lines


def solving(options: Options) -> list[Line]:
    """Measures generation, exact values, evaluation, Q-learning and the renewal of a pool."""
    config, count, rounds = WorldConfig(), options.worlds, options.rounds
    worlds = generate(config, 1, range(count), options.device)
    best = optimal_values(worlds, config.discount)
    mean_best = best.gather(1, worlds.start_cell[:, None]).mean()
    uniform = torch.full((count, config.cells, NUM_ACTIONS), 1 / NUM_ACTIONS, device=worlds.device)

    def optimum(policy: torch.Tensor) -> float:
        return float(evaluate(worlds, policy, config.discount).expected_return.mean() / mean_best)

    works: dict[str, Callable[[], object]] = {
        "generate": lambda: generate(config, 1, range(count), options.device),
        "optimal values": lambda: optimal_values(worlds, config.discount),
        UNIFORM: lambda: evaluate(worlds, uniform, config.discount),
    }
    known = {UNIFORM: optimum(uniform)}
    lines = [
        Line(name, count, fastest(work, options, rounds), count, known.get(name))
        for name, work in works.items()
    ]
    if options.learning_steps:
        learning = QLearningConfig(steps=options.learning_steps)
        generator = torch.Generator(worlds.device).manual_seed(0)
        tables: list[torch.Tensor] = []
        seconds = fastest(
            lambda: tables.append(q_learning(worlds, learning, generator)), options, rounds=1
        )
        done = count * learning.agents * learning.steps
        value = optimum(softmax_policy(tables[0], 0.0))
        lines.append(Line("Q-learning", count, seconds, done, value))
    fresh = range(count, count + options.renewed)
    seconds = fastest(
        lambda: worlds.overwrite(0, generate(config, 1, fresh, options.device)), options, rounds
    )
    return [*lines, Line("renew", options.renewed, seconds, options.renewed)]


def main(arguments: Sequence[str]) -> None:
    """Measures and prints the table."""
    options = options_of(Options, arguments, "gridworlds.py", __doc__)
    torch.set_num_threads(options.threads)
    lines = [*solving(options), *stepping(options)]
    remark = f"threads: {options.threads}, device: {options.device}"
    head = header("benchmarks/gridworlds.py", arguments, [remark])
    publish([*head, COLUMNS, *map(str, lines)], options.output)


if __name__ == "__main__":
    main(sys.argv[1:])
