"""Random numbers by counting: hashes of (seed, world, attempt, stream, cell).

A world must be the same whatever the batch it is made in and on every device, so
its random numbers come from no generator with a state.  The hash is Wellons'
`lowbias32` (2018, https://nullprogram.com/blog/2018/07/31/), a bijection of 32
bits, in int64 arithmetic.
"""

from dataclasses import dataclass
from enum import IntEnum

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_MASK = 0xFFFF_FFFF
# The multipliers modulo 2**32, as signed numbers: 32 bits times 31 bits fit an int64.
_FIRST_MULTIPLIER = 0x7FEB_352D
_SECOND_MULTIPLIER = 0x846C_A68B - (1 << 32)
# The first digits of pi, so that seed 0 is not special.
_LANES = (0x243F_6A88, 0x85A3_08D3)


class Stream(IntEnum):
    """What a random number is for: no two uses may share one."""

    WALLS = 0
    CONTENTS = 1
    START = 2
    LAYOUT = 3
    """And the following numbers, as many as a layout wants."""
    CHANGE = 100
    """And the following number."""


def mix(value: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Hashes numbers of 32 bits into numbers of 32 bits, one to one."""
    value = value ^ (value >> 16)
    value = (value * _FIRST_MULTIPLIER) & _MASK
    value = value ^ (value >> 15)
    value = (value * _SECOND_MULTIPLIER) & _MASK
    return value ^ (value >> 16)


@dataclass(frozen=True)
class Keys:
    """The random numbers of W worlds: 64 bits per world, from which any stream is hashed.

    Two lanes, since among a hundred thousand worlds two are likely to agree in 32 bits.
    """

    lanes: Int[Tensor, "2 W"]

    @staticmethod
    def of(
        seed: Int[Tensor, " W"], world_id: Int[Tensor, " W"], *counters: Int[Tensor, " W"]
    ) -> "Keys":
        """Hashes seeds of 63 bits, world ids and further counters of 32 bits."""
        lanes = torch.tensor(_LANES, device=seed.device)[:, None]
        for word in (seed & _MASK, seed >> 32, world_id, *counters):
            lanes = mix(lanes ^ word)
        return Keys(lanes)

    def bits(self, stream: int, count: int) -> Int[Tensor, "W count"]:
        """Draws `count` numbers of 32 bits per world; longer draws extend shorter ones."""
        low, high = mix(self.lanes ^ stream)[..., None]
        return mix(mix(low ^ torch.arange(count, device=low.device)) ^ high)

    def uniform(self, stream: int, count: int) -> Float[Tensor, "W count"]:
        """Draws numbers in [0, 1), multiples of 2**-24, which float32 holds exactly."""
        return (self.bits(stream, count) >> 8).to(torch.float32) * 2.0**-24

    def rank(self, stream: int, candidates: Bool[Tensor, "W count"]) -> Int[Tensor, "W count"]:
        """Orders the candidates of each world at random: 0 is drawn first; the others come last."""
        count = candidates.shape[1]
        # The cell in the low digits keeps keys distinct, so that every device sorts alike.
        cell = torch.arange(count, device=candidates.device)
        key = self.bits(stream, count) * count + cell
        key = torch.where(candidates, key, (_MASK + 1) * count + cell)
        return key.argsort(dim=1).argsort(dim=1)
