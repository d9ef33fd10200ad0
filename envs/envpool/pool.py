"""Games by envpool, whichever they are: one pool of threads behind `Emulators`.

Weng et al. 2022, "EnvPool: A Highly Parallel Reinforcement Learning Environment
Execution Engine" (https://arxiv.org/abs/2206.10558).

This is the only module that imports envpool, and only when a game is built or
listed, so that everything else works without it.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from gymnasium import spaces
from jaxtyping import Bool, Float, Int, Shaped, UInt8

from envs.emulators import Emulators, Outcome


def is_installed() -> bool:
    """Whether envpool can be imported here."""
    return find_spec("envpool") is not None


def tasks(module: str = "") -> dict[str, str]:
    """Lists what envpool can play.

    Args:
        module: of envpool, such as `atari`; empty for all of them.

    Returns:
        The module that plays it, by envpool's id of each game; nothing without envpool.
    """
    if not is_installed():
        return {}
    from envpool.registration import registry

    modules = {task: path.removeprefix("envpool.") for task, (path, *_) in registry.specs.items()}
    return {task: name for task, name in modules.items() if module in ("", name)}


@dataclass(frozen=True)
class GameSpec:
    """What envpool says of a game before it is started."""

    observation: spaces.Space[Any]
    actions: spaces.Space[Any]
    num_players: int
    time_limit: int
    """Agent steps until an episode is truncated; the largest number there is, or 0, for none."""


def spec_of(task: str) -> GameSpec:
    """Asks envpool for the spec of a game by its id.

    Raises:
        ImportError: a library is missing that the game needs.
    """
    import envpool

    spec: Any = envpool.make_spec(task)
    with _quietly():
        return GameSpec(
            spec.gymnasium_observation_space,
            spec.gymnasium_action_space,
            int(spec.config.max_num_players),
            int(spec.config.max_episode_steps),
        )


def check_installed(name: str) -> None:
    """Refuses a game where envpool is missing.

    Raises:
        ValueError: it is missing.
    """
    if not is_installed():
        raise ValueError(
            f"{name} needs envpool: pip install 'auxgate[envpool]' (Linux, Windows and macOS on "
            "Apple silicon; there is no wheel for macOS on Intel)."
        )


@contextmanager
def _quietly() -> Iterator[None]:
    """Keeps Gymnasium from telling that bounds of observations are rounded to float32."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*precision lowered by casting")
        yield


class EnvpoolEmulators(Emulators):
    """Games in envpool's synchronous mode: in order, whatever the number of threads.

    envpool resets in the step after an end, as the contract has it.  It calls a game that ends
    on the very step of its time limit truncated, whether or not it would have ended anyway; a
    subclass says what is known of that (`_is_over`), and what the agent sees (`_observe`).
    """

    def __init__(
        self,
        task: str,
        seeds: Sequence[int],
        num_threads: int,
        render: bool,
        time_limit: int = 0,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts the threads.

        Args:
            task: the game's id in envpool.
            seeds: one for each environment: a single number would seed the i-th with seed + i.
            num_threads: that play.
            render: whether pictures will be asked for.
            time_limit: agent steps until an episode is truncated, if it is not over before; 0 to
                have envpool's own limit alone.
            options: of the game, by the names that envpool gives them.
        """
        import envpool

        self._pool: Any = envpool.make(
            task,
            env_type="gymnasium",
            num_envs=len(seeds),
            num_threads=num_threads,
            seed=list(seeds),
            render_mode="rgb_array" if render else None,
            **(options or {}),
        )
        with _quietly():
            self.num_actions = int(self._pool.action_space.n)
            space = self._pool.observation_space
        self._time_limit = time_limit or np.iinfo(np.int32).max
        self._must_reset = np.zeros(len(seeds), dtype=np.bool_)
        self._was_cut = self._must_reset
        self.observation_shape = self._shape(space)

    def reset(self) -> Shaped[np.ndarray, " B *shape"]:
        """Starts a new game everywhere."""
        observation, _ = self._pool.reset()
        self._must_reset = self._was_cut = np.zeros_like(self._must_reset)
        return self._observe(observation)

    def send(self, action: Int[np.ndarray, " B"]) -> None:
        """Lets the threads begin a step."""
        self._pool.send(action)

    def receive(self) -> Outcome:
        """Waits for the step, and restarts the games that were cut by our own time limit."""
        raw, reward, terminated, truncated, info = self._pool.recv()
        observation = self._observe(raw)
        length = info["elapsed_step"]
        cut = self._was_cut
        if cut.any():
            # envpool knows nothing of this limit and has played on; what it played is dropped.
            first, _ = self._pool.reset(np.flatnonzero(cut).astype(np.int32))
            observation, length = observation.copy(), np.where(cut, 0, length)
            observation[cut] = self._observe(first)
            reward = np.where(cut, np.float32(0), reward)
            terminated, truncated = terminated & ~cut, truncated & ~cut
        game_over = self._is_over(terminated, truncated, reward, info)
        terminated = terminated | game_over
        truncated = truncated & ~game_over
        self._was_cut = (length >= self._time_limit) & ~(terminated | truncated)
        truncated = truncated | self._was_cut
        valid = ~self._must_reset
        self._must_reset = terminated | truncated
        return Outcome(
            observation, reward, terminated, truncated, valid, ended=game_over | truncated
        )

    def render(self, index: int) -> UInt8[np.ndarray, "H W 3"]:
        """Draws one game by envpool's own picture, in colour."""
        picture: UInt8[np.ndarray, "H W 3"] = self._pool.render(index)[0]
        return picture

    def close(self) -> None:
        """Ends the threads that play."""
        # They end with the last reference; the pool's own `close` shuts viewers only.
        self._pool = None

    def _shape(self, space: spaces.Space[Any]) -> tuple[int, ...]:
        """The shape of what `_observe` returns for one environment."""
        assert space.shape is not None
        return tuple(space.shape)

    def _observe(self, raw: Any) -> Shaped[np.ndarray, " B *shape"]:
        """What the agent sees of envpool's observation, which is memory of its own each step."""
        observation: Shaped[np.ndarray, " B *shape"] = raw
        return observation

    def _is_over(
        self,
        terminated: Bool[np.ndarray, " B"],
        truncated: Bool[np.ndarray, " B"],
        reward: Float[np.ndarray, " B"],
        info: Mapping[str, Any],
    ) -> Bool[np.ndarray, " B"]:
        """Which games are over by themselves.

        Args:
            terminated: as envpool says, without games that end on the step of its time limit.
            truncated: at envpool's time limit, over or not.
            reward: of the step.
            info: envpool's extras.
        """
        return terminated
