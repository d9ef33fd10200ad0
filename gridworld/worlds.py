"""`Worlds`: W worlds as tables on one device.

A state is one number, the flat index `world * cells + cell`, so that any table is
read by one gather over `[W * cells]`.  Cells are counted row by row, the border
among them.  All that differs between worlds is `kind` and `start`; the other tables
follow from these two and the settings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from jaxtyping import Bool, Float32, Int, Int64, UInt8
from torch import Tensor

from gridworld.config import FIRST_TERMINAL, NUM_ACTIONS, WALL, WorldConfig
from gridworld.hashing import Keys
from gridworld.tables import Legend, free_ways, observation_ids, records, windows


@dataclass(frozen=True)
class Worlds:
    """The tables of W worlds of one family."""

    config: WorldConfig
    legend: Legend
    """What kinds and free ways mean."""
    seed: Int64[Tensor, " W"]
    """The seed each world was made from."""
    world_id: Int64[Tensor, " W"]
    """World k of a seed is the same in every pool that holds it."""
    kind: UInt8[Tensor, "W cells"]
    """Symbols: `EMPTY`, `WALL`, `PENALTY`, `FIRST_TERMINAL + k`."""
    start: Int64[Tensor, " W"]
    """The flat state in which each world's episodes start."""
    wall: Bool[Tensor, "W cells"]
    record: UInt8[Tensor, "W cells size"]
    """The window of each cell, then its free ways: what a step and a look read."""
    observation: Int64[Tensor, "W cells"]
    """Numbers the windows that differ within a world; cells that look alike share one."""

    @staticmethod
    def build(
        config: WorldConfig,
        seed: Int64[Tensor, " W"],
        world_id: Int64[Tensor, " W"],
        kind: UInt8[Tensor, "W cells"],
        start_cell: Int64[Tensor, " W"],
    ) -> "Worlds":
        """Tabulates worlds from the kinds of their cells.

        Args:
            config: the family's settings.
            seed: one per world.
            world_id: one per world.
            kind: the symbols of all cells.
            start_cell: the cell (not the flat state) in which each world's episodes start.
        """
        wall = kind == WALL
        window = windows(config, kind)
        return Worlds(
            config=config,
            legend=Legend.of(config, kind.device),
            seed=seed,
            world_id=world_id,
            kind=kind,
            start=start_cell + _first_states(config, len(kind), kind.device),
            wall=wall,
            record=records(window, free_ways(config, wall)),
            observation=observation_ids(window, wall, config.num_kinds),
        )

    @staticmethod
    def concatenate(pools: Sequence["Worlds"]) -> "Worlds":
        """Joins pools of one family into one, in their order.

        Raises:
            ValueError: if there is no pool, or their settings differ.
        """
        if not pools:
            raise ValueError("concatenate needs at least one pool of worlds.")
        config = pools[0].config
        if any(pool.config != config for pool in pools):
            raise ValueError("Only pools of worlds with the same settings can be concatenated.")
        tables = {
            name: torch.cat([getattr(pool, name) for pool in pools])
            for name in _TABLES
            if name != "start"
        }
        cells = torch.cat([pool.start_cell for pool in pools])
        start = cells + _first_states(config, len(cells), cells.device)
        return Worlds(config=config, legend=pools[0].legend, start=start, **tables)

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def device(self) -> torch.device:
        """Where the tables are."""
        return self.kind.device

    @property
    def num_states(self) -> int:
        """Flat states: worlds times cells."""
        return self.kind.numel()

    @property
    def start_cell(self) -> Int64[Tensor, " W"]:
        """The cell in which each world's episodes start, counted within the world."""
        return self.start % self.config.cells

    # Views, made once: at small sizes a step is made of little more than such calls.

    @cached_property
    def state_window(self) -> UInt8[Tensor, "states view view"]:
        """What is seen, by flat state."""
        view = self.config.view_size
        return self._state_record[:, : view * view].view(-1, view, view)

    @cached_property
    def state_kind(self) -> UInt8[Tensor, " states"]:
        """The symbol of each flat state: as `kind`, but beside the rest of the record."""
        return self._state_record[:, self.config.view_size**2 // 2]

    @cached_property
    def state_ways(self) -> UInt8[Tensor, " states"]:
        """Which ways are free, by flat state; an action added to it is an entry of the legend."""
        return self._state_record[:, self.config.view_size**2]

    @property
    def _state_record(self) -> Tensor:
        return self.record.view(-1, self.record.shape[2])

    @property
    def window(self) -> UInt8[Tensor, "W cells view view"]:
        """What is seen from each cell."""
        view = self.config.view_size
        return self.state_window.view(*self.kind.shape, view, view)

    @property
    def move(self) -> Int64[Tensor, "W cells A"]:
        """What to add to the state, by action: 0 against a wall, and from within one."""
        ways = self.state_ways.view(self.kind.shape).long()
        return self.legend.moves[ways[:, :, None] | torch.arange(NUM_ACTIONS, device=self.device)]

    @property
    def reward(self) -> Float32[Tensor, "W cells"]:
        """Of each step that leads to (or stays on) the cell."""
        return self.legend.rewards[self.kind.long()]

    @property
    def terminal(self) -> Bool[Tensor, "W cells"]:
        """Whether entering the cell ends the episode."""
        return self.kind >= FIRST_TERMINAL

    @property
    def num_observations(self) -> Int64[Tensor, " W"]:
        """How many different windows each world has."""
        return self.observation.amax(1) + 1

    def select(self, index: Int[Tensor, " K"] | Bool[Tensor, " W"] | slice) -> "Worlds":
        """Copies some worlds, in the order of `index`: numbers, a mask or a slice."""
        rows = torch.arange(len(self), device=self.device)[index]
        tables = {
            name: getattr(self, name).index_select(0, rows) for name in _TABLES if name != "start"
        }
        cells = self.start_cell.index_select(0, rows)
        start = cells + _first_states(self.config, len(rows), self.device)
        return Worlds(config=self.config, legend=self.legend, start=start, **tables)

    def to(self, device: torch.device | str) -> "Worlds":
        """Copies all tables to a device."""
        tables = {name: getattr(self, name).to(device) for name in _TABLES}
        return Worlds(config=self.config, legend=Legend.of(self.config, device), **tables)

    def overwrite(self, first: int, others: "Worlds") -> None:
        """Replaces the worlds from number `first` on by others, in place.

        So a pool is renewed slice by slice while compiled or captured code keeps reading
        the same memory.  Episodes under way in the old worlds go on in the new ones:
        restart them.

        Raises:
            ValueError: if the settings differ or the others do not fit.
        """
        last = first + len(others)
        if others.config != self.config:
            raise ValueError("Only worlds with the same settings can overwrite a pool's.")
        if not 0 <= first <= last <= len(self):
            raise ValueError(
                f"Worlds {first} to {last - 1} do not lie in a pool of {len(self)}: "
                "give fewer, or an earlier first."
            )
        for name in _TABLES:
            getattr(self, name)[first:last] = getattr(others, name)
        self.start[first:last] += first * self.config.cells

    def fingerprint(self) -> Int64[Tensor, " W"]:
        """Hashes what a world is, not where it comes from, into 63 bits: equal worlds agree.

        `torch.isin(held_out.fingerprint(), training.fingerprint())` finds worlds that leak.
        """
        # Zobrist's hash (1970): the sum of one random number per cell and symbol.
        symbols = 2 * self.config.num_kinds
        entry = torch.arange(self.config.cells * symbols, device=self.device)
        cell = torch.arange(self.config.cells, device=self.device)
        symbol = self.kind + self.config.num_kinds * (cell == self.start_cell[:, None])
        low, high = Keys.of(entry, entry).lanes[:, cell * symbols + symbol].sum(-1)
        joined: Tensor = ((low & 0x7FFF_FFFF) << 32) | (high & 0xFFFF_FFFF)
        return joined


_TABLES = tuple(field.name for field in fields(Worlds) if field.name not in ("config", "legend"))


def _first_states(
    config: WorldConfig, num_worlds: int, device: torch.device
) -> Int64[Tensor, " {num_worlds}"]:
    return torch.arange(num_worlds, device=device) * config.cells
