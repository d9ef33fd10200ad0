"""What became of all networks of a supervised example, as its table holds it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.figure import Figure

from examples.arms import MAIN
from examples.figures import Line
from examples.report import Row, save
from examples.supervised.loop import POINTS, Trained
from experiments.results import read_table

_NAMES, _GRADIENTS = ("condition", "gate", "seed"), ("cosine", "preference")
"""Columns of the table; the scores are between them."""


@dataclass(frozen=True)
class Results:
    """What became of all networks, by condition, gate and seed."""

    conditions: Sequence[str]
    gates: Sequence[str]
    """Main-only learning first."""
    trained: Mapping[tuple[str, str], Sequence[Trained]]

    def score(self, condition: str, gate: str, metric: str) -> Float[np.ndarray, " seeds"]:
        """One number per seed.

        Args:
            condition: of the auxiliary task, its data or its weight.
            gate: by which the networks were trained.
            metric: one of the scores of the problem.
        """
        return np.array([each.scores[metric] for each in self.trained[condition, gate]])

    def gain(self, condition: str, gate: str, metric: str) -> Float[np.ndarray, " seeds"]:
        """How much more than with main-only learning; the arguments are those of `score`.

        Args:
            condition: of the auxiliary task, its data or its weight.
            gate: by which the networks were trained.
            metric: one of the scores of the problem.
        """
        difference = self.score(condition, gate, metric) - self.score(condition, MAIN, metric)
        return np.asarray(difference)

    def cosine(self, condition: str, gate: str) -> Float[np.ndarray, "seeds points"]:
        """Of the gradients, while the networks learnt."""
        curves = [each.cosine.tolist() for each in self.trained[condition, gate]]
        return np.array(curves)

    def rows(self) -> list[Row]:
        """One for each condition, gate and seed."""
        return [
            {"condition": condition, "gate": gate, "seed": seed}
            | {metric: f"{value:.4f}" for metric, value in each.scores.items()}
            | {"cosine": f"{float(each.cosine.mean()):.4f}"}
            | {"preference": " ".join(f"{part:.4f}" for part in each.preference)}
            for (condition, gate), every in self.trained.items()
            for seed, each in enumerate(every)
        ]

    @staticmethod
    def read(path: Path) -> "Results":
        """Reads the table that `rows` made, which has only the mean of a cosine's course."""
        trained: dict[tuple[str, str], list[Trained]] = {}
        for row in read_table(path)[1]:
            cosine = torch.tensor([float(row["cosine"])])
            preference = [float(part) for part in row["preference"].split()]
            scores = {name: float(row[name]) for name in row if name not in (*_NAMES, *_GRADIENTS)}
            one = Trained(None, scores, cosine, preference)
            trained.setdefault((row["condition"], row["gate"]), []).append(one)
        conditions, gates = (list(dict.fromkeys(each)) for each in zip(*trained, strict=True))
        return Results(conditions, gates, trained)

    def lines(self, metric: str, gain: bool = True) -> list[Line]:
        """A line for each gate over the conditions, for `draw_lines`."""
        of = self.gain if gain else self.score
        return [
            Line(
                gate,
                list(range(len(self.conditions))),
                np.stack([of(condition, gate, metric) for condition in self.conditions], 1),
            )
            for gate in (self.gates[1:] if gain else self.gates)
        ]

    def courses(self, gate: str, steps: int) -> list[Line]:
        """The cosine over the steps, a line for each condition."""
        middles = ((np.arange(POINTS) + 0.5) * steps / POINTS).tolist()
        return [Line(each, middles, self.cosine(each, gate)) for each in self.conditions]

    def measures(self, gate: str) -> bool:
        """Whether the gate was among those compared, and measures cosines."""
        return gate in self.gates


def redrawn(draw: Callable[[Results], Figure]) -> Callable[[Path], None]:
    """Makes a function that draws a figure from the table of the same name next to it."""
    return lambda path: save(draw(Results.read(path.with_suffix(".csv"))), path)
