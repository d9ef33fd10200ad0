"""The cost of an update with each auxiliary head, added up and gated, next to the main loss alone.

    python benchmarks/updates.py --env Breakout
    python benchmarks/updates.py --env Gridworld --heads distill spr -- --core gru

Flags of `train.py` follow after `--`; the gate "cosine at features" weighs at the features.  One
line per head and gate: milliseconds of one update of the learner (preparing targets is included,
playing is not), the median of the rounds; its ratio to the main loss alone, and to the same head
under `sum`; the memory that the head holds from one update to the next besides its parameters.
Arms take turns.  On the CPU with one thread the time is processor time, which other load on the
machine hardly changes; else it is wall-clock time.  Heads that do not fit the environment are left
out with a message.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import tyro

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.heads import AuxiliaryHead
from configs.choice import names
from configs.cli import parse
from configs.errors import UsageError
from configs.parsing import read
from experiments.results import header, publish, split_flags
from experiments.training.build import build
from experiments.training.hardware import choose_hardware, keep_freed_memory

MAIN = "none"
COLUMNS = "env,head,gate,milliseconds,ratio_to_main,ratio_to_sum,held_mebibytes"


@dataclass(frozen=True)
class Options:
    """What to measure: every head with every gate."""

    env: str = "Breakout"
    """Passed on to train.py."""
    heads: tuple[str, ...] = names("aux")
    """Which of them; the main loss alone is always there."""
    gates: tuple[str, ...] = ("sum", "cosine")
    """`sum` is always among them; "cosine at features" for --gate.at features."""
    rounds: int = 5
    """Measurements of each."""
    updates: int = 2
    """Of one measurement, after one that does not count."""
    threads: int = 1
    """That PyTorch learns with."""
    keep_memory: bool = True
    """Keep freed memory for the next update, as train.py does."""
    device: str = "auto"
    """Passed on to train.py."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A CSV file to write; empty: print only."""

    def __post_init__(self) -> None:
        for name in ("rounds", "updates", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, not {getattr(self, name)}.")


def without_heads(flags: Sequence[str]) -> list[str]:
    """Drops the flags of heads and gates, with their values."""
    kept: list[str] = []
    keeps = True
    for word in flags:
        if word.startswith("--"):
            keeps = not word.startswith(("--aux.", "--gate.", "--teacher"))
        if keeps:
            kept.append(word)
    return kept


@dataclass(frozen=True)
class UpdateArm:
    """One line of the table."""

    head: str
    gate: str = ""

    def flags(self, options: Options, extra: Sequence[str]) -> list[str]:
        """The command line of `train.py`."""
        flags = ["--env", options.env, "--device", options.device]
        flags += ["--threads", str(options.threads), "--aux", self.head]
        if self.head == MAIN:
            return [*flags, *without_heads(extra)]
        gate, _, place = self.gate.partition(" at ")
        at = ["--gate.at", place] if place else []
        return [*flags, "--gate", gate, *at, *extra]


@dataclass(frozen=True)
class Cost:
    """Of one measurement."""

    milliseconds: float
    held_mebibytes: float


def arms(options: Options) -> list[UpdateArm]:
    """The main loss alone, then head by head, `sum` first."""
    gates = dict.fromkeys(["sum", *options.gates])
    return [UpdateArm(MAIN), *(UpdateArm(head, gate) for head in options.heads for gate in gates)]


def measure(arm: UpdateArm, options: Options, extra: Sequence[str]) -> Cost:
    """Times some updates of a new learner.

    Raises:
        UsageError: `train.py` would refuse the arm.
    """
    config = parse(arm.flags(options, extra))
    hardware = choose_hardware(options.device, config.run.precision, options.threads)
    session = build(config, hardware)
    try:
        on_cpu = hardware.device.type == "cpu"
        clock = time.process_time if on_cpu and options.threads == 1 else time.perf_counter
        # Two trajectories, so that replay has something to offer.
        trajectories = [session.collector.collect() for _ in range(2)]
        torch.set_num_threads(options.threads)
        spent = 0.0
        for number in range(1 + options.updates):
            start = clock()
            session.learner.update(trajectories[number % 2])
            if not on_cpu:
                torch.cuda.synchronize(hardware.device)
            spent += clock() - start if number > 0 else 0.0
        heads = session.learner.heads.values()
        held = sum(head.held_bytes for head in heads if isinstance(head, AuxiliaryHead))
        return Cost(1e3 * spent / options.updates, held / 2**20)
    finally:
        session.close()


def report(options: Options, results: dict[UpdateArm, list[Cost]]) -> list[str]:
    """The table."""
    spent = {arm: median(cost.milliseconds for cost in costs) for arm, costs in results.items()}
    lines = [COLUMNS]
    for arm, costs in results.items():
        # train.py may refuse a head with one gate and take it with another.
        added_up = spent.get(UpdateArm(arm.head, "sum")) if arm.gate else spent[arm]
        cells = [
            options.env,
            arm.head,
            arm.gate,
            f"{spent[arm]:.1f}",
            f"{spent[arm] / spent[UpdateArm(MAIN)]:.2f}",
            "" if added_up is None else f"{spent[arm] / added_up:.2f}",
            f"{costs[0].held_mebibytes:.1f}",
        ]
        lines.append(",".join(cells))
    return lines


def main(arguments: Sequence[str]) -> int:
    """Measures all arms in turn and prints the table; returns the exit code."""
    own, extra = split_flags(arguments)
    try:
        options = read(Options, own, "updates.py", __doc__)
        if options.keep_memory:
            keep_freed_memory()
        results: dict[UpdateArm, list[Cost]] = {arm: [] for arm in arms(options)}
        measure(UpdateArm(MAIN), options, extra)
        for _ in range(options.rounds):
            for arm in list(results):
                try:
                    results[arm].append(measure(arm, options, extra))
                except UsageError as error:
                    del results[arm]
                    print(f"left out: {error}", file=sys.stderr)
    except ValueError as error:
        print(f"updates.py: {error}", file=sys.stderr)
        return 2
    publish(
        [*header("benchmarks/updates.py", arguments), *report(options, results)], options.output
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
