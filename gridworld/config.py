"""The settings of a family of worlds, and the kinds of their cells.

The family follows "Distilling Policy Distillation" (Czarnecki, Pascanu, Osindero,
Jayakumar, Swirszcz, Jaderberg 2019, https://arxiv.org/abs/1902.02186; DPD below),
which tells most of the constants.  What it does not tell is our choice.
"""

import math
from dataclasses import dataclass
from typing import Literal

from gridworld.layouts import LAYOUTS
from gridworld.options import OptionError, at_least, mention, require

NUM_ACTIONS = 4
"""Up, right, down, left: clockwise, so that a slip is a number of quarter turns."""

EMPTY, WALL, PENALTY, FIRST_TERMINAL = range(4)
"""The kinds of cells; terminal cells of reward k of the settings are `FIRST_TERMINAL + k`."""

MOST_CELLS = 2**15
"""Per world; to solve one of so many takes 100 MB."""


@dataclass(frozen=True)
class WorldConfig:
    """What the worlds of a family have in common."""

    height: int = 15
    """Rows, the border among them (our choice; DPD: 20)."""
    width: int = 15
    """Columns, the border among them (our choice; DPD: 20)."""
    layout: str = "scattered"
    """Where the walls are: scattered (DPD), rooms, maze or empty."""
    wall_probability: float | None = None
    """Probability of a wall on a free cell; none: the layout's own, 0.1 for scattered, else 0."""
    terminal_rewards: tuple[float, ...] = (10.0, 5.0, -5.0, -10.0)
    """Rewards of entering the cells that end an episode, one kind of cell each (DPD)."""
    terminal_probability: float = 0.01
    """Probability of each terminal kind on a free cell (our choice; near DPD's Figure 7)."""
    penalty: float = -1.0
    """Reward of each step that leads to, or stays on, a penalty cell (DPD: -1)."""
    penalty_probability: float = 0.1
    """Probability of a penalty cell on a free cell (our choice; near DPD's Figure 7)."""
    start: Literal["centre", "random"] = "centre"
    """The free cell nearest to the centre (DPD: the centre), or a random empty one per world."""
    action_noise: float = 0.1
    """A move is replaced by a random one of all four with this probability (DPD, as reported)."""
    termination_probability: float = 0.01
    """Probability that the episode ends after a step, whatever it led to (DPD)."""
    max_episode_steps: int = 0
    """Agent steps until truncation; 0 for none.  Solvers ignore it (our choice)."""
    view_radius: int = 1
    """An observation is the square of cells up to so far away (our choice; DPD varies it)."""
    discount: float = 0.99
    """A world is kept if its optimal discounted return is positive (our choice of discount)."""

    def __post_init__(self) -> None:
        require(self, "layout", self.layout in LAYOUTS, f"one of {', '.join(LAYOUTS)}")
        _check_size("height", self.height, self.layout)
        _check_size("width", self.width, self.layout)
        if self.height * self.width > MOST_CELLS:
            raise OptionError(
                "height",
                f"times {mention('width')} must be at most {MOST_CELLS}, not {self.cells}: "
                "use smaller worlds.",
            )
        if (self.height - 2) * (self.width - 2) < 2:
            raise OptionError(
                "",
                f"A world of {self.height} by {self.width} has no room for a reward beside its "
                f"start: use a {mention('height')} or {mention('width')} of at least 4.",
            )
        for name in ("wall_probability", "action_noise", "termination_probability"):
            value = getattr(self, name)
            holds = value is None or 0 <= value <= 1
            require(self, name, holds, "a probability, from 0 to 1")
        if self.terminal_probability < 0 or self.penalty_probability < 0:
            raise OptionError(
                "terminal_probability",
                f"and {mention('penalty_probability')} must be 0 or more, not "
                f"{self.terminal_probability} and {self.penalty_probability}.",
            )
        filled = self.penalty_probability + len(self.terminal_rewards) * self.terminal_probability
        if not filled <= 1:
            raise OptionError(
                "penalty_probability",
                f"and {mention('terminal_probability')} of every terminal reward sum to "
                f"{filled:g}: lower them to 1 at most.",
            )
        few = len(self.terminal_rewards) <= 25 and all(map(math.isfinite, self.terminal_rewards))
        require(self, "terminal_rewards", few, "at most 25 finite numbers")
        if self.terminal_probability == 0 or max(self.terminal_rewards, default=0.0) <= 0:
            raise OptionError(
                "",
                "No world would hold a positive reward: give "
                f"{mention('terminal_rewards')} a positive one and "
                f"{mention('terminal_probability')} more than 0.",
            )
        if not -math.inf < self.penalty <= 0:
            raise OptionError(
                "penalty",
                f"must be 0 or less, not {self.penalty}: a reward that does not end the "
                f"episode could be collected for ever; put it among {mention('terminal_rewards')}.",
            )
        require(self, "start", self.start in ("centre", "random"), "centre or random")
        require(self, "max_episode_steps", self.max_episode_steps >= 0, "0 (none) or more")
        at_least(self, 0, "view_radius")
        require(self, "discount", 0 < self.discount <= 1, "above 0 and at most 1")
        if self.discount == 1 and self.termination_probability == 0:
            discount, termination = mention("discount"), mention("termination_probability")
            raise OptionError(
                "",
                f"Returns need not be finite with {discount} 1 and {termination} 0: lower "
                f"{discount} or give episodes a {termination}.",
            )

    @property
    def cells(self) -> int:
        """Cells of one world, border and walls among them."""
        return self.height * self.width

    @property
    def view_size(self) -> int:
        """Cells along one side of an observation."""
        return 2 * self.view_radius + 1

    @property
    def kind_rewards(self) -> tuple[float, ...]:
        """The reward of entering a cell, by its kind."""
        return (0.0, 0.0, self.penalty, *self.terminal_rewards)

    @property
    def num_kinds(self) -> int:
        """How many symbols an observation is made of."""
        return FIRST_TERMINAL + len(self.terminal_rewards)

    @property
    def scattered(self) -> float:
        """The probability of a scattered wall, the layout's own where none is set."""
        if self.wall_probability is None:
            return LAYOUTS[self.layout].wall_probability
        return self.wall_probability

    @property
    def offsets(self) -> tuple[int, ...]:
        """The difference of cells of each action."""
        return (-self.width, 1, self.width, -1)


def _check_size(name: str, size: int, layout: str) -> None:
    smallest, odd = LAYOUTS[layout].smallest, LAYOUTS[layout].odd
    if size < smallest or (odd and size % 2 == 0):
        wanted = f"an odd number of at least {smallest}" if odd else f"at least {smallest}"
        raise OptionError(name, f"must be {wanted} for {mention('layout')} {layout}, not {size}.")
