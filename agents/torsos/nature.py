"""The convolutional network of Mnih et al. 2015, Human-level control (Nature 518), Methods."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from agents.torsos.base import InputConv2d, Torso, TorsoOutput, check_image, orthogonal


@dataclass(frozen=True)
class NatureConfig:
    """Three convolutions and one dense layer."""

    width: int = 512
    """Features of the dense layer (512 in the paper)."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"--torso.nature.width must be at least 1, not {self.width}.")

    def build(self, observation_shape: tuple[int, ...], num_symbols: int = 0) -> "Nature":
        """Makes the torso for images of (C, H, W), which are no symbols."""
        channels = check_image("nature", observation_shape, 36, num_symbols)
        return Nature(channels, observation_shape[1:], self.width)


class Nature(Torso):
    """Convolutions 32 x 8/4, 64 x 4/2, 64 x 3/1, then a dense layer, all rectified."""

    def __init__(self, channels: int, image: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.num_features = width
        self.convolutions = nn.Sequential(
            orthogonal(InputConv2d(channels, 32, 8, stride=4)),
            nn.ReLU(),
            orthogonal(nn.Conv2d(32, 64, 4, stride=2)),
            nn.ReLU(),
            orthogonal(nn.Conv2d(64, 64, 3)),
            nn.ReLU(),
        )
        with torch.no_grad():
            blank = self.convolutions(torch.zeros(1, channels, *image))
        self.spatial_shape = tuple(blank.shape[1:])
        self.dense = orthogonal(nn.Linear(blank.numel(), width))

    def forward(self, observation: Shaped[Tensor, " batch *shape"]) -> TorsoOutput:
        """Computes features [batch, width] and the 64-channel map."""
        spatial = self.convolutions(observation)
        return TorsoOutput(self.features_of(spatial), spatial)

    def features_of(self, latent: Float[Tensor, " batch *latent"]) -> Float[Tensor, "batch F"]:
        """Rectified, from the 64-channel map."""
        return torch.relu(self.dense(latent.flatten(1)))
