"""What every gate makes of two gradients in the plane: a panel for each gate.

The main gradient stays where it is, the auxiliary one turns once around; what comes out draws a
closed line.  Gates with memory judge each pair of gradients over and over, as if nothing changed.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import ceil, pi
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.gates import AttittudConfig, Gate
from examples.arms import MAIN, arms
from examples.report import Row, Verdict, folder_of, publish, run
from experiments.figures import colour, tidy
from experiments.results import options_of

COLUMNS = 6
MAIN_GRADIENT = (1.0, 0.0)
SHOWN = 130
"""Degrees: where the auxiliary gradient is drawn, and what becomes of the two there."""
SINGLE_SAMPLE = AttittudConfig(rank=1, refresh=1)
"""The subspace of the main task is its gradient itself."""
ROUNDING = 1e-9
MARGIN = 0.15
"""Of a panel."""


@dataclass(frozen=True)
class Options:
    """Which gradients, and where they are drawn."""

    length: float = 1.25
    """Of the auxiliary gradient; that of the main one is 1."""
    angles: int = 360
    """How many in a turn; a multiple of 36, so that 130 degrees is one of them."""
    judgements: int = 50
    """Of each pair, before the one that is drawn: what a gate remembers is then of this pair."""
    output: Annotated[str, tyro.conf.arg(metavar="DIR")] = "runs/examples"
    """For vectors.csv and vectors.png."""

    def __post_init__(self) -> None:
        if not self.length > 0:
            raise ValueError(f"--length must be above 0, not {self.length:g}.")
        if self.angles < 36 or self.angles % 36 != 0:
            raise ValueError(f"--angles must be a multiple of 36, not {self.angles}.")
        if self.judgements < 0:
            raise ValueError(f"--judgements must be 0 or more, not {self.judgements}.")


def pairs(options: Options) -> Float[Tensor, "S L D"]:
    """Main and auxiliary gradient for each angle between them, in equal steps from 0."""
    angle = torch.arange(options.angles, dtype=torch.float64) * 2 * pi / options.angles
    auxiliary = options.length * torch.stack([angle.cos(), angle.sin()], dim=-1)
    main = auxiliary.new_tensor(MAIN_GRADIENT).expand_as(auxiliary)
    return torch.stack([main, auxiliary], dim=1)


def directions(
    gate: Gate | None, rows: Float[Tensor, "S L D"], judgements: int
) -> Float[Tensor, "S D"]:
    """What a gate makes of all pairs at once, after it has judged them so many times."""
    if gate is None:
        return rows[:, 0]
    losses = torch.ones(rows.shape[:2], dtype=rows.dtype)
    samples = rows[:, :1] if gate.sample_rows > 0 else None
    for _ in range(judgements):
        gate.judge(rows, losses, samples=samples)
    return gate.combine(rows, losses, samples=samples)


def measure(gate: str, rows: Float[Tensor, "S L D"], found: Float[Tensor, "S D"]) -> list[Row]:
    """One row of the table for every tenth degree."""
    rows, found = (each[:: len(rows) // 36] for each in (rows, found))
    gains = (rows @ found.unsqueeze(-1)).squeeze(-1)  # [S, L]
    return [
        {
            "gate": gate,
            "degrees": 10 * number,
            "x": f"{x:.5f}",
            "y": f"{y:.5f}",
            "main_gain": f"{main:.5f}",
            "auxiliary_gain": f"{auxiliary:.5f}",
        }
        for number, ((x, y), (main, auxiliary)) in enumerate(
            zip(found.tolist(), gains.tolist(), strict=True)
        )
    ]


def judge(found: dict[str, Float[Tensor, "S D"]], rows: Float[Tensor, "S L D"]) -> list[Verdict]:
    """What the papers promise of a step along the direction, angle by angle."""
    gains = {gate: (rows @ each.unsqueeze(-1)).squeeze(-1).numpy() for gate, each in found.items()}
    alone = gains[MAIN][:, 0]

    def promise(gate: str, claim: str, margin: Float[np.ndarray, " S"]) -> Verdict:
        kept = margin >= -ROUNDING
        outcome = "shown" if kept.all() else "not shown"
        return Verdict(f"{gate}: {claim}", outcome, f"At {kept.mean():.0%} of all angles.")

    descend = "the main loss falls at least as fast as alone"
    both = "neither loss rises"
    return [
        promise("sum", f"{descend} (nobody)", gains["sum"][:, 0] - alone),
        promise("cosine", f"{descend} (Du et al., Prop. 1)", gains["cosine"][:, 0] - alone),
        promise("projection", f"{descend} (Tran-Thien)", gains["projection"][:, 0] - alone),
        promise("pcgrad", f"{both} (Yu et al., two losses)", gains["pcgrad"].min(-1)),
        promise("mgda", f"{both} (Sener and Koltun)", gains["mgda"].min(-1)),
        promise("upgrad", f"{both} (Quinton and Rey)", gains["upgrad"].min(-1)),
        promise("nash", f"{both} (Navon et al.)", gains["nash"].min(-1)),
    ]


def draw(found: dict[str, Float[Tensor, "S D"]], rows: Float[Tensor, "S L D"]) -> Figure:
    """Draws the line of each gate, and arrows for the pair at 130 degrees."""
    num_rows = ceil(len(found) / COLUMNS)
    figure = Figure(figsize=(2.3 * COLUMNS, 0.8 + 2.2 * num_rows), layout="constrained")
    panels = figure.subplots(num_rows, COLUMNS, sharex=True, sharey=True, squeeze=False)
    shown = SHOWN * len(rows) // 360
    everything = torch.cat([*found.values(), rows.flatten(0, 1)])
    left, bottom = (everything.amin(0) - MARGIN).tolist()
    right, top = (everything.amax(0) + MARGIN).tolist()
    for axes, gate in zip_longest(panels.flat, found):
        if gate is None:
            axes.set_axis_off()
            continue
        axes.set_title(gate, fontsize=10)
        turn = torch.cat([rows[:, 1], rows[:1, 1]])
        axes.plot(*turn.T.numpy(), color="#bbbbbb", linewidth=0.8)
        axes.axvline(0, color="#dddddd", linewidth=0.8)
        # What jumps is not joined.
        axes.plot(*found[gate].T.numpy(), ".", color=colour(1), markersize=1.5)
        for vector, ink in (
            (rows[shown, 0], colour(0)),
            (rows[shown, 1], colour(2)),
            (found[gate][shown], colour(1)),
        ):
            _arrow(axes, vector, ink)
        axes.set(xlim=(left, right), ylim=(bottom, top), aspect="equal")
        tidy(axes)
    figure.suptitle(
        "main gradient (black), auxiliary gradient (orange), direction (blue); dots: all "
        "directions as the auxiliary turns once around (grey)",
        fontsize=11,
    )
    return figure


def _arrow(axes: Axes, vector: Float[Tensor, " D"], ink: str) -> None:
    style = {"arrowstyle": "-|>", "color": ink, "shrinkA": 0, "shrinkB": 0, "linewidth": 1.4}
    x, y = vector.tolist()
    axes.annotate("", (x, y), (0, 0), arrowprops=style)


def work(options: Options, arguments: Sequence[str]) -> None:
    """Judges, draws, and says what came out."""
    folder = folder_of(options.output)
    rows = pairs(options)
    found = {
        name: directions(build and build(), rows, options.judgements)
        for name, build in arms(SINGLE_SAMPLE).items()
    }
    table = [row for name, each in found.items() for row in measure(name, rows, each)]
    command = ["vectors.py", *arguments]
    publish(folder, "vectors", command, table, {"vectors": draw(found, rows)}, judge(found, rows))


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    options = options_of(Options, arguments, "vectors.py", __doc__)
    return run("vectors.py", lambda: work(options, arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
