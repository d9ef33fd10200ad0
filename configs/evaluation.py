"""The options of `evaluate.py`."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

EPISODES, NUM_ENVS = 100, 16
FILM_STEPS = 2_000


@dataclass(frozen=True)
class EvaluateOptions:
    """Which policies to play, how often, and where the scores go."""

    runs: Annotated[
        tyro.conf.Positional[tuple[str, ...]],
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint=""),
    ]
    """A run's folder, a shipped teacher's folder, or an exported policy; several are compared."""
    episodes: int = EPISODES
    """Whole episodes per RUN, divided among environments beforehand so that short ones are not
    favoured."""
    num_envs: int = NUM_ENVS
    """Environments stepped together."""
    seed: int = 1_000_001
    """Seed of environments and actions, the same for every RUN and far from those of training."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the torso; auto takes bf16 if the hardware has it."""
    threads: int = 0
    """Threads that PyTorch computes with on the CPU; 0 chooses."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """File for all scores, JSON or .csv; without it they go to evaluation.json in each run's
    folder."""
    video: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Film one episode instead, as .mp4 or .gif; nothing is scored."""
    video_steps: int = FILM_STEPS
    """Longest film, in agent steps."""

    plugin: Annotated[str, tyro.conf.arg(metavar="MODULE", help_behavior_hint="")] = ""
    """Import a module that registers components, as in training; may be given several times."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("RUN is missing: give a run's folder, or a policy.")
        for name in ("episodes", "num_envs", "video_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{_flag(name)} must be at least 1, not {getattr(self, name)}.")
        if self.seed < 0 or self.threads < 0:
            raise ValueError("--seed and --threads must be 0 or more.")
        if self.video:
            self._check_film()
        elif self.video_steps != FILM_STEPS:
            raise ValueError("--video-steps has no effect without --video: add it, or drop both.")

    def _check_film(self) -> None:
        """Refuses what has no effect on the film of one episode."""
        if len(self.runs) > 1:
            raise ValueError(f"--video films one RUN, not {len(self.runs)}: film them in turn.")
        if self.output:
            raise ValueError("--video scores nothing, so there is nothing for --output: drop one.")
        for name, default in (("episodes", EPISODES), ("num_envs", NUM_ENVS)):
            if getattr(self, name) not in (1, default):
                raise ValueError(f"--video films a single episode: drop {_flag(name)}.")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"
