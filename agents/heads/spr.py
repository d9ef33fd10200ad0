"""SPR: predict the next K latents from the current one and the actions taken.

Schwarzer et al. 2021, "Data-Efficient Reinforcement Learning with Self-Predictive
Representations" (https://arxiv.org/abs/2007.05929); settings of the authors' code,
mila-iqia/spr.  The target is a momentum copy, so the loss needs no negative examples.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor, nn

from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Targets, constant
from agents.heads.components.views import MomentumCopy, StepSampler, at_steps
from agents.networks.actor_critic import ActorCritic, arithmetic
from agents.networks.torsos import TorsoOutput, orthogonal
from agents.statistics import masked_mean
from agents.trajectory import AgentOutput, Trajectory
from gridworld.options import OptionError, at_least, mention, require


@dataclass(frozen=True)
class SprConfig:
    """Predicts the latents of the next steps from the actions (SPR)."""

    coefficient: float = 5.0
    """Weight of the loss, a mean over the jumps (5 in the authors' code)."""
    jumps: int | None = None
    """K, steps predicted ahead; none: 5 as in the paper, or fewer in shorter trajectories."""
    fraction: float = 0.05
    """Share of the steps to predict from; each costs a pass of the torso, K of the target and K of
    the transition model."""
    momentum: float = 0.99
    """Share of itself that the target keeps at an update (0.99 without augmentation in the
    paper)."""

    def __post_init__(self) -> None:
        at_least(self, 0, "coefficient")
        at_least(self, 1, "jumps")
        require(self, "fraction", 0 < self.fraction <= 1, "above 0 and at most 1")
        require(self, "momentum", 0 <= self.momentum <= 1, "between 0 and 1")

    def build(self, context: HeadContext) -> "Spr":
        """Makes the head; copies the torso.

        Raises:
            ValueError: a trajectory is too short for so many jumps.
        """
        length = context.unroll_length
        if self.jumps is not None and self.jumps > length:
            raise OptionError(
                "jumps",
                f"{self.jumps} looks further ahead than a trajectory of {length} "
                f"steps reaches: use fewer, or a longer {mention('unroll_length')}.",
            )
        return Spr(self, context, min(5, length) if self.jumps is None else self.jumps)


@dataclass(frozen=True)
class SprTargets(Targets):
    """Where predictions start, and what they should be."""

    step: Int[Tensor, "S B"]
    goal: Float[Tensor, "KS B F"]
    """Unit vectors: the target's projections of where each jump ends, jump by jump."""


class Spr(AuxiliaryHead):
    """|u_k - v_k|^2 = 2 - 2 cos, averaged over jumps k = 1 ... K.

    v_k is the target's projection of the latent of x_t+k, u_k the prediction of it from the
    latent of x_t and the actions a_t ... a_t+k-1, both of length 1.  A latent is the torso's
    last feature map, or its features where there is no map, rescaled to 0..1; the projection
    is the torso's own layer above the map (in the paper the Q network's first one), or none.
    A jump counts if all of its steps are valid: it may end at an episode's true last
    observation, and never beyond.

    Args:
        config: options.
        context: what the head is built for.
        jumps: K.
    """

    trains = ("torso",)
    capturable = True
    non_negative = True
    bypasses_features = True

    def __init__(self, config: SprConfig, context: HeadContext, jumps: int) -> None:
        super().__init__()
        torso, num_actions = context.torso, context.spec.num_actions
        self.coefficient = constant(config.coefficient)
        self.jumps = jumps
        self.sampler = StepSampler(config.fraction, context.stream("steps"))
        self.transition: nn.Module
        if torso.spatial_shape is None:
            self.transition = FlatTransition(torso.num_features, num_actions)
        else:
            self.transition = SpatialTransition(torso.spatial_shape[0], num_actions)
        self.predict = orthogonal(nn.Linear(torso.num_features, torso.num_features))
        self.target = MomentumCopy(torso, config.momentum)

    @torch.no_grad()
    def prepare(self, agent: ActorCritic, trajectory: Trajectory) -> SprTargets:
        """Draws the starts, and computes the targets of their jumps."""
        step = self.sampler(trajectory.valid)
        length = len(trajectory.action)
        jump = torch.arange(1, self.jumps + 1, device=step.device)
        after = (jump[:, None, None] + step).clamp(max=length).flatten(0, 1)  # [K S, B]
        if len(after) < length:
            goal = self._goals(agent, at_steps(trajectory.observation, after))
        else:  # each observation once
            goal = at_steps(self._goals(agent, trajectory.observation), after)
        return SprTargets(step, goal)

    def _goals(
        self, agent: ActorCritic, observation: Shaped[Tensor, " time B *shape"]
    ) -> Float[Tensor, "time B F"]:
        flat = observation.flatten(0, 1)
        latent = latent_of(agent.see(flat, self.target))
        with arithmetic(agent.precision, flat.device):
            goal = self.target.network.features_of(latent).float()
        unit: Tensor = F.normalize(goal, dim=-1)
        return unit.view(*observation.shape[:2], -1)

    def forward(
        self, agent: ActorCritic, output: AgentOutput, trajectory: Trajectory, targets: Targets
    ) -> HeadLoss:
        """Computes the distance to the goal of every jump [K, S, B], and their cosines."""
        assert isinstance(targets, SprTargets)
        step, length = targets.step, len(trajectory.action)
        goal = targets.goal.unflatten(0, (self.jumps, -1))  # [K, S, B, F]
        now = torch.arange(self.jumps, device=step.device)[:, None, None] + step  # [K, S, B]
        inside, now = now < length, now.clamp(max=length - 1)
        counts = (inside & at_steps(trajectory.valid, now.flatten(0, 1)).view_as(now)).cumprod(0)
        action = at_steps(trajectory.action, now.flatten(0, 1)).view(self.jumps, -1)

        latent = latent_of(agent.see(at_steps(trajectory.observation, step).flatten(0, 1)))
        latents = []
        with arithmetic(agent.precision, latent.device):
            for taken in action.unbind():
                latent = rescaled(self.transition(latent, taken).float())
                latents.append(latent)
            projection = agent.torso.features_of(torch.cat(latents)).float()
        prediction = F.normalize(self.predict(projection), dim=-1).view_as(goal)
        loss, valid = (prediction - goal).square().sum(-1), counts.bool()
        cosine = 1 - loss.detach() / 2
        metrics = {
            "similarity": masked_mean(cosine, valid),
            "first_similarity": masked_mean(cosine[0], valid[0]),
            # The longest jumps may all be cut off by ends: then there is nothing to measure.
            "last_similarity": torch.where(
                valid[-1].any(), masked_mean(cosine[-1], valid[-1]), torch.nan
            ),
            "target_similarity": likeness(goal, valid),
        }
        return HeadLoss(loss, valid, metrics)

    def after_update(self, agent: ActorCritic) -> None:
        """Moves the target towards the torso."""
        self.target.follow(agent.torso)


class FlatTransition(nn.Module):
    """Predicts the next features from the current ones and an action: two dense layers."""

    def __init__(self, num_features: int, num_actions: int) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.layers = nn.Sequential(
            orthogonal(nn.Linear(num_features + num_actions, num_features)),
            nn.ReLU(),
            orthogonal(nn.Linear(num_features, num_features)),
            nn.ReLU(),
        )

    def forward(
        self, latent: Float[Tensor, "batch F"], action: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch F"]:
        """Appends the action's one-hot code."""
        code = F.one_hot(action, self.num_actions).to(latent.dtype)
        after: Tensor = self.layers(torch.cat([latent, code], -1))
        return after


class SpatialTransition(nn.Module):
    """Predicts the next feature map from the current one and an action: two 3 x 3 convolutions."""

    def __init__(self, channels: int, num_actions: int) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.layers = nn.Sequential(
            orthogonal(nn.Conv2d(channels + num_actions, channels, 3, padding=1)),
            nn.ReLU(),
            orthogonal(nn.Conv2d(channels, channels, 3, padding=1)),
            nn.ReLU(),
        )

    def forward(
        self, latent: Float[Tensor, "batch C H W"], action: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch C H W"]:
        """Appends a plane per action, 1 everywhere for the one that was taken."""
        code = F.one_hot(action, self.num_actions).to(latent.dtype)
        planes = code[:, :, None, None].expand(-1, -1, *latent.shape[2:])
        after: Tensor = self.layers(torch.cat([latent, planes], 1))
        return after


def latent_of(seen: TorsoOutput) -> Float[Tensor, " batch *shape"]:
    """Returns the feature map, or the features where there is none, rescaled."""
    return rescaled((seen.features if seen.spatial is None else seen.spatial).float())


def rescaled(latent: Float[Tensor, " batch *shape"]) -> Float[Tensor, " batch *shape"]:
    """Stretches each latent of a batch to 0..1."""
    flat = latent.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    return ((flat - low) / (high - low + 1e-5)).view_as(latent)


def likeness(unit: Float[Tensor, "*shape F"], valid: Bool[Tensor, " *shape"]) -> Float[Tensor, ""]:
    """Returns the mean cosine of all pairs of unit vectors: the squared length of their mean."""
    kept = torch.where(valid.unsqueeze(-1), unit, 0.0).flatten(0, -2)
    return (kept.sum(0) / valid.sum().clamp(min=1)).square().sum()
