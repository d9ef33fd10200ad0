"""How well cosines at the features agree with those at the parameters (`--gate.at`).

    python benchmarks/fidelity.py --output benchmarks/results/fidelity.csv

Runs train as usual, through `cosine` at the parameters.  Before each update a second learner with
the same weights sees the same trajectory and weighs at the features.  One line per head and tenth
of a run, and one for the whole run: how often the two cosines have the same sign, their
correlation over the updates, and the mean of each.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Float

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configs.cli import parse
from experiments.results import header, options_of, publish
from experiments.training.build import build
from experiments.training.hardware import choose_hardware

RUNS = {
    "Catch": ("inverse", "multi_horizon", "termination"),
    "Gridworld": ("distill", "inverse", "multi_horizon", "termination"),
}
"""Heads by environment."""
COLUMNS = "env,head,part,updates,same_sign,correlation,cosine_parameters,cosine_features"
WHOLE = "whole run"
PARTS = 10


@dataclass(frozen=True)
class Options:
    """What to train, and where the table goes."""

    envs: tuple[str, ...] = tuple(RUNS)
    """Of Catch and Gridworld."""
    steps: int = 200_000
    """Agent steps of each run."""
    seed: int = 1
    """Of the runs."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A CSV file to write; empty: print only."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"--steps must be at least 1, not {self.steps}.")
        unknown = [env for env in self.envs if env not in RUNS]
        if unknown:
            raise ValueError(f"--envs must be among {' '.join(RUNS)}, not {unknown[0]}.")


def cosines(env: str, options: Options) -> dict[str, Float[np.ndarray, "updates 2"]]:
    """Trains once.

    Args:
        env: the environment's name.
        options: how long, with which seed.

    Returns:
        The cosines of every head at each update, at the parameters and at the features.
    """
    flags = ["--env", env, "--steps", str(options.steps), "--seed", str(options.seed)]
    flags += ["--aux", *RUNS[env], "--gate", "cosine", "--device", "cpu", "--threads", "1"]
    configs = [parse([*flags, "--gate.at", at]) for at in ("parameters", "features")]
    hardware = choose_hardware("cpu", configs[0].run.precision, 1)
    trained, other = (build(config, hardware) for config in configs)
    found: dict[str, list[list[float]]] = {head: [] for head in RUNS[env]}
    try:
        while trained.learner.steps < options.steps:
            trajectory = trained.collector.collect()
            other.learner.load_state_dict(trained.learner.state_dict())
            both = [each.learner.update(trajectory) for each in (trained, other)]
            for head, pairs in found.items():
                pairs.append([float(metrics[f"{head}/cosine"]) for metrics in both])
    finally:
        trained.close()
        other.close()
    return {head: np.array(pairs) for head, pairs in found.items()}


def lines(env: str, found: dict[str, Float[np.ndarray, "updates 2"]]) -> Iterator[str]:
    """Rows of the table.

    Args:
        env: the environment's name.
        found: cosines by head.
    """
    for head, pairs in found.items():
        parts = {WHOLE: pairs}
        parts |= {
            f"tenth {number}": part for number, part in enumerate(np.array_split(pairs, PARTS), 1)
        }
        for name, part in parts.items():
            if len(part) < 2:
                continue
            same = np.mean(np.sign(part[:, 0]) == np.sign(part[:, 1]))
            with np.errstate(invalid="ignore"):
                correlation = np.corrcoef(part.T)[0, 1]
            numbers = [same, correlation, *part.mean(0)]
            cells = [f"{number:.3f}" for number in numbers]
            yield ",".join([env, head, name, str(len(part)), *cells])


def main(arguments: Sequence[str]) -> int:
    """Measures, prints and writes; returns the exit code."""
    options = options_of(Options, arguments, "fidelity.py", __doc__)
    rows = [line for env in options.envs for line in lines(env, cosines(env, options))]
    publish([*header("benchmarks/fidelity.py", arguments), COLUMNS, *rows], options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
