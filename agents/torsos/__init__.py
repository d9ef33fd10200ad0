"""Torsos: from observations to features.  To add one: one file, one line in `Torsos`."""

from dataclasses import dataclass

from agents.torsos.base import Torso, TorsoOutput
from agents.torsos.impala import ImpalaConfig
from agents.torsos.mlp import MlpConfig
from agents.torsos.nature import NatureConfig


@dataclass(frozen=True)
class Torsos:
    """The torsos by their command-line names."""

    nature: NatureConfig = NatureConfig()
    impala: ImpalaConfig = ImpalaConfig()
    mlp: MlpConfig = MlpConfig()


__all__ = ["Torso", "TorsoOutput", "Torsos", "NatureConfig", "ImpalaConfig", "MlpConfig"]
