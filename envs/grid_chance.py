"""The chance of B environments by counting: environment i of a seed has numbers of its own.

They depend on nothing but (seed, environment, step): not on how many environments play,
nor on the device.  One number of 32 bits serves one step, of which many are made ahead,
so that a step launches no kernel for them.
"""

import torch
from jaxtyping import Int64
from torch import Tensor

from gridworld import NUM_ACTIONS, Chance, WorldConfig
from gridworld.hashing import Keys, mix

_BITS = 32
_USE = 0x6368_616E
"""Keeps these numbers apart from those that the worlds of the same seed are made of."""
_AHEAD = 2**15
"""Numbers made together: few enough for the cache of a CPU."""


class ChanceStream:
    """What happens to each environment by chance, step by step."""

    def __init__(
        self, config: WorldConfig, num_worlds: int, num_envs: int, seed: int, device: torch.device
    ) -> None:
        """Begins at step 0.

        Args:
            config: of the worlds.
            num_worlds: how many there are to draw from.
            num_envs: B.
            seed: not negative, below 2**63.
            device: of the environments.
        """
        self._num_worlds = num_worlds
        self._limits = _limits(config).to(device)
        environment = torch.arange(num_envs, device=device)
        use = torch.full_like(environment, _USE)
        keys = Keys.of(torch.full_like(environment, seed), environment, use)
        self._block = max(1, _AHEAD // num_envs)
        self.go_to(keys, 0)

    @property
    def step(self) -> int:
        """How many steps have been drawn."""
        return self._first + self._drawn

    def go_to(self, keys: Keys, step: int) -> None:
        """Continues from a step on, of the numbers that the keys stand for."""
        self.keys, self._first, self._drawn = keys, step, 0
        steps = torch.arange(step, step + self._block, device=self._limits.device)[:, None]
        low, high = keys.lanes
        word = mix(mix(low ^ (steps & 0xFFFF_FFFF)) ^ high)  # [block, B]
        outcome = torch.bucketize(word, self._limits, right=True)
        self._slip, self._ends = outcome >> 1, (outcome & 1).bool()
        # The high digits: of a power of two, and of any other number to 2**-32.
        self._world = (word * self._num_worlds) >> _BITS

    def draw(self) -> tuple[Chance, Int64[Tensor, " B"]]:
        """The chance of the next step, or the worlds in which the next episodes begin.

        Of each environment one of the two may be used, since they stem from one number.
        """
        if self._drawn == self._block:
            self.go_to(self.keys, self.step)
        t = self._drawn
        self._drawn += 1
        return Chance(self._slip[t], self._ends[t]), self._world[t]


def _limits(config: WorldConfig) -> Int64[Tensor, "7"]:
    """Where the outcomes of a step part the numbers below 2**32: 2 * slip + ends, in order."""
    noise, end = config.action_noise, config.termination_probability
    turns = [1 - noise + noise / NUM_ACTIONS] + [noise / NUM_ACTIONS] * (NUM_ACTIONS - 1)
    outcomes = [turn * happens for turn in turns for happens in (1 - end, end)]
    total = torch.tensor(outcomes, dtype=torch.float64).cumsum(0)
    limits: Tensor = (total[:-1] * 2**_BITS).round().long()
    return limits
