"""What a second backward pass costs, and whether two can share work: `python benchmarks/passes.py`.

Two losses of the features of one network, so that a gate can have the gradient of each.
Milliseconds of processor time, on one thread, the median of the rounds, and the ratio to `summed`:

forward    the network and both losses
summed     forward, and one backward pass of the sum: what `--gate sum` does
two        forward, and one backward pass per loss: what a gate needs
batched    forward, and one backward pass of both losses at once (vmap)
floor      computed: forward + 2 (summed - forward), if no work is shared
"""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import torch
import tyro
from torch import Tensor

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.networks.torsos import Torsos
from configs.parsing import read_or_exit
from experiments.results import header, publish
from experiments.training.hardware import keep_freed_memory

COLUMNS = "precision,way,milliseconds,ratio"
PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    observations: int = 288
    """Images in a batch: 32 environments, 8 steps and the last observation."""
    rounds: int = 5
    """Measurements of each way, after one that does not count."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A CSV file to write; empty: print only."""

    def __post_init__(self) -> None:
        for name in ("observations", "rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, not {getattr(self, name)}.")


def ways(observations: int, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """Returns what is timed, by name; all of them on the same network and images."""
    generator = torch.Generator().manual_seed(0)
    shape = (4, 84, 84)
    torso = Torsos().nature.build(shape)
    images = torch.randint(256, (observations, *shape), generator=generator, dtype=torch.uint8)
    parameters = list(torso.parameters())

    def losses() -> list[Tensor]:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            features = torso(images).features
        halves = features.float().square().mean(0).split(features.shape[1] // 2)
        return [half.mean() for half in halves]

    def summed() -> None:
        torch.autograd.grad(sum(losses(), torch.zeros(())), parameters)

    def two() -> list[tuple[Tensor, ...]]:
        first, second = losses()
        rows = [torch.autograd.grad(first, parameters, retain_graph=True)]
        return [*rows, torch.autograd.grad(second, parameters)]

    def batched() -> tuple[Tensor, ...]:
        return torch.autograd.grad(
            torch.stack(losses()), parameters, torch.eye(2), is_grads_batched=True
        )

    return {"forward": losses, "summed": summed, "two": two, "batched": batched}


def measure(options: Options, dtype: torch.dtype) -> dict[str, float]:
    """Milliseconds of each way, which take turns."""
    timed = ways(options.observations, dtype)
    spent: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(options.rounds + 1):
        for name, way in timed.items():
            began = time.process_time()
            way()
            if number > 0:
                spent[name].append(1e3 * (time.process_time() - began))
    found = {name: median(each) for name, each in spent.items()}
    return found | {"floor": 2 * found["summed"] - found["forward"]}


def main(arguments: list[str]) -> int:
    """Measures and prints the table; returns the exit code."""
    options = read_or_exit(Options, arguments, "passes.py", __doc__)
    torch.set_num_threads(1)
    keep_freed_memory()  # as train.py does
    lines = [COLUMNS]
    for precision, dtype in PRECISIONS.items():
        found = measure(options, dtype)
        for name, spent in found.items():
            lines.append(f"{precision},{name},{spent:.1f},{spent / found['summed']:.2f}")
    publish([*header("benchmarks/passes.py", arguments), *lines], options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
