"""A multilayer perceptron, for observations that are short vectors."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from agents.torsos.base import Torso, TorsoOutput, orthogonal


@dataclass(frozen=True)
class MlpConfig:
    """Dense layers with tanh between them."""

    widths: tuple[int, ...] = (64, 64)
    """Width of each layer (64, 64 for classic control in OpenAI Baselines)."""

    def __post_init__(self) -> None:
        if not self.widths or min(self.widths) < 1:
            raise ValueError("--torso.mlp.widths needs one or more positive numbers.")

    def build(self, observation_shape: tuple[int, ...]) -> "Mlp":
        """Makes the torso for observations of any shape, which it flattens."""
        return Mlp(math.prod(observation_shape), self.widths)


class Mlp(Torso):
    """Flattens, then dense layers, each followed by tanh."""

    def __init__(self, inputs: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.num_features = widths[-1]
        layers: list[nn.Module] = []
        for before, after in pairwise((inputs, *widths)):
            layers += [orthogonal(nn.Linear(before, after)), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, observation: Shaped[Tensor, " batch *shape"]) -> TorsoOutput:
        """Computes features [batch, width]; bytes are scaled to 0..1."""
        flat = observation.flatten(1).float()
        if observation.dtype == torch.uint8:
            flat = flat / 255
        return TorsoOutput(self.layers(flat))
