"""No main loss at all: the auxiliary heads alone train the agent."""

from dataclasses import dataclass

import torch

from agents.losses.base import Algorithm, MainLoss, entropy
from agents.processes import ALONE, Processes
from agents.types import AgentOutput, Targets, Trajectory


@dataclass(frozen=True)
class NoneConfig:
    """No main loss: the auxiliary heads alone train the agent (with --gate sum)."""

    def build(self, discount: float, processes: Processes = ALONE) -> "Nothing":
        """Makes the loss; there is nothing to discount."""
        return Nothing()


class Nothing(Algorithm):
    """Zero; the entropy is computed for the log."""

    value_coefficient = 0.0
    entropy_coefficient = 0.0

    def loss(
        self,
        output: AgentOutput,
        trajectory: Trajectory,
        targets: Targets | None = None,
        progress: float = 0.0,
    ) -> MainLoss:
        """Computes zeros and the policy's entropy."""
        zeros = torch.zeros_like(trajectory.reward)
        return MainLoss(zeros, zeros, entropy(output.logits[:-1]), zeros)
