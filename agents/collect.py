"""Plays the environments with the current agent."""

import time
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from agents.agent import ActorCritic
from agents.types import Trajectory
from envs.base import Step, VecEnv
from envs.episodes import Episodes


@dataclass
class Clock:
    """Seconds spent in the environments and in choosing actions, since it was last read."""

    environment: float = 0.0
    acting: float = 0.0

    def read(self) -> "Clock":
        """Returns the seconds so far and starts again at zero."""
        seconds = replace(self)
        self.environment = self.acting = 0.0
        return seconds


class Collector:
    """Holds what continues from one trajectory to the next: observation, episodes, randomness."""

    def __init__(
        self, env: VecEnv, agent: ActorCritic, generator: torch.Generator, unroll_length: int
    ) -> None:
        self.env = env
        self.episodes = Episodes(env.spec.num_envs, env.device)
        self.clock = Clock()
        self.generator = generator
        self._agent = agent
        self._unroll_length = unroll_length
        self._observation: Tensor = env.reset()

    def collect(self) -> Trajectory:
        """Plays T agent steps in every environment."""
        first = self._observation
        frames = first.new_empty((self._unroll_length + 1, *first.shape))
        frames[0] = first
        steps: list[Step] = []
        actions: list[Tensor] = []
        log_probabilities: list[Tensor] = []
        for t in range(self._unroll_length):
            start = time.perf_counter()
            choice = self._agent.act(frames[t], self.generator)
            acted = time.perf_counter()
            step = self.env.step(choice.action)
            frames[t + 1] = step.observation
            self.episodes.update(step)
            steps.append(step)
            actions.append(choice.action)
            log_probabilities.append(choice.log_probability)
            self.clock.acting += acted - start
            self.clock.environment += time.perf_counter() - acted
        self._observation = frames[-1]
        return Trajectory(
            observation=frames,
            action=torch.stack(actions),
            reward=self._transformed(torch.stack([step.reward for step in steps])),
            terminated=torch.stack([step.terminated for step in steps]),
            truncated=torch.stack([step.truncated for step in steps]),
            valid=torch.stack([step.valid for step in steps]),
            log_probability=torch.stack(log_probabilities),
        )

    def _transformed(self, reward: Float[Tensor, "T B"]) -> Float[Tensor, "T B"]:
        return reward.sign() if self.env.spec.reward_transform == "sign" else reward

    def go_on_from(self, observation: Shaped[Tensor, " B *shape"]) -> None:
        """Continues from an observation that the environment has just been restored to."""
        self._observation = observation
