"""Multi-MNIST: two overlaid digits, and the front of accuracies over eleven preferences.

AuxiNash (Shamsian et al., https://arxiv.org/abs/2301.13501): with a fixed preference for either
digit it covers the front of what a network can know of both. Nash-MTL has no preference, so its
seeds are next to it, and so is the weighted sum of the losses. Compared are hypervolumes.
Real data: `--data` with four files in MNIST's format (MNIST, Fashion-MNIST), plain or .gz.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
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

from agents.gates import Gate, make
from examples.report import Row, Verdict, positive, save
from examples.supervised import study
from examples.supervised.classify import Set, accuracy
from examples.supervised.formats import Pictures, read_pictures
from examples.supervised.loop import Network, Problem, train
from examples.supervised.metrics import hypervolume
from examples.supervised.networks import perceptron
from examples.supervised.standins import idx_digits, overlaid
from examples.supervised.study import Report, data_of, gate_of, run_script
from experiments.figures import inks, tidy
from experiments.results import read_table

BARGAINED, WEIGHTED = "auxinash", "weighted sum"


@dataclass(frozen=True)
class Options(study.Options):
    """What is learnt, how often, and where the results go."""

    gates: study.Gated = ("nash",)
    """Without a preference: each has as many seeds as there are preferences."""
    preferences: int = 11
    """For the first digit: in equal steps from --least to 1 minus that."""
    least: float = 0.02
    """Least preference of either digit."""
    units: int = 32
    """Of each of two layers."""
    steps: int = 100
    seeds: int = 6
    """Fronts of each kind; every one has its own overlaid digits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.preferences < 2 or self.units < 1:
            raise ValueError("--preferences must be at least 2, and --units at least 1.")
        if not 1e-4 <= self.least < 0.5:
            raise ValueError(f"--least must be from 0.0001 to below 0.5, not {self.least:g}.")


@dataclass(frozen=True)
class Overlaid(Problem):
    """Which are the two digits? Both tasks read the same features."""

    train: tuple[Float[Tensor, "n 1 H W"], Int[Tensor, "n 2"]]
    test: tuple[Float[Tensor, "m 1 H W"], Int[Tensor, "m 2"]]
    units: int
    weights: tuple[float, float] = (1.0, 1.0)
    """Of both losses."""
    batch: int = 64
    learning_rate: float = 3e-3

    @property
    def width(self) -> int:
        """Of the features."""
        return self.units

    def network(self) -> Network:
        """A perceptron with two heads."""
        trunk = perceptron([self.train[0][0].numel(), self.units, self.units])
        return Network(trunk, [torch.nn.Linear(self.units, 10) for _ in range(2)])

    def draw(self, generator: torch.Generator) -> Int[Tensor, " B"]:
        """Some of the images."""
        return torch.randint(len(self.train[1]), (self.batch,), generator=generator)

    def losses(
        self, network: Network, batch: Int[Tensor, " B"], alone: bool
    ) -> list[Float[Tensor, " B"]]:
        """Cross entropies of the first digit, and of the second."""
        images, labels = self.train
        features = network.features(images[batch])
        return [
            weight
            * F.cross_entropy(network.answer(features, task), labels[batch, task], reduction="none")
            for task, weight in enumerate(self.weights[: 1 if alone else 2])
        ]

    def score(self, network: Network) -> Mapping[str, float]:
        """Accuracy of each digit."""
        images, labels = self.test
        return {
            name: accuracy(network, Set(images, labels[:, task]), task)
            for task, name in enumerate(("first", "second"))
        }


Front = Float[np.ndarray, "seeds points 2"]
"""Accuracies of both digits."""


def fronts(options: Options, data: Pictures) -> dict[str, Front]:
    """Trains all networks of all fronts."""
    powers = np.linspace(options.least, 1 - options.least, options.preferences).tolist()

    def bargaining(power: float) -> Callable[[], Gate]:
        return lambda: make(BARGAINED, preference=(power, 1 - power))

    found: dict[str, list[list[list[float]]]] = {}
    for seed in range(options.seeds):
        generator = torch.Generator().manual_seed(seed)
        parts = [
            overlaid(data.floats(part), data.labels[part], generator)
            for part in (data.train, data.test)
        ]
        # Of every network: gate, weights of the losses, seed of its weights and batches.
        plans: dict[str, list[tuple[Callable[[], Gate], tuple[float, float], int]]] = {
            BARGAINED: [(bargaining(power), (1.0, 1.0), seed) for power in powers],
            WEIGHTED: [
                (partial(make, "sum"), (2 * power, 2 * (1 - power)), seed) for power in powers
            ],
        }
        for name in options.names(width=options.units):
            first = (seed + 1) * 1000
            plans[name] = [
                (partial(gate_of, name), (1.0, 1.0), first + number)
                for number in range(options.preferences)
            ]
        for name, plan in plans.items():
            points = []
            for build, weights, start in plan:
                problem = Overlaid(parts[0], parts[1], options.units, weights)
                scores = train(problem, build(), start, options.steps).scores
                points.append([scores["first"], scores["second"]])
            found.setdefault(name, []).append(points)
    return {name: np.array(points) for name, points in found.items()}


def volumes(front: Front) -> Float[np.ndarray, " seeds"]:
    """The hypervolume of every seed's front, from accuracies of 0 on."""
    return np.array([hypervolume(points, (0.0, 0.0)) for points in front])


def judge(found: Mapping[str, Front]) -> list[Verdict]:
    """What AuxiNash's front is said to be."""
    ours = volumes(found[BARGAINED])
    half = found[BARGAINED].shape[1] // 2
    first = found[BARGAINED][..., 0]
    verdicts = [
        positive(
            "the half of the preferences that favours the first digit knows it better than the "
            "other half (AuxiNash)",
            first[:, -half:].mean(1) - first[:, :half].mean(1),
            "Difference of its accuracy",
        )
    ]
    for name, front in found.items():
        if name == BARGAINED:
            continue
        theirs = volumes(front)
        source = " (AuxiNash)" if name == "nash" else ""
        verdicts.append(
            positive(
                f"the hypervolume of auxinash over its preferences is larger than that of {name}"
                + (source or ", over the same weights" * (name == WEIGHTED)),
                ours - theirs,
                f"{ours.mean():.4f} against {theirs.mean():.4f}; difference",
            )
        )
        if name != WEIGHTED:
            spread = np.ptp(first, 1) - np.ptp(front[..., 0], 1)
            verdicts.append(
                positive(
                    f"auxinash reaches further along the front than the seeds of {name}{source}",
                    spread,
                    "Range of the first digit's accuracy, difference",
                )
            )
    return verdicts


def draw(found: Mapping[str, Front]) -> Figure:
    """Draws the points of all fronts, and the mean of each preference."""
    figure = Figure(figsize=(6.4, 5.2), layout="constrained")
    axes = figure.subplots()
    for (name, front), ink in zip(found.items(), inks(list(found)), strict=True):
        axes.plot(*front.reshape(-1, 2).T, ".", color=ink.colour, alpha=0.25)
        means = front.mean(0)
        style = "-o" if name in (BARGAINED, WEIGHTED) else "s"
        axes.plot(*means.T, style, color=ink.colour, label=name, markersize=5)
    axes.set(xlabel="accuracy of the first digit", ylabel="accuracy of the second digit")
    axes.set_title(
        "Large: means of the seeds, by preference (or by number of the run)", fontsize=10
    )
    axes.legend(frameon=False, fontsize=9)
    tidy(axes)
    return figure


def redraw(path: Path) -> None:
    """Draws the figure from pareto.csv next to it."""
    points: dict[str, dict[str, list[list[float]]]] = {}
    for row in read_table(path.with_suffix(".csv"))[1]:
        front = points.setdefault(row["front"], {}).setdefault(row["seed"], [])
        front.append([float(row["first"]), float(row["second"])])
    save(draw({name: np.array([*seeds.values()]) for name, seeds in points.items()}), path)


def work(options: Options) -> Report:
    """Trains all fronts, and says what came out."""
    with data_of(options.data, idx_digits, "four files in MNIST's format") as folder:
        found = fronts(options, read_pictures(folder))
    rows: list[Row] = [
        {"front": name, "seed": seed, "point": point, "first": f"{x:.4f}", "second": f"{y:.4f}"}
        for name, front in found.items()
        for seed, points in enumerate(front)
        for point, (x, y) in enumerate(points)
    ]
    return Report(rows, {"pareto": draw(found)}, judge(found))


def main(arguments: Sequence[str]) -> int:
    """Returns the exit code."""
    return run_script(Options, arguments, "pareto", __doc__, work)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
