"""Plays the environments with the current agent and records trajectories.

`Collector` keeps what continues from one trajectory to the next; `Record` holds the
buffers of the trajectory in progress.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from agents.networks.actor_critic import ActionSample, ActorCritic
from agents.runtime.graphs import Capture, Graphs
from agents.trajectory import Trajectory
from envs.base import Step, VecEnv, guarding
from envs.episodes import Episodes


class Record:
    """The buffers of one trajectory, on the environments' device; raw rewards until the end."""

    def __init__(
        self,
        length: int,
        observation: Shaped[Tensor, " B *shape"],
        episode_start: Bool[Tensor, " B"],
        core_state: Float[Tensor, "B F"] | None = None,
        state: Int[Tensor, " B"] | None = None,
    ) -> None:
        """Makes room for `length` steps.

        Args:
            length: T.
            observation: the first one.
            episode_start: True where `observation` is the first of an episode.
            core_state: of the recurrent core before it.
            state: of a gridworld at it.
        """
        size, device = (length, len(observation)), observation.device
        self.observation = observation.new_empty((length + 1, *observation.shape))
        self.observation[0] = observation
        self.action = torch.empty(size, dtype=torch.int64, device=device)
        self.log_probability = torch.empty(size, device=device)
        self.value = torch.empty((length + 1, len(observation)), device=device)
        self._reward = torch.empty(size, device=device)
        # Terminated, truncated, valid, ended.
        self._flags = torch.empty((4, *size), dtype=torch.bool, device=device)
        self._state: Tensor | None = None
        if state is not None:
            self._state = state.new_empty((length + 1, len(state)))
            self._state[0] = state
        self._episode_start = episode_start
        self._core_state = core_state

    def write(self, t: int, where: slice, step: Step) -> None:
        """Writes the environments' answer to the actions of time t into the buffers.

        Args:
            t: from 0 to T - 1.
            where: which environments `step` is of.
            step: their answer; its observation is that of time t + 1.
        """
        self.observation[t + 1, where] = step.observation
        self._reward[t, where] = step.reward
        flags = (step.terminated, step.truncated, step.valid, step.ended)
        for kind, flag in zip(self._flags, flags, strict=True):
            kind[t, where] = flag
        if self._state is not None:
            # Of several kinds of environments, some may have none.
            self._state[t + 1, where] = 0 if step.state is None else step.state

    def step(self, t: int) -> Step:
        """The step of time t, once all environments have answered."""
        terminated, truncated, valid, ended = self._flags[:, t]
        return Step(self.observation[t + 1], self._reward[t], terminated, truncated, valid, ended)

    def trajectory(self, *, signs: Sequence[slice], with_value: bool) -> Trajectory:
        """The trajectory, once all steps are there.

        Args:
            signs: environments whose rewards are reduced to their sign.
            with_value: whether the values were recorded.
        """
        terminated, truncated, valid, _ = self._flags
        reward = self._reward.clone() if signs else self._reward
        for where in signs:
            reward[:, where].sign_()
        return Trajectory(
            action=self.action,
            reward=reward,
            terminated=terminated,
            truncated=truncated,
            valid=valid,
            log_probability=self.log_probability,
            observation=self.observation,
            state=self._state,
            core_state=self._core_state,
            episode_start=self._episode_start,
            value=self.value if with_value else None,
        )


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


class Played:
    """One task of a collector: who acts in which environments, and how the episodes end."""

    def __init__(self, agent: ActorCritic, env: VecEnv, where: slice) -> None:
        """Starts without any finished episode.

        Args:
            agent: acts.
            env: the task's.
            where: its environments among all.
        """
        self.agent, self.env, self.where = agent, env, where
        self.episodes = Episodes(env.spec.num_envs, env.device)


class Collector:
    """Plays trajectories, and keeps what continues from one to the next.

    Where the environments come in several parts, one part plays while the agent chooses
    for the next: the parts take turns in a fixed order, so nothing depends on who is faster.
    """

    def __init__(
        self,
        env: VecEnv,
        agent: ActorCritic,
        generator: torch.Generator,
        unroll_length: int,
        *,
        records_value: bool = False,
        others: Sequence[ActorCritic] = (),
    ) -> None:
        """Resets the environments.

        Args:
            env: to be played; several tasks are one `TaskVecEnv`.
            agent: acts.
            generator: of the sampled actions, on the environments' device.
            unroll_length: T.
            records_value: whether trajectories carry the agent's values.
            others: act in the environments of the second task and those after it; they have the
                first one's torso and core.
        """
        self.env = env
        self.tasks = tuple(
            Played(*played)
            for played in zip((agent, *others), env.tasks, _slices(env.tasks), strict=True)
        )
        self.clock = Clock()
        self.generator = generator
        self._agent = agent
        self._unroll_length = unroll_length
        self._records_value = records_value
        self._graphs: Graphs | None = None
        agents = [task.agent for task in self.tasks for _ in task.env.parts]
        self._parts = tuple(zip(env.parts, _slices(env.parts), agents, strict=True))
        self._signs = [
            task.where for task in self.tasks if task.env.spec.reward_transform == "sign"
        ]
        with guarding(env.spec.name):
            observation = env.reset()
        self._begin(observation)

    def _begin(self, observation: Shaped[Tensor, " B *shape"]) -> None:
        num_envs, device = self.env.spec.num_envs, self.env.device
        self._observation = observation
        self._episode_start = torch.ones(num_envs, dtype=torch.bool, device=device)
        core = self._agent.core
        self._core_state = (
            None if core is None else torch.zeros(num_envs, core.state_size, device=device)
        )

    def capture(self, capture: Capture) -> None:
        """From now on acts by CUDA graphs, or by what stands in for them.

        Args:
            capture: makes the graphs, in which actions are drawn from `generator`.
        """
        self._graphs = Graphs(capture)

    def collect(self) -> Trajectory:
        """Plays T agent steps in every environment."""
        record = Record(
            self._unroll_length,
            self._observation,
            self._episode_start,
            self._core_state,
            self.env.state,
        )
        # A graph casts the weights itself: those that were cast before it would be old ones.
        with nullcontext() if self._graphs else self._agent.frozen():
            for t in range(self._unroll_length + 1):
                for part, where, agent in self._parts:
                    if t > 0:
                        self._receive(record, t - 1, part, where)
                    if t < self._unroll_length:
                        self._act(record, t, part, where, agent)
                if t > 0:
                    step = record.step(t - 1)
                    for task in self.tasks:
                        task.episodes.update(step if len(self.tasks) == 1 else step.of(task.where))
            self._observation = record.observation[-1]
            if self._records_value:
                for task in self.tasks:
                    record.value[-1, task.where] = self._value_of_the_last(task)
        return record.trajectory(signs=self._signs, with_value=self._records_value)

    def _act(self, record: Record, t: int, part: VecEnv, where: slice, agent: ActorCritic) -> None:
        start = time.perf_counter()
        state = None if self._core_state is None else self._core_state[where]
        seen = (record.observation[t, where], state, self._episode_start[where])
        if self._graphs is None:
            choice = self._chosen(agent, *seen)
        else:
            form = ("act", id(agent))
            choice = self._graphs.run(form, partial(self._chosen, agent), *seen)
        record.action[t, where] = choice.action
        record.log_probability[t, where] = choice.log_probability
        if self._records_value:
            assert choice.value is not None
            record.value[t, where] = choice.value
        if self._core_state is not None:
            # Not in place: the trajectory holds the state that it began with.
            assert choice.core_state is not None
            self._core_state = _replaced(self._core_state, where, choice.core_state)
        acted = time.perf_counter()
        with guarding(self.env.spec.name):
            part.send(choice.action)
        self.clock.acting += acted - start
        self.clock.environment += time.perf_counter() - acted

    def _receive(self, record: Record, t: int, part: VecEnv, where: slice) -> None:
        start = time.perf_counter()
        with guarding(self.env.spec.name):
            step = part.receive()
        record.write(t, where, step)
        self._episode_start = _replaced(self._episode_start, where, ~step.valid)
        self.clock.environment += time.perf_counter() - start

    def _chosen(
        self, agent: ActorCritic, observation: Tensor, state: Tensor | None, start: Tensor
    ) -> ActionSample:
        return agent.act(observation, self.generator, state, start)

    def _value_of_the_last(self, task: "Played") -> Float[Tensor, " B"]:
        """The value, by the agent as it is now, of the observation after the last step."""
        state = None if self._core_state is None else self._core_state[task.where]
        seen = (self._observation[task.where], state, self._episode_start[task.where])
        if self._graphs is None:
            return _valued(task.agent, *seen)
        form = ("value", id(task.agent))
        return self._graphs.run(form, partial(_valued, task.agent), *seen)

    @property
    def episodes(self) -> Episodes:
        """Those of the first task."""
        return self.tasks[0].episodes

    def remember(self, state: Mapping[str, Any]) -> None:
        """Takes the episodes of an earlier `state_dict` over."""
        saved = [state["episodes"], *state.get("others", [])]
        for task, episodes in zip(self.tasks, saved, strict=True):
            task.episodes.load_state_dict(episodes)

    def restart(self) -> None:
        """Forgets the episodes under way, as after `VecEnv.reset`; finished ones stay."""
        for task in self.tasks:
            task.episodes.restart()

    def go_on_from(self, observation: Shaped[Tensor, " B *shape"]) -> None:
        """Continues from an observation that the environment has just been restored to."""
        self._observation = observation

    def state_dict(self) -> dict[str, Any]:
        """What the next trajectory depends on, except agent and environments."""
        return {
            "acting": self.generator.get_state(),
            "episodes": self.episodes.state_dict(),
            "others": [task.episodes.state_dict() for task in self.tasks[1:]],
            "opens": self._episode_start,
            "core_state": self._core_state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`; the observation is left to `go_on_from`."""
        if self._graphs is not None:
            self._graphs.forget()
        self.generator.set_state(state["acting"])
        self.remember(state)
        self._episode_start = state["opens"].to(self.env.device)
        if state["core_state"] is not None:
            self._core_state = state["core_state"].to(self.env.device)


@torch.no_grad()
def _valued(agent: ActorCritic, observation: Tensor, state: Tensor | None, start: Tensor) -> Tensor:
    value: Tensor = agent(observation.unsqueeze(0), state, start.unsqueeze(0)).value
    return value[0]


def _slices(parts: Sequence[VecEnv]) -> Iterator[slice]:
    """Which environments each part plays."""
    start = 0
    for part in parts:
        yield slice(start, start + part.spec.num_envs)
        start += part.spec.num_envs


def _replaced(
    whole: Shaped[Tensor, " B *shape"], where: slice, part: Shaped[Tensor, " B2 *shape"]
) -> Shaped[Tensor, " B *shape"]:
    """A new tensor, since a trajectory may hold the old one."""
    if len(part) == len(whole):
        return part
    changed = whole.clone()
    changed[where] = part
    return changed
