"""Atari 2600 games: how they may be played, and the choice of who plays them.

Preprocessing and protocols follow
- Mnih et al. 2015, "Human-level control through deep reinforcement learning"
  (https://www.nature.com/articles/nature14236, Methods and Extended Data Table 1),
- the Atari wrappers of OpenAI Baselines
  (https://github.com/openai/baselines/blob/master/baselines/common/atari_wrappers.py),
- Machado et al. 2018, "Revisiting the Arcade Learning Environment: Evaluation
  Protocols and Open Problems for General Agents" (https://arxiv.org/abs/1709.06009).
"""

from dataclasses import dataclass, replace

import torch

from envs.atari.games import (
    FULL_ACTIONS,
    FULL_SET,
    PACKAGES,
    Backend,
    atari_games,
    installed_backends,
    minimal_set,
)
from envs.atari.options import AtariOptions
from envs.base import EnvSpec, VecEnv
from envs.emulators import EmulatedVecEnv, Emulators
from envs.names import canonical, departures, nearest
from gridworld.options import OptionError

_FRAME_BYTES = 84 * 84


@dataclass(frozen=True)
class AtariConfig(AtariOptions):
    """Options of the Atari games; the defaults are the Baselines protocol."""

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
        return self.in_pools(
            num_envs,
            seed,
            device,
            lambda seeds, threads: self._part(backend, game, seeds, threads, device, render),
            self.frame_stack * _FRAME_BYTES,
        )

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
            raise OptionError(
                "backend",
                f"{self.backend} needs {package}, which is not installed: pip "
                "install 'auxgate[atari]'.",
            )
        return self.backend

    def _part(
        self,
        backend: Backend,
        game: str,
        seeds: list[int],
        num_threads: int,
        device: torch.device,
        render: bool,
    ) -> EmulatedVecEnv:
        """Starts one pool."""
        emulators: Emulators
        # Imported only when a game is built: everything else works without them.
        if backend == "envpool":
            from envs.atari.envpool import EnvpoolAtari

            emulators = EnvpoolAtari(self, game, seeds, num_threads, render)
        else:
            from envs.atari.ale import AleEmulators

            emulators = AleEmulators(self, game, seeds, num_threads)
        num_actions = emulators.num_actions
        full = num_actions == len(FULL_ACTIONS)
        spec = EnvSpec(
            name=game,
            num_envs=len(seeds),
            observation_shape=emulators.observation_shape,
            observation_dtype=torch.uint8,
            num_actions=num_actions,
            action_set=FULL_SET if full else minimal_set(game, num_actions),
            reward_transform="sign",
            protocol=self.protocol(backend),
            num_frames=self.frame_stack,
            steps_per_second=60 / self.frame_skip,  # the console shows 60 frames a second
        )
        return EmulatedVecEnv(emulators, spec, device, render)


BASELINES = AtariConfig(
    noop_max=30,  # Mnih et al. 2015, Extended Data Table 1: no-op max
    frame_skip=4,  # Mnih et al. 2015, Extended Data Table 1: action repeat
    frame_stack=4,  # Mnih et al. 2015, Extended Data Table 1: agent history length
    max_episode_steps=27_000,  # 108,000 frames: ale-py, DQN Zoo, Dopamine
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
"""Machado et al. 2018, but with the longer limit that later work uses.

Dopamine differs: it plays a game's own actions and opens without a no-op; envpool needs one.
"""

PROTOCOLS = {"baselines": BASELINES, "machado": MACHADO}
"""How scores are made comparable; the first is the default."""
