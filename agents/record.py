"""What is being collected: T agent steps of B environments, filled in part by part."""

import torch
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from agents.types import Trajectory
from envs.base import Step


class Record:
    """The buffers of one trajectory, on the environments' device; raw rewards until the end."""

    def __init__(
        self,
        length: int,
        observation: Shaped[Tensor, " B *shape"],
        begins: Bool[Tensor, " B"],
        core_state: Float[Tensor, "B F"] | None = None,
        state: Int[Tensor, " B"] | None = None,
    ) -> None:
        """Makes room for `length` steps.

        Args:
            length: T.
            observation: the first one.
            begins: where it opens an episode.
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
        self._begins = begins
        self._core_state = core_state

    def write(self, t: int, where: slice, step: Step) -> None:
        """Notes what some environments answered to the actions of time t."""
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
            begins=self._begins,
            value=self.value if with_value else None,
        )
