"""`auxgate/Gridworld-v0`: the gridworld for any library that speaks Gymnasium.

    import envs
    env = gymnasium.make("auxgate/Gridworld-v0")
    many = gymnasium.make_vec("auxgate/Gridworld-v0", num_envs=64)
    other = gymnasium.make("auxgate/Gridworld-v0", config=GridConfig(layout="rooms"))

Towers et al. 2024 (https://arxiv.org/abs/2407.17032).  NumPy in and out, on the CPU; the
worlds are made once and shared by all environments of the same options.
"""

from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Float32, Shaped, UInt8

from envs.gridworld.config import GridConfig
from envs.gridworld.vec_env import GridVecEnv

ID = "auxgate/Gridworld-v0"
NAME = "Gridworld"
USUAL = GridConfig(observation="flat")
_METADATA: dict[str, Any] = {
    "render_modes": ["rgb_array"],
    "render_fps": 15,
    "autoreset_mode": AutoresetMode.NEXT_STEP,
}


def register() -> None:
    """Makes the id known to `gymnasium.make` and `gymnasium.make_vec`."""
    gymnasium.register(
        ID,
        entry_point="envs.gridworld.gymnasium:GridworldEnv",
        vector_entry_point="envs.gridworld.gymnasium:GridworldVectorEnv",
    )


class GridworldEnv(gymnasium.Env[Any, Any]):
    """One agent; `reset` puts it into a world drawn from the pool."""

    metadata = _METADATA

    def __init__(self, config: GridConfig = USUAL, render_mode: str | None = None) -> None:
        """Makes the worlds, or finds them made.

        Args:
            config: options, as on the command line.
            render_mode: `rgb_array`, or none.
        """
        self.render_mode = render_mode
        self._config = config
        self._env = _build(config, 1, 0)
        self.observation_space = _observation_space(self._env)
        self.action_space = spaces.Discrete(self._env.spec.num_actions)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Shaped[np.ndarray, "*shape"], dict[str, Any]]:
        """Begins an episode; the first one, and any with a seed, begins a new stream of chance."""
        begins = seed is not None or self._np_random is None
        super().reset(seed=seed)
        if begins:
            self._env = _build(self._config, 1, int(self.np_random.integers(2**63)))
        return self._env.reset()[0].numpy(), {}

    def step(
        self, action: Any
    ) -> tuple[Shaped[np.ndarray, "*shape"], float, bool, bool, dict[str, Any]]:
        """Plays one agent step."""
        step = self._env.step(torch.tensor([int(action)]))
        return (
            step.observation[0].numpy(),
            float(step.reward[0]),
            bool(step.terminated[0]),
            bool(step.truncated[0]),
            {},
        )

    def render(self) -> UInt8[np.ndarray, "H W 3"] | None:
        """Draws the whole world."""
        return self._env.render() if self.render_mode == "rgb_array" else None


class GridworldVectorEnv(VectorEnv[Any, Any, Any]):
    """B agents, stepped together without a loop; autoreset in the next step."""

    metadata = _METADATA

    def __init__(
        self, num_envs: int, config: GridConfig = USUAL, render_mode: str | None = None
    ) -> None:
        """Makes the worlds, or finds them made.

        Args:
            num_envs: B.
            config: options, as on the command line.
            render_mode: `rgb_array`, or none.
        """
        self.num_envs = num_envs
        self.render_mode = render_mode
        self._config = config
        self._env = _build(config, num_envs, 0)
        self.single_observation_space = _observation_space(self._env)
        self.single_action_space = spaces.Discrete(self._env.spec.num_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Shaped[np.ndarray, " B *shape"], dict[str, Any]]:
        """Begins an episode everywhere; one number seeds all environments.

        Raises:
            ValueError: if there is a seed for each environment.
        """
        if isinstance(seed, list):
            raise ValueError(
                f"{ID} takes one seed for all environments, not a list: each has chance of its own."
            )
        begins = seed is not None or self._np_random is None
        super().reset(seed=seed)
        if begins:
            self._env = _build(self._config, self.num_envs, int(self.np_random.integers(2**63)))
        return self._env.reset().numpy(), {}

    def step(
        self, actions: Any
    ) -> tuple[
        Shaped[np.ndarray, " B *shape"],
        Float32[np.ndarray, " B"],
        Shaped[np.ndarray, " B"],
        Shaped[np.ndarray, " B"],
        dict[str, Any],
    ]:
        """Plays one agent step, or begins the next episode, in every environment."""
        step = self._env.step(torch.as_tensor(np.asarray(actions), dtype=torch.int64))
        return (
            step.observation.numpy(),
            step.reward.numpy(),
            step.terminated.numpy(),
            step.truncated.numpy(),
            {},
        )

    def render(self) -> tuple[UInt8[np.ndarray, "H W 3"], ...] | None:
        """Draws every world."""
        if self.render_mode != "rgb_array":
            return None
        return tuple(self._env.render(index) for index in range(self.num_envs))


def _build(config: GridConfig, num_envs: int, seed: int) -> GridVecEnv:
    return config.build(NAME, num_envs, seed, torch.device("cpu"), render=True)


def _observation_space(env: GridVecEnv) -> spaces.Box:
    spec = env.spec
    if spec.num_symbols:
        return spaces.Box(0, spec.num_symbols - 1, spec.observation_shape, np.uint8)
    return spaces.Box(0.0, 1.0, spec.observation_shape, np.float32)
