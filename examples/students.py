"""Many small networks trained side by side, each with a main and an auxiliary output.

Row s of every tensor belongs to network s.  Gates take any leading batch, so one call judges the
gradients of all networks; `agents.gates.gated_backward` is the same for one network.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from agents.gates import Gate, Judgement


@dataclass(frozen=True)
class Students:
    """S perceptrons: a trunk that both tasks train, and a linear head for each."""

    trunk: tuple[Tensor, ...]
    """Weight `[S, I, O]` and bias `[S, 1, O]` of each layer."""
    heads: tuple[tuple[Tensor, Tensor], ...]
    """The same of each task; the main task first."""

    def outputs(self, inputs: Float[Tensor, "S B I"], task: int) -> Float[Tensor, "S B O"]:
        """Answers of each network to its own inputs, by the head of a task."""
        hidden = inputs
        for weight, bias in zip(self.trunk[::2], self.trunk[1::2], strict=True):
            hidden = torch.baddbmm(bias, hidden, weight).relu()
        weight, bias = self.heads[task]
        return torch.baddbmm(bias, hidden, weight)

    @property
    def parameters(self) -> list[Tensor]:
        """All of them."""
        return [*self.trunk, *(tensor for head in self.heads for tensor in head)]


def build_students(sizes: Sequence[int], num_outputs: int, seeds: Sequence[int]) -> Students:
    """Builds one network per seed; the same seed gives the same initial weights.

    Weights are uniform (Glorot and Bengio), biases 0.

    Args:
        sizes: of the input and of each layer of the trunk.
        num_outputs: of each head.
        seeds: one per network.
    """
    shapes = [*pairwise(sizes), *[(sizes[-1], num_outputs)] * 2]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    layers = []
    for fan_in, fan_out in shapes:
        limit = (6 / (fan_in + fan_out)) ** 0.5
        drawn = [torch.rand(fan_in, fan_out, generator=generator) for generator in generators]
        weight = (torch.stack(drawn) * 2 - 1) * limit
        layers.append(
            (weight.requires_grad_(), torch.zeros(len(seeds), 1, fan_out).requires_grad_())
        )
    return Students(
        trunk=tuple(tensor for layer in layers[:-2] for tensor in layer),
        heads=tuple(layers[-2:]),
    )


def gated_gradients(
    students: Students,
    gate: Gate,
    losses: Sequence[Float[Tensor, " S"]],
    samples: Sequence[Float[Tensor, " S"]] = (),
) -> Judgement:
    """Sets `.grad` of every network: gated in the trunk, each task's own in its head.

    Args:
        students: the networks.
        gate: judges them one by one.
        losses: of every network; the main task's first, and alone for main-only learning.
        samples: random combinations of per-sample main losses, for gates that ask for them.
    """
    sample_rows = [_gradients(sample, students.trunk) for sample in samples]
    rows = []
    for loss, head in zip(losses, students.heads, strict=False):
        gradients = torch.autograd.grad(loss.sum(), head, retain_graph=True)
        for parameter, gradient in zip(head, gradients, strict=True):
            parameter.grad = gradient
        rows.append(_gradients(loss, students.trunk))
    judgement = gate.judge(
        torch.stack(rows, 1),
        torch.stack(list(losses), 1).detach(),
        samples=torch.stack(sample_rows, 1) if sample_rows else None,
    )
    lengths = [parameter[0].numel() for parameter in students.trunk]
    pieces = judgement.direction.split(lengths, dim=1)
    for parameter, piece in zip(students.trunk, pieces, strict=True):
        parameter.grad = piece.view_as(parameter)
    return judgement


def _gradients(losses: Float[Tensor, " S"], parameters: Sequence[Tensor]) -> Float[Tensor, "S P"]:
    # Networks share no parameter: the gradient of the sum holds the gradient of each.
    gradients = torch.autograd.grad(losses.sum(), parameters, retain_graph=True)
    return torch.cat([each.flatten(1) for each in gradients], dim=1)
