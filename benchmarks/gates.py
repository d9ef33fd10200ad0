"""The cost of each gate's judgement, without the backward passes: `python benchmarks/gates.py`.

One line per gate, number of losses and number of shared parameters: milliseconds of one judgement
on random gradients, the median of the rounds, and its ratio to `sum` with `measure`, which does
nothing but what all gates do (the Gram matrix, the sum of the rows).  Gates take turns, so that a
machine that slows down slows all of them.  On the CPU with one thread it is the processor time of
the process, which others' work on the machine hardly changes; else it is time on the wall.
`attittud` is measured between two of its refreshes and, as `attittud, refreshing`, at one.

    python benchmarks/gates.py --num-losses 2 5 --columns 1000 1700000
"""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import tyro

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.gates import Gates, make
from configs.parsing import read_or_exit
from experiments.results import header, publish
from experiments.training.hardware import keep_freed_memory

BASELINE = "sum"
REFRESHING = "attittud, refreshing"
ARMS = (*vars(Gates()), REFRESHING)
COLUMNS = "gate,losses,columns,milliseconds,ratio"


@dataclass(frozen=True)
class Options:
    """What to measure: every combination."""

    gates: tuple[str, ...] = ARMS
    """Which of them; `sum` is always among them."""
    num_losses: tuple[int, ...] = (2, 5)
    """The main loss and its auxiliaries."""
    columns: tuple[int, ...] = (1_000, 1_700_000)
    """Shared parameters; 1.7 million is the Nature network with its policy."""
    rounds: int = 5
    """Measurements of each combination."""
    seconds: float = 0.05
    """The least duration of a measurement; it is one judgement at least."""
    device: str = "cpu"
    """Where the gradients are."""
    threads: int = 1
    """That PyTorch computes with."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A CSV file to write; empty: print only."""

    def __post_init__(self) -> None:
        for gate in self.gates:
            if gate not in ARMS:
                raise ValueError(f"--gates {gate!r} is unknown: choose from {', '.join(ARMS)}.")
        if min(self.num_losses) < 2:
            raise ValueError(f"--num-losses must be at least 2, not {min(self.num_losses)}.")
        for name in ("rounds", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, not {getattr(self, name)}.")


@dataclass(frozen=True)
class Setting:
    """One line of the table."""

    gate: str
    num_losses: int
    columns: int


def judgement(setting: Setting, device: str) -> Callable[[], object]:
    """Makes gradients and a gate that has seen some; returns a function that judges again."""
    generator = torch.Generator(device).manual_seed(0)
    name = setting.gate.split(",")[0]
    gate = make(name, measure=True) if name == BASELINE else make(name)
    gate.to(device)

    def draw(num_rows: int) -> torch.Tensor:
        return torch.randn(num_rows, setting.columns, generator=generator, device=device)

    rows, losses = draw(setting.num_losses), torch.ones(setting.num_losses, device=device)
    samples = draw(gate.sample_rows) if gate.sample_rows > 0 else None
    slices = draw(gate.slices * len(rows)).view(-1, *rows.shape) if gate.slices > 0 else None
    gate.judge(rows, losses, samples=samples, slices=slices)
    later = samples if setting.gate == REFRESHING else None
    return lambda: gate.judge(rows, losses, samples=later, slices=slices)


def milliseconds(judge: Callable[[], object], options: Options) -> float:
    """Times at least `seconds` worth of judgements and returns the time of one."""
    alone = options.device == "cpu" and options.threads == 1
    clock = time.process_time if alone else time.perf_counter
    count, start = 0, clock()
    while True:
        judge()
        count += 1
        if options.device != "cpu":
            torch.cuda.synchronize(options.device)
        elapsed = clock() - start
        if elapsed >= options.seconds:
            return 1e3 * elapsed / count


def measure(options: Options) -> dict[Setting, float]:
    """Measures all gates in turn, round after round, one number of losses and columns at a time."""
    results: dict[Setting, float] = {}
    names = dict.fromkeys([BASELINE, *options.gates])
    for columns, num_losses in product(options.columns, options.num_losses):
        settings = [Setting(name, num_losses, columns) for name in names]
        times: dict[Setting, list[float]] = {setting: [] for setting in settings}
        for _ in range(options.rounds):
            for setting, runs in times.items():
                # Made anew each time: gradients of all gates at once would not fit.
                runs.append(milliseconds(judgement(setting, options.device), options))
        results |= {setting: median(runs) for setting, runs in times.items()}
    return results


def report(results: dict[Setting, float]) -> list[str]:
    """The table."""
    lines = [COLUMNS]
    for setting, spent in results.items():
        baseline = results[Setting(BASELINE, setting.num_losses, setting.columns)]
        name = f'"{setting.gate}"' if "," in setting.gate else setting.gate
        lines.append(
            f"{name},{setting.num_losses},{setting.columns},{spent:.4f},{spent / baseline:.2f}"
        )
    return lines


def main(arguments: Sequence[str]) -> int:
    """Measures and prints the table; returns the exit code."""
    options = read_or_exit(Options, arguments, "gates.py", __doc__)
    torch.set_num_threads(options.threads)
    keep_freed_memory()  # as train.py does
    lines = report(measure(options))
    publish([*header("benchmarks/gates.py", arguments), *lines], options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
