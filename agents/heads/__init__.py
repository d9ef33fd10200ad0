"""Auxiliary heads.

To add one here: one file, one line in `Heads`.  To add one from another package: `register`
its config; see docs/extending.md.
"""

from dataclasses import dataclass

from agents.heads.adversarial import AdversarialConfig
from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Schedule, Targets, constant
from agents.heads.curl import CurlConfig
from agents.heads.distill import DistillConfig
from agents.heads.dynamics import ForwardConfig, InverseConfig
from agents.heads.multi_horizon import MultiHorizonConfig
from agents.heads.reconstruct import ReconstructConfig
from agents.heads.spr import SprConfig
from agents.heads.termination import TerminationConfig
from agents.heads.unreal import PixelControlConfig, RewardPredictionConfig
from agents.heads.value_replay import ValueReplayConfig
from gridworld.options import Registry


@dataclass(frozen=True)
class Heads:
    """Every head by its command-line name, with its default options."""

    distill: DistillConfig = DistillConfig()
    pixel_control: PixelControlConfig = PixelControlConfig()
    reward_prediction: RewardPredictionConfig = RewardPredictionConfig()
    value_replay: ValueReplayConfig = ValueReplayConfig()
    curl: CurlConfig = CurlConfig()
    spr: SprConfig = SprConfig()
    inverse: InverseConfig = InverseConfig()
    forward: ForwardConfig = ForwardConfig()
    reconstruct: ReconstructConfig = ReconstructConfig()
    multi_horizon: MultiHorizonConfig = MultiHorizonConfig()
    termination: TerminationConfig = TerminationConfig()
    adversarial: AdversarialConfig = AdversarialConfig()


_REGISTRY = Registry("head", Heads(), reserved=("none",))
register, registered = _REGISTRY.register, _REGISTRY.registered


__all__ = [
    "AuxiliaryHead",
    "HeadContext",
    "HeadLoss",
    "Heads",
    "Schedule",
    "Targets",
    "constant",
    "register",
    "registered",
]
