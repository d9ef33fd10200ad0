"""Random changes of observations that leave their meaning alone.

Images are shifted by a few pixels, as in DrQ (Kostrikov et al. 2021,
https://arxiv.org/abs/2004.13649) and CURL on Atari (Laskin et al. 2020,
https://arxiv.org/abs/2004.04136).  A shifted window of symbols would be seen from another
cell, and a shifted vector means nothing: there, entries are hidden at random instead.
"""

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from agents.seeding import Stream
from envs.base import EnvSpec

SMALLEST_IMAGE = 36
"""Bytes of a smaller [C, H, W] are taken for a board, where every cell matters; Nature's torso
needs as much."""
UNKNOWN = 255
"""Hides a symbol: it is none of 0, 1, ..., so its one-hot code is all zeros."""


def is_image(spec: EnvSpec) -> bool:
    """Whether observations are pictures: a few pixels more or less do not change what is seen."""
    shape = spec.observation_shape
    is_bytes = spec.observation_dtype == torch.uint8 and not spec.num_symbols
    return is_bytes and len(shape) == 3 and min(shape[1:]) >= SMALLEST_IMAGE


class RandomShift(nn.Module):
    """Moves each image by up to `pad` pixels in both directions; its border is repeated.

    All channels (the frames of a stack) move together.
    """

    def __init__(self, pad: int, stream: Stream) -> None:
        super().__init__()
        self.pad = pad
        self.stream = stream

    def forward(self, image: Shaped[Tensor, "batch C H W"]) -> Shaped[Tensor, "batch C H W"]:
        """Shifts a batch, every image by its own distance."""
        batch, channels, height, width = image.shape
        shift = self.stream.integers(2 * self.pad + 1, (2, batch, 1), image.device) - self.pad
        # Clamping repeats the border as padding would, without a larger image.
        row = (torch.arange(height, device=image.device) + shift[0]).clamp(0, height - 1)
        column = (torch.arange(width, device=image.device) + shift[1]).clamp(0, width - 1)
        rows = row[:, None, :, None].expand(batch, channels, height, width)
        columns = column[:, None, None, :].expand(batch, channels, height, width)
        return image.gather(2, rows).gather(3, columns)


class RandomMask(nn.Module):
    """Hides each entry with the same probability: symbols become unknown, amounts 0."""

    def __init__(self, probability: float, num_symbols: int, stream: Stream) -> None:
        super().__init__()
        assert num_symbols <= UNKNOWN
        self.probability = probability
        self.hidden = UNKNOWN if num_symbols else 0
        self.stream = stream

    def forward(self, value: Shaped[Tensor, " batch *shape"]) -> Shaped[Tensor, " batch *shape"]:
        """Hides entries of a batch."""
        hides = self.stream.uniform(tuple(value.shape), value.device) < self.probability
        return value.masked_fill(hides, self.hidden)
