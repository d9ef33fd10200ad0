"""From features back to observations, and how wrong the result is."""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from agents.heads.parts.augment import is_image
from agents.masked import explained_variance_of_vectors, masked_mean
from agents.torsos.base import orthogonal
from envs.base import EnvSpec


class Decoder(nn.Module, ABC):
    """Makes an observation of features; `drawn` is what it makes, in numbers of its own."""

    @abstractmethod
    def forward(self, features: Float[Tensor, "batch F"]) -> Float[Tensor, " batch *drawn"]:
        """Draws."""

    @abstractmethod
    def error(
        self, drawn: Float[Tensor, " batch *drawn"], observation: Shaped[Tensor, " batch *shape"]
    ) -> Float[Tensor, " batch"]:
        """How far each drawing is from its observation."""

    @abstractmethod
    def measures(
        self,
        drawn: Float[Tensor, " batch *drawn"],
        observation: Shaped[Tensor, " batch *shape"],
        valid: Bool[Tensor, " batch"],
    ) -> dict[str, Tensor]:
        """How good the drawings are, in terms a person understands."""

    @abstractmethod
    def restored(self, drawn: Float[Tensor, " batch *drawn"]) -> Shaped[Tensor, " batch *shape"]:
        """What is drawn, as observations: symbols, or amounts (of images 0..1)."""


class AmountDecoder(Decoder):
    """Pixels and numbers: the mean of squared errors, bytes as 0..1."""

    def __init__(self, layers: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = layers
        self._shape = shape

    def forward(self, features: Float[Tensor, "batch F"]) -> Float[Tensor, " batch *drawn"]:
        """Draws amounts in the observation's shape."""
        drawn: Tensor = self.layers(features)
        return drawn.float().reshape(-1, *self._shape)

    def error(
        self, drawn: Float[Tensor, " batch *drawn"], observation: Shaped[Tensor, " batch *shape"]
    ) -> Float[Tensor, " batch"]:
        """Mean over an observation's numbers of (drawn - true)^2."""
        return (drawn - amounts(observation)).square().flatten(1).mean(1)

    def measures(
        self,
        drawn: Float[Tensor, " batch *drawn"],
        observation: Shaped[Tensor, " batch *shape"],
        valid: Bool[Tensor, " batch"],
    ) -> dict[str, Tensor]:
        """Explained variance, against always drawing the batch's mean observation."""
        target = amounts(observation).flatten(1)
        explained = explained_variance_of_vectors(drawn.detach().flatten(1), target, valid)
        return {"explained_variance": explained}

    def restored(self, drawn: Float[Tensor, " batch *drawn"]) -> Shaped[Tensor, " batch *shape"]:
        """The amounts as they are."""
        return drawn


class SymbolDecoder(Decoder):
    """Symbols: the cross-entropy of each, averaged over an observation."""

    def __init__(self, layers: nn.Module, shape: tuple[int, ...], num_symbols: int) -> None:
        super().__init__()
        self.layers = layers
        self._drawn = (num_symbols, *shape)

    def forward(self, features: Float[Tensor, "batch F"]) -> Float[Tensor, " batch *drawn"]:
        """Draws logits of each symbol [K, *shape]."""
        drawn: Tensor = self.layers(features)
        return drawn.float().view(-1, *self._drawn)

    def error(
        self, drawn: Float[Tensor, " batch *drawn"], observation: Shaped[Tensor, " batch *shape"]
    ) -> Float[Tensor, " batch"]:
        """Mean over an observation's symbols of -log p(symbol)."""
        return F.cross_entropy(drawn, observation.long(), reduction="none").flatten(1).mean(1)

    def measures(
        self,
        drawn: Float[Tensor, " batch *drawn"],
        observation: Shaped[Tensor, " batch *shape"],
        valid: Bool[Tensor, " batch"],
    ) -> dict[str, Tensor]:
        """Accuracy per cell, and that of naming each cell's most frequent symbol."""
        right = (self.restored(drawn) == observation).flatten(1).float().mean(1)
        kinds = torch.arange(self._drawn[0], device=drawn.device)
        count = (observation.flatten(1).unsqueeze(-1) == kinds) & valid[:, None, None]
        commonest = count.sum(0).amax(-1) / valid.sum().clamp(min=1)
        return {"accuracy": masked_mean(right, valid), "chance": commonest.mean()}

    def restored(self, drawn: Float[Tensor, " batch *drawn"]) -> Shaped[Tensor, " batch *shape"]:
        """The likeliest symbols."""
        return drawn.detach().argmax(1).to(torch.uint8)


class Deconvolution(nn.Module):
    """Nature's convolutions backwards: 3 x 3/1, 4 x 4/2, 8 x 8/4 after a dense layer."""

    def __init__(self, num_features: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        channels, self._height, self._width = shape
        # Rounded up where a stride leaves pixels over; what is then too large is cut off.
        first = [-(-(side - 8) // 4) + 1 for side in shape[1:]]
        second = [-(-(side - 4) // 2) + 1 for side in first]
        self._map = (64, second[0] - 2, second[1] - 2)
        self.dense = orthogonal(nn.Linear(num_features, math.prod(self._map)))
        self.layers = nn.Sequential(
            nn.ReLU(),
            orthogonal(nn.ConvTranspose2d(64, 64, 3)),
            nn.ReLU(),
            orthogonal(nn.ConvTranspose2d(64, 32, 4, stride=2)),
            nn.ReLU(),
            orthogonal(nn.ConvTranspose2d(32, channels, 8, stride=4), gain=1.0),
        )

    def forward(self, features: Float[Tensor, "batch F"]) -> Float[Tensor, "batch C H W"]:
        """Draws images."""
        drawn: Tensor = self.layers(self.dense(features).unflatten(1, self._map))
        return drawn[..., : self._height, : self._width]


def decoder_for(spec: EnvSpec, num_features: int, hidden: int) -> Decoder:
    """Images are deconvolved, everything else comes from one hidden layer of width `hidden`."""
    shape = spec.observation_shape
    if is_image(spec):
        return AmountDecoder(Deconvolution(num_features, shape), shape)
    layers = nn.Sequential(
        orthogonal(nn.Linear(num_features, hidden)),
        nn.ReLU(),
        orthogonal(nn.Linear(hidden, math.prod(shape) * max(1, spec.num_symbols)), gain=1.0),
    )
    if spec.num_symbols:
        return SymbolDecoder(layers, shape, spec.num_symbols)
    return AmountDecoder(layers, shape)


def amounts(observation: Shaped[Tensor, " batch *shape"]) -> Float[Tensor, " batch *shape"]:
    """Bytes scaled to 0..1, everything else as it is."""
    return observation / 255 if observation.dtype == torch.uint8 else observation.float()
