"""Main losses.

To add one here: one file, one line in `Algorithms`.  To add one from another package:
`register` its config; see docs/extending.md.
"""

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
from gridworld.options import Registry


@dataclass(frozen=True)
class Algorithms:
    """The main losses by their command-line names."""

    a2c: A2CConfig = A2CConfig()
    ppo: PPOConfig = PPOConfig()
    ppg: PPGConfig = PPGConfig()
    none: NoneConfig = NoneConfig()


_REGISTRY = Registry("algorithm", Algorithms())
register, registered = _REGISTRY.register, _REGISTRY.registered


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
    "register",
    "registered",
]
