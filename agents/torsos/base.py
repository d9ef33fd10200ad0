"""What every torso is: observations in, features out."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

SQRT_2 = 2.0**0.5
LayerT = TypeVar("LayerT", bound=nn.Module)


@dataclass(frozen=True)
class TorsoOutput:
    """Features of a flat batch of observations."""

    features: Float[Tensor, "batch F"]
    spatial: Float[Tensor, "batch C H W"] | None = None
    """The last feature map, where the torso has one; heads that make images start here."""


class Torso(nn.Module, ABC):
    """Turns a flat batch of observations into features."""

    num_features: int
    """F, the width of `features`."""
    spatial_shape: tuple[int, ...] | None = None
    """C, H, W of `spatial`; none where there is no feature map."""

    @abstractmethod
    def forward(self, observation: Shaped[Tensor, " batch *shape"]) -> TorsoOutput:
        """Computes the features; bytes are scaled to 0..1 on the way."""

    def features_of(self, latent: Float[Tensor, " batch *latent"]) -> Float[Tensor, "batch F"]:
        """What the layers above the feature map make of one; features are taken as they are."""
        assert self.spatial_shape is None, "a torso with feature maps says what is above them"
        return latent


class InputConv2d(nn.Conv2d):
    """A first layer that reads raw observations.

    Bytes are scaled by folding 1/255 into the weights, which are a thousand times
    smaller than the images.  The integers 0..255 are exact in bfloat16, so nothing
    is lost by converting the bytes straight to the precision of the convolution.
    """

    def forward(self, observation: Shaped[Tensor, "batch C H W"]) -> Float[Tensor, "batch F H2 W2"]:
        """Convolves bytes (scaled to 0..1) or floats (as they are)."""
        kind = observation.device.type
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else torch.float32
        scale = 1 / 255 if observation.dtype == torch.uint8 else 1.0
        # Twice as fast on a CPU as to convert and transpose in one step.
        pixels = observation.to(dtype).contiguous(memory_format=torch.channels_last)
        return F.conv2d(pixels, self.weight * scale, self.bias, self.stride, self.padding)


def orthogonal(layer: LayerT, gain: float = SQRT_2) -> LayerT:
    """Draws orthogonal weights and zero biases in place (Saxe et al. 2014; OpenAI Baselines)."""
    for name, parameter in layer.named_parameters():
        if "bias" in name.rpartition(".")[2]:
            nn.init.zeros_(parameter)
        else:
            nn.init.orthogonal_(parameter, gain)
    return layer


def check_image(
    name: str, observation_shape: tuple[int, ...], smallest: int, num_symbols: int = 0
) -> int:
    """Returns the number of channels of an image, or says which torso fits instead.

    Raises:
        ValueError: if the observation is no image, or too small for the torso.
    """
    if num_symbols:
        raise ValueError(
            f"--torso {name} needs images, but the observation is made of {num_symbols} symbols: "
            "use --torso mlp."
        )
    if len(observation_shape) != 3:
        raise ValueError(
            f"--torso {name} needs images (C, H, W), but the observation has shape "
            f"{observation_shape}: use --torso mlp."
        )
    if min(observation_shape[1:]) < smallest:
        raise ValueError(
            f"--torso {name} needs images of {smallest} x {smallest} pixels or more, but the "
            f"observation has shape {observation_shape}: use --torso mlp."
        )
    return observation_shape[0]
