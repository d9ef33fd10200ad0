"""Augmentations that keep the meaning of observations; step sampling; momentum copies.

Images are shifted by a few pixels, as in DrQ (Kostrikov et al. 2021,
https://arxiv.org/abs/2004.13649) and CURL on Atari (Laskin et al. 2020,
https://arxiv.org/abs/2004.04136).  A shifted window of symbols would be the view from another
cell, and a shifted vector means nothing: there, random entries are hidden instead.
"""

import copy
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor, nn

from agents.runtime.random import Stream
from envs.base import EnvSpec

# Sampling steps of a trajectory, for losses that cost too much at every step.


class StepSampler(nn.Module):
    """Draws the same number of steps in every environment, so that shapes do not change.

    It prefers valid steps; where it must draw invalid ones, the loss masks them later.
    """

    def __init__(self, fraction: float, stream: Stream) -> None:
        super().__init__()
        assert 0 < fraction <= 1
        self.fraction = fraction
        self.stream = stream

    def forward(self, valid: Bool[Tensor, "T B"]) -> Int[Tensor, "S B"]:
        """Returns the times drawn in each environment, in order and without repetition."""
        count = max(1, round(self.fraction * valid.shape[0]))
        lot = self.stream.uniform(tuple(valid.shape), valid.device)
        return torch.where(valid, lot, lot + 1).argsort(0)[:count].sort(0).values


def at_steps(
    values: Shaped[Tensor, "time B *shape"], step: Int[Tensor, "S B"]
) -> Shaped[Tensor, "S B *shape"]:
    """Returns the entries of each environment at its own times."""
    return values[step, torch.arange(step.shape[1], device=step.device)]


# Momentum copies: networks that follow another one slowly and are never trained.
#
# They compute the targets of self-supervised losses, so that targets move more slowly than what
# is trained towards them (He et al. 2020, "Momentum Contrast", https://arxiv.org/abs/1911.05722;
# Grill et al. 2020, BYOL, https://arxiv.org/abs/2006.07733).

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class MomentumCopy(nn.Module, Generic[NetworkT]):
    """A copy of a network: theta' <- momentum * theta' + (1 - momentum) * theta at every update.

    All numbers of the copy are buffers: they are saved and moved with the module that holds it,
    and no optimizer and no gradient reaches them.
    """

    def __init__(self, source: NetworkT, momentum: float) -> None:
        """Copies `source` as it is now.

        Args:
            source: the network to follow; `follow` must get the same one.
            momentum: share of itself that the copy keeps; 0: it equals its source.
        """
        super().__init__()
        assert 0 <= momentum <= 1
        self.momentum = momentum
        self.network: NetworkT = frozen_copy(source)

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """Runs the copied network without gradient."""
        return self.network(*inputs)

    @torch.no_grad()
    def follow(self, source: NetworkT) -> None:
        """Moves the copy towards `source` by 1 - momentum."""
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
"""Smallest side of an image; smaller bytes [C, H, W] are boards, where every cell matters.
Nature's torso needs this size."""
UNKNOWN = 255
"""Replaces a hidden symbol: it is not a valid symbol, so its one-hot code is all zeros."""


def is_image(spec: EnvSpec) -> bool:
    """Returns whether observations are images, which keep their meaning under small shifts."""
    shape = spec.observation_shape
    is_bytes = spec.observation_dtype == torch.uint8 and not spec.num_symbols
    return is_bytes and len(shape) == 3 and min(shape[1:]) >= SMALLEST_IMAGE


class RandomShift(nn.Module):
    """Shifts each image by up to `pad` pixels in both directions, and repeats its border.

    All channels (the frames of a stack) move together.
    """

    def __init__(self, pad: int, stream: Stream) -> None:
        super().__init__()
        self.pad = pad
        self.stream = stream

    def forward(self, image: Shaped[Tensor, "batch C H W"]) -> Shaped[Tensor, "batch C H W"]:
        """Shifts each image of a batch by a random distance."""
        batch, channels, height, width = image.shape
        shift = self.stream.integers(2 * self.pad + 1, (2, batch, 1), image.device) - self.pad
        # Clamping repeats the border as padding would, without a larger image.
        row = (torch.arange(height, device=image.device) + shift[0]).clamp(0, height - 1)
        column = (torch.arange(width, device=image.device) + shift[1]).clamp(0, width - 1)
        rows = row[:, None, :, None].expand(batch, channels, height, width)
        columns = column[:, None, None, :].expand(batch, channels, height, width)
        return image.gather(2, rows).gather(3, columns)


class RandomMask(nn.Module):
    """Hides each entry with the same probability: symbols become unknown, amounts 0.

    Args:
        probability: of an entry to be hidden.
        num_symbols: number of kinds of symbols; 0: the entries are amounts.
        stream: random numbers.
    """

    def __init__(self, probability: float, num_symbols: int, stream: Stream) -> None:
        super().__init__()
        assert num_symbols <= UNKNOWN
        self.probability = probability
        self.hidden = UNKNOWN if num_symbols else 0
        self.stream = stream

    def forward(self, value: Shaped[Tensor, " batch *shape"]) -> Shaped[Tensor, " batch *shape"]:
        """Hides random entries of a batch."""
        hides = self.stream.uniform(tuple(value.shape), value.device) < self.probability
        return value.masked_fill(hides, self.hidden)
