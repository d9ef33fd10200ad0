"""Atari 2600 games: how they may be played, and the choice of who plays them.

Preprocessing and protocols follow
- Mnih et al. 2015, "Human-level control through deep reinforcement learning"
  (https://www.nature.com/articles/nature14236, Methods and Extended Data Table 1),
- the Atari wrappers of OpenAI Baselines
  (https://github.com/openai/baselines/blob/master/baselines/common/atari_wrappers.py),
- Machado et al. 2018, "Revisiting the Arcade Learning Environment: Evaluation
  Protocols and Open Problems for General Agents" (https://arxiv.org/abs/1709.06009).
"""

import os
import sys
from dataclasses import dataclass, field, replace
from typing import Literal

import torch

from envs.atari_games import PACKAGES, Backend, atari_games, installed_backends
from envs.atari_pool import AtariVecEnv, Emulators
from envs.base import EnvSpec, VecEnv
from envs.names import canonical, departures, nearest
from envs.pools import Pools
from envs.seeding import separated_seeds

_FULL_ACTIONS = 18
"""The console's actions; every game's set of 18 is the same one, in the same order."""

_WORTH_HALVING = 8
"""From so many environments on, two pools are the default: each still fills a few cores."""


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
    backend: Literal["auto", "envpool", "ale"] = "auto"
    """Who plays: envpool, ale-py, or the first of them that is installed."""
    # Not compared: the same games are played whatever the number of threads and pools.
    num_threads: int = field(default=0, compare=False)
    """Threads that play in each pool; 0 for one per environment, at most the available cores."""
    pools: int = field(default=0, compare=False)
    """Parts that play in turn while others wait for their actions; 0 for two if that pays."""

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
        for option in ("num_threads", "pools"):
            if getattr(self, option) < 0:
                flag = option.replace("_", "-")
                raise ValueError(
                    f"--env.{flag} must not be negative, but is {getattr(self, option)}; "
                    "use 0 to have it chosen."
                )

    @staticmethod
    def names() -> tuple[str, ...]:
        """Lists the games that `build` knows."""
        return atari_games()

    def build(
        self, name: str, num_envs: int, seed: int, device: torch.device, render: bool = False
    ) -> VecEnv:
        """Starts `num_envs` copies of one game whose tensors live on `device`.

        Args:
            name: of the game, whatever its case.
            num_envs: B, over all pools.
            seed: environment i plays the same whatever the number of pools.
            device: of the learner.
            render: whether pictures will be asked for.

        Raises:
            ValueError: there is no such game, nobody to play it, or B is not to be halved.
        """
        backend = self._backend(name)
        game = canonical(name, atari_games())
        if game is None:
            likely = ", ".join(nearest(name, atari_games()))
            raise ValueError(f"Unknown Atari game '{name}': did you mean {likely}?")
        size = num_envs // self._num_pools(num_envs)
        seeds = separated_seeds(seed, num_envs)
        parts = [
            self._part(backend, game, seeds[start : start + size], device, render)
            for start in range(0, num_envs, size)
        ]
        return parts[0] if len(parts) == 1 else Pools(parts)

    def protocol(self, backend: Backend) -> str:
        """Names the nearest published protocol, the options that depart from it, and ale-py.

        It depends on how the game is played alone, not on the flags that led there.
        """
        described = [
            name + departures(self, replace(published, backend=self.backend))
            for name, published in PROTOCOLS.items()
        ]
        fewest = min(described, key=lambda text: text.count("+"))
        return fewest if backend == "envpool" else f"{fewest}+backend={backend}"

    def _backend(self, name: str) -> Backend:
        installed = installed_backends()
        if self.backend == "auto":
            if installed:
                return installed[0]
            raise ValueError(
                f"{name} needs envpool or ale-py: pip install 'auxgate[atari]' (Linux, Windows and "
                "macOS on Apple silicon; there is no wheel for macOS on Intel)."
            )
        if self.backend not in installed:
            package = PACKAGES[self.backend].replace("_", "-")
            raise ValueError(
                f"--env.backend {self.backend} needs {package}, which is not installed: pip "
                "install 'auxgate[atari]'."
            )
        return self.backend

    def _num_pools(self, num_envs: int) -> int:
        if self.pools == 0:
            return 2 if num_envs % 2 == 0 and num_envs >= _WORTH_HALVING else 1
        if num_envs % self.pools:
            raise ValueError(
                f"--env.pools {self.pools} does not divide --num-envs {num_envs}: change one of "
                "the two, or use --env.pools 0 to have it chosen."
            )
        return self.pools

    def _part(
        self, backend: Backend, game: str, seeds: list[int], device: torch.device, render: bool
    ) -> AtariVecEnv:
        """Starts one pool."""
        # Every pool may use all cores: rarely do two of them play at once.
        num_threads = self.num_threads or min(len(seeds), _available_cores())
        emulators: Emulators
        # Imported here since both modules need this one.
        if backend == "envpool":
            from envs.atari_envpool import EnvpoolEmulators

            emulators = EnvpoolEmulators(self, game, seeds, num_threads, render)
        else:
            from envs.atari_ale import AleEmulators

            emulators = AleEmulators(self, game, seeds, num_threads)
        num_actions = emulators.num_actions
        full = num_actions == _FULL_ACTIONS
        spec = EnvSpec(
            name=game,
            num_envs=len(seeds),
            observation_shape=emulators.observation_shape,
            observation_dtype=torch.uint8,
            num_actions=num_actions,
            action_set=f"Atari:full{num_actions}" if full else f"{game}:minimal{num_actions}",
            reward_transform="sign",
            protocol=self.protocol(backend),
            num_frames=self.frame_stack,
            steps_per_second=60 / self.frame_skip,  # the console shows 60 frames a second
        )
        return AtariVecEnv(emulators, spec, device, render)


BASELINES = AtariConfig(
    noop_max=30,  # Mnih et al. 2015, Extended Data Table 1: no-op max
    frame_skip=4,  # Mnih et al. 2015, Extended Data Table 1: action repeat
    frame_stack=4,  # Mnih et al. 2015, Extended Data Table 1: agent history length
    max_episode_steps=27_000,  # Baselines plays the NoFrameskip-v4 games: 108,000 frames
    episodic_life=True,  # Baselines, EpisodicLifeEnv
    sticky_actions=0.0,  # Baselines plays the NoFrameskip-v4 games
    full_action_space=False,  # Mnih et al. 2015, Methods: the game's own actions
    fire_reset=True,  # Baselines, FireResetEnv
)
"""The wrappers of OpenAI Baselines, by which most published PyTorch results are made."""

MACHADO = AtariConfig(
    noop_max=1,  # Machado et al. 2018: sticky actions instead of random openings
    frame_skip=4,  # as Mnih et al. 2015
    frame_stack=4,  # as Mnih et al. 2015
    max_episode_steps=27_000,  # 108,000 frames, as later work has it; their own limit: 18,000
    episodic_life=False,  # Machado et al. 2018: the end of a game, lives unknown to the agent
    sticky_actions=0.25,  # Machado et al. 2018: 0.25
    full_action_space=True,  # Machado et al. 2018: all 18
    fire_reset=False,  # Baselines' alone
)
"""Machado et al. 2018, but with the longer limit that later work uses."""

PROTOCOLS = {"baselines": BASELINES, "machado": MACHADO}
"""How scores are made comparable; the first is the default."""


def _available_cores() -> int:
    if sys.platform == "linux":
        # What a container or a scheduler grants, which may be less than the machine has.
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
