"""Several targets from the same two digits: RotoGrad, GradNorm and Nash-MTL next to the others.

RotoGrad (Javaloy and Valera, https://arxiv.org/abs/2103.02631) and GradNorm (Chen et al.,
https://arxiv.org/abs/1711.02257) treat all tasks alike, as does Nash-MTL. The targets are the
first digit, the second one, whether their sum is odd, and how bright the image is. These tasks, the
network and all sizes are ours, in the manner of RotoGrad's experiments with digits. Compared is the
mean change against networks that learn one target each, in percent (higher is better).
Real data: `--data` with four files in MNIST's format, plain or .gz.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

# A script sees its own folder, not the one it shares with the packages.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from examples.arms import MAIN
from examples.report import Row, Verdict, positive, save
from examples.supervised import study
from examples.supervised.classify import accuracy_of
from examples.supervised.formats import Pictures, read_pictures
from examples.supervised.loop import Network, Problem
from examples.supervised.networks import perceptron
from examples.supervised.standins import idx_digits, overlaid
from examples.supervised.study import Report, by_gate, compare, data_of, run_script
from experiments.results import read_table

TARGETS = {"first": 10, "second": 10, "odd": 2, "brightness": 1}
"""Numbers of answers; the last is a number itself."""
ALONE = "one target each"

SOURCES = {"gradnorm": "GradNorm", "rotograd": "RotoGrad", "nash": "Nash-MTL"}
"""Papers that say that their gate is better than the sum."""


@dataclass(frozen=True)
class Options(study.Options):
    """What is learnt, how often, and where the results go."""

    gates: study.Gated = ("sum", "gradnorm(main_ratio=True)", "rotograd", "cosine", "nash")
    """To compare with networks that learn one target each, with options if wanted; all: every
    gate."""
    units: int = 32
    """Of each of two layers."""
    steps: int = 150
    seeds: int = 6

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.units < 2:
            raise ValueError(f"--units must be at least 2, not {self.units}.")


@dataclass(frozen=True)
class Targets:
    """Overlaid digits, and what is asked about them."""

    pixels: Float[Tensor, "n 1 H W"]
    wanted: Float[Tensor, "n targets"]

    @staticmethod
    def of(data: Pictures, part: Int[Tensor, " _"], generator: torch.Generator) -> "Targets":
        """Overlays the images of a part of the data.

        Args:
            data: single digits.
            part: which of them.
            generator: draws the partners.
        """
        images, labels = overlaid(data.floats(part), data.labels[part], generator)
        odd = labels.sum(1) % 2
        # In units of about 1, so that no loss is far larger than the others.
        brightness = images.mean((1, 2, 3)) * 5
        return Targets(images, torch.stack([*labels.T.float(), odd.float(), brightness], 1))


@dataclass(frozen=True)
class Several(Problem):
    """All tasks, or a single one, read the same features."""

    train: Targets
    test: Targets
    units: int
    tasks: Sequence[str]
    batch: int = 64
    learning_rate: float = 3e-3

    @property
    def width(self) -> int:
        """Of the features."""
        return self.units

    def network(self) -> Network:
        """A perceptron with a head for each task."""
        trunk = perceptron([self.train.pixels[0].numel(), self.units, self.units])
        return Network(trunk, [torch.nn.Linear(self.units, TARGETS[task]) for task in self.tasks])

    def draw(self, generator: torch.Generator) -> Int[Tensor, " B"]:
        """Some of the images."""
        return torch.randint(len(self.train.wanted), (self.batch,), generator=generator)

    def losses(
        self, network: Network, batch: Int[Tensor, " B"], alone: bool
    ) -> list[Float[Tensor, " B"]]:
        """Cross entropies, and the squared error of the brightness."""
        features = network.features(self.train.pixels[batch])
        losses = []
        for number, task in enumerate(self.tasks[: 1 if alone else None]):
            said = network.answer(features, number)
            wanted = self.train.wanted[batch, list(TARGETS).index(task)]
            if task == "brightness":
                losses.append((said[:, 0] - wanted).square())
            else:
                losses.append(F.cross_entropy(said, wanted.long(), reduction="none"))
        return losses

    def score(self, network: Network) -> Mapping[str, float]:
        """Accuracies, and the share of the variance of the brightness that is explained."""
        features = network.features(self.test.pixels)
        scores = {}
        for number, task in enumerate(self.tasks):
            said = network.answer(features, number)
            wanted = self.test.wanted[:, list(TARGETS).index(task)]
            if task == "brightness":
                rest = (said[:, 0] - wanted).square().mean() / wanted.var(correction=0)
                scores[task] = float(1 - rest)
            else:
                scores[task] = accuracy_of(said.argmax(1), wanted.long())
        return scores


def judge(changes: Mapping[str, study.Seeds]) -> list[Verdict]:
    """What the papers say of their methods."""
    return [
        positive(
            f"the mean change of {gate} is higher than that of sum ({source})",
            changes[gate] - changes["sum"],
            f"{changes[gate].mean():.2f} against {changes['sum'].mean():.2f}; difference",
        )
        for gate in changes
        for name, source in SOURCES.items()
        if gate.partition("(")[0] == name and "sum" in changes
    ]


def work(options: Options) -> Report:
    """Trains networks of one target each, then of all through every gate."""
    with data_of(options.data, idx_digits, "four files in MNIST's format") as folder:
        data = read_pictures(folder)
    parts = []
    for seed in range(options.seeds):
        generator = torch.Generator().manual_seed(seed)
        parts.append([Targets.of(data, part, generator) for part in (data.train, data.test)])

    def problem(tasks: Sequence[str], seed: int) -> Several:
        learnt, tests = parts[seed]
        return Several(learnt, tests, options.units, tasks)

    length = options.seeds, options.steps
    singles = {task: partial(problem, [task]) for task in TARGETS}
    alone = compare(singles, [], *length, same_main=False)
    together = {"": partial(problem, list(TARGETS))}
    found = compare(together, options.names(options.units), *length)
    rows: list[Row] = []
    changes: dict[str, study.Seeds] = {}
    single = {task: alone.score(task, MAIN, task) for task in TARGETS}
    for gate in (ALONE, *found.gates[1:]):
        scores = (
            {task: found.score("", gate, task) for task in TARGETS}
            if gate in found.gates
            else single
        )
        change = 100 * np.mean([scores[task] / single[task] - 1 for task in TARGETS], axis=0)
        if gate in found.gates:
            changes[gate] = change
        rows += [
            {"gate": gate, "seed": seed}
            | {task: f"{scores[task][seed]:.4f}" for task in TARGETS}
            | {"change": f"{change[seed]:.3f}"}
            for seed in range(options.seeds)
        ]
    return Report(rows, {"rotations": draw(rows)}, judge(changes))


def draw(rows: Sequence[Row]) -> Figure:
    """Draws the mean change and the score of each target by gate, from the rows of the table."""
    gates = dict.fromkeys(str(row["gate"]) for row in rows if row["gate"] != ALONE)
    panels = {
        title: {
            gate: np.array([float(str(row[column])) for row in rows if row["gate"] == gate])
            for gate in gates
        }
        for title, column in {"mean change in percent": "change", **{t: t for t in TARGETS}}.items()
    }
    return by_gate("Means and 95 % bootstrap intervals over seeds", panels)


def redraw(path: Path) -> None:
    """Draws the figure from rotations.csv next to it."""
    save(draw(read_table(path.with_suffix(".csv"))[1]), path)


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return run_script(Options, arguments, "rotations", __doc__, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
