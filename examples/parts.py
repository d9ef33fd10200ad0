"""What became of the parts of `digits.py`: through every gate, with every auxiliary task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from examples.arms import MAIN, Maker
from examples.figures import Line, draw_lines
from examples.lessons import Lessons, learn
from examples.report import Row

DRAWN = ("sum", "cosine", "cosine_unweighted", "projection", "nash", "gradnorm")
"""Gates in the figures; the table has all."""


@dataclass(frozen=True)
class Part:
    """Accuracies of the main task and cosines, by gate; main-only learning has no cosine."""

    name: str
    tasks: Sequence[str]
    """The auxiliary tasks."""
    kinds: Mapping[str, slice]
    """Which of them are drawn as one, as their mean, and where."""
    accuracy: Mapping[str, Float[np.ndarray, "tasks seeds"]]
    cosine: Mapping[str, Float[np.ndarray, "tasks seeds points"]]

    def gain(self, gate: str, kind: str) -> Float[np.ndarray, " seeds"]:
        """Accuracy more than that of main-only learning."""
        more = self.accuracy[gate] - self.accuracy[MAIN]
        return np.asarray(more[self.kinds[kind]].mean(0))

    def angle(self, gate: str, kind: str) -> Float[np.ndarray, " seeds"]:
        """Cosine, the mean over learning."""
        return np.asarray(self.cosine[gate][self.kinds[kind]].mean((0, 2)))

    def rows(self) -> list[Row]:
        """One for each gate, auxiliary task and seed."""
        return [
            {"part": self.name, "gate": gate, "auxiliary": self.tasks[task], "seed": seed}
            | {"accuracy": f"{accuracy:.4f}", "cosine": f"{cosine[task, seed].mean():.4f}"}
            for gate, cosine in self.cosine.items()
            for (task, seed), accuracy in np.ndenumerate(self.accuracy[gate])
        ]

    @staticmethod
    def read(name: str, kinds: Mapping[str, slice], table: Sequence[Mapping[str, str]]) -> "Part":
        """Reads what `rows` wrote, which has only the mean of a cosine's course.

        Args:
            name: of the part.
            kinds: of the auxiliary tasks; empty: each is one.
            table: rows of this part, and of others.
        """
        mine = [row for row in table if row["part"] == name]
        tasks = list(dict.fromkeys(row["auxiliary"] for row in mine))
        accuracy, cosine = (
            {
                gate: np.array([float(row[column]) for row in mine if row["gate"] == gate])
                for gate in dict.fromkeys(row["gate"] for row in mine)
            }
            for column in ("accuracy", "cosine")
        )
        each = {task: slice(number, number + 1) for number, task in enumerate(tasks)}
        return Part(
            name,
            tasks,
            kinds or each,
            {gate: values.reshape(len(tasks), -1) for gate, values in accuracy.items()},
            {gate: values.reshape(len(tasks), -1, 1) for gate, values in cosine.items()},
        )

    def figure(self, x: str) -> Figure:
        """Draws both, by kind of the auxiliary task."""
        drawn = [gate for gate in DRAWN if gate in self.accuracy]
        places = list(range(len(self.kinds)))
        panels = {
            f"{self.name}: accuracy gained over {MAIN}": [
                Line(gate, places, np.stack([self.gain(gate, kind) for kind in self.kinds], 1))
                for gate in drawn
            ],
            f"{self.name}: cosine of the gradients, mean over learning": [
                Line(gate, places, np.stack([self.angle(gate, kind) for kind in self.kinds], 1))
                for gate in drawn
            ],
        }
        return draw_lines(
            "Bands: 95 % bootstrap intervals over seeds", panels, x, ticks=[*self.kinds]
        )

    def curves(self, gate: str, kinds: Sequence[str], steps: int) -> list[Line]:
        """The cosine while learning."""
        points = self.cosine[gate].shape[-1]
        middles = ((np.arange(points) + 0.5) * steps / points).tolist()
        return [
            Line(f"{self.name}: {kind}", middles, self.cosine[gate][self.kinds[kind]].mean(0))
            for kind in kinds
        ]


def compare(
    name: str,
    tasks: Sequence[str],
    kinds: Mapping[str, slice],
    lessons: Lessons,
    makers: Mapping[str, Maker | None],
    steps: int,
) -> Part:
    """Trains all networks through every gate.

    Args:
        name: of the part.
        tasks: the auxiliary tasks, in the order of the lessons.
        kinds: of the tasks.
        lessons: of every task and seed.
        makers: of gates; none for main-only learning.
        steps: of each network.
    """
    accuracy, cosine = {}, {}
    for gate, make in makers.items():
        outcome = learn(lessons, None if make is None else make(), steps)
        accuracy[gate] = outcome.accuracy.view(len(tasks), -1).numpy()
        cosine[gate] = outcome.cosine.view(*accuracy[gate].shape, -1).numpy()
    return Part(name, tasks, kinds, accuracy, cosine)
