"""Decoders from features to observations, and their errors."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import pi

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Shaped, UInt8
from torch import Tensor, nn

from agents.heads.components.views import is_image
from agents.networks.torsos import orthogonal
from agents.statistics import explained_variance, masked_mean
from envs.base import EnvSpec

# Cells of an observation, and how much each of them changes.
#
# The pseudo-rewards of pixel control (Jaderberg et al. 2017, https://arxiv.org/abs/1611.05397,
# section 3.1), for images, and for windows and boards as well.


class Cells:
    """Measures how much each cell of the newest frame changes from one observation to the next.

    Symbols change or do not (0 or 1); amounts change by their difference, bytes in units of 255.
    A cell's change is the mean over its entries and, for colours or planes, over channels.
    """

    def __init__(self, spec: EnvSpec, cell: int, margin: int) -> None:
        """Divides observations of at least two dimensions.

        Args:
            spec: of the environment.
            cell: side of a cell, in pixels or other entries.
            margin: left out at every border.
        """
        self._cell, self._margin = cell, margin
        self._is_symbolic = spec.num_symbols > 0
        is_bytes = spec.observation_dtype == torch.uint8 and not self._is_symbolic
        self._scale = 1 / 255 if is_bytes else 1.0
        *channels, height, width = spec.observation_shape
        self._newest = channels[0] // spec.num_frames if channels else 0
        self.height, self.width = ((side - 2 * margin) // cell for side in (height, width))

    def change(self, observation: Shaped[Tensor, " N B *shape"]) -> Float[Tensor, "T B H W"]:
        """Returns the change of every cell in every step."""
        frame = observation[:, :, -self._newest :] if self._newest else observation.unsqueeze(2)
        margin, cell = self._margin, self._cell
        rows, columns = self.height * cell, self.width * cell
        frame = frame[..., margin : margin + rows, margin : margin + columns].contiguous()
        after, before = frame[1:], frame[:-1]
        if self._is_symbolic:
            change = after != before
        else:
            # Of bytes, whose differences would not fit into bytes, without making floats of all.
            change = torch.maximum(after, before) - torch.minimum(after, before)
        # A dimension at a time, the inner ones last, is several times faster than all at once.
        total: Tensor = change.float().sum(2)
        total = total.unflatten(2, (self.height, cell)).sum(3)
        total = total.unflatten(3, (self.width, cell)).sum(4)
        return total * (self._scale / (change.shape[2] * cell * cell))


# Rows of observations as one picture.

SIDE = 84
"""Pixels of an observation's longer side, approximately; small observations are enlarged."""
GAP = 2
"""Pixels between two observations."""


def mosaic(
    rows: Sequence[Shaped[Tensor, " count *shape"]], num_symbols: int = 0, num_frames: int = 1
) -> UInt8[Tensor, "height width 3"]:
    """Draws rows of observations above each other.

    Args:
        rows: all of one shape.  A vector is drawn as a line.
        num_symbols: number of kinds of symbols, each drawn in its colour; 0: the entries are
            amounts, from the smallest of the first row (black) to its largest (white).
        num_frames: number of frames stacked in the channels of an image; the newest is drawn, in
            colours if it has three channels, else by its last one.
    """
    planes = torch.stack([_visible(row, num_frames) for row in rows])
    colours = _of_symbols(planes, num_symbols) if num_symbols else _of_amounts(planes)
    factor = max(1, SIDE // max(colours.shape[2:4]))
    large = colours.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    framed = F.pad(large, (0, 0, 0, GAP, 0, GAP), value=0.5)
    whole = torch.cat([torch.cat(row.unbind(), 1) for row in framed.unbind()])
    return (whole[:-GAP, :-GAP] * 255).round().to(torch.uint8)


def _visible(
    row: Shaped[Tensor, " count *shape"], num_frames: int
) -> Shaped[Tensor, " count height width *colour"]:
    match row.dim():
        case 4:
            has_colours = row.shape[1] == 3 * num_frames
            return row[:, -3:].permute(0, 2, 3, 1) if has_colours else row[:, -1]
        case 2:
            return row.unsqueeze(1)
    return row


def _of_amounts(
    planes: Float[Tensor, "rows count height width *colour"],
) -> Float[Tensor, "rows count height width 3"]:
    low, high = planes[0].amin(), planes[0].amax()
    scaled = ((planes - low) / (high - low).clamp(min=1e-6)).clamp(0, 1)
    return scaled if planes.dim() == 5 else scaled.unsqueeze(-1).expand(*planes.shape, 3)


def _of_symbols(
    planes: Shaped[Tensor, "rows count height width"], num_symbols: int
) -> Float[Tensor, "rows count height width 3"]:
    """Colours symbol 0 dark, and the others around the circle of hues."""
    device = planes.device
    hue = torch.arange(num_symbols, device=device).unsqueeze(-1) / max(1, num_symbols - 1)
    phase = torch.tensor([0.0, 1 / 3, 2 / 3], device=device)
    palette = 0.5 + 0.5 * torch.cos(2 * pi * (hue - phase))
    palette[0] = 0.1
    return palette[planes.long()]


class Decoder(nn.Module, ABC):
    """Decodes features; `drawn` is its output, in a form that each decoder chooses."""

    @abstractmethod
    def forward(self, features: Float[Tensor, "batch F"]) -> Float[Tensor, " batch *drawn"]:
        """Decodes features."""

    @abstractmethod
    def error(
        self, drawn: Float[Tensor, " batch *drawn"], observation: Shaped[Tensor, " batch *shape"]
    ) -> Float[Tensor, " batch"]:
        """Returns the error of each decoded observation."""

    @abstractmethod
    def measures(
        self,
        drawn: Float[Tensor, " batch *drawn"],
        observation: Shaped[Tensor, " batch *shape"],
        valid: Bool[Tensor, " batch"],
    ) -> dict[str, Tensor]:
        """Returns metrics for the log.

        Args:
            drawn: output of `forward`.
            observation: what it should be.
            valid: which observations count.
        """

    @abstractmethod
    def restored(self, drawn: Float[Tensor, " batch *drawn"]) -> Shaped[Tensor, " batch *shape"]:
        """Converts the output to observations: symbols, or amounts (for images 0..1)."""


class AmountDecoder(Decoder):
    """Decodes pixels and numbers; the error is the mean squared error, with bytes as 0..1."""

    def __init__(self, layers: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layers = layers
        self._shape = shape

    def forward(self, features: Float[Tensor, "batch F"]) -> Float[Tensor, " batch *drawn"]:
        """Returns amounts in the observation's shape."""
        drawn: Tensor = self.layers(features)
        return drawn.float().reshape(-1, *self._shape)

    def error(
        self, drawn: Float[Tensor, " batch *drawn"], observation: Shaped[Tensor, " batch *shape"]
    ) -> Float[Tensor, " batch"]:
        """Returns the mean over an observation's numbers of (drawn - true)^2."""
        return (drawn - amounts(observation)).square().flatten(1).mean(1)

    def measures(
        self,
        drawn: Float[Tensor, " batch *drawn"],
        observation: Shaped[Tensor, " batch *shape"],
        valid: Bool[Tensor, " batch"],
    ) -> dict[str, Tensor]:
        """Returns the explained variance; the batch's mean observation has 0."""
        target = amounts(observation).flatten(1)
        explained = explained_variance(drawn.detach().flatten(1), target, valid)
        return {"explained_variance": explained}

    def restored(self, drawn: Float[Tensor, " batch *drawn"]) -> Shaped[Tensor, " batch *shape"]:
        """Returns the amounts unchanged."""
        return drawn


class SymbolDecoder(Decoder):
    """Decodes symbols; the error is the cross-entropy, averaged over an observation.

    Args:
        layers: from features to the logits of all symbols.
        shape: of an observation.
        num_symbols: number of kinds of symbols.
    """

    def __init__(self, layers: nn.Module, shape: tuple[int, ...], num_symbols: int) -> None:
        super().__init__()
        self.layers = layers
        self._drawn = (num_symbols, *shape)

    def forward(self, features: Float[Tensor, "batch F"]) -> Float[Tensor, " batch *drawn"]:
        """Returns the logits of each symbol [K, *shape]."""
        drawn: Tensor = self.layers(features)
        return drawn.float().view(-1, *self._drawn)

    def error(
        self, drawn: Float[Tensor, " batch *drawn"], observation: Shaped[Tensor, " batch *shape"]
    ) -> Float[Tensor, " batch"]:
        """Returns the mean over an observation's symbols of -log p(symbol)."""
        return F.cross_entropy(drawn, observation.long(), reduction="none").flatten(1).mean(1)

    def measures(
        self,
        drawn: Float[Tensor, " batch *drawn"],
        observation: Shaped[Tensor, " batch *shape"],
        valid: Bool[Tensor, " batch"],
    ) -> dict[str, Tensor]:
        """Returns the accuracy per cell, and that of naming each cell's most frequent symbol."""
        right = (self.restored(drawn) == observation).flatten(1).float().mean(1)
        kinds = torch.arange(self._drawn[0], device=drawn.device)
        count = (observation.flatten(1).unsqueeze(-1) == kinds) & valid[:, None, None]
        commonest = count.sum(0).amax(-1) / valid.sum().clamp(min=1)
        return {"accuracy": masked_mean(right, valid), "chance": commonest.mean()}

    def restored(self, drawn: Float[Tensor, " batch *drawn"]) -> Shaped[Tensor, " batch *shape"]:
        """Returns the likeliest symbols."""
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
        """Decodes features to images."""
        drawn: Tensor = self.layers(self.dense(features).unflatten(1, self._map))
        return drawn[..., : self._height, : self._width]


def decoder_for(spec: EnvSpec, num_features: int, hidden: int) -> Decoder:
    """Builds a decoder: transposed convolutions for images, one hidden layer for the rest.

    Args:
        spec: of the environment.
        num_features: F, the input's width.
        hidden: width of the hidden layer; images do not use it.
    """
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
    """Scales bytes to 0..1; leaves other observations as they are."""
    return observation / 255 if observation.dtype == torch.uint8 else observation.float()
