"""The residual network of Espeholt et al. 2018, IMPALA, Figure 3 (right)."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from agents.torsos.base import InputConv2d, Torso, TorsoOutput, check_image, orthogonal


@dataclass(frozen=True)
class ImpalaConfig:
    """Three stages of convolution, pooling and two residual blocks."""

    channels: tuple[int, ...] = (16, 32, 32)
    """Channels of each stage; each halves the image (16, 32, 32 in the paper)."""
    width: int = 256
    """Features of the dense layer (256 in the paper)."""

    def __post_init__(self) -> None:
        if not self.channels or min(self.channels) < 1:
            raise ValueError("--torso.impala.channels needs one or more positive numbers.")
        if self.width < 1:
            raise ValueError(f"--torso.impala.width must be at least 1, not {self.width}.")

    def build(self, observation_shape: tuple[int, ...], num_symbols: int = 0) -> "Impala":
        """Makes the torso for images of (C, H, W), which are no symbols."""
        smallest = 2 ** len(self.channels)
        channels = check_image("impala", observation_shape, smallest, num_symbols)
        return Impala(channels, observation_shape[1:], self.channels, self.width)


class Residual(nn.Module):
    """x + conv(relu(conv(relu(x))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = orthogonal(nn.Conv2d(channels, channels, 3, padding=1))
        self.second = orthogonal(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Float[Tensor, "batch C H W"]) -> Float[Tensor, "batch C H W"]:
        """Adds what the two convolutions make of x."""
        change: Tensor = self.second(torch.relu(self.first(torch.relu(x))))
        return x + change


class Impala(Torso):
    """The 15-layer network, without its recurrent core."""

    def __init__(
        self, channels: int, image: tuple[int, ...], stages: tuple[int, ...], width: int
    ) -> None:
        super().__init__()
        self.num_features = width
        blank = torch.zeros(1, channels, *image)
        layers: list[nn.Module] = []
        for index, depth in enumerate(stages):
            kind = InputConv2d if index == 0 else nn.Conv2d
            convolution = orthogonal(kind(channels, depth, 3, padding=1))
            layers += [convolution, nn.MaxPool2d(3, stride=2, padding=1)]
            layers += [Residual(depth), Residual(depth)]
            channels = depth
        self.stages = nn.Sequential(*layers)
        with torch.no_grad():
            blank = self.stages(blank)
        self.spatial_shape = tuple(blank.shape[1:])
        self.dense = orthogonal(nn.Linear(blank.numel(), width))

    def forward(self, observation: Shaped[Tensor, " batch *shape"]) -> TorsoOutput:
        """Computes features [batch, width] and the last stage's map."""
        spatial = F.relu(self.stages(observation))
        return TorsoOutput(self.features_of(spatial), spatial)

    def features_of(self, latent: Float[Tensor, " batch *latent"]) -> Float[Tensor, "batch F"]:
        """Rectified, from the last stage's map."""
        return torch.relu(self.dense(latent.flatten(1)))
