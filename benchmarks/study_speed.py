"""Speeds of single runs, for the estimates of `study.py`: `python benchmarks/study_speed.py`.

Agent steps per second of processor time of a run with one thread, after the first updates: what
one run of a study does on one core that nothing else needs.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated

import tyro

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configs.cli import parse
from experiments.results import header, options_of, publish
from experiments.running.watch import kind
from experiments.training.trainer import set_up

COLUMNS = "family,env,aux,gate,algo,torso,core,steps_per_second"
ARMS = tuple(
    f"--env {env} {heads}".strip()
    for env in ("Catch", "Gridworld", "Breakout", "CartPole-v1")
    for heads in ("", "--aux inverse --gate sum", "--aux inverse --gate cosine")
)
COMMON = "--device cpu --precision fp32 --threads 1"
WARM_UP = 10
"""Updates that do not count."""


@dataclass(frozen=True)
class Options:
    """How long to measure, and where the result goes."""

    seconds: float = 10.0
    """Of processor time, for each run."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A CSV file to write; empty: print only."""


def rows(seconds: float) -> Iterator[str]:
    """Measures each arm; yields rows of the table."""
    for arm in ARMS:
        pool = " --env.num-threads 1" if "Breakout" in arm else ""
        config = parse(f"{arm} {COMMON}{pool}".split())
        session, _ = set_up(config)
        for _ in islice(iter(session.update, None), WARM_UP):
            pass
        began, step = time.process_time(), session.learner.steps
        while time.process_time() - began < seconds:
            session.update()
        speed = (session.learner.steps - step) / (time.process_time() - began)
        session.close()
        yield ",".join([*kind(config), f"{speed:.0f}"])


def main() -> None:
    """Measures, prints and writes."""
    options = options_of(Options, sys.argv[1:], "study_speed.py", __doc__)
    lines = [*header("benchmarks/study_speed.py", sys.argv[1:]), COLUMNS]
    publish([*lines, *rows(options.seconds)], options.output)


if __name__ == "__main__":
    main()
