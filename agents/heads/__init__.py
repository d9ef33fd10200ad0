"""Auxiliary heads.  To add one, write a file and add a line to `Heads`."""

from dataclasses import dataclass

from agents.heads.adversarial import AdversarialConfig
from agents.heads.base import AuxiliaryHead, HeadContext, HeadLoss, Schedule, Targets
from agents.heads.curl import CurlConfig
from agents.heads.distill import DistillConfig
from agents.heads.dynamics import ForwardConfig, InverseConfig
from agents.heads.multi_horizon import MultiHorizonConfig
from agents.heads.pixel_control import PixelControlConfig
from agents.heads.reconstruct import ReconstructConfig
from agents.heads.reward_prediction import RewardPredictionConfig
from agents.heads.spr import SprConfig
from agents.heads.termination import TerminationConfig
from agents.heads.value_replay import ValueReplayConfig


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


__all__ = ["AuxiliaryHead", "HeadContext", "HeadLoss", "Heads", "Schedule", "Targets"]
