"""Plays a fixed number of whole episodes and sums up the scores."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from agents.agent import ActorCritic
from envs.base import VecEnv

BOOTSTRAP_SAMPLES = 10_000


@dataclass(frozen=True)
class Scores:
    """Undiscounted raw returns of whole episodes."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    """Agent steps of each."""

    @property
    def mean(self) -> float:
        """Of the returns."""
        return float(np.mean(self.returns))

    @property
    def median(self) -> float:
        """Of the returns."""
        return float(np.median(self.returns))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Percentile bootstrap interval of the mean over episodes (seeded: same in, same out)."""
        return bootstrap_interval(np.asarray(self.returns), level)


def bootstrap_interval(
    values: Float[np.ndarray, " episodes"], level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean."""
    draws = np.random.default_rng(0).integers(len(values), size=(BOOTSTRAP_SAMPLES, len(values)))
    tail = (1 - level) / 2
    low, high = np.quantile(values[draws].mean(1), [tail, 1 - tail])
    return float(low), float(high)


def quotas(episodes: int, num_envs: int) -> list[int]:
    """How many episodes each environment plays; as even as can be.

    Fixed beforehand: taking whichever episodes finish first would favour short ones.
    """
    return [episodes // num_envs + (index < episodes % num_envs) for index in range(num_envs)]


def play(env: VecEnv, agent: ActorCritic, episodes: int, generator: torch.Generator) -> Scores:
    """Plays `episodes` whole episodes, actions sampled from the policy."""
    left = quotas(episodes, env.spec.num_envs)
    returns: list[list[float]] = [[] for _ in left]
    lengths: list[list[int]] = [[] for _ in left]
    score, length = np.zeros(len(left)), np.zeros(len(left), dtype=np.int64)
    observation = env.reset()
    while any(left):
        step = env.step(agent.act(observation, generator).action)
        observation = step.observation
        score += step.reward.cpu().numpy()
        length += step.valid.cpu().numpy()
        for index in np.flatnonzero(step.ended.cpu().numpy()):
            if left[index] > 0:
                left[index] -= 1
                returns[index].append(float(score[index]))
                lengths[index].append(int(length[index]))
            score[index] = length[index] = 0
    return Scores(
        tuple(value for each in returns for value in each),
        tuple(value for each in lengths for value in each),
    )
