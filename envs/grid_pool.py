"""A pool of worlds, and what is known of them: their optimum, and teachers of their own."""

from collections.abc import Mapping
from functools import cached_property, lru_cache

import torch
from jaxtyping import Float32
from torch import Tensor

from gridworld import (
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

_CHANGES: Mapping[str, Change] = {"redraw": "redraw", "swap": "swap", "remove": "remove"}
TEACHERS = ("optimal", "q-learning", *_CHANGES)
"""The optimum of each world; what Q-learning makes of it; the optimum of each world with its
positive rewards changed (`gridworld.Change`), where a teacher is partly wrong."""

_TIE = 1e-9
"""Values so near to the largest are equal to it, but for rounding."""


class Pool:
    """Some worlds, shared by all environments that play in them; nobody changes them."""

    def __init__(self, worlds: Worlds, seed: int) -> None:
        self.worlds = worlds
        self._seed = seed

    @cached_property
    def optimum(self) -> Float32[Tensor, " W"] | None:
        """What the best policy scores in each world, undiscounted; none if it may take for ever."""
        config = self.worlds.config
        if config.termination_probability == 0:
            return None
        if config.time_limit == 0:
            value = optimal_values(self.worlds, discount=1.0)
        else:
            # As many steps ahead as there are to play.
            value = torch.zeros_like(self.worlds.kind, dtype=torch.float64)
            for _ in range(config.time_limit):
                value = action_values(self.worlds, value, discount=1.0).amax(-1)
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
        ValueError: if no such world can be made, or all are left out.
    """
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
