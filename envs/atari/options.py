"""How an Atari game may be played."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from envs.emulators import PoolOptions
from gridworld.options import OptionError, at_least, require


@dataclass(frozen=True)
class AtariOptions(PoolOptions):
    """How an Atari game is played; the defaults are the Baselines protocol."""

    noop_max: int = 30
    """Fewer no-ops than this open an episode, at random; 1 for none (Mnih et al. 2015: 30)."""
    frame_skip: int = 4
    """Frames an action is repeated for; the last two are max-pooled (Mnih et al. 2015)."""
    frame_stack: int = 4
    """Most recent frames in one observation (Mnih et al. 2015)."""
    max_episode_steps: int = 27_000
    """Agent steps until truncation: 108,000 frames, half an hour (ale-py, DQN Zoo, Dopamine)."""
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

    GAME_BYTES: ClassVar[int] = 2**20  # measured: 1.4 MiB (envpool, MsPacman) and more

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.noop_max < 1:
            raise OptionError(
                "noop_max", f"{self.noop_max} would crash envpool; for no no-ops use 1."
            )
        at_least(self, 1, "frame_skip", "frame_stack", "max_episode_steps")
        most = 2**31 - 1  # the emulators count in 32 bits
        require(self, "max_episode_steps", self.max_episode_steps <= most, f"at most {most}")
        if not 0 <= self.sticky_actions < 1:
            raise OptionError(
                "sticky_actions",
                f"is a probability below 1, not {self.sticky_actions}; use 0 for none.",
            )
