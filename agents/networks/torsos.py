"""What every torso is: observations in, features out."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped, UInt8
from torch import Tensor, nn

from gridworld.options import OptionError, Registry, at_least, mention, require

SQRT_2 = 2.0**0.5
LayerT = TypeVar("LayerT", bound=nn.Module)
LEAST_SIDE = 3
"""Height and width, in pixels, of the least picture for convolutions of 3 x 3."""
FEW_PIXELS = 12
"""Height or width, in pixels, up to which `Small` keeps them all."""


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
        """Computes the features from the feature map; without a map, returns its argument."""
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
        # Nothing is computed on "meta", where only shapes are asked for.
        casts = kind != "meta" and torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if casts else torch.float32
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

    Args:
        name: of the torso, for the error message.
        observation_shape: of one observation, without time and batch.
        smallest: the least height and width in pixels that the torso can read.
        num_symbols: how many symbols an observation is made of; 0 for amounts.

    Raises:
        ValueError: if the observation is no image, or too small for the torso.
    """
    cure = f"use {mention('torso')} mlp."
    if num_symbols:
        raise OptionError(
            "torso",
            f"{name} needs images, but the observation is made of {num_symbols} symbols: {cure}",
        )
    if len(observation_shape) != 3:
        raise OptionError(
            "torso",
            f"{name} needs images (C, H, W), but the observation has shape "
            f"{observation_shape}: {cure}",
        )
    if min(observation_shape[1:]) < smallest:
        fitting = "small" if min(observation_shape[1:]) >= LEAST_SIDE else "mlp"
        raise OptionError(
            "torso",
            f"{name} needs images of {smallest} x {smallest} pixels or more, but the "
            f"observation has shape {observation_shape}: use {mention('torso')} {fitting}.",
        )
    return observation_shape[0]


@dataclass(frozen=True)
class NatureConfig:
    """Three convolutions and one dense layer."""

    width: int = 512
    """Features of the dense layer (512 in the paper)."""

    def __post_init__(self) -> None:
        at_least(self, 1, "width")

    def build(self, observation_shape: tuple[int, ...], num_symbols: int = 0) -> "Nature":
        """Makes the torso for images of (C, H, W), which are no symbols."""
        channels = check_image("nature", observation_shape, 36, num_symbols)
        return Nature(channels, observation_shape[1:], self.width)


class Convolved(Torso):
    """Rectified convolutions, whose last map a dense layer turns into features."""

    def __init__(self, convolutions: nn.Sequential, image: tuple[int, ...], width: int) -> None:
        """Draws the dense layer's weights.

        Args:
            convolutions: end with a rectifier.
            image: channels, height and width of what they read.
            width: the features, which the dense layer gives.
        """
        super().__init__()
        self.num_features = width
        self.convolutions = convolutions
        with torch.no_grad():
            blank = convolutions(torch.zeros(1, *image))
        self.spatial_shape = tuple(blank.shape[1:])
        self.dense = orthogonal(nn.Linear(blank.numel(), width))

    def forward(self, observation: Shaped[Tensor, " batch *shape"]) -> TorsoOutput:
        """Computes features [batch, width] and the last convolution's map."""
        spatial = self.convolutions(observation)
        return TorsoOutput(self.features_of(spatial), spatial)

    def features_of(self, latent: Float[Tensor, " batch *latent"]) -> Float[Tensor, "batch F"]:
        """Computes the rectified features from the last convolution's map."""
        return torch.relu(self.dense(latent.flatten(1)))


class Nature(Convolved):
    """The convolutional network of Mnih et al. 2015 (Nature 518), Methods.

    Convolutions 32 x 8/4, 64 x 4/2 and 64 x 3/1, then a dense layer, all rectified.
    """

    def __init__(self, channels: int, image: tuple[int, ...], width: int) -> None:
        """Draws orthogonal weights.

        Args:
            channels: C, the planes of an image (stacked frames, for instance).
            image: height and width, in pixels.
            width: the features, which the dense layer gives.
        """
        convolutions = nn.Sequential(
            orthogonal(InputConv2d(channels, 32, 8, stride=4)),
            nn.ReLU(),
            orthogonal(nn.Conv2d(32, 64, 4, stride=2)),
            nn.ReLU(),
            orthogonal(nn.Conv2d(64, 64, 3)),
            nn.ReLU(),
        )
        super().__init__(convolutions, (channels, *image), width)


@dataclass(frozen=True)
class ImpalaConfig:
    """Three stages of convolution, pooling and two residual blocks."""

    channels: tuple[int, ...] = (16, 32, 32)
    """Channels of each stage; each halves the image (16, 32, 32 in the paper)."""
    width: int = 256
    """Features of the dense layer (256 in the paper)."""

    def __post_init__(self) -> None:
        positive = min(self.channels, default=0) >= 1
        require(self, "channels", positive, "one or more positive numbers")
        at_least(self, 1, "width")

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
        """Adds the output of the two convolutions to x."""
        change: Tensor = self.second(torch.relu(self.first(torch.relu(x))))
        return x + change


class Impala(Torso):
    """The residual network of Espeholt et al. 2018, IMPALA, Figure 3 (right).

    It has 15 layers; the recurrent core of the paper is separate (`agents.networks.recurrent`).
    """

    def __init__(
        self, channels: int, image: tuple[int, ...], stages: tuple[int, ...], width: int
    ) -> None:
        """Draws orthogonal weights.

        Args:
            channels: C, the planes of an image (stacked frames, for instance).
            image: height and width, in pixels.
            stages: the channels of each stage; every stage halves height and width.
            width: the features, which the dense layer gives.
        """
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
        """Computes the rectified features from the last stage's map."""
        return torch.relu(self.dense(latent.flatten(1)))


SMALL_WIDTH = 256
"""A matrix of so many columns and a batch of some thousand rows is a millisecond's work."""


@dataclass(frozen=True)
class SmallConfig:
    """Convolutions of 3 x 3 and one dense layer, for pictures of few pixels."""

    channels: tuple[int, ...] = (16, 32)
    """Channels of each convolution (one of 16 in MinAtar's own agents)."""
    width: int = 128
    """Features of the dense layer (128 in MinAtar's own agents)."""

    def __post_init__(self) -> None:
        positive = min(self.channels, default=0) >= 1
        require(self, "channels", positive, "one or more positive numbers")
        at_least(self, 1, "width")

    def build(self, observation_shape: tuple[int, ...], num_symbols: int = 0) -> "Small":
        """Makes the torso for images of (C, H, W), which are no symbols."""
        channels = check_image("small", observation_shape, LEAST_SIDE, num_symbols)
        return Small(channels, observation_shape[1:], self.channels, self.width)


class Small(Convolved):
    """Convolutions of 3 x 3 for pictures of some ten pixels a side, where Nature's do not fit.

    After Young & Tian 2019, MinAtar (https://arxiv.org/abs/1903.03176), whose network for 10 x 10
    planes has one convolution of 3 x 3 with 16 channels, and 128 dense units.  Departures: a second
    convolution, padding, and a stride of 2 while the shorter side is longer than `FEW_PIXELS`,
    so that the dense layer stays small.
    """

    def __init__(
        self, channels: int, image: tuple[int, ...], depths: tuple[int, ...], width: int
    ) -> None:
        """Draws orthogonal weights.

        Args:
            channels: C, the planes of an image.
            image: height and width, in pixels.
            depths: the channels of each convolution.
            width: the features, which the dense layer gives.
        """
        layers: list[nn.Module] = []
        planes, shorter = channels, min(image)
        for index, depth in enumerate(depths):
            kind = InputConv2d if index == 0 else nn.Conv2d
            stride = 2 if shorter > FEW_PIXELS else 1
            layers += [orthogonal(kind(planes, depth, 3, stride, padding=1)), nn.ReLU()]
            planes, shorter = depth, -(-shorter // stride)
        super().__init__(nn.Sequential(*layers), (channels, *image), width)


@dataclass(frozen=True)
class MlpConfig:
    """Dense layers with tanh between them."""

    widths: tuple[int, ...] = (64, 64)
    """Width of each layer (64, 64 for classic control in OpenAI Baselines)."""

    def __post_init__(self) -> None:
        require(self, "widths", min(self.widths, default=0) >= 1, "one or more positive numbers")

    @property
    def small(self) -> bool:
        """Whether one thread computes the layers as fast as several."""
        return max(self.widths) <= SMALL_WIDTH

    def build(self, observation_shape: tuple[int, ...], num_symbols: int = 0) -> "Mlp":
        """Makes the torso for observations of any shape, which it flattens.

        Args:
            observation_shape: of one observation.
            num_symbols: how many kinds of symbols it is made of; 0: of amounts.
        """
        return Mlp(math.prod(observation_shape), self.widths, num_symbols)


class Mlp(Torso):
    """A multilayer perceptron, for observations that are short vectors or a few symbols.

    Flattens, then applies dense layers, each followed by tanh.  A symbol enters as a
    one-hot vector.
    """

    symbols: UInt8[Tensor, " symbols"]

    def __init__(self, inputs: int, widths: tuple[int, ...], num_symbols: int = 0) -> None:
        """Draws orthogonal weights.

        Args:
            inputs: numbers or symbols in one observation.
            widths: of the layers, the first one first; the last is the number of features.
            num_symbols: how many symbols an observation is made of; 0 for amounts.
        """
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


@dataclass(frozen=True)
class Torsos:
    """The torsos by their command-line names; a new one is a config class and a line here."""

    nature: NatureConfig = NatureConfig()
    impala: ImpalaConfig = ImpalaConfig()
    small: SmallConfig = SmallConfig()
    mlp: MlpConfig = MlpConfig()


_REGISTRY = Registry("torso", Torsos())
register, registered = _REGISTRY.register, _REGISTRY.registered


__all__ = [
    *("Torso", "TorsoOutput", "Torsos"),
    *("NatureConfig", "ImpalaConfig", "SmallConfig", "MlpConfig"),
]
