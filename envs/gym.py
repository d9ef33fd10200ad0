"""Any other Gymnasium environment, by its id: CartPole-v1, minigrid:MiniGrid-Empty-8x8-v0, ...

Towers et al. 2024, "Gymnasium: A Standard Interface for Reinforcement Learning
Environments" (https://arxiv.org/abs/2407.17032).  The environments step one after
the other on the host; learning is on the device that is asked for.
"""

import ast
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from jaxtyping import Int, Shaped, UInt8
from torch import Tensor

from envs.base import (
    EnvSpec,
    PictureError,
    Step,
    VecEnv,
    check_action,
    check_action_range,
    check_room,
    moved,
)
from envs.names import departures, locate, sentence, separated_seeds
from envs.observations import encoding_of
from gridworld.options import OptionError, mention

_ENV_BYTES = 2**11
"""The least memory of one environment; measured: 3.2 KiB (CartPole-v1), 26 KiB (FrozenLake-v1)."""


@dataclass(frozen=True)
class GymConfig:
    """Options of Gymnasium environments."""

    max_episode_steps: int = 0
    """Agent steps until truncation; 0 for the limit the environment is registered with."""
    observation_key: str = ""
    """Which entry of a dictionary to learn from; empty: its picture, or all of it in a vector."""
    kwargs: tuple[str, ...] = ()
    """Arguments of the environment, as map_name=8x8 is_slippery=false."""
    raw_arrays: bool = False
    """Take arrays as runs of earlier versions did: only bytes of three axes are pictures."""

    ABSENT: ClassVar[Mapping[str, Any]] = {"raw_arrays": True}
    """Options that were saved before they existed, and what was done then."""

    def __post_init__(self) -> None:
        arguments_of(self.kwargs)
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
            name: a registered id, whatever its case, or `module:Id`.
            num_envs: B.
            seed: of the run.
            device: of the learner.
            render: whether pictures will be asked for.

        Raises:
            ValueError: it is unknown, lacks a package, has no finite actions or pictures, or does
                not fit into memory so often.
        """
        check_room(num_envs, _ENV_BYTES, torch.device("cpu"))
        return GymVecEnv(self, locate(name), num_envs, seed, device, render)


_TAKEN: Mapping[str, str] = {
    "max_episode_steps": "is an option: use it instead",
    "render_mode": "is set where pictures are needed",
    **dict.fromkeys(
        (
            "id",
            "num_envs",
            "vectorization_mode",
            "vector_kwargs",
            "wrappers",
            "disable_env_checker",
        ),
        "is an argument of Gymnasium's own, not of an environment",
    ),
}
"""Arguments that no environment can be given, and why."""


def arguments_of(given: tuple[str, ...]) -> dict[str, Any]:
    """Reads the arguments of an environment's constructor.

    A value is JSON (`false`, `0.5`, `[1, 2]`), else a literal of Python (`False`, `None`), else
    text.

    Args:
        given: each as NAME=VALUE.

    Raises:
        OptionError: one has no name or no value, or is given twice.
    """
    arguments: dict[str, Any] = {}
    for each in given:
        name, equals, text = each.partition("=")
        if not equals or not name.isidentifier():
            raise OptionError("kwargs", f"takes arguments as NAME=VALUE, not '{each}'.")
        if name in arguments:
            raise OptionError("kwargs", f"has {name} twice: give it once.")
        if name in _TAKEN:
            raise OptionError("kwargs", f"cannot have {name}, which {_TAKEN[name]}.")
        arguments[name] = _value(text)
    return arguments


def _value(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return text


class GymVecEnv(VecEnv):
    """B Gymnasium environments, stepped one after the other.

    What is seen of an observation, `envs.observations` decides.  A step that terminates is never
    also truncated: it has no future to bootstrap from.
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
        """Makes B environments and checks that agents can play them.

        Args:
            config: the options, such as the limit of steps.
            name: a registered Gymnasium id, or `module:Id` whose module was imported.
            num_envs: B, the environments.
            seed: distinct seeds of the environments follow from it.
            device: where observations, rewards and flags go.
            render: whether `render` will be called.
        """
        self.device = device
        self._renders = render
        self._pool = _make(name, num_envs, config, render)
        space = self._pool.single_observation_space
        actions = _discrete(name, self._pool.single_action_space)
        self._encoding = encoding_of(name, space, config.observation_key, config.raw_arrays)
        self._first_action = int(actions.start)
        self.spec = EnvSpec(
            name=name,
            num_envs=num_envs,
            observation_shape=self._encoding.shape,
            observation_dtype=self._encoding.dtype,
            num_actions=int(actions.n),
            action_set=f"{name.rpartition(':')[2]}:discrete{actions.n}",
            protocol=_protocol(config),
            num_frames=self._encoding.num_frames,
            steps_per_second=float(self._pool.metadata.get("render_fps") or 15),
            note=self._encoding.note,
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
        on_device = moved(torch.from_numpy(flags), self.device)
        return Step(
            observation=self._observe(observation),
            reward=moved(torch.from_numpy(reward).float(), self.device),
            terminated=on_device[0],
            truncated=on_device[1],
            valid=on_device[2],
            ended=on_device[3],
        )

    def render(self, index: int = 0) -> UInt8[np.ndarray, "H W 3"]:
        """Draws one environment by its own `rgb_array` picture.

        Raises:
            PictureError: it fails, or returns no picture.
        """
        if not self._renders:
            return super().render(index)
        try:
            picture: Any = self._pool.envs[index].render()
        except Exception as error:  # an environment's own code may fail in any way
            raise PictureError(f"{self.spec.name} cannot be drawn: {sentence(error)}.") from error
        return _rgb(self.spec.name, picture)

    def close(self) -> None:
        """Closes all environments."""
        self._pool.close()

    def _observe(self, observation: Any) -> Shaped[Tensor, " B *shape"]:
        return moved(torch.from_numpy(self._encoding.encode(observation)), self.device)


def _protocol(config: GymConfig) -> str:
    """Names what makes scores incomparable."""
    usual = replace(config, kwargs=(), raw_arrays=False)
    return "raw" + departures(usual) + "".join(f"+{each}" for each in config.kwargs)


def _make(name: str, num_envs: int, config: GymConfig, render: bool) -> SyncVectorEnv:
    arguments = arguments_of(config.kwargs)
    # Not even None where there are no pictures: an environment need not know the word.
    drawing: dict[str, Any] = {"render_mode": "rgb_array"} if render else {}
    known = name.rpartition(":")[2]
    try:
        pool = gymnasium.make_vec(
            known,
            num_envs,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": AutoresetMode.NEXT_STEP},
            max_episode_steps=config.max_episode_steps or None,
            **drawing,
            **arguments,
        )
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        raise ValueError(
            f"{name} needs the package {package}, which is not installed: install it, or choose "
            "another environment."
        ) from error
    except Exception as error:  # an environment's own code may fail in any way
        _check_arguments(name, known, arguments)
        given = f" with {mention('kwargs')} {' '.join(config.kwargs)}" if arguments else ""
        raise OptionError("", f"{name} could not be made{given}: {sentence(error)}.") from error
    assert isinstance(pool, SyncVectorEnv)
    if render and "rgb_array" not in pool.metadata.get("render_modes", ()):
        raise ValueError(f"{name} cannot be drawn: it has no picture of the kind rgb_array.")
    return pool


def _check_arguments(name: str, known: str, arguments: Mapping[str, Any]) -> None:
    """Refuses arguments that a constructor does not have, where its signature tells.

    Args:
        name: of the environment, for the error.
        known: its id.
        arguments: that it was given.

    Raises:
        OptionError: there is such an argument.
    """
    spec = gymnasium.registry[known]
    try:
        entry: Any = spec.entry_point
        parameters = inspect.signature(
            load_env_creator(entry) if isinstance(entry, str) else entry
        ).parameters
    except Exception:  # whatever it is, the first error says more
        return
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return
    takes = [each for each in parameters if each != "render_mode"]
    for argument in arguments:
        if argument not in parameters:
            raise OptionError(
                "kwargs",
                f"cannot have {argument}, which {name} does not know: it takes "
                f"{', '.join(takes) or 'none'}.",
            )


def _rgb(name: str, picture: Any) -> UInt8[np.ndarray, "H W 3"]:
    """The picture that an environment drew, where it is one of bytes."""
    if not isinstance(picture, np.ndarray):
        what = "nothing" if picture is None else f"a {type(picture).__name__}"
    else:
        what = f"{picture.dtype} of shape {picture.shape}"
        if picture.dtype == np.uint8 and picture.size:
            match picture.shape:
                case (_, _):
                    return np.repeat(picture[..., None], 3, axis=2)
                case (_, _, 1):
                    return np.repeat(picture, 3, axis=2)
                case (_, _, 3 | 4):
                    return picture[..., :3]
    raise PictureError(
        f"{name} cannot be drawn: its render() returned {what} instead of a picture, which is a "
        "uint8 array of height, width and 3."
    )


def _discrete(name: str, space: Any) -> spaces.Discrete:
    match space:
        case spaces.Discrete():
            return space
    raise ValueError(f"{name} has the actions {space}; only a finite set (Discrete) is supported.")
