"""Termination: will the episode end within the next k steps, and when?

For each of the next k steps the head predicts the probability that the episode terminates
there, given that it has not before (a hazard h_j).  The loss is the negative
log-likelihood of what was seen: one binary cross-entropy per step ahead, as long as the
episode continues within the trajectory,

    loss_t = sum_{j < k, known} BCE(h_j(x_t), terminated_{t+j}).

So a trajectory may be shorter than k, and what follows a truncation or lies beyond the
trajectory is unknown, not "no".  Late in a trajectory an end can be seen but its absence
cannot: a plain yes or no would teach that an end is near there.  The probability of an end
within k steps is 1 - prod_j (1 - h_j).

The idea is common (Kartal et al. 2019, "Terminal Prediction as an Auxiliary Task",
arXiv 1907.10827, regress the relative distance to the end); this form and its numbers are
this project's.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional

from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Targets, constant
from agents.networks.actor_critic import ActorCritic
from agents.statistics import masked_mean
from agents.trajectory import AgentOutput, Trajectory
from gridworld.options import at_least


@dataclass(frozen=True)
class TerminationConfig:
    """Predicts whether the episode terminates within k steps."""

    horizon: int = 8
    """k: how many agent steps to look ahead."""
    coefficient: float = 0.1
    """Weight of the loss."""

    def __post_init__(self) -> None:
        at_least(self, 1, "horizon")
        at_least(self, 0, "coefficient")

    def build(self, context: HeadContext) -> "Termination":
        """Makes the head."""
        return Termination(self, context.num_features)


@dataclass(frozen=True)
class TerminationTargets(Targets):
    """What is known about the k steps from each step on."""

    known: Bool[Tensor, "T B K"]
    """Whether the episode reached the step, within the trajectory."""
    ends: Bool[Tensor, "T B K"]
    """Whether it terminated there."""


class Termination(AuxiliaryHead):
    """Computes the logits of k hazards, linear in the features."""

    trains = ("torso", "core")
    capturable = True
    non_negative = True

    def __init__(self, config: TerminationConfig, num_features: int) -> None:
        super().__init__()
        self.coefficient = constant(config.coefficient)
        self.hazard = nn.Linear(num_features, config.horizon)

    @torch.no_grad()
    def prepare(self, agent: ActorCritic, trajectory: Trajectory) -> TerminationTargets:
        """Looks up to k steps ahead of every step."""
        valid = self._ahead(trajectory.valid)
        # An episode's end is followed by an invalid step: beyond it nothing is known.
        known = valid.long().cumprod(-1).bool()
        return TerminationTargets(known, known & self._ahead(trajectory.terminated))

    def _ahead(self, mask: Bool[Tensor, "T B"]) -> Bool[Tensor, "T B K"]:
        """Returns the mask at each step and the k - 1 that follow; False beyond the trajectory."""
        horizon = self.hazard.out_features
        padded = functional.pad(mask, (0, 0, 0, horizon - 1), value=False)
        return padded.unfold(0, horizon, 1)

    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Computes the negative log-likelihood of every step, in nats."""
        assert isinstance(targets, TerminationTargets)
        logits = self.hazard(output.features[:-1])
        error = functional.binary_cross_entropy_with_logits(
            logits, targets.ends.to(logits.dtype), reduction="none"
        )
        loss = torch.where(targets.known, error, 0.0).sum(-1)
        metrics = {"explained": explained(loss.detach().sum(), targets)}
        return HeadLoss(loss, trajectory.valid, metrics | told(logits.detach(), targets))


def explained(loss: Float[Tensor, ""], targets: TerminationTargets) -> Float[Tensor, ""]:
    """Returns 1 - loss / loss of the best constant hazard; NaN if all or no known steps are ends.

    McFadden's R^2: 0 is no better than knowing how often episodes end, 1 is certainty.
    """
    ends = targets.ends.sum()
    count = targets.known.sum()
    rate = ends / count.clamp(min=1)
    constant = -(ends.xlogy(rate) + (count - ends).xlogy(1 - rate))
    return torch.where(constant > 0, 1 - loss / constant, torch.nan)


def told(logits: Float[Tensor, "T B K"], targets: TerminationTargets) -> dict[str, Tensor]:
    """Returns the accuracy of "an end within k steps?", and how often it is true.

    Only steps whose next k steps lie in the trajectory count, so that the choice does not depend
    on how they ended.  NaN where there are none.
    """
    length, horizon = logits.shape[0], logits.shape[-1]
    inside = torch.arange(length, device=logits.device) <= length - horizon
    ends = targets.ends.any(-1)
    decided = inside.unsqueeze(-1) & (ends | targets.known[..., -1])
    never = functional.logsigmoid(-logits).sum(-1)  # log prod_j (1 - h_j)
    hits = (never < math.log(0.5)) == ends
    some = decided.any()
    return {
        name: torch.where(some, masked_mean(value.to(logits.dtype), decided), torch.nan)
        for name, value in {"accuracy": hits, "base_rate": ends}.items()
    }
