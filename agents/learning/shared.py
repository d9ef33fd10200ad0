"""Which parameters the gate governs, by what the heads declare."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from agents.gates import gradient_rows
from agents.heads import AuxiliaryHead
from agents.learning.slices import Slices
from agents.learning.step_loss import StepLoss
from agents.networks.actor_critic import ActorCritic
from agents.runtime.distributed import ALONE, Processes
from agents.runtime.random import generator

# The gradients that a judgement rests on: of losses, of slices of them, of random combinations.


class Gradients:
    """Takes gradients over the shared parameters, as rows that are added up over processes."""

    def __init__(
        self,
        agent: ActorCritic,
        heads: Mapping[str, AuxiliaryHead],
        processes: Processes = ALONE,
        seed: int = 0,
    ) -> None:
        """Finds out what is shared.

        Args:
            agent: whose parameters.
            heads: that share some of them, by name.
            processes: whose gradients are added up.
            seed: of random combinations.
        """
        named, self.private = divide(agent, heads)
        self.names = tuple(named)
        self.shared = list(named.values())
        self._processes = processes
        # On the host, so that it goes on wherever a run is resumed.
        self.generator = generator(seed, f"samples {processes.rank}", torch.device("cpu"))

    def rows(
        self, shares: Sequence[Tensor], *, private: bool = True, retain: bool = False
    ) -> Float[Tensor, "L P"]:
        """One row for each loss; its own gradient is added to `.grad` of private parameters.

        Args:
            shares: this process's, of each loss.
            private: whether private parameters get theirs now.
            retain: whether the graph is needed again.
        """
        own = self.private if private else ()
        return self._processes.sum(gradient_rows(shares, self.shared, own, retain=retain))

    def combinations(self, loss: StepLoss, count: int) -> Float[Tensor, "K P"]:
        """Rows of the sum of single steps' losses, each times a normal random number.

        Private parameters get nothing; retains the graph.
        """
        factors = torch.randn(count, *loss.steps.shape, generator=self.generator)
        factors = factors.to(loss.steps.device, non_blocking=True)
        shares = [loss.combined(factor, self._processes) for factor in factors.unbind()]
        return self.rows(shares, private=False, retain=True)

    def slices(self, losses: Sequence[StepLoss], slices: Slices) -> Float[Tensor, "S L P"]:
        """Rows of each slice of environments, which add up to those of the losses.

        Private parameters get theirs, slice by slice; retains the graph above the cut.
        """
        parts = zip(*(slices.split(loss, self._processes) for loss in losses), strict=True)
        return torch.stack([self.rows(shares, retain=True) for shares in parts])

    def add_up(self, parameters: Iterable[nn.Parameter]) -> None:
        """Turns `.grad` of this process's share into that of the whole loss."""
        self._processes.add_up(parameters)


def divide(
    agent: ActorCritic, heads: Mapping[str, AuxiliaryHead]
) -> tuple[dict[str, nn.Parameter], list[nn.Parameter]]:
    """Splits the parameters into shared ones, by name, and private ones.

    Shared are the parts of the agent that the main loss (which trains all of them)
    and at least one head train; the rest of the agent and the heads are private.
    """
    reached = {part for head in heads.values() for part in head.trains}
    shared = {
        f"{part}.{name}": parameter
        for part, module in agent.parts.items()
        if part in reached
        for name, parameter in module.named_parameters()
    }
    private = [
        parameter
        for part, module in agent.parts.items()
        if part not in reached
        for parameter in module.parameters()
    ]
    private += [parameter for head in heads.values() for parameter in head.parameters()]
    return shared, private
