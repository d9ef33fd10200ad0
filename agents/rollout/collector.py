"""Plays the environments with the current agent and records trajectories.

`Collector` keeps what continues from one trajectory to the next; `Record` holds the
buffers of the trajectory in progress.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
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
            assert step.state is not None
            self._state[t + 1, where] = step.state

    def step(self, t: int) -> Step:
        """The step of time t, once all environments have answered."""
        terminated, truncated, valid, ended = self._flags[:, t]
        return Step(self.observation[t + 1], self._reward[t], terminated, truncated, valid, ended)

    def trajectory(self, *, sign: bool, with_value: bool) -> Trajectory:
        """The trajectory, once all steps are there.

        Args:
            sign: whether rewards are reduced to their sign.
            with_value: whether the values were recorded.
        """
        terminated, truncated, valid, _ = self._flags
        return Trajectory(
            action=self.action,
            reward=self._reward.sign() if sign else self._reward,
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
    ) -> None:
        """Resets the environments.

        Args:
            env: to be played.
            agent: acts.
            generator: of the sampled actions, on the environments' device.
            unroll_length: T.
            records_value: whether trajectories carry the agent's values.
        """
        self.env = env
        self.episodes = Episodes(env.spec.num_envs, env.device)
        self.clock = Clock()
        self.generator = generator
        self._agent = agent
        self._unroll_length = unroll_length
        self._records_value = records_value
        self._graphs: Graphs | None = None
        self._slices = tuple(_slices(env.parts))
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
                for part, where in zip(self.env.parts, self._slices, strict=True):
                    if t > 0:
                        self._receive(record, t - 1, part, where)
                    if t < self._unroll_length:
                        self._act(record, t, part, where)
                if t > 0:
                    self.episodes.update(record.step(t - 1))
            self._observation = record.observation[-1]
            if self._records_value:
                record.value[-1] = self._value_of_the_last()
        sign = self.env.spec.reward_transform == "sign"
        return record.trajectory(sign=sign, with_value=self._records_value)

    def _act(self, record: Record, t: int, part: VecEnv, where: slice) -> None:
        start = time.perf_counter()
        state = None if self._core_state is None else self._core_state[where]
        seen = (record.observation[t, where], state, self._episode_start[where])
        if self._graphs is None:
            choice = self._chosen(*seen)
        else:
            choice = self._graphs.run("act", self._chosen, *seen)
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

    def _chosen(self, observation: Tensor, state: Tensor | None, start: Tensor) -> ActionSample:
        return self._agent.act(observation, self.generator, state, start)

    def _value_of_the_last(self) -> Float[Tensor, " B"]:
        """The value, by the agent as it is now, of the observation after the last step."""
        seen = (self._observation, self._core_state, self._episode_start)
        if self._graphs is None:
            return self._valued(*seen)
        return self._graphs.run("value", self._valued, *seen)

    @torch.no_grad()
    def _valued(self, observation: Tensor, state: Tensor | None, start: Tensor) -> Tensor:
        value: Tensor = self._agent(observation.unsqueeze(0), state, start.unsqueeze(0)).value
        return value[0]

    def go_on_from(self, observation: Shaped[Tensor, " B *shape"]) -> None:
        """Continues from an observation that the environment has just been restored to."""
        self._observation = observation

    def state_dict(self) -> dict[str, Any]:
        """What the next trajectory depends on, except agent and environments."""
        return {
            "acting": self.generator.get_state(),
            "episodes": self.episodes.state_dict(),
            "opens": self._episode_start,
            "core_state": self._core_state,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from `state_dict`; the observation is left to `go_on_from`."""
        if self._graphs is not None:
            self._graphs.forget()
        self.generator.set_state(state["acting"])
        self.episodes.load_state_dict(state["episodes"])
        self._episode_start = state["opens"].to(self.env.device)
        if state["core_state"] is not None:
            self._core_state = state["core_state"].to(self.env.device)


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


class Pipeline:
    """Plays the next trajectory in a second thread while the learner learns from the last one.

    The policy that plays is then one update behind the one that learns (policy lag 1), which
    the importance ratios of V-trace and PPO correct: Espeholt et al. 2018, "IMPALA"
    (https://arxiv.org/abs/1802.01561, section 3).  The lag is always exactly one, so runs of
    one seed stay alike.
    """

    def __init__(self, collector: Collector, player: ActorCritic, learned: ActorCritic) -> None:
        """Starts nothing yet.

        Args:
            collector: plays with `player`.
            player: a copy of the agent that only the collector uses.
            learned: the agent, whose weights the player takes over between trajectories.
        """
        self.clock = Clock()
        self._collector = collector
        # Without gradient, but the very same memory.
        self._player: list[Tensor] = list(player.state_dict().values())
        self._learned: list[Tensor] = list(learned.state_dict().values())
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="collector")
        self._next: Future[Trajectory] | None = None
        device = collector.env.device
        # Else actions, which the host waits for, would queue behind the update.
        self._stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None

    @property
    def env(self) -> VecEnv:
        """The environments that are played."""
        return self._collector.env

    @property
    def episodes(self) -> Episodes:
        """Finished episodes, those of the trajectory under way included."""
        self.settle()
        return self._collector.episodes

    def collect(self) -> Trajectory:
        """Returns the trajectory that was played in the meantime, and starts the next one.

        The time that the learner waits counts as the environments'.
        """
        start = time.perf_counter()
        if self._next is None:
            self._begin_next()
            assert self._next is not None
        trajectory = self._next.result()
        if self._stream is not None:
            learning = torch.cuda.current_stream(self._collector.env.device)
            learning.wait_stream(self._stream)
            for tensor in vars(trajectory).values():
                if tensor is not None:
                    # Its memory is not given to others before the learner is done with it.
                    tensor.record_stream(learning)
        self._begin_next()
        self.clock.environment += time.perf_counter() - start
        return trajectory

    def _begin_next(self) -> None:
        """Copies the learned weights, while nobody plays, and plays with them."""
        self._follow()
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(self._collector.env.device))
        self._next = self._thread.submit(self._play)

    def _play(self) -> Trajectory:
        with torch.cuda.stream(self._stream):  # nothing without a stream
            return self._collector.collect()

    @torch.no_grad()
    def _follow(self) -> None:
        torch._foreach_copy_(self._player, self._learned)

    def settle(self) -> None:
        """Waits until no trajectory is being played; `collect` still returns the last one."""
        if self._next is not None:
            self._next.result()

    def state_dict(self) -> dict[str, Any]:
        """The collector's state; the trajectory that is being played is not saved."""
        self.settle()
        return self._collector.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from `state_dict`."""
        self._collector.load_state_dict(state)

    def capture(self, capture: Capture) -> None:
        """From now on acts by CUDA graphs; see `Collector.capture`."""
        self._collector.capture(capture)

    def close(self) -> None:
        """Ends the thread after the trajectory that it is playing."""
        self._thread.shutdown()
