"""Atari 2600 games through envpool, with raw rewards and true episode ends.

Preprocessing and protocols follow
- Mnih et al. 2015, "Human-level control through deep reinforcement learning"
  (https://www.nature.com/articles/nature14236, Methods and Extended Data Table 1),
- the Atari wrappers of OpenAI Baselines
  (https://github.com/openai/baselines/blob/master/baselines/common/atari_wrappers.py),
- Machado et al. 2018, "Revisiting the Arcade Learning Environment: Evaluation
  Protocols and Open Problems for General Agents" (https://arxiv.org/abs/1709.06009).

This is the only module that imports envpool, and only when a game is built or
listed, so that everything else works without it.
"""

import os
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from envs.base import EnvSpec, Step, VecEnv, check_action, check_action_range
from envs.names import canonical, departures, nearest
from envs.seeding import separated_seeds

_FULL_ACTIONS = 18
"""The console's actions; every game's set of 18 is the same one, in the same order."""

# The 57 games of Wang et al. 2016 (https://arxiv.org/abs/1511.06581), on which
# human-normalised scores are reported: recognised even where envpool is absent.
STANDARD_GAMES = (
    *("Alien", "Amidar", "Assault", "Asterix", "Asteroids", "Atlantis", "BankHeist"),
    *("BattleZone", "BeamRider", "Berzerk", "Bowling", "Boxing", "Breakout", "Centipede"),
    *("ChopperCommand", "CrazyClimber", "Defender", "DemonAttack", "DoubleDunk", "Enduro"),
    *("FishingDerby", "Freeway", "Frostbite", "Gopher", "Gravitar", "Hero", "IceHockey"),
    *("Jamesbond", "Kangaroo", "Krull", "KungFuMaster", "MontezumaRevenge", "MsPacman"),
    *("NameThisGame", "Phoenix", "Pitfall", "Pong", "PrivateEye", "Qbert", "Riverraid"),
    *("RoadRunner", "Robotank", "Seaquest", "Skiing", "Solaris", "SpaceInvaders"),
    *("StarGunner", "Surround", "Tennis", "TimePilot", "Tutankham", "UpNDown", "Venture"),
    *("VideoPinball", "WizardOfWor", "YarsRevenge", "Zaxxon"),
)


def envpool_is_installed() -> bool:
    """Whether games can be played here."""
    return find_spec("envpool") is not None


def atari_games() -> tuple[str, ...]:
    """Lists the games by plain name: all that envpool has, or the standard 57 without it."""
    if not envpool_is_installed():
        return STANDARD_GAMES
    from envpool.registration import registry

    return tuple(
        task.removesuffix("-v5")
        for task, (module, *_) in registry.specs.items()
        if module == "envpool.atari"
    )


@dataclass(frozen=True)
class AtariConfig:
    """Options of the Atari games; the defaults are the Baselines protocol."""

    noop_max: int = 30
    """Fewer no-ops than this open an episode, at random; 1 for none (Mnih et al. 2015: 30)."""
    frame_skip: int = 4
    """Frames an action is repeated for; the last two are max-pooled (Mnih et al. 2015)."""
    frame_stack: int = 4
    """Most recent frames in one observation (Mnih et al. 2015)."""
    max_episode_steps: int = 27_000
    """Agent steps until truncation: 108,000 frames, half an hour of play (Baselines)."""
    episodic_life: bool = True
    """Whether a lost life terminates (Mnih et al. 2015) or only game over (Machado et al. 2018)."""
    sticky_actions: float = 0.0
    """Probability of repeating the last action instead, each frame (Machado et al. 2018: 0.25)."""
    full_action_space: bool = False
    """Whether all 18 actions are offered instead of the game's own (Machado et al. 2018: yes)."""
    fire_reset: bool = True
    """Whether an episode opens with FIRE, in games that have it (Baselines)."""
    # Not compared: envpool plays the same game whatever the number of threads.
    num_threads: int = field(default=0, compare=False)
    """Threads that play; 0 for one per environment, at most the available cores."""

    def __post_init__(self) -> None:
        if self.noop_max < 1:
            raise ValueError(
                f"--env.noop-max {self.noop_max} would crash envpool; for no no-ops use 1."
            )
        for option in ("frame_skip", "frame_stack", "max_episode_steps"):
            if getattr(self, option) < 1:
                flag = option.replace("_", "-")
                raise ValueError(f"--env.{flag} must be at least 1, not {getattr(self, option)}.")
        if not 0 <= self.sticky_actions < 1:
            raise ValueError(
                f"--env.sticky-actions is a probability below 1, not {self.sticky_actions}; "
                "use 0 for none."
            )
        if self.num_threads < 0:
            raise ValueError(
                f"--env.num-threads must not be negative, but is {self.num_threads}; "
                "use 0 to have it chosen."
            )

    @staticmethod
    def names() -> tuple[str, ...]:
        """Lists the games that `build` knows."""
        return atari_games()

    def build(self, name: str, num_envs: int, seed: int, device: torch.device) -> "AtariVecEnv":
        """Starts `num_envs` copies of one game whose tensors live on `device`."""
        if not envpool_is_installed():
            raise ValueError(
                f"{name} needs envpool: pip install 'auxgate[atari]' (Linux, Windows and macOS "
                "on Apple silicon; there is no wheel for macOS on Intel)."
            )
        game = canonical(name, atari_games())
        if game is None:
            likely = ", ".join(nearest(name, atari_games()))
            raise ValueError(f"Unknown Atari game '{name}': did you mean {likely}?")
        return AtariVecEnv(self, game, num_envs, seed, device)

    def protocol(self) -> str:
        """Names the protocol: a published one, or the options that depart from Baselines'."""
        return "machado" if self == MACHADO else "baselines" + departures(self)


MACHADO = AtariConfig(
    noop_max=1,
    episodic_life=False,
    sticky_actions=0.25,
    full_action_space=True,
    fire_reset=False,
)
"""Machado et al. 2018, but with the longer limit of 108,000 frames that later work uses."""


def _available_cores() -> int:
    if sys.platform == "linux":
        # What a container or a scheduler grants, which may be less than the machine has.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class AtariVecEnv(VecEnv):
    """B copies of one game, played by envpool's threads.

    Termination: under `episodic_life` a lost life terminates, as the learner is to
    see it, but `ended` waits for the game to be over or truncated.  Where the game
    is over on the very step of the time limit, the step terminates: envpool would
    call it truncated, yet there is no future to bootstrap from.

    The emulators cannot be saved: a resumed run starts fresh episodes.
    """

    def __init__(
        self, config: AtariConfig, game: str, num_envs: int, seed: int, device: torch.device
    ) -> None:
        import envpool

        self.device = device
        self._process = os.getpid()
        self._pool: Any = envpool.make(
            f"{game}-v5",
            env_type="gymnasium",
            num_envs=num_envs,
            num_threads=config.num_threads or min(num_envs, _available_cores()),
            # One number would seed environment i with seed + i.
            seed=separated_seeds(seed, num_envs),
            noop_max=config.noop_max,
            frame_skip=config.frame_skip,
            stack_num=config.frame_stack,
            max_episode_steps=config.max_episode_steps,
            episodic_life=config.episodic_life,
            repeat_action_probability=config.sticky_actions,
            full_action_space=config.full_action_space,
            use_fire_reset=config.fire_reset,
            reward_clip=False,
        )
        num_actions = int(self._pool.action_space.n)
        full = num_actions == _FULL_ACTIONS
        self.spec = EnvSpec(
            name=game,
            num_envs=num_envs,
            observation_shape=tuple(self._pool.observation_space.shape),
            observation_dtype=torch.uint8,
            num_actions=num_actions,
            action_set=f"Atari:full{num_actions}" if full else f"{game}:minimal{num_actions}",
            reward_transform="sign",
            protocol=config.protocol(),
        )
        self._must_reset = np.zeros(num_envs, dtype=bool)

    def reset(self) -> Shaped[Tensor, " B *shape"]:
        """Starts a new game everywhere."""
        self._check_process()
        observation, _ = self._pool.reset()
        self._must_reset = np.zeros(self.spec.num_envs, dtype=bool)
        return self._to_device(observation)

    def step(self, action: Int[Tensor, " B"]) -> Step:
        """Plays `frame_skip` frames in every game."""
        self._check_process()
        check_action(action, self.spec)
        # Host synchronisation: the emulators run on the CPU.
        host_action = action.cpu()
        check_action_range(host_action, self.spec)
        observation, reward, terminated, truncated, info = self._pool.step(host_action.numpy())

        game_over = info["terminated"].astype(bool)
        terminated = terminated | game_over
        truncated = truncated & ~game_over
        flags = np.stack([terminated, truncated, ~self._must_reset, game_over | truncated])
        self._must_reset = terminated | truncated
        # One transfer for the four of them.
        on_device = self._to_device(flags)
        return Step(
            observation=self._to_device(observation),
            reward=self._to_device(reward),
            terminated=on_device[0],
            truncated=on_device[1],
            valid=on_device[2],
            ended=on_device[3],
        )

    def close(self) -> None:
        """Ends the threads that play."""
        # They end with the last reference; the pool's own `close` shuts viewers only.
        self._pool = None

    def _to_device(self, array: Shaped[np.ndarray, " *shape"]) -> Tensor:
        # envpool hands out a fresh buffer at every step, so sharing its memory is safe.
        tensor = torch.from_numpy(array)
        if self.device.type == "cuda":
            # Only pinned memory is copied without waiting; PyTorch keeps the buffer until then.
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def _check_process(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                f"{self.spec.name} was built in another process, and its threads do not survive "
                "a fork: build the environment in the process that uses it."
            )
