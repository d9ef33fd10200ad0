"""Phasic policy gradient (Cobbe, Hilton, Klimov, Schulman 2021, https://arxiv.org/abs/2009.04416).

Policy and value have separate networks. Most updates are PPO's on each of them (the policy
phase). Every `every`-th trajectory an auxiliary phase distils the value into the policy's network
through its own value layer, while a KL term keeps the policy as it is:

    L_joint = (V_pi - V_target)^2 / 2 + beta KL(pi_old, pi)

This is an auxiliary loss on the policy's network, so it passes the gate like a head's: it is
compared with the policy's loss on the same data, which is not descended again. `--gate sum`, the
default without heads, is the method as published.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from agents.algorithms.base import MainLoss, PhaseBatch, PhaseLoss
from agents.algorithms.ppo import PPO, PPOConfig, PPOTargets, clipped_value_loss
from agents.algorithms.returns import gae
from agents.networks.actor_critic import ActorCritic
from agents.runtime.distributed import ALONE, Processes
from agents.runtime.graphs import Scalar, like
from agents.trajectory import AgentOutput, Targets, Trajectory, shuffled_slices
from gridworld.options import at_least


@dataclass(frozen=True)
class PPGConfig(PPOConfig):
    """Phasic policy gradient (Cobbe et al. 2021)."""

    epochs: int = 1
    """Passes over each trajectory in the policy phase (1 in the paper)."""
    clip: float = 0.2
    """The policy's ratio gains nothing beyond 1 +- this (0.2 in the paper)."""
    clip_value: bool = False
    """Bound the step of the value as well, by the same number (the paper does not)."""
    every: int = 32
    """Trajectories from one auxiliary phase to the next; all of them are kept (32 in the paper)."""
    auxiliary_epochs: int = 6
    """Passes over these trajectories in an auxiliary phase (6 in the paper)."""
    auxiliary_minibatches: int = 4
    """Slices of environments of each trajectory, one optimizer step each, in that phase."""
    kl_coefficient: float = 1.0
    """Beta: weight of the term that keeps the policy (1 in the paper)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, 1, "every", "auxiliary_epochs", "auxiliary_minibatches")
        at_least(self, 0, "kl_coefficient")

    def build(self, discount: float, processes: Processes = ALONE) -> "PPG":
        """Makes the algorithm for a discount per agent step."""
        return PPG(self, discount, processes)


@dataclass(frozen=True)
class PPGTargets(PPOTargets):
    """What the critic makes of a trajectory, and in the auxiliary phase the policy before it."""

    value: Float[Tensor, "T B"]
    """The critic's, before it learnt from the trajectory."""
    logits: Float[Tensor, "T B A"] | None = None
    """The policy's logits when the auxiliary phase started."""


class Critic(nn.Module):
    """A value network with a torso like the agent's."""

    def __init__(self, agent: ActorCritic) -> None:
        super().__init__()
        self.torso = copy.deepcopy(agent.torso)
        self.value = copy.deepcopy(agent.value)

    def forward(
        self, agent: ActorCritic, observation: Shaped[Tensor, " N B *shape"]
    ) -> Float[Tensor, "N B"]:
        """Computes the value of every observation, in the agent's precision."""
        lead = observation.shape[:2]
        features = agent.see(observation.flatten(0, 1), self.torso).features.float()
        values: Tensor = agent.value_scale(self.value(features).squeeze(-1)).unflatten(0, lead)
        return values


class PPG(PPO):
    """PPO with a value network apart, and an auxiliary phase now and then."""

    needs_value = False
    phase_trains = ("torso", "policy")

    def __init__(self, config: PPGConfig, discount: float, processes: Processes) -> None:
        """Takes the coefficients over from the config.

        Args:
            config: the options.
            discount: gamma per agent step, from 0 to 1.
            processes: share every batch; means are taken over all of them.
        """
        super().__init__(config, discount, processes)
        self._config: PPGConfig = config
        self.phase_minibatches = config.auxiliary_minibatches
        self._kept: list[tuple[Trajectory, PPGTargets]] = []
        # In a tuple, so that the agent is no submodule of the algorithm.
        self._agent: tuple[ActorCritic, ...] = ()

    def attach(self, agent: ActorCritic) -> None:
        """Makes the critic, with a torso of the agent's kind.

        Raises:
            ValueError: the agent has a recurrent core.
        """
        if agent.core is not None:
            raise ValueError("ppg has no recurrent value network: use no core, or ppo.")
        self.critic = Critic(agent)
        self._agent = (agent,)

    def _value(self, observation: Shaped[Tensor, " N B *shape"]) -> Float[Tensor, "N B"]:
        value: Tensor = self.critic(self._agent[0], observation)
        return value

    def value_layers(self, agent: ActorCritic) -> Sequence[nn.Linear]:
        """The agent's and the critic's."""
        return [agent.value, self.critic.value]

    def prepare(self, trajectory: Trajectory) -> PPGTargets:
        """Computes generalised advantages and value targets from the critic."""
        value = self._value(trajectory.observation)
        advantage = gae(
            trajectory.reward,
            value,
            trajectory.terminated,
            trajectory.truncated,
            discount=self._discount,
            trace=self._config.trace,
        )
        return PPGTargets(advantage, advantage + value[:-1], value[:-1])

    def loss(
        self,
        output: AgentOutput,
        trajectory: Trajectory,
        targets: Targets | None = None,
        progress: Scalar = 0.0,
    ) -> MainLoss:
        """Computes the policy's terms from the agent and the value's from the critic."""
        assert isinstance(targets, PPGTargets)
        policy = self.policy_loss(output, trajectory, targets, progress)
        value = self._value(trajectory.observation[:-1])
        return MainLoss(
            policy=policy.loss,
            value=self._value_loss(value, targets, progress),
            entropy=policy.entropy,
            value_target=targets.value_target,
            metrics=policy.metrics,
            estimate=value.detach(),
        )

    def _value_loss(
        self, value: Float[Tensor, "T B"], targets: PPGTargets, progress: Scalar
    ) -> Float[Tensor, "T B"]:
        old = targets.value if self._config.clip_value else None
        unit = self._agent[0].value_scale.current
        clip = like(self._clip(progress), unit) * unit
        return clipped_value_loss(value, targets.value_target, old, clip)

    def phase_batches(
        self, trajectory: Trajectory, targets: Targets, shuffling: torch.Generator
    ) -> Iterator[PhaseBatch]:
        """Keeps the trajectory; hands out all that were kept, several times, when it is time.

        Args:
            trajectory: that the policy phase has just learnt from.
            targets: of it, from `prepare`.
            shuffling: random numbers, on the host.
        """
        assert isinstance(targets, PPGTargets)
        self._kept.append((trajectory, targets))
        if len(self._kept) < self._config.every:
            return
        (agent,) = self._agent
        with torch.no_grad():
            kept = [
                PhaseBatch(
                    trajectory,
                    PPGTargets(
                        targets.advantage,
                        targets.value_target,
                        targets.value,
                        agent.unroll(trajectory).logits[:-1],
                    ),
                )
                for trajectory, targets in self._kept
            ]
        self._kept = []
        for _ in range(self._config.auxiliary_epochs):
            for index in torch.randperm(len(kept), generator=shuffling).tolist():
                whole = kept[index]
                action, count = whole.trajectory.action, self._config.auxiliary_minibatches
                for environments in shuffled_slices(
                    action.shape[1], count, shuffling, action.device
                ):
                    yield whole.select(environments)

    def phase_loss(
        self, output: AgentOutput, trajectory: Trajectory, targets: Targets, progress: Scalar
    ) -> PhaseLoss:
        """Computes the joint loss, and the policy's loss that it is compared with."""
        assert isinstance(targets, PPGTargets)
        assert targets.logits is not None
        old = targets.logits.log_softmax(-1)
        new = output.logits[:-1].log_softmax(-1)
        divergence = (old.exp() * (old - new)).sum(-1)
        distance = 0.5 * (output.value[:-1] - targets.value_target).square()
        # The critic goes on learning in this phase; its parameters are its alone.
        critic = self._value_loss(self._value(trajectory.observation[:-1]), targets, progress)
        main = self.policy_loss(output, trajectory, targets, progress)
        scale, beta = self._agent[0].value_scale, self._config.kl_coefficient
        return PhaseLoss(
            main=self.in_unit(main.loss, scale.unit) - self.entropy_coefficient * main.entropy,
            auxiliary=(distance + critic) / scale.unit.square() + beta * divergence,
            metrics={"kl": divergence.detach(), "value_loss": distance.detach()},
        )

    def get_extra_state(self) -> list[dict[str, Any]]:
        """The trajectories that were kept since the last auxiliary phase."""
        return [
            {"trajectory": _tensors(trajectory), "targets": _tensors(targets)}
            for trajectory, targets in self._kept
        ]

    def set_extra_state(self, state: list[dict[str, Any]]) -> None:
        """Continues with the trajectories of a `state_dict`."""
        device = self._agent[0].policy.weight.device

        def moved(tensors: dict[str, Tensor]) -> dict[str, Any]:
            return {name: tensor.to(device) for name, tensor in tensors.items()}

        self._kept = [
            (Trajectory(**moved(each["trajectory"])), PPGTargets(**moved(each["targets"])))
            for each in state
        ]


def _tensors(record: Trajectory | PPGTargets) -> dict[str, Tensor]:
    """The fields that are there, by name."""
    found = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: tensor for name, tensor in found.items() if tensor is not None}
