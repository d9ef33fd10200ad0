"""Random changes of observations that leave their meaning alone.

Images are shifted by a few pixels, as in DrQ (Kostrikov et al. 2021,
https://arxiv.org/abs/2004.13649) and CURL on Atari (Laskin et al. 2020,
https://arxiv.org/abs/2004.04136).  A shifted window of symbols would be seen from another
cell, and a shifted vector means nothing: there, entries are hidden at random instead.
"""

import copy
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor, nn

from agents.runtime.random import Stream
from envs.base import EnvSpec

# Some of the steps of a trajectory, for losses that cost too much at every step.


class StepSampler(nn.Module):
    """Draws as many steps in every environment as in any other, so that shapes do not change.

    Valid steps come before invalid ones; those that are drawn all the same are masked later.
    """

    def __init__(self, fraction: float, stream: Stream) -> None:
        super().__init__()
        assert 0 < fraction <= 1
        self.fraction = fraction
        self.stream = stream

    def forward(self, valid: Bool[Tensor, "T B"]) -> Int[Tensor, "S B"]:
        """The times drawn in each environment, in order and without repetition."""
        count = max(1, round(self.fraction * valid.shape[0]))
        lot = self.stream.uniform(tuple(valid.shape), valid.device)
        return torch.where(valid, lot, lot + 1).argsort(0)[:count].sort(0).values


def at_steps(
    values: Shaped[Tensor, "time B *shape"], step: Int[Tensor, "S B"]
) -> Shaped[Tensor, "S B *shape"]:
    """The entries of each environment at its own times."""
    return values[step, torch.arange(step.shape[1], device=step.device)]


# Momentum copies: networks that follow another one slowly and are never trained.
#
# Targets of self-supervised losses come from them, so that they move more slowly than what
# is trained towards them (He et al. 2020, "Momentum Contrast", https://arxiv.org/abs/1911.05722;
# Grill et al. 2020, BYOL, https://arxiv.org/abs/2006.07733).

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class MomentumCopy(nn.Module, Generic[NetworkT]):
    """theta' <- momentum * theta' + (1 - momentum) * theta, after every update.

    All numbers of the copy are buffers, so they are saved and moved with the module that
    holds it, and no optimizer and no gradient ever sees them.
    """

    def __init__(self, source: NetworkT, momentum: float) -> None:
        """Copies `source` as it is now.

        Args:
            source: what is followed; `follow` is given it again, and must be given that one.
            momentum: how much of itself the copy keeps; 0: it equals its source.
        """
        super().__init__()
        assert 0 <= momentum <= 1
        self.momentum = momentum
        self.network: NetworkT = frozen_copy(source)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """What the copied network computes, without gradient."""
        return self.network(*inputs)

    @torch.no_grad()
    def follow(self, source: NetworkT) -> None:
        """Moves towards `source` by 1 - momentum."""
        theirs = dict(source.named_parameters()) | dict(source.named_buffers())
        ours = dict(self.network.named_buffers())
        assert ours.keys() == theirs.keys()
        trained = [name for name, _ in source.named_parameters()]
        torch._foreach_lerp_(
            [ours[name] for name in trained],
            [theirs[name] for name in trained],
            1 - self.momentum,
        )
        for name in ours.keys() - set(trained):
            ours[name].copy_(theirs[name])


def frozen_copy(source: NetworkT) -> NetworkT:
    """Copies a network and turns its parameters into buffers of the same names."""
    network = copy.deepcopy(source).eval()
    for module in network.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, parameter.detach().clone())
    return network


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
