"""Plays whole episodes with a frozen policy: many to sum up their scores, one to watch it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Shaped, UInt8
from torch import Tensor

from agents.networks.actor_critic import ActorCritic, NotFiniteError
from envs.base import Step, VecEnv, guarding


@dataclass(frozen=True)
class Scores:
    """Undiscounted raw returns of whole episodes."""

    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    """Agent steps of each."""
    optima: tuple[float, ...] = ()
    """What the best policy is expected to score in each; empty where that is unknown."""
    unfinished: int = 0
    """Episodes that were cut at a limit of steps; they count with their returns so far."""

    @property
    def mean(self) -> float:
        """Mean of the returns."""
        return float(np.mean(self.returns))

    @property
    def median(self) -> float:
        """Median of the returns."""
        return float(np.median(self.returns))

    @property
    def optimum(self) -> float | None:
        """Mean of the optima: what the mean of the returns could be."""
        return float(np.mean(self.optima)) if self.optima else None


def quotas(episodes: int, num_envs: int) -> list[int]:
    """Deals out episodes to environments as evenly as possible.

    The quotas are fixed beforehand: taking whichever episodes finish first would favour short ones.
    """
    return [episodes // num_envs + (index < episodes % num_envs) for index in range(num_envs)]


def steps(
    env: VecEnv,
    agent: ActorCritic,
    generator: torch.Generator,
    observation: Shaped[Tensor, " B *shape"],
) -> Iterator[Step]:
    """Plays without end, with actions sampled from the policy; the caller stops.

    Raises NotFiniteError where the policy gives no probabilities.

    Args:
        env: just reset.
        agent: the policy that plays.
        generator: what the actions are drawn from.
        observation: what the reset returned.
    """
    core_state, reset = None, None
    while True:
        choice = agent.act(observation, generator, core_state, reset)
        # Waits for the device, as the caller does for every step.
        if not choice.log_probability.isfinite().all():
            raise NotFiniteError("the logits of the policy are NaN or infinite")
        with guarding(env.spec.name):
            step = env.step(choice.action)
        yield step
        observation, core_state = step.observation, choice.core_state
        # What an autoreset shows opens an episode: the core forgets before it is read.
        reset = ~step.valid


def _reset(env: VecEnv) -> Shaped[Tensor, " B *shape"]:
    with guarding(env.spec.name):
        return env.reset()


class EndlessEpisodeError(ValueError):
    """An episode did not end within the steps that it was given."""


def play(
    env: VecEnv,
    agent: ActorCritic,
    episodes: int,
    generator: torch.Generator,
    step_limit: int | None = None,
    max_episode_steps: int | None = None,
    tell: Callable[[int, int], None] = lambda done, steps: None,
) -> Scores:
    """Plays whole episodes with actions sampled from the policy.

    Args:
        env: is reset first.
        agent: the policy that plays; its weights do not change.
        episodes: how many, dealt out to the environments by `quotas`.
        generator: what the actions are drawn from.
        step_limit: agent steps after which an episode is cut.  One environment of several cannot
            be reset, so it plays no other episode after that.
        max_episode_steps: agent steps after which an episode is an error; none: never.
        tell: called after every step of all environments with the episodes that are done and the
            agent steps that were made; what it raises ends the episodes.

    Returns:
        The undiscounted return of every episode.

    Raises:
        EndlessEpisodeError: an episode took longer than `max_episode_steps`.
        EnvironmentFailedError: the environment's own code failed.
    """
    left = quotas(episodes, env.spec.num_envs)
    returns: list[list[float]] = [[] for _ in left]
    lengths: list[list[int]] = [[] for _ in left]
    optima: list[list[float]] = [[] for _ in left]
    score, length = np.zeros(len(left)), np.zeros(len(left), dtype=np.int64)
    unfinished = total = 0
    for step in steps(env, agent, generator, _reset(env)):
        # One transfer for the three of them.
        reward, *flags = torch.stack([step.reward, step.valid.float(), step.ended.float()]).cpu()
        score += reward.numpy()
        valid, over = (flag.bool().numpy() for flag in flags)
        length += valid
        total += int(valid.sum())
        counted = np.flatnonzero(over if step_limit is None else over | (length >= step_limit))
        optimum = env.optimum if len(counted) else None
        for index in counted:
            if left[index] > 0:
                left[index] = left[index] - 1 if over[index] else 0
                unfinished += not over[index]
                returns[index].append(float(score[index]))
                lengths[index].append(int(length[index]))
                if optimum is not None:
                    optima[index].append(float(optimum[index]))
            score[index] = length[index] = 0
        tell(episodes - sum(left), total)
        if not any(left):
            break
        longest = int(length[np.array(left) > 0].max())
        if max_episode_steps is not None and longest >= max_episode_steps:
            raise EndlessEpisodeError(
                f"an episode of {env.spec.name} has not ended after {longest:,} agent steps"
            )
    return Scores(
        tuple(value for each in returns for value in each),
        tuple(value for each in lengths for value in each),
        tuple(value for each in optima for value in each),
        unfinished,
    )


@dataclass(frozen=True)
class Moment:
    """What can be seen of an episode at one time."""

    picture: UInt8[np.ndarray, "H W 3"]
    score: float
    """Raw reward so far."""
    step: int
    """Agent steps so far."""
    ended: bool
    """Whether the episode is over."""


def watch(env: VecEnv, agent: ActorCritic, generator: torch.Generator) -> Iterator[Moment]:
    """Plays one episode in the first environment and shows every moment of it.

    The first moment is the one after the reset; the last has `ended`.

    Args:
        env: is reset first, and must have been built with `render`.
        agent: the policy that plays.
        generator: what the actions are drawn from.
    """
    observation = _reset(env)
    score, length = 0.0, 0
    yield Moment(env.render(), score, length, ended=False)
    for step in steps(env, agent, generator, observation):
        score += float(step.reward[0])
        length += int(step.valid[0])
        ended = bool(step.ended[0])
        yield Moment(env.render(), score, length, ended)
        if ended:
            return
