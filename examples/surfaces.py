"""Paths of every gate on small loss surfaces: a figure for each, a panel for each gate.

line         (theta - 10)^2, helped by theta^2 (Du et al., Figure 1)

helpful      a long valley, and an auxiliary bowl with the same minimum

conflicting  a bowl, and an auxiliary that pushes away from its minimum

rotating     a bowl, and a field that turns around another point: not the gradient of a loss

circle       a ring, and an auxiliary that tells which of its points is best (Tran-Thien)

The formulas of helpful, conflicting and rotating are ours; random starts, 600 steps of 0.01 and
convergence at a main loss below 0.1 are Du et al.'s.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from jaxtyping import Float
from torch import Tensor

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.gates import AttittudConfig, Gate
from examples.arms import MAIN, arms
from examples.figures import draw_paths
from examples.report import Row, Verdict, folder_of, positive, publish, run
from examples.scenes import SCENES, Points, Scene, landscape
from experiments.results import options_of

ENOUGH = 0.1
SINGLE_SAMPLE = AttittudConfig(rank=1, refresh=1)
"""A surface is a single sample: the subspace of the main task is its gradient itself."""
TITLES = (
    "{}: theta by step; dotted: the minimum of the main loss",
    "{}: auxiliary agrees (green) or conflicts (red) with the main loss (contours); + solution, "
    "* ends of paths",
)


@dataclass(frozen=True)
class Options:
    """How many paths, how long, and where they are drawn."""

    starts: int = 16
    """Random starting points on each surface, beside those of the papers."""
    steps: int | None = None
    """Of every path; none: 600, and 1,500 on the circle."""
    seed: int = 0
    """Of the starting points."""
    output: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs/examples"
    """For surfaces.csv and the figures."""

    def __post_init__(self) -> None:
        if self.starts < 1 or (self.steps is not None and self.steps < 1):
            raise ValueError("--starts and --steps must be at least 1.")


def descend(scene: Scene, gate: Gate | None, starts: Points, steps: int) -> Float[Tensor, "N S D"]:
    """Returns the paths from all starts, which are followed at once."""
    points = starts.clone().requires_grad_()
    kind = torch.optim.Adam if scene.adam else torch.optim.SGD
    optimizer = kind([points], lr=0.01)
    path = [starts]
    for _ in range(steps):
        value, points.grad = scene.main(points)
        if gate is not None:
            auxiliary_value, auxiliary = scene.auxiliary(points.detach())
            rows = torch.stack([points.grad, auxiliary], dim=1)  # [S, L, D]
            losses = torch.stack([value, auxiliary_value], dim=1)
            samples = rows[:, :1] if gate.sample_rows > 0 else None
            points.grad = gate.combine(rows, losses, samples=samples)
        optimizer.step()
        path.append(points.detach().clone())
    return torch.stack(path)


def measure(name: str, gate: str, path: Float[Tensor, "N S D"]) -> list[Row]:
    """One row of the table for each start."""
    losses = SCENES[name].main(path.flatten(0, 1))[0].view(path.shape[:2])
    distance = (path[-1] - path.new_tensor(SCENES[name].goal)).norm(dim=-1)
    reached = losses < ENOUGH
    # The first step below; all of them where there is none.
    steps = torch.where(reached.any(0), reached.int().argmax(0), len(path) - 1)
    table = zip(
        path[0].tolist(), losses[-1].tolist(), distance.tolist(), steps.tolist(), strict=True
    )
    return [
        {"surface": name, "gate": gate, "start": " ".join(f"{x:.3f}" for x in start)}
        | {"main_loss": f"{loss:.4g}", "distance": f"{away:.4g}", "steps": count}
        for start, loss, away, count in table
    ]


def judge(rows: Sequence[Row]) -> list[Verdict]:
    """What the papers' figures claim, start by start."""

    def column(name: str, surface: str, gate: str) -> Float[np.ndarray, " S"]:
        found = [row[name] for row in rows if (row["surface"], row["gate"]) == (surface, gate)]
        return np.array(found, dtype=float)

    def converges(surface: str) -> Verdict:
        arrived = {gate: column("main_loss", surface, gate) < ENOUGH for gate in ("sum", "cosine")}
        return positive(
            f"{surface}: cosine converges from more starts than sum (Du et al.)",
            arrived["cosine"].astype(float) - arrived["sum"],
            f"Cosine from {arrived['cosine'].mean():.0%} of them, sum from "
            f"{arrived['sum'].mean():.0%}; difference",
        )

    def nearer(surface: str, gate: str, other: str, paper: str) -> Verdict:
        near, far = column("distance", surface, gate), column("distance", surface, other)
        return positive(
            f"{surface}: {gate} ends nearer to the solution than {other} ({paper})",
            far - near,
            f"{gate.capitalize()} ends at most {near.max():.2g} away, {other} up to "
            f"{far.max():.2g}; difference",
        )

    return [
        nearer("line", "cosine", "sum", "Du et al."),
        positive(
            "helpful: cosine arrives sooner than main-only learning (Du et al.)",
            column("steps", "helpful", MAIN) - column("steps", "helpful", "cosine"),
            f"Steps to a main loss of {ENOUGH} that it saves",
        ),
        converges("conflicting"),
        converges("rotating"),
        nearer("circle", "projection", "sum", "Tran-Thien"),
        nearer("circle", "projection", "cosine", "Tran-Thien"),
    ]


def work(options: Options, arguments: Sequence[str]) -> None:
    """Follows all paths, and says what came out."""
    folder = folder_of(options.output)
    makers = arms(SINGLE_SAMPLE)
    rows, figures = [], {}
    for name, scene in SCENES.items():
        generator = torch.Generator().manual_seed(options.seed)
        shape = (options.starts, len(scene.goal))
        drawn = torch.rand(shape, generator=generator, dtype=torch.float64) * 2 - 1
        starts = torch.cat([drawn.new_tensor(scene.starts).view(-1, shape[1]), scene.reach * drawn])
        paths = {
            gate: descend(scene, build and build(), starts, options.steps or scene.steps)
            for gate, build in makers.items()
        }
        rows += [row for gate, path in paths.items() for row in measure(name, gate, path)]
        drawings = {gate: path.numpy() for gate, path in paths.items()}
        title = TITLES[len(scene.goal) - 1].format(name)
        figures[f"surfaces_{name}"] = draw_paths(title, drawings, scene.goal, landscape(scene))
    publish(folder, "surfaces", ["surfaces.py", *arguments], rows, figures, judge(rows))


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = options_of(Options, arguments, "surfaces.py", __doc__)
    return run("surfaces.py", lambda: work(options, arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
