"""CURL: tell which two changed versions come from the same observation.

Laskin, Srinivas, Abbeel 2020, "CURL: Contrastive Unsupervised Representations for
Reinforcement Learning" (https://arxiv.org/abs/2004.04136); settings of the authors' code
for Atari, aravindsrinivas/curl_rainbow.  With `ahead` it is a contrast in time, as in Stooke, Lee,
Abbeel, Laskin 2021, "Decoupling Representation Learning from Reinforcement Learning" (ATC,
https://arxiv.org/abs/2009.08319).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Targets, constant
from agents.heads.components.views import (
    MomentumCopy,
    RandomMask,
    RandomShift,
    StepSampler,
    at_steps,
    is_image,
)
from agents.networks.actor_critic import ActorCritic
from agents.networks.torsos import orthogonal
from agents.statistics import masked_mean
from agents.trajectory import AgentOutput, Trajectory
from gridworld.options import OptionError, at_least, mention, require

LOGIT_SCALE = 0.1
"""Factor of the bilinear products (curl_rainbow)."""


@dataclass(frozen=True)
class CurlConfig:
    """Recognises observations after small random changes (CURL)."""

    coefficient: float = 1.0
    """Weight of the loss (1 in curl_rainbow; 0.01 for Pong, Boxing, Private Eye, Freeway)."""
    fraction: float = 0.125
    """Share of the steps at which the loss is computed; each costs two forward passes and one
    backward pass of the torso, and all pairs are compared."""
    ahead: int = 0
    """Steps from the observation of a query to that of its key: 0 in CURL, 3 in ATC."""
    momentum: float = 0.999
    """Share of itself that the key encoder keeps at an update (0.999 in curl_rainbow)."""
    hidden: int | None = None
    """Width of the projection's hidden layer; none: 256 (as in curl_rainbow), or the torso's width
    if that is less."""
    width: int | None = None
    """Width of queries and keys; none: 128 (as in curl_rainbow), or the torso's width if that is
    less."""
    shift: int | None = None
    """Largest shift of an image, in pixels; none: 4, as in curl_rainbow. For images alone."""
    mask: float | None = None
    """Probability that an entry is hidden; none: 0.1. For all observations except images."""

    def __post_init__(self) -> None:
        at_least(self, 0, "coefficient", "ahead", "shift")
        # Normalised, a single number is always the same.
        at_least(self, 2, "hidden", "width")
        require(self, "fraction", 0 < self.fraction <= 1, "above 0 and at most 1")
        require(self, "momentum", 0 <= self.momentum <= 1, "between 0 and 1")
        proper = self.mask is None or 0 <= self.mask < 1
        require(self, "mask", proper, "0 or more and below 1")

    def build(self, context: HeadContext) -> "Curl":
        """Makes the head; copies the torso.

        Raises:
            ValueError: an option is for other observations, or longer trajectories.
        """
        spec, stream = context.spec, context.stream("observations")
        if self.ahead > context.unroll_length:
            raise OptionError(
                "ahead",
                f"{self.ahead} is further than a trajectory of {context.unroll_length} "
                f"steps reaches: use less, or a longer {mention('unroll_length')}.",
            )
        change: nn.Module
        if is_image(spec):
            if self.mask is not None:
                raise OptionError(
                    "mask",
                    f"is for symbols and vectors, but {spec.name} shows images: "
                    f"use {mention('shift')}.",
                )
            shift, side = 4 if self.shift is None else self.shift, min(spec.observation_shape[-2:])
            if shift >= side:
                raise OptionError(
                    "shift",
                    f"{shift} moves all of an image of {spec.name} out of sight: "
                    f"use less than {side}.",
                )
            change = RandomShift(shift, stream)
        else:
            if self.shift is not None:
                raise OptionError(
                    "shift",
                    f"needs images, but {spec.name} shows observations of shape "
                    f"{spec.observation_shape}: use {mention('mask')}.",
                )
            probability = 0.1 if self.mask is None else self.mask
            change = RandomMask(probability, spec.num_symbols, stream)
        return Curl(self, context, change)


@dataclass(frozen=True)
class CurlTargets(Targets):
    """Queries and keys at S steps drawn in each environment."""

    valid: Bool[Tensor, "S B"]
    """Whether all steps from the query to the key are valid."""
    query: Shaped[Tensor, "S B *shape"]
    """Changed observations for the trained torso."""
    key: Float[Tensor, "S B Z"]
    """Output of the momentum copy for the same observations, or those `ahead` steps later, after
    another random change."""


class Curl(AuxiliaryHead):
    """-log exp(q_i' W k_i) / sum_j exp(q_i' W k_j) over all steps drawn from a batch.

    Invalid steps are neither queries nor keys.  A query and its key belong to one episode; the key
    may be the episode's true last observation.

    Args:
        config: options.
        context: what the head is built for.
        change: random change of a batch of observations.
    """

    trains = ("torso",)
    capturable = True
    non_negative = True
    bypasses_features = True

    def __init__(self, config: CurlConfig, context: HeadContext, change: nn.Module) -> None:
        super().__init__()
        self.coefficient = constant(config.coefficient)
        self.ahead = config.ahead
        self.sampler = StepSampler(config.fraction, context.stream("steps"))
        self.change = change
        num_features = context.torso.num_features
        hidden = config.hidden or min(256, num_features)
        width = config.width or min(128, num_features)
        self.project = nn.Sequential(
            orthogonal(nn.Linear(num_features, hidden)),
            nn.LayerNorm(hidden),
            nn.ReLU(),
            orthogonal(nn.Linear(hidden, width)),
            nn.LayerNorm(width),
        )
        self.bilinear = nn.Parameter(torch.eye(width))
        self.key_torso = MomentumCopy(context.torso, config.momentum)
        self.key_project = MomentumCopy(self.project, config.momentum)

    @torch.no_grad()
    def prepare(self, agent: ActorCritic, trajectory: Trajectory) -> CurlTargets:
        """Draws steps, changes the query's and the key's observation, and encodes the keys."""
        reach = reaching(trajectory.valid, self.ahead)
        step = self.sampler(reach)
        # Those that reach beyond the trajectory are masked.
        after = (step + self.ahead).clamp(max=len(trajectory.action))
        query = self.change(at_steps(trajectory.observation, step).flatten(0, 1))
        key = self.change(at_steps(trajectory.observation, after).flatten(0, 1))
        features = agent.see(key, self.key_torso).features.float()
        lead = step.shape
        return CurlTargets(
            at_steps(reach, step),
            query.unflatten(0, lead),
            self.key_project(features).unflatten(0, lead),
        )

    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Computes the contrastive loss at the steps drawn, and how often a query finds its key."""
        assert isinstance(targets, CurlTargets)
        valid = targets.valid
        features = agent.see(targets.query.flatten(0, 1)).features.float()
        query, key = self.project(features), targets.key.flatten(0, 1)
        logits = contrast(LOGIT_SCALE * query @ self.bilinear, key, valid.flatten())
        own = logits.diagonal()
        loss = logits.logsumexp(-1) - own
        # Features that have collapsed score all alike: a tie is no find.
        found = (logits.detach() >= own.detach().unsqueeze(-1)).sum(-1) == 1
        metrics = {
            "retrieval": masked_mean(found.float().view_as(valid), valid),
            "chance": 1 / valid.sum().clamp(min=1),
        }
        return HeadLoss(loss.view_as(valid), valid, metrics)

    def after_update(self, agent: ActorCritic) -> None:
        """Moves the key encoder towards the torso and the projection."""
        self.key_torso.follow(agent.torso)
        self.key_project.follow(self.project)


def reaching(valid: Bool[Tensor, "T B"], ahead: int) -> Bool[Tensor, "T B"]:
    """Returns the steps from which all steps to the observation `ahead` later are valid."""
    reach = valid.clone()
    for more in range(1, min(ahead, len(valid))):
        reach[: len(valid) - more] &= valid[more:]
    # The last observation follows the last step.
    reach[max(0, len(valid) - ahead + 1) :] = False
    return reach


def contrast(
    query: Float[Tensor, "n Z"], key: Float[Tensor, "n Z"], valid: Bool[Tensor, " n"]
) -> Float[Tensor, "n n"]:
    """Scores every key for every query; keys of invalid steps get a score far below all others.

    Args:
        query: one row per step.
        key: one row per step.
        valid: which keys count.
    """
    # Far enough down for exp to be 0 and not infinitely far, so that the loss of an invalid
    # query, which is masked afterwards, and its gradient are finite.
    handicap = torch.where(valid, 0.0, -1e9)
    return torch.addmm(handicap, query, key.T)
