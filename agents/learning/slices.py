"""An unroll in slices of environments, each of which can be differentiated by itself.

A backward pass of one slice's losses through a common graph would cost as much as one of all
environments: most of its gradients are zeros, but they are multiplied all the same.
"""

from dataclasses import fields
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from agents.learning.step_loss import StepLoss
from agents.networks.actor_critic import ActorCritic
from agents.runtime.distributed import ALONE, Processes
from agents.trajectory import AgentOutput, Trajectory


class Slices:
    """Lets the network see each slice apart, and the losses all environments at once.

    The output is cut off from the network: losses of it lead no further down than to leaves.
    `tied` mends the cut, and `split` does so slice by slice.
    """

    def __init__(self, agent: ActorCritic, trajectory: Trajectory, count: int) -> None:
        """Unrolls.

        Args:
            agent: that sees.
            trajectory: whose environments are cut, as `StepLoss.sliced` does.
            count: how many slices; no more than there are environments.
        """
        self.count = count
        columns = trajectory.action.shape[1]
        assert count <= columns, "no slice is empty"
        number = torch.arange(columns) * count // columns
        device = trajectory.action.device
        parts = [
            agent.unroll(
                trajectory.select((number == s).nonzero()[:, 0].to(device, non_blocking=True))
            )
            for s in range(count)
        ]
        self._sources: list[list[Tensor]] = [[] for _ in parts]
        self._leaves: list[list[Tensor]] = [[] for _ in parts]
        whole: dict[str, Any] = {}
        for field in fields(AgentOutput):
            found = [getattr(part, field.name) for part in parts]
            if found[0] is None:
                whole[field.name] = None
                continue
            leaves = [each.detach().requires_grad_() for each in found]
            for s, (source, leaf) in enumerate(zip(found, leaves, strict=True)):
                self._sources[s].append(source)
                self._leaves[s].append(leaf)
            # The core's state has no time: there the environments lead.
            whole[field.name] = torch.cat(leaves, 0 if field.name == "core_state" else 1)
        self.output = AgentOutput(**whole)

    def tied(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Returns a scalar whose gradient, not its value, is the loss's through the network."""
        return torch.stack([loss, *self._below(loss)]).sum()

    def split(self, loss: StepLoss, processes: Processes = ALONE) -> tuple[Float[Tensor, ""], ...]:
        """Returns a scalar for each slice; together they have the gradient of the loss's share.

        That of a slice is what comes through the slice's environments, and of what a loss makes
        of parameters by itself, beside the output, the part due to the slice's steps.
        """
        shares = loss.sliced(self.count, processes)
        below = self._below(loss.share)
        return tuple(share + part for share, part in zip(shares, below, strict=True))

    def _below(self, loss: Float[Tensor, ""]) -> list[Float[Tensor, ""]]:
        """Scalars whose gradients are the loss's through each slice's part of the network."""
        if not loss.requires_grad:  # a head that had nothing to learn
            return [torch.zeros_like(loss)] * self.count
        leaves = [leaf for part in self._leaves for leaf in part]
        found = iter(torch.autograd.grad(loss, leaves, retain_graph=True, allow_unused=True))
        below = []
        for sources in self._sources:
            total = torch.zeros_like(loss)
            for source in sources:
                gradient = next(found)
                if gradient is not None and source.requires_grad:
                    total = total + (gradient * source).sum()
            below.append(total)
        return below
