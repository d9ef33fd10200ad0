"""The options of `evaluate.py`."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro


@dataclass(frozen=True)
class EvaluateOptions:
    """Plays whole episodes with a trained policy and prints its score with the protocol."""

    run: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """A run's folder, a shipped teacher's folder, or an exported policy."""
    episodes: int = 100
    """Split evenly over the environments beforehand, so that short ones are not favoured."""
    num_envs: int = 16
    """Environments stepped together."""
    seed: int = 1_000_001
    """Of the environments and of the sampled actions; far from those of training runs."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """Arithmetic of the torso; auto takes bf16 where the hardware has it."""
    threads: int = 0
    """Threads that PyTorch computes with on the CPU; 0 chooses."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """Where to write the scores; empty: evaluation.json beside the policy."""

    def __post_init__(self) -> None:
        for name in ("episodes", "num_envs"):
            if getattr(self, name) < 1:
                flag = f"--{name.replace('_', '-')}"
                raise ValueError(f"{flag} must be at least 1, not {getattr(self, name)}.")
        if self.seed < 0 or self.threads < 0:
            raise ValueError("--seed and --threads must be 0 or more.")
