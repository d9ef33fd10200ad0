"""Any other Gymnasium environment, by its id: CartPole-v1, MiniGrid-Empty-8x8-v0, ...

Towers et al. 2024, "Gymnasium: A Standard Interface for Reinforcement Learning
Environments" (https://arxiv.org/abs/2407.17032).  The environments step one after
the other on the host; learning is on the device that is asked for.
"""

from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor

from envs.base import EnvSpec, Step, VecEnv, check_action, check_action_range
from envs.names import canonical, departures, nearest, separated_seeds
from gridworld.options import OptionError, mention


@dataclass(frozen=True)
class GymConfig:
    """Options of Gymnasium environments."""

    max_episode_steps: int = 0
    """Agent steps until truncation; 0 for the limit the environment is registered with."""
    observation_key: str = ""
    """Which entry of a dictionary observation to learn from: `image` in MiniGrid."""

    def __post_init__(self) -> None:
        if self.max_episode_steps < 0:
            raise OptionError(
                "max_episode_steps",
                f"must not be negative, but is {self.max_episode_steps}; "
                "use 0 for the environment's own limit.",
            )

    @staticmethod
    def names() -> tuple[str, ...]:
        """Lists the registered ids."""
        return tuple(gymnasium.registry)

    def build(
        self, name: str, num_envs: int, seed: int, device: torch.device, render: bool = False
    ) -> "GymVecEnv":
        """Makes `num_envs` environments whose tensors live on `device`.

        Args:
            name: a registered id, whatever its case.
            num_envs: B.
            seed: of the run.
            device: of the learner.
            render: whether pictures will be asked for.

        Raises:
            ValueError: it is unknown, lacks a package, or has no finite actions or pictures.
        """
        known = canonical(name, self.names())
        if known is None:
            likely = ", ".join(nearest(name, self.names()))
            raise ValueError(f"Unknown Gymnasium environment '{name}': did you mean {likely}?")
        return GymVecEnv(self, known, num_envs, seed, device, render)


class GymVecEnv(VecEnv):
    """B Gymnasium environments, stepped one after the other.

    Pixels (a uint8 box of rank 3) stay uint8 with channels first; every other box
    becomes float32.  A step that terminates is never also truncated: it has no
    future to bootstrap from.
    """

    def __init__(
        self,
        config: GymConfig,
        name: str,
        num_envs: int,
        seed: int,
        device: torch.device,
        render: bool,
    ) -> None:
        self.device = device
        self._renders = render
        self._pool = _make(name, num_envs, config.max_episode_steps, render)
        self._key = config.observation_key
        actions = _discrete(name, self._pool.single_action_space)
        observation = _box(name, self._pool.single_observation_space, self._key)
        self._first_action = int(actions.start)
        self._is_pixels = observation.dtype == np.uint8 and len(observation.shape) == 3
        shape = observation.shape
        # Colour images come with channels last, stacked grey frames with channels first.
        self._moves_channels = self._is_pixels and shape[-1] <= shape[0]
        self.spec = EnvSpec(
            name=name,
            num_envs=num_envs,
            observation_shape=(shape[-1], *shape[:-1]) if self._moves_channels else shape,
            observation_dtype=torch.uint8 if self._is_pixels else torch.float32,
            num_actions=int(actions.n),
            action_set=f"{name}:discrete{actions.n}",
            protocol="raw" + departures(config),
            num_frames=shape[0] if self._is_pixels and not self._moves_channels else 1,
            steps_per_second=float(self._pool.metadata.get("render_fps") or 15),
        )
        # A list, since one number would seed environment i with seed + i.
        self._seeds: Any = separated_seeds(seed, num_envs)
        self._must_reset = np.zeros(num_envs, dtype=bool)

    def reset(self) -> Shaped[Tensor, " B *shape"]:
        """Starts a fresh episode everywhere; the first call seeds the environments."""
        observation, _ = self._pool.reset(seed=self._seeds)
        self._seeds = None
        self._must_reset = np.zeros(self.spec.num_envs, dtype=bool)
        return self._observe(observation)

    def step(self, action: Int[Tensor, " B"]) -> Step:
        """Plays one agent step."""
        check_action(action, self.spec)
        # Host synchronisation: Gymnasium environments live on the CPU.
        host_action = action.cpu()
        check_action_range(host_action, self.spec)
        observation, reward, terminated, truncated, _ = self._pool.step(
            host_action.numpy() + self._first_action
        )
        truncated = truncated & ~terminated
        valid = ~self._must_reset
        self._must_reset = terminated | truncated
        flags = np.stack([terminated, truncated, valid, self._must_reset])
        # One transfer for the four of them.
        on_device = torch.from_numpy(flags).to(self.device)
        return Step(
            observation=self._observe(observation),
            reward=torch.from_numpy(reward).float().to(self.device),
            terminated=on_device[0],
            truncated=on_device[1],
            valid=on_device[2],
            ended=on_device[3],
        )

    def render(self, index: int = 0) -> UInt8[np.ndarray, "H W 3"]:
        """Draws one environment by its own `rgb_array` picture."""
        if not self._renders:
            return super().render(index)
        try:
            picture: Any = self._pool.envs[index].render()
        except gymnasium.error.Error as error:
            raise ValueError(f"{self.spec.name} cannot be drawn: {_sentence(error)}") from error
        return np.asarray(picture)

    def close(self) -> None:
        """Closes all environments."""
        self._pool.close()

    def _observe(self, observation: Any) -> Shaped[Tensor, " B *shape"]:
        array = observation[self._key] if self._key else observation
        tensor = torch.from_numpy(array).to(self.device, self.spec.observation_dtype)
        return tensor.movedim(-1, 1).contiguous() if self._moves_channels else tensor


def _make(name: str, num_envs: int, max_episode_steps: int, render: bool) -> SyncVectorEnv:
    # Not even None where there are no pictures: an environment need not know the word.
    drawing: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
    try:
        pool = gymnasium.make_vec(
            name,
            num_envs,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": AutoresetMode.NEXT_STEP},
            max_episode_steps=max_episode_steps or None,
            **drawing,
        )
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise ValueError(
            f"{name} needs the package {package}, which is not installed: install it, or choose "
            "another environment."
        ) from error
    except Exception as error:  # an environment's own code may fail in any way
        raise ValueError(f"{name} could not be made: {_sentence(error)}") from error
    assert isinstance(pool, SyncVectorEnv)
    if render and "rgb_array" not in pool.metadata.get("render_modes", ()):
        raise ValueError(f"{name} cannot be drawn: it has no picture of the kind rgb_array.")
    return pool


def _sentence(error: Exception) -> str:
    """What it says in one line, or at least what kind it is."""
    return " ".join(str(error).split()) or type(error).__name__


def _discrete(name: str, space: Any) -> spaces.Discrete:
    match space:
        case spaces.Discrete():
            return space
    raise ValueError(f"{name} has the actions {space}; only a finite set (Discrete) is supported.")


def _box(name: str, space: Any, key: str) -> spaces.Box:
    match space:
        case spaces.Box() if not key:
            return space
        case spaces.Dict():
            boxes = {k: entry for k, entry in space.items() if isinstance(entry, spaces.Box)}
            if key in boxes:
                return boxes[key]
            raise OptionError(
                "",
                f"{name} observes a dictionary: set {mention('observation_key')} to one of "
                f"{', '.join(boxes)}.",
            )
    if key:
        key = f"{mention('observation_key')} {key}"
        raise OptionError("", f"{name} observes no dictionary: drop {key}.")
    raise ValueError(f"{name} observes {space}; only arrays (Box) are supported.")
