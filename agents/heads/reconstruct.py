"""Reconstruction: decode the observation from its features.

A deterministic autoencoder next to the policy, as in Yarats et al. 2019, "Improving Sample
Efficiency in Model-Free Reinforcement Learning from Images"
(https://arxiv.org/abs/1910.01741), without its penalties on features and decoder.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int, Shaped, UInt8
from torch import Tensor

from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Schedule, Targets, constant
from agents.heads.components.decoders import Decoder, amounts, decoder_for, mosaic
from agents.heads.components.views import StepSampler, at_steps
from agents.networks.actor_critic import ActorCritic, arithmetic
from agents.trajectory import AgentOutput, Trajectory
from envs.base import EnvSpec
from gridworld.options import at_least, require

PICTURED = 8
"""Observations in a picture."""


@dataclass(frozen=True)
class ReconstructConfig:
    """Decodes the observation from its features (an autoencoder)."""

    coefficient: float = 1.0
    """Weight of the loss (1 in Yarats et al.)."""
    fraction: float = 0.25
    """Share of the steps at which the loss is computed; each costs a forward and a backward pass of
    the torso."""
    hidden: int | None = None
    """Width of the hidden layer where observations are not images; none: 256, or the torso's width
    if that is less."""

    def __post_init__(self) -> None:
        at_least(self, 0, "coefficient")
        at_least(self, 1, "hidden")
        require(self, "fraction", 0 < self.fraction <= 1, "above 0 and at most 1")

    def build(self, context: HeadContext) -> "Reconstruct":
        """Makes the head, with a decoder for images or for other observations."""
        num_features = context.torso.num_features
        hidden = self.hidden or min(256, num_features)
        return Reconstruct(
            context.spec,
            decoder_for(context.spec, num_features, hidden),
            StepSampler(self.fraction, context.stream("steps")),
            constant(self.coefficient),
        )


@dataclass(frozen=True)
class ReconstructTargets(Targets):
    """The steps drawn in each environment."""

    step: Int[Tensor, "S B"]


class Reconstruct(AuxiliaryHead):
    """Error of d(phi(x)) against x, with phi the torso's features and d the decoder.

    Args:
        spec: of the environment.
        decoder: from features to observations.
        sampler: draws the steps at which the loss is computed.
        coefficient: weight of the loss.
    """

    trains = ("torso",)
    capturable = True
    non_negative = True
    bypasses_features = True

    def __init__(
        self, spec: EnvSpec, decoder: Decoder, sampler: StepSampler, coefficient: Schedule
    ) -> None:
        super().__init__()
        self.decoder = decoder
        self.sampler = sampler
        self.coefficient = coefficient
        self._num_symbols, self._num_frames = spec.num_symbols, spec.num_frames

    @torch.no_grad()
    def prepare(self, agent: ActorCritic, trajectory: Trajectory) -> ReconstructTargets:
        """Draws steps."""
        return ReconstructTargets(self.sampler(trajectory.valid))

    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Computes the error and the decoder's metrics at the steps drawn."""
        assert isinstance(targets, ReconstructTargets)
        valid = at_steps(trajectory.valid, targets.step)
        observation = at_steps(trajectory.observation, targets.step).flatten(0, 1)
        drawn = self._draw(agent, observation)
        error = self.decoder.error(drawn, observation).view_as(valid)
        return HeadLoss(error, valid, self.decoder.measures(drawn, observation, valid.flatten()))

    @torch.no_grad()
    def picture(
        self, agent: ActorCritic, trajectory: Trajectory
    ) -> UInt8[Tensor, "height width 3"]:
        """Draws some observations of a trajectory, and below each its reconstruction."""
        everything = trajectory.observation[:-1].flatten(0, 1)
        count = min(PICTURED, len(everything))
        chosen = torch.linspace(0, len(everything) - 1, count, device=everything.device).long()
        observation = everything[chosen]
        restored = self.decoder.restored(self._draw(agent, observation))
        above = observation if self._num_symbols else amounts(observation)
        return mosaic([above, restored], self._num_symbols, self._num_frames)

    def _draw(
        self, agent: ActorCritic, observation: Shaped[Tensor, " batch *shape"]
    ) -> Float[Tensor, " batch *drawn"]:
        features = agent.see(observation).features
        with arithmetic(agent.precision, observation.device):
            drawn: Tensor = self.decoder(features)
        return drawn
