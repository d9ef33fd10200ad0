"""Forward and inverse dynamics.

Both are models of Pathak et al. 2017, "Curiosity-driven Exploration by Self-supervised
Prediction" (https://arxiv.org/abs/1705.05363).  `forward` predicts the features of the next
observation from the current features and the action.  Features that never change solve it
perfectly; `inverse`, which names the action, prevents that.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Schedule, Targets, constant
from agents.networks.actor_critic import ActorCritic
from agents.networks.torsos import orthogonal
from agents.statistics import explained_variance, masked_mean
from agents.trajectory import AgentOutput, Trajectory
from gridworld.options import OptionError, at_least

# Inverse dynamics: which action led from one observation to the next?
#
# Also an auxiliary loss in Shelhamer et al. 2016 (https://arxiv.org/abs/1612.07307).  The features
# must hold what the agent can influence, and may drop the rest.


@dataclass(frozen=True)
class InverseConfig:
    """Predicts the action between two observations (ICM's inverse model)."""

    coefficient: float = 0.8
    """Weight of the loss (1 - beta = 0.8 in ICM)."""
    hidden: int | None = None
    """Width of the hidden layer; none: 256 (as in ICM), or the torso's width if that is less."""

    def __post_init__(self) -> None:
        at_least(self, 0, "coefficient")
        at_least(self, 1, "hidden")

    def build(self, context: HeadContext) -> "Inverse":
        """Makes the head.

        Raises:
            ValueError: there is only one action.
        """
        if context.spec.num_actions < 2:
            raise OptionError(
                "aux",
                f"inverse has nothing to tell apart in {context.spec.name}, which has one "
                "action: leave it out.",
            )
        num_features = context.torso.num_features
        return Inverse(
            num_features,
            context.spec.num_actions,
            self.hidden or min(256, num_features),
            constant(self.coefficient),
        )


class Inverse(AuxiliaryHead):
    """-log p(a_t | phi(x_t), phi(x_t+1)), with phi the torso's features.

    The observation that follows an end is the episode's true last one, so the last step
    of an episode counts too; the step that only resets does not.

    Args:
        num_features: F of the torso.
        num_actions: A.
        hidden: width of the hidden layer.
        coefficient: weight of the loss.
    """

    trains = ("torso",)
    capturable = True
    non_negative = True

    def __init__(
        self, num_features: int, num_actions: int, hidden: int, coefficient: Schedule
    ) -> None:
        super().__init__()
        self.coefficient = coefficient
        self.predict = nn.Sequential(
            orthogonal(nn.Linear(2 * num_features, hidden)),
            nn.ReLU(),
            orthogonal(nn.Linear(hidden, num_actions), gain=0.01),
        )

    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Computes the cross-entropy of every step, and how often the guess is right."""
        pair = torch.cat([output.torso[:-1], output.torso[1:]], -1)
        log_guess: Float[Tensor, "T B A"] = self.predict(pair).log_softmax(-1)
        action, valid = trajectory.action, trajectory.valid
        loss = -log_guess.gather(-1, action.unsqueeze(-1)).squeeze(-1)
        right = log_guess.detach().argmax(-1) == action
        # The policy is a guess that needs no second observation.
        favourite = output.logits[:-1].detach().softmax(-1).amax(-1)
        metrics = {
            "accuracy": masked_mean(right.float(), valid),
            "chance": masked_mean(favourite, valid),
        }
        return HeadLoss(loss, valid, metrics)


@dataclass(frozen=True)
class ForwardConfig:
    """Predicts the next features from the current ones and the action (ICM's forward model)."""

    coefficient: float = 0.2
    """Weight of the loss (beta = 0.2 in ICM)."""
    hidden: int | None = None
    """Width of the hidden layer; none: 256 (as in ICM), or the torso's width if that is less."""

    def __post_init__(self) -> None:
        at_least(self, 0, "coefficient")
        at_least(self, 1, "hidden")

    def build(self, context: HeadContext) -> "Forward":
        """Makes the head."""
        num_features = context.torso.num_features
        return Forward(
            num_features,
            context.spec.num_actions,
            self.hidden or min(256, num_features),
            constant(self.coefficient),
        )


class Forward(AuxiliaryHead):
    """1/2 |f(phi(x_t), a_t) - phi(x_t+1)|^2, with phi the torso's features.

    Departure from the paper's code: no gradient reaches phi(x_t+1), so the loss does not move
    the target towards what is easy to predict.

    Args:
        num_features: F of the torso.
        num_actions: A.
        hidden: width of the hidden layer.
        coefficient: weight of the loss.
    """

    trains = ("torso",)
    capturable = True
    non_negative = True

    def __init__(
        self, num_features: int, num_actions: int, hidden: int, coefficient: Schedule
    ) -> None:
        super().__init__()
        self.coefficient = coefficient
        self.num_actions = num_actions
        self.predict = nn.Sequential(
            orthogonal(nn.Linear(num_features + num_actions, hidden)),
            nn.ReLU(),
            orthogonal(nn.Linear(hidden, num_features), gain=0.01),
        )

    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Computes the squared error of every step, and how much of the target is explained."""
        action = F.one_hot(trajectory.action, self.num_actions).to(output.torso.dtype)
        predicted: Tensor = self.predict(torch.cat([output.torso[:-1], action], -1))
        target = output.torso[1:].detach()
        valid = trajectory.valid
        loss = 0.5 * (predicted - target).square().sum(-1)
        seen = explained_variance(predicted.detach(), target, valid)
        # Against the guess that nothing changes, which explains much of slow worlds.
        still = explained_variance(output.torso[:-1].detach(), target, valid)
        metrics = {"explained_variance": seen, "persistence": still}
        return HeadLoss(loss, valid, metrics)
