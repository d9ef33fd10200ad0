"""RotoGrad's rotations: every loss sees the shared features turned its own way.

Javaloy, Valera: "RotoGrad: Gradient Homogenization in Multitask Learning", ICLR 2022,
https://arxiv.org/abs/2103.02631.  The lengths of the gradients are the business of
the gate `rotograd`.  Outside reinforcement learning, with `trunk` and `heads` of one's own:

    gate, rotations = make("rotograd"), Rotations(num_tasks=2, num_features=64)
    for inputs, targets in batches:
        optimizer.zero_grad()
        cut = Cut((trunk(inputs),))
        turned = [rotations.rotate(cut.pieces[0], task) for task in range(2)]
        losses = [criterion(head(z), y) for head, z, y in zip(heads, turned, targets)]
        rotated_backward(losses, gate, rotations, cut, private, rate=1e-4)
        optimizer.step()

where `private` are the parameters of the heads, and `rate` is smaller than the optimizer's.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from agents.gates import Gate, Judgement, gated_backward
from agents.gates.algebra import solve
from agents.gates.backward import Reduce
from agents.learning.optimizer import OwnerOptimizer
from agents.networks.actor_critic import rotate

# Cuts a network in two: losses above, the network below, gradients handed down by hand.


class Cut:
    """Tensors of a network, and leaves of the same values that losses may hang on.

    Gradients of losses stop at the leaves, where a gate can weigh them as it weighs those of
    parameters; `backward` takes what it leaves there through the network, once for all losses.

    With several processes every leaf has a place for each of them, of which this one fills its
    own: rows of gradients that are added up over the processes are then side by side.
    """

    def __init__(self, sources: Sequence[Tensor], rank: int = 0, size: int = 1) -> None:
        """Cuts.

        Args:
            sources: tensors in the graph of the network.
            rank: of this process.
            size: how many processes there are.
        """
        self.leaves: tuple[Tensor, ...] = tuple(
            source.new_zeros(size, *source.shape).requires_grad_() for source in sources
        )
        with torch.no_grad():
            for leaf, source in zip(self.leaves, sources, strict=True):
                leaf[rank].copy_(source)
        self.pieces: tuple[Tensor, ...] = tuple(leaf[rank] for leaf in self.leaves)
        self._sources = tuple(sources)
        self._rank = rank

    def backward(self) -> None:
        """Hands the gradients at the leaves down, and frees the graph below."""
        gradients = [None if leaf.grad is None else leaf.grad[self._rank] for leaf in self.leaves]
        reached = [index for index, gradient in enumerate(gradients) if gradient is not None]
        torch.autograd.backward(
            [self._sources[index] for index in reached], [gradients[index] for index in reached]
        )


EPSILON = 1e-8
"""Of Adam.  Gradients of the rotations do not depend on the sizes of losses."""


class Rotations:
    """One rotation of the shared features z per task: `r_k = R_k z`.

    They are learnt so that the tasks' gradients over z point one way, sample by sample:

        L_k = -sum_n <R_k^T h_kn, v_n>,    h_kn = the gradient over r_k,    v_n = mean_k u_kn
        u_k = R_k^T h_k / |h_k|, the gradient over z, all samples together of length 1

    with h and v held fixed.  Losses of the tasks do not train them, and they start as the
    identity: the first update is that of the network without them.

    R_k is made of blocks on a diagonal; features that are left over, fewer than a block, are not
    rotated.  A step multiplies it by the Cayley transform of a skew-symmetric A, which is a
    rotation and agrees with exp(A) to second order.  A is Adam's step.

    Departures from the paper: its parametrisation is exp(A) with A learnt from a fixed origin
    (the gradient is the same at A = 0); h_k is divided by its length, so that the size of a
    loss does not matter; its library starts from random rotations.
    """

    matrix: Float[Tensor, "L G D D"]
    """Blocks of every task's rotation."""

    def __init__(
        self,
        num_tasks: int,
        num_features: int,
        block: int = 64,
        device: torch.device | str = "cpu",
    ) -> None:
        """Starts at the identity.

        Args:
            num_tasks: L, the main task first.
            num_features: F, the width of z.
            block: how many features are rotated together; 0 for all.
            device: of the features.
        """
        if num_features < 2:
            raise ValueError("rotations need at least 2 features: a single number has no angle.")
        size = min(block, num_features) if block > 0 else num_features
        identity = torch.eye(size, device=device)
        self.matrix = identity.repeat(num_tasks, num_features // size, 1, 1)
        self._tangent = nn.Parameter(torch.zeros_like(self.matrix))
        self._optimizer = OwnerOptimizer([self._tangent], learning_rate=0.0, epsilon=EPSILON)

    def rotate(self, features: Float[Tensor, " *batch F"], task: int) -> Float[Tensor, " *batch F"]:
        """What a task sees of the features."""
        return rotate(features, self.matrix[task])

    @torch.no_grad()
    def learn(
        self,
        gradients: Float[Tensor, "L samples F"],
        rate: float,
        healthy: Bool[Tensor, ""] | None = None,
    ) -> None:
        """Turns every rotation by one step.

        Args:
            gradients: of each task's loss over the features z; what is not finite counts as 0.
            rate: of Adam.
            healthy: whether to take the step at all; always if not given.
        """
        if healthy is None:
            healthy = torch.ones((), dtype=torch.bool, device=gradients.device)
        num_blocks, size = self.matrix.shape[1:3]
        unit = _of_unit_length(gradients)[..., : num_blocks * size]
        unit = unit.unflatten(-1, (num_blocks, size))
        common = unit.mean(0)  # v
        # dL_k = -<A, S> for R_k -> R_k (I + A), of which A keeps the skew part.
        pull = torch.einsum("lngi,ngj->lgij", unit, common)  # S
        # Of the parameter's layout: the fused Adam does not look at strides.
        self._tangent.grad = ((pull.mT - pull) / 2).contiguous()
        _, taken = self._optimizer.step(rate, max_norm=0.0, healthy=healthy)
        self.matrix.copy_(torch.where(taken, _turned(self.matrix, self._tangent), self.matrix))
        self._tangent.zero_()

    def apart(self) -> Float[Tensor, " K"]:
        """How far the auxiliaries' rotations are from the main task's: 0 = not, 1 = 90 degrees.

        `|R_k - R_0|^2 / 2D`, squares of all entries added, of D rotated features.
        """
        difference = self.matrix[1:] - self.matrix[:1]
        num_rotated = self.matrix.shape[1] * self.matrix.shape[2]
        return difference.square().sum((1, 2, 3)) / (2 * num_rotated)

    def state_dict(self) -> dict[str, Any]:
        """The rotations and the moments of their optimizer."""
        return {"matrix": self.matrix, "optimizer": self._optimizer.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`."""
        self.matrix.copy_(state["matrix"])
        self._optimizer.load_state_dict(state["optimizer"])


def rotated_backward(
    losses: Sequence[Tensor],
    gate: Gate,
    rotations: Rotations,
    cut: Cut,
    private: Sequence[Tensor],
    *,
    rate: float,
    reduce: Reduce | None = None,
) -> Judgement:
    """Adds the gradients of all losses to `.grad`, then turns the rotations by one step.

    The gate judges the gradients over the features, and one backward pass takes what it makes
    of them through the network below the cut.

    Args:
        losses: scalars, the main loss first, of what `rotations` show of the pieces of `cut`.
        gate: weighs the gradients over the pieces.
        rotations: one per loss.
        cut: the features first, then what else of the network below the losses read.
        private: all other parameters; they get each loss's own gradient.
        rate: learning rate of the rotations.
        reduce: as in `gated_backward`.
    """
    kept: list[Tensor] = []

    def keep(rows: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        rows, values = (rows, values) if reduce is None else reduce(rows, values)
        kept.extend([rows[:, : cut.leaves[0].numel()], values])
        return rows, values

    judgement = gated_backward(losses, gate, cut.leaves, private, reduce=keep)
    cut.backward()
    rows, values = kept
    num_features = cut.leaves[0].shape[-1]
    rotations.learn(rows.unflatten(1, (-1, num_features)), rate, values[0].isfinite())
    return judgement


def _of_unit_length(gradients: Float[Tensor, "L samples F"]) -> Float[Tensor, "L samples F"]:
    """Divides each task's gradient by its length, all samples together; 0 where it has none."""
    sound = gradients.sum((1, 2), keepdim=True).isfinite()
    gradients = torch.where(sound, gradients, 0.0)
    # Squares of small gradients leave the range of float32, those of these do not.
    largest = gradients.abs().amax((1, 2), keepdim=True)
    gradients = torch.where(largest > 0, gradients / largest, 0.0)
    length = torch.linalg.vector_norm(gradients, dim=(1, 2), keepdim=True)
    return torch.where(length > 0, gradients / length, 0.0)


def _turned(
    matrix: Float[Tensor, "L G D D"], tangent: Float[Tensor, "L G D D"]
) -> Float[Tensor, "L G D D"]:
    """Returns `R (I - A/2)^-1 (I + A/2)`, freed of what rounding did to R over time."""
    identity = torch.eye(matrix.shape[-1], device=matrix.device)
    turn = solve(identity - tangent / 2, identity + tangent / 2)
    matrix = matrix @ turn
    return matrix @ (1.5 * identity - 0.5 * matrix.mT @ matrix)
