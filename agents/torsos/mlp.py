"""A multilayer perceptron, for observations that are short vectors or a few symbols."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Shaped, UInt8
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

    def build(self, observation_shape: tuple[int, ...], num_symbols: int = 0) -> "Mlp":
        """Makes the torso for observations of any shape, which it flattens.

        Args:
            observation_shape: of one observation.
            num_symbols: how many kinds of symbols it is made of; 0: of amounts.
        """
        return Mlp(math.prod(observation_shape), self.widths, num_symbols)


class Mlp(Torso):
    """Flattens, then dense layers, each followed by tanh; a symbol enters as a one-hot vector."""

    symbols: UInt8[Tensor, " symbols"]

    def __init__(self, inputs: int, widths: tuple[int, ...], num_symbols: int = 0) -> None:
        super().__init__()
        self.num_features = widths[-1]
        self.num_symbols = num_symbols
        symbols = torch.arange(num_symbols, dtype=torch.uint8)
        self.register_buffer("symbols", symbols, persistent=False)
        layers: list[nn.Module] = []
        for before, after in pairwise((inputs * max(1, num_symbols), *widths)):
            layers += [orthogonal(nn.Linear(before, after)), nn.Tanh()]
        self.layers = nn.Sequential(*layers)

    def forward(self, observation: Shaped[Tensor, " batch *shape"]) -> TorsoOutput:
        """Computes features [batch, width]; bytes that are no symbols are scaled to 0..1."""
        return TorsoOutput(self.layers(self._numbers(observation.flatten(1))))

    def _numbers(self, flat: Shaped[Tensor, "batch inputs"]) -> Float[Tensor, "batch inputs2"]:
        if self.num_symbols:
            return (flat.unsqueeze(-1) == self.symbols).flatten(1).float()
        return flat / 255 if flat.dtype == torch.uint8 else flat.float()
