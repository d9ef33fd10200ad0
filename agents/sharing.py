"""Which parameters the gate governs, by what the heads declare."""

from collections.abc import Mapping

from torch import nn

from agents.agent import ActorCritic
from agents.heads import AuxiliaryHead


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
