"""Main losses.  To add one: one file, one line in `Algorithms`."""

from dataclasses import dataclass

from agents.algorithms.a2c import A2CConfig
from agents.algorithms.base import (
    Algorithm,
    MainLoss,
    NoneConfig,
    Phase,
    PhaseLoss,
    approximate_kl,
    entropy,
    log_probability,
)
from agents.algorithms.ppg import PPGConfig
from agents.algorithms.ppo import PPOConfig
from agents.statistics import normalized


@dataclass(frozen=True)
class Algorithms:
    """The main losses by their command-line names."""

    a2c: A2CConfig = A2CConfig()
    ppo: PPOConfig = PPOConfig()
    ppg: PPGConfig = PPGConfig()
    none: NoneConfig = NoneConfig()


__all__ = [
    "A2CConfig",
    "Algorithm",
    "Algorithms",
    "MainLoss",
    "NoneConfig",
    "PPGConfig",
    "Phase",
    "PhaseLoss",
    "PPOConfig",
    "approximate_kl",
    "entropy",
    "log_probability",
    "normalized",
]
