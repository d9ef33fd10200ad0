"""Tran-Thien's synthetic regression, for many seeds, relations and lambdas at once.

Experiment 2 of "Censoring the auxiliary loss gradient",
https://github.com/vivien000/auxiliary-learning2: targets are tanh(x B), with x uniform on [0, 1)
as in its notebook, and entries of B of standard deviation 10.  The auxiliary task has other
samples and the same B, one that is 3.5 (standard deviation) away, or one of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from agents.gates import Gate
from agents.gates.methods.sum import Sum
from examples.students import Students, build_students, gated_gradients

RELATIONS = ("same", "similar", "unrelated")
AT_ONCE = 500
"""Samples of every network that are evaluated together."""
PATIENCE = 10
"""Epochs without a better validation loss after which learning ends."""


@dataclass(frozen=True)
class Sizes:
    """Of data and networks; the defaults are the paper's."""

    inputs: int = 250
    outputs: int = 100
    units: int = 100
    samples: int = 1000
    tests: int = 10_000
    batch: int = 100

    @staticmethod
    def scaled(scale: float) -> "Sizes":
        """All of them multiplied."""
        return Sizes(**{name: max(1, round(scale * size)) for name, size in vars(Sizes()).items()})


@dataclass(frozen=True)
class Split:
    """Samples of K seeds."""

    inputs: Float[Tensor, "K n I"]
    targets: Float[Tensor, "R K n O"]
    """By each of R matrices."""


@dataclass(frozen=True)
class Problems:
    """The data of K seeds."""

    sizes: Sizes
    main: Split
    auxiliary: Split
    """Its targets: one set per relation."""
    validation: Split
    test: Split

    @staticmethod
    def draw(sizes: Sizes, seeds: int) -> "Problems":
        """Draws the data of each seed from its own generator."""
        drawn = [_draw_seed(sizes, torch.Generator().manual_seed(seed)) for seed in range(seeds)]
        matrices, inputs = (torch.stack(each) for each in zip(*drawn, strict=True))
        parts = inputs.split([sizes.samples] * 3 + [sizes.tests], dim=1)
        wanted = (matrices[:, :1], matrices, matrices[:, :1], matrices[:, :1])
        splits = [
            Split(part, torch.tanh(part.unsqueeze(1) @ matrix).transpose(0, 1))
            for part, matrix in zip(parts, wanted, strict=True)
        ]
        return Problems(sizes, *splits)


def _draw_seed(
    sizes: Sizes, generator: torch.Generator
) -> tuple[Float[Tensor, "R I O"], Float[Tensor, "n I"]]:
    """The matrices of all relations, and the inputs of all splits."""

    def normal(deviation: float) -> Float[Tensor, "I O"]:
        return deviation * torch.randn(sizes.inputs, sizes.outputs, generator=generator)

    same = normal(10.0)
    matrices = torch.stack([same, same + normal(3.5), normal(10.0)])
    return matrices, torch.rand(3 * sizes.samples + sizes.tests, sizes.inputs, generator=generator)


@dataclass(frozen=True)
class Scores:
    """Mean squared errors of the main task, at the epoch with the lowest validation loss."""

    validation: Float[np.ndarray, "relations lambdas seeds"]
    test: Float[np.ndarray, "relations lambdas seeds"]


def learn(problems: Problems, gate: Gate | None, lambdas: Sequence[float], epochs: int) -> Scores:
    """Trains one network for each relation, lambda and seed.

    Args:
        problems: the data.
        gate: one that has judged nothing yet; none for main-only learning.
        lambdas: what the auxiliary loss is multiplied by.
        epochs: at most.
    """
    sizes, seeds = problems.sizes, len(problems.main.inputs)
    shape = (1, 1, seeds) if gate is None else (len(RELATIONS), len(lambdas), seeds)
    relation, number, seed = torch.cartesian_prod(*map(torch.arange, shape)).unbind(1)
    first = torch.zeros_like(relation)
    students = build_students([sizes.inputs, *[sizes.units] * 4], sizes.outputs, seed.tolist())
    optimizer = torch.optim.Adam(students.parameters)
    kept = [parameter.detach().clone() for parameter in students.parameters]
    lowest = torch.full(seed.shape, torch.inf)
    waited = torch.zeros(seed.shape)
    generators = [torch.Generator().manual_seed(each) for each in range(seeds)]
    for _ in range(epochs):
        order = torch.stack([torch.randperm(sizes.samples, generator=each) for each in generators])
        for batch in order.split(sizes.batch, dim=1):
            losses = [error(students, 0, problems.main, first, seed, batch)]
            if gate is not None:
                extra = error(students, 1, problems.auxiliary, relation, seed, batch)
                losses.append(torch.tensor(lambdas)[number] * extra)
            # Alone, a main loss keeps its gradient whatever the gate.
            gated_gradients(students, gate or Sum(), losses)
            optimizer.step()
        validation = evaluate(students, problems.validation, seed)
        better = (validation < lowest) & (waited < PATIENCE)
        lowest = torch.where(better, validation, lowest)
        waited = torch.where(better, 0, waited + 1)
        for best, parameter in zip(kept, students.parameters, strict=True):
            best.copy_(torch.where(better[:, None, None], parameter.detach(), best))
        if bool((waited >= PATIENCE).all()):
            break
    for best, parameter in zip(kept, students.parameters, strict=True):
        parameter.data.copy_(best)
    test = evaluate(students, problems.test, seed)
    return Scores(lowest.view(shape).numpy(), test.view(shape).numpy())


def error(
    students: Students,
    task: int,
    split: Split,
    relation: Int[Tensor, " S"],
    seed: Int[Tensor, " S"],
    batch: Int[Tensor, "K B"],
) -> Float[Tensor, " S"]:
    """Mean squared error of each network on its seed's batch."""
    chosen = batch[seed]  # [S, B]
    outputs = students.outputs(split.inputs[seed[:, None], chosen], task)
    targets = split.targets[relation[:, None], seed[:, None], chosen]
    return (outputs - targets).square().mean((1, 2))


@torch.no_grad()
def evaluate(students: Students, split: Split, seed: Int[Tensor, " S"]) -> Float[Tensor, " S"]:
    """Error of the main task on a whole split."""
    seeds, samples = split.inputs.shape[:2]
    every = torch.arange(samples).expand(seeds, -1)
    chunks = every.split(AT_ONCE, dim=1)
    first = torch.zeros_like(seed)
    errors = [error(students, 0, split, first, seed, chunk) * chunk.shape[1] for chunk in chunks]
    return torch.stack(errors).sum(0) / samples
