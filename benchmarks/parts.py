"""A part of a run, alone in its process: the environments, or environments and acting.

`env` sends random actions, `act` those of the untrained agent; nothing is learnt.  One
line of the table per unroll, so that it reads like a run's log.  `throughput.py` starts
this; by hand, with the flags of `train.py` after `--`:

    python -m benchmarks.parts --part act --output act.csv --steps 12288 -- --env Breakout
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from configs.cli import parse
from configs.parsing import read_or_exit
from experiments.results import split_flags
from experiments.training.session import Session
from experiments.training.trainer import set_up

Part = Literal["env", "act"]


@dataclass(frozen=True)
class Options:
    """Which part, and how long."""

    part: Part
    """env: the environments alone; act: the agent's actions as well."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")]
    """The CSV file to write: steps and seconds."""
    steps: int = 12_288
    """Agent steps."""


def random_player(session: Session, unroll_length: int, seed: int) -> Callable[[], None]:
    """Makes a function that plays one unroll of random actions in every environment."""
    env = session.env
    generator = torch.Generator(env.device).manual_seed(seed)
    shape = (unroll_length, env.spec.num_envs)

    def play() -> None:
        # At once, so that drawing them takes no time to speak of.
        actions = torch.randint(env.spec.num_actions, shape, generator=generator, device=env.device)
        for action in actions:
            env.step(action)

    return play


def agent_player(session: Session) -> Callable[[], None]:
    """Makes a function that collects one trajectory."""

    def play() -> None:
        session.collector.collect()

    return play


def run(options: Options, flags: Sequence[str]) -> None:
    """Plays until the steps are done, and writes when each unroll ended."""
    config = parse(flags)
    session, _ = set_up(config)
    # As `Session.update` has it while environments play.
    torch.set_num_threads(1)
    length, per_unroll = config.run.unroll_length, config.run.unroll_length * config.run.num_envs
    players = {
        "env": lambda: random_player(session, length, config.run.seed),
        "act": lambda: agent_player(session),
    }
    play = players[options.part]()
    lines = ["step,seconds"]
    began, step = time.perf_counter(), 0
    while step < options.steps:
        play()
        step += per_unroll
        lines.append(f"{step},{time.perf_counter() - began:.6f}")
    Path(options.output).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    own, flags = split_flags(sys.argv[1:])
    run(read_or_exit(Options, own, "parts.py", __doc__), flags)
