"""A head that does harm on purpose, to test gates.

Its loss is the main loss, negated.  Through `sum`, a coefficient of 1 cancels the main
gradient over the shared parameters, and a larger one reverses it.  With a gate that protects
the main loss, a run with this head must end where the run without it does.  The test is this
project's; there is no paper.

Negating the policy term alone is the harder test.  The main gradient g also contains the
value's, so a gradient that opposes the policy opposes g only in part.  A gate that removes
only what points against g lets the rest through: to first order it does not raise the main
loss, and it still unlearns the policy.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch.nn import functional

from agents.algorithms import A2CConfig
from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Targets, constant
from agents.networks.actor_critic import ActorCritic
from agents.statistics import masked_mean
from agents.trajectory import AgentOutput, Trajectory
from gridworld.options import at_least


@dataclass(frozen=True)
class AdversarialConfig:
    """Does harm on purpose, to test a gate: the main loss, negated."""

    negates: Literal["main", "policy"] = "main"
    """The whole main loss of A2C, or its policy term alone."""
    coefficient: float = 2.0
    """Weight of the loss; with the gate `sum`, 1 cancels A2C's main loss and 2 reverses it."""
    normalize_advantage: bool = False
    """Give the advantages zero mean and unit variance; for main losses that do so (PPO)."""

    def __post_init__(self) -> None:
        at_least(self, 0, "coefficient")

    def build(self, context: HeadContext) -> "Adversarial":
        """Makes the head, which has no parameters."""
        return Adversarial(self, context.discount)


class Adversarial(AuxiliaryHead):
    """+A log pi(a) - c_v (v - V)^2 / 2 + c_e H(pi), with A2C's default coefficients.

    The value's own weights are constants: the loss should mislead the value through the features.
    """

    trains = ("torso", "core", "policy")
    capturable = True
    non_negative = False

    def __init__(self, config: AdversarialConfig, discount: float) -> None:
        super().__init__()
        self.coefficient = constant(config.coefficient)
        self._whole = config.negates == "main"
        self._main = A2CConfig(normalize_advantage=config.normalize_advantage).build(discount)

    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Computes the loss of every step."""
        weight, bias = agent.value.weight.detach(), agent.value.bias.detach()
        value = agent.value_scale(functional.linear(output.features, weight, bias).squeeze(-1))
        main = self._main.loss(replace(output, value=value), trajectory)
        unit = agent.value_scale.unit
        loss = -main.policy if self._main.normalizes_advantage else -main.policy / unit
        if self._whole:
            loss = loss - self._main.value_coefficient * main.value / unit.square()
            loss = loss + self._main.entropy_coefficient * main.entropy
        # How likely the agent still makes the better actions, which the head works against:
        # those of positive advantage A, where the policy term -A log pi(a) is positive too.
        better = trajectory.valid & (main.policy.detach() > 0)
        chosen = output.logits[:-1].detach().softmax(-1)
        chosen = chosen.gather(-1, trajectory.action.unsqueeze(-1)).squeeze(-1)
        metrics = {
            "better_actions": torch.where(better.any(), masked_mean(chosen, better), torch.nan)
        }
        return HeadLoss(loss, trajectory.valid, metrics)
