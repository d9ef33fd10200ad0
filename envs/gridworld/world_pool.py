"""Pools of worlds with their optimum and teachers, and the randomness of the episodes in them."""

from collections.abc import Mapping
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from envs.base import check_room
from gridworld import (
    NUM_ACTIONS,
    Chance,
    Change,
    QLearningConfig,
    WorldConfig,
    Worlds,
    action_values,
    generate,
    modified,
    optimal_values,
    q_learning,
)
from gridworld.hashing import Keys, mix

_BITS = 32
_USE = 0x6368_616E
"""Keeps these numbers apart from those that the worlds of the same seed are made of."""
_AHEAD = 2**15
"""Numbers made together: few enough for the cache of a CPU."""
_AHEAD_ON_GPU = 2**21
"""Numbers made together on another device: each of their thirty kernels costs a launch."""


class ChanceStream:
    """Draws slips, ends and worlds for B environments, step by step.

    The numbers are hashes of (seed, environment, step), so they depend neither on how many
    environments play nor on the device.  One 32-bit number serves one step; many are made
    ahead, so that a step launches no kernel for them.
    """

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
        ahead = _AHEAD if device.type == "cpu" else _AHEAD_ON_GPU
        self._block = max(1, ahead // num_envs)
        self.go_to(keys, 0)

    @property
    def step(self) -> int:
        """How many steps have been drawn."""
        return self._first + self._drawn

    def go_to(self, keys: Keys, step: int) -> None:
        """Continues with the random numbers of a step.

        Args:
            keys: of the environments.
            step: the number of the step, from 0.
        """
        self.keys, self._first, self._drawn = keys, step, 0
        steps = torch.arange(step, step + self._block, device=self._limits.device)[:, None]
        low, high = keys.lanes
        word = mix(mix(low ^ (steps & 0xFFFF_FFFF)) ^ high)  # [block, B]
        outcome = torch.bucketize(word, self._limits, right=True)
        self._slip, self._ends = outcome >> 1, (outcome & 1).bool()
        # The high digits: of a power of two, and of any other number to 2**-32.
        self._world = (word * self._num_worlds) >> _BITS

    def draw(self) -> tuple[Chance, Int64[Tensor, " B"]]:
        """Draws the chance of the next step, and the worlds of episodes that start at it.

        An environment may use only one of the two, since they stem from one number.
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


_CHANGES: Mapping[str, Change] = {"redraw": "redraw", "swap": "swap", "remove": "remove"}
TEACHERS = ("optimal", "q-learning", *_CHANGES)
"""The optimum of each world; what Q-learning makes of it; the optimum of each world with its
positive rewards changed (`gridworld.Change`), where a teacher is partly wrong."""

_TIE = 1e-9
"""Values so near to the largest are equal to it, but for rounding."""


_SETTLED = 1e-12
"""A change of values by one more step that is nothing but rounding."""


class Pool:
    """Worlds that all environments playing in them share; they never change."""

    def __init__(self, worlds: Worlds, seed: int) -> None:
        self.worlds = worlds
        self._seed = seed

    @cached_property
    def optimum(self) -> Float32[Tensor, " W"] | None:
        """What the best policy scores in each world, undiscounted; none if it may take for ever."""
        config = self.worlds.config
        if config.termination_probability == 0:
            return None
        if config.max_episode_steps == 0:
            value = optimal_values(self.worlds, discount=1.0)
        else:
            # As many steps ahead as there are to play.
            value = torch.zeros_like(self.worlds.kind, dtype=torch.float64)
            for _ in range(config.max_episode_steps):
                shorter, value = value, action_values(self.worlds, value, discount=1.0).amax(-1)
                if (value - shorter).abs().max() < _SETTLED:
                    break  # more steps win nothing more, since every step may be the last
        return value.view(-1)[self.worlds.start].float()

    def teacher(self, name: str) -> Float32[Tensor, "states A"]:
        """The values of all actions in every flat state, of one of `TEACHERS`.

        Raises:
            ValueError: if the worlds cannot be changed in that way.
        """
        discount = self.worlds.config.discount
        if name == "q-learning":
            chance = torch.Generator(self.worlds.device).manual_seed(self._seed)
            options = QLearningConfig(discount=discount)
            return q_learning(self.worlds, options, chance).flatten(0, 1)
        assert name in TEACHERS, f"there is no teacher {name}"
        worlds = modified(self.worlds, _CHANGES[name]) if name in _CHANGES else self.worlds
        value = action_values(worlds, optimal_values(worlds, discount), discount).flatten(0, 1)
        # Ties must outlive the rounding to float32, for teachers that are greedy.
        best = value.amax(-1, keepdim=True)
        return torch.where(value >= best - _TIE, best, value).float()


@lru_cache(maxsize=4)
def pool(
    config: WorldConfig,
    seed: int,
    first: int,
    count: int,
    without_copies_of: int,
    device: torch.device,
) -> Pool:
    """Makes the worlds of numbers first, ..., first + count - 1, or finds them as made before.

    Args:
        config: of the worlds.
        seed: of the worlds.
        first: number of the first one.
        count: how many.
        without_copies_of: leave out what equals one of so many worlds before the first.
        device: where they are.

    Raises:
        ValueError: if no such world can be made, all are left out, or they do not fit into memory.
    """
    # Of each cell: the window and the free ways, its kind, whether it is a wall, its number.
    check_room(count, config.cells * (config.view_size**2 + 1 + 1 + 1 + 8), device, "num_worlds")
    worlds = generate(config, seed, range(first, first + count), device)
    if without_copies_of:
        before = pool(config, seed, first - without_copies_of, without_copies_of, 0, device).worlds
        new = ~torch.isin(worlds.fingerprint(), before.fingerprint())
        if not bool(new.any()):
            raise ValueError(
                f"All of {count} worlds equal one of the {without_copies_of} before: use larger "
                "worlds, or fewer to train in."
            )
        worlds = worlds.select(new)
    return Pool(worlds, seed)
