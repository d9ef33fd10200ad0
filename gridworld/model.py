"""`Model`: the worlds' transitions as the solvers read them.

Only the cells within the border, in float64, and worlds along the last axis, so that
an elimination or a sweep over cells is vectorised over worlds.  With the action noise
eta, the termination probability p, and s' where move b leads from s:

    Q(s, a) = (1 - eta) U(s, a) + eta / 4 sum_b U(s, b)
    U(s, b) = r(s') + discount (1 - p) [s' not terminal] V(s')
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float64, Shaped, UInt8
from torch import Tensor
from torch.nn import functional as F

from gridworld.config import FIRST_TERMINAL, NUM_ACTIONS, WALL, WorldConfig


@dataclass(frozen=True)
class Model:
    """Transitions and rewards of W worlds of `inside` cells each."""

    config: WorldConfig
    discount: float
    """Times the probability that the episode goes on."""
    reward: Float64[Tensor, "inside W"]
    """Reward of each step that leads to (or stays on) the cell."""
    live: Float64[Tensor, "inside W"]
    """1 where an action is taken, 0 on walls and terminal cells."""
    blocked: Bool[Tensor, "A inside W"]
    """Where a move is stopped by a wall."""

    @staticmethod
    def of(config: WorldConfig, kind: UInt8[Tensor, "W cells"], discount: float) -> "Model":
        """Reads the model off the kinds of all cells.

        Args:
            config: the settings that the worlds share.
            kind: of every cell, border included.
            discount: gamma per agent step, from 0 to 1.

        Raises:
            ValueError: discounted returns need not be finite.
        """
        going_on = discount * (1 - config.termination_probability)
        if not 0 <= discount <= 1 or going_on == 1:
            raise ValueError(
                f"discount must be from 0 to 1, and below 1 where termination_probability is 0, "
                f"not {discount}."
            )
        # A plain `device=` would make the host wait for a GPU at every solution.
        rewards = torch.tensor(config.kind_rewards, dtype=torch.float64)
        rewards = rewards.to(kind.device, non_blocking=True)
        wall = kind == WALL
        blocked = torch.stack([wall | wall.roll(-offset, 1) for offset in config.offsets])
        live = ~wall & (kind < FIRST_TERMINAL)
        return Model(
            config=config,
            discount=going_on,
            reward=inside(config, rewards[kind.long()]),
            live=inside(config, live.double()),
            blocked=torch.stack([inside(config, way) for way in blocked]),
        )

    @property
    def offsets(self) -> tuple[int, ...]:
        """The difference of cells within the border, by move."""
        width = self.config.width - 2
        return (-width, 1, width, -1)

    def backup(self, value: Float64[Tensor, "inside W"]) -> Float64[Tensor, "A inside W"]:
        """Looks one step ahead: the value of each action if `value` is what follows."""
        worth = torch.addcmul(self.reward, self.live, value, value=self.discount)
        arrived = torch.where(self.blocked, worth, self._neighbours(worth))
        noise = self.config.action_noise
        return arrived.mul(1 - noise).add_(arrived.sum(0), alpha=noise / NUM_ACTIONS)

    def slipped(self, policy: Float64[Tensor, "A inside W"]) -> Float64[Tensor, "A inside W"]:
        """Turns probabilities of actions into probabilities of moves; 0 where none is taken."""
        noise = self.config.action_noise
        slips = policy.sum(0) * (noise / NUM_ACTIONS)
        return (policy * (1 - noise) + slips) * self.live

    def expected_reward(self, move: Float64[Tensor, "A inside W"]) -> Float64[Tensor, "inside W"]:
        """Averages a step's reward over moves."""
        arrived = torch.where(self.blocked, self.reward, self._neighbours(self.reward))
        return (move * arrived).sum(0)

    def bands(self, move: Float64[Tensor, "A inside W"]) -> Float64[Tensor, "inside diagonals W"]:
        """Builds `I - discount * P`, of which the diagonals near the main one are not zero."""
        _, cells, num_worlds = move.shape
        width = self.config.width - 2
        bands = move.new_zeros(cells, 2 * width + 1, num_worlds)
        stays = torch.where(self.blocked, move, 0.0).sum(0)
        bands[:, width] = 1 - self.discount * stays
        leaves = torch.where(self.blocked, 0.0, move * self._neighbours(self.live))
        for offset, way in zip(self.offsets, leaves, strict=True):
            # Added, since in worlds of one column up and left are the same diagonal.
            bands[:, width + offset].sub_(way, alpha=self.discount)
        return bands

    def _neighbours(self, table: Float64[Tensor, "inside W"]) -> Float64[Tensor, "A inside W"]:
        """Shifts a table by each move; what lies across the border is never used."""
        count, width = len(table), self.config.width - 2
        padded = F.pad(table, (0, 0, width, width))
        return torch.stack(
            [padded[width + offset : width + offset + count] for offset in self.offsets]
        )


def inside(config: WorldConfig, table: Shaped[Tensor, "W cells"]) -> Shaped[Tensor, "inside W"]:
    """Takes the cells within the border, worlds last."""
    grid = table.view(-1, config.height, config.width)[:, 1:-1, 1:-1]
    return grid.flatten(1).T.contiguous()


def outside(config: WorldConfig, table: Shaped[Tensor, "inside W"]) -> Shaped[Tensor, "W cells"]:
    """Puts the border back around, with zeros."""
    grid = table.T.reshape(-1, config.height - 2, config.width - 2)
    return F.pad(grid, (1, 1, 1, 1)).flatten(1)


def chunk_size(config: WorldConfig, device: torch.device) -> int:
    """How many worlds to solve at once: what fits the cache of a CPU, or hides a GPU's launches."""
    budget = 2**24 if device.type == "cpu" else 2**30  # bytes
    diagonals = 2 * config.width - 3
    return max(1, budget // (8 * diagonals * config.cells))
