"""The score of a planner that sees as little as a network, but knows the rules and never forgets.

    python -m experiments.evaluation.explorer --view-radius 1 2 3

It knows where it is, how moves slip and what cells are worth, and it maps all that it has seen.
Before every step it solves that map: a cell from which unseen cells come into view counts as an
end worth `hope`, plus `curiosity` for each of them, unless a reward on the map is worth more.  It
is told far more than a network, which has to learn all of this, but it is no upper bound: it does
not know how much reward is left to be found.  All pairs of `hope` and `curiosity` are tried; the
worlds are the held-out ones of `--env Gridworld`.
"""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Annotated

import torch
import tyro
from jaxtyping import Bool, Float32, Int64
from torch import Tensor
from torch.nn import functional as F

from configs.parsing import read_or_exit
from envs.gridworld.config import GridConfig
from experiments.results import header, publish
from gridworld import (
    FIRST_TERMINAL,
    WALL,
    Worlds,
    draw_chance,
    generate,
    optimal_values,
    step,
)

COLUMNS = "view_radius,hope,curiosity,return,standard_error,optimum,fraction,length"
UNSEEN = 255
SWEEPS = 12
"""Sweeps of value iteration before each step; the values of the step before are the first guess."""
FIRST_SWEEPS = 40
NOTHING = -1e6
"""Below the value of any plan."""
MOST_STEPS = 1_000
"""With a termination probability of 0.01, one episode in 23,000 lasts so long."""


@dataclass(frozen=True)
class Options:
    """Which worlds and which planners: every combination."""

    view_radius: tuple[int, ...] = (1,)
    """How far the planner sees, in cells."""
    hope: tuple[float, ...] = (4.0, 5.0)
    """The value expected beyond the edge of the map."""
    curiosity: tuple[float, ...] = (0.0, 0.2)
    """Added to it for each unseen cell that comes into view."""
    worlds: int = 1000
    """One episode in each."""
    seed: int = 1
    """Seed of the episodes."""
    output: Annotated[str, tyro.conf.arg(metavar="FILE")] = ""
    """A CSV file to write; empty: print only."""


class Explorer:
    """One episode in each of W worlds, all at once."""

    def __init__(self, worlds: Worlds, hope: float, curiosity: float) -> None:
        """Starts every episode with an empty map.

        Args:
            worlds: one per episode.
            hope: the return that a planner expects from where new cells come into view.
            curiosity: what it adds to that for each new cell.
        """
        self._worlds = worlds
        self._config = worlds.config
        self._hope, self._curiosity = hope, curiosity
        self._rewards = torch.tensor(worlds.config.kind_rewards)
        radius, width = self._config.view_radius, self._config.width
        around = torch.arange(-radius, radius + 1)
        self._rows, self._columns = (
            grid.flatten() for grid in torch.meshgrid(around, around, indexing="ij")
        )
        # By action: up, right, down, left.
        self._moves = (-width, 1, width, -1)
        edge = torch.ones(self._config.height, width, dtype=torch.bool)
        edge[1:-1, 1:-1] = False
        self.map = torch.full_like(worlds.kind, UNSEEN).masked_fill_(edge.flatten(), WALL)
        self.value = torch.zeros(len(worlds), self._config.cells)

    def look(self, state: Int64[Tensor, " W"]) -> None:
        """Adds the cells in view to the map."""
        height, width = self._config.height, self._config.width
        cell = (state % self._config.cells)[:, None]
        row, column = cell // width + self._rows, cell % width + self._columns
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        seen = self._worlds.window.flatten(0, 1)[state].flatten(1)
        # Outside of the world is wall, and so is the corner of the map.
        where = torch.where(inside, row * width + column, 0)
        self.map.scatter_(1, where, seen.masked_fill(~inside, WALL))

    def plan(self, some: Int64[Tensor, " K"], sweeps: int) -> Float32[Tensor, "K cells 4"]:
        """Solves the map of some worlds; returns the value of each action in each cell."""
        unseen = self.map[some] == UNSEEN
        kind = self.map[some].masked_fill(unseen, WALL)
        wall, terminal = kind == WALL, kind >= FIRST_TERMINAL
        reward = self._rewards[kind.long()]
        end = self._edge(unseen)
        goes_on = 1 - self._config.termination_probability
        noise = self._config.action_noise
        value = self.value[some]
        ahead = torch.empty(0)
        for _ in range(sweeps):
            staying = reward + goes_on * value
            entering = reward + goes_on * torch.maximum(value, end) * ~terminal
            ways = [
                torch.where(wall.roll(-move, 1), staying, entering.roll(-move, 1))
                for move in self._moves
            ]
            ahead = torch.stack(ways, -1)
            ahead = (1 - noise) * ahead + noise * ahead.mean(-1, keepdim=True)
            value = ahead.amax(-1).masked_fill(wall | terminal, 0.0)
        self.value[some] = value
        return ahead

    def _edge(self, unseen: Bool[Tensor, "K cells"]) -> Float32[Tensor, "K cells"]:
        """The value of ending the plan in each cell: little where no new cell comes into view."""
        config = self._config
        view = torch.ones(1, 1, config.view_size, config.view_size)
        image = unseen.view(-1, 1, config.height, config.width).float()
        news = F.conv2d(image, view, padding=config.view_radius).flatten(1)
        # Not minus infinity, which times zero would be no number.
        return torch.where(news > 0, self._hope + self._curiosity * news, NOTHING)


@dataclass(frozen=True)
class Result:
    """The scores of one planner, one episode per world."""

    returns: Float32[Tensor, " W"]
    lengths: Int64[Tensor, " W"]


def play(worlds: Worlds, hope: float, curiosity: float, seed: int) -> Result:
    """Plays one episode in each world.

    Args:
        worlds: one per episode.
        hope: the return that a planner expects from where new cells come into view.
        curiosity: what it adds to that for each new cell.
        seed: of slips, random ends of episodes, and choices among equally good actions.
    """
    explorer = Explorer(worlds, hope, curiosity)
    generator = torch.Generator().manual_seed(seed)
    state, time = worlds.start, torch.zeros_like(worlds.start)
    first = state - worlds.start_cell
    goes_on = torch.ones_like(state, dtype=torch.bool)
    returns, lengths = torch.zeros(len(worlds)), torch.zeros_like(state)
    action = torch.zeros_like(state)
    for t in range(MOST_STEPS):
        explorer.look(state)
        playing = goes_on.nonzero().squeeze(1)
        ahead = explorer.plan(playing, SWEEPS if t else FIRST_SWEEPS)
        here = ahead[torch.arange(len(playing)), (state - first)[playing]]
        # Among equals at random: else it would always turn the same way.
        jitter = 1e-4 * torch.rand(here.shape, generator=generator)
        action[playing] = (here + jitter).argmax(-1)
        chance = draw_chance(worlds.config, state.shape, generator)
        after = step(worlds, state, time, action, chance)
        returns += after.reward * goes_on
        lengths += goes_on
        goes_on &= ~after.terminated
        if not bool(goes_on.any()):
            break
        state = torch.where(goes_on, after.state, state)
    return Result(returns, lengths)


def lines(options: Options) -> Iterator[str]:
    """The table, line by line."""
    yield COLUMNS
    for radius in options.view_radius:
        config = GridConfig(view_radius=radius).held_out()
        numbers = range(config.first_world, config.first_world + options.worlds)
        worlds = generate(config.worlds(), config.world_seed, numbers)
        optimum = float(optimal_values(worlds, discount=1.0).view(-1)[worlds.start].mean())
        for hope, curiosity in product(options.hope, options.curiosity):
            result = play(worlds, hope, curiosity, options.seed)
            mean = float(result.returns.mean())
            error = float(result.returns.std()) / len(worlds) ** 0.5
            length = float(result.lengths.double().mean())
            yield (
                f"{radius},{hope:g},{curiosity:g},{mean:.3f},{error:.3f},{optimum:.3f},"
                f"{mean / optimum:.4f},{length:.1f}"
            )


def main(arguments: Sequence[str]) -> int:
    """Plays and prints the table; returns the exit code."""
    options = read_or_exit(Options, arguments, "explorer.py", __doc__)
    torch.set_num_threads(1)
    publish(
        [*header("-m experiments.evaluation.explorer", arguments), *lines(options)], options.output
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
