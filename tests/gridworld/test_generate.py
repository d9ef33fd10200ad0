"""Worlds are the same in every batch, solvable, and made of what the settings say."""

from collections import deque
from importlib import import_module

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridworld import EMPTY, FIRST_TERMINAL, LAYOUTS, PENALTY, WALL, WorldConfig, generate, text
from gridworld.generate import draft
from gridworld.hashing import Keys


def reachable_kinds(slow, config, kinds, start):
    """The kinds of all cells that one can enter, terminal cells being ends: breadth first."""
    seen, todo = {start}, deque([start])
    while todo:
        cell = todo.popleft()
        if slow.is_over(kinds, cell):
            continue
        for way in range(4):
            after = slow.move(config, kinds, cell, way)
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return {kinds[cell] for cell in seen}


@settings(deadline=None, max_examples=8)
@given(
    layout=st.sampled_from(sorted(LAYOUTS)),
    height=st.sampled_from([5, 7, 9]),
    width=st.sampled_from([5, 7, 11]),
    start=st.sampled_from(["centre", "random"]),
    seed=st.integers(0, 2**62),
)
def test_every_world_is_solvable_and_well_formed(small, slow, layout, height, width, start, seed):
    config = small(layout=layout, height=height, width=width, start=start)
    worlds = generate(config, seed, range(6))
    grid = worlds.wall.view(-1, height, width)
    assert grid[:, [0, -1]].all()
    assert grid[:, :, [0, -1]].all()
    for kinds, cell in zip(worlds.kind.tolist(), worlds.start_cell.tolist(), strict=True):
        assert kinds[cell] == EMPTY
        # +10 and +5 are the first two kinds of terminal cells.
        assert {FIRST_TERMINAL, FIRST_TERMINAL + 1} & reachable_kinds(slow, config, kinds, cell)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_world_is_the_same_in_every_batch(small, layout):
    config = small(layout=layout, height=7, width=9, start="random")
    together = generate(config, 5, range(12))
    for ids in ([7], [11, 0, 3], range(4, 9)):
        some = generate(config, 5, ids)
        again = together.select(torch.tensor(list(ids)))
        assert torch.equal(some.kind, again.kind)
        assert torch.equal(some.start, again.start)
        assert torch.equal(some.world_id, again.world_id)


def test_worlds_and_seeds_differ(small):
    config = small()
    worlds = generate(config, 1, range(60))
    others = generate(config, 2, range(60))
    both = torch.cat([worlds.kind, others.kind])
    assert len(both.unique(dim=0)) == 120


def test_a_world_of_this_seed_is_this_one_for_ever():
    # Pasted from the generator: who changes it changes every published number of these worlds.
    worlds = generate(WorldConfig(height=5, width=9, terminal_probability=0.05), 0, range(1))
    assert text(worlds, 0).splitlines()[:-1] == [
        "#########",
        "#.A.D...#",
        "#B..S...#",
        "#.B...A.#",
        "#########",
    ]


@pytest.mark.parametrize("layout", ["scattered", "empty"])
def test_cells_are_filled_as_often_as_the_settings_say(layout):
    # Drafts, before unsolvable worlds are dropped: 600 of 5 x 6 cells within the border.
    config = WorldConfig(
        height=7, width=8, layout=layout, penalty_probability=0.2, terminal_probability=0.06
    )
    count = 600
    keys = Keys.of(torch.zeros(count, dtype=torch.int64), torch.arange(count))
    kind, start = draft(config, keys)
    assert (start == 3 * 8 + 4).all()  # row 7 // 2, column 8 // 2
    within = kind.view(-1, 7, 8)[:, 1:-1, 1:-1].flatten(1)
    others = torch.ones(30, dtype=torch.bool)
    others[2 * 6 + 3] = False  # the start
    wall = config.scattered
    expected = {WALL: wall, PENALTY: (1 - wall) * 0.2} | {
        FIRST_TERMINAL + k: (1 - wall) * 0.06 for k in range(4)
    }
    cells = count * 29
    for symbol, share in expected.items():
        seen = int((within[:, others] == symbol).sum())
        assert abs(seen - cells * share) <= 5 * (cells * share * (1 - share)) ** 0.5
    assert (within[:, ~others] == EMPTY).all()


def test_random_starts_lie_anywhere_but_in_the_layouts_walls():
    config = WorldConfig(height=5, width=6, start="random", wall_probability=0.3)
    count = 1200
    keys = Keys.of(torch.zeros(count, dtype=torch.int64), torch.arange(count))
    kind, start = draft(config, keys)
    assert (kind.gather(1, start[:, None]) == EMPTY).all()
    # 12 cells within the border, 100 starts each: sigma = sqrt(1200 * 11) / 12 = 9.6.
    counts = start.bincount(minlength=30)
    assert int((counts > 0).sum()) == 12
    assert ((counts[counts > 0] - 100).abs() < 5 * 9.6).all()


def test_a_start_in_the_centre_moves_aside_for_a_layouts_wall():
    # A maze of 7 x 7 has a wall between rooms or a passage in its centre, (3, 3) a room;
    # a maze of 5 x 5 has the corner of four rooms there: the nearest free cell is next to it.
    config = WorldConfig(height=5, width=5, layout="maze")
    keys = Keys.of(torch.zeros(50, dtype=torch.int64), torch.arange(50))
    kind, start = draft(config, keys)
    row, column = start // 5 - 2, start % 5 - 2
    assert ((row.abs() + column.abs()) == 1).all()
    assert (kind.gather(1, start[:, None]) == EMPTY).all()
    assert (kind[:, 2 * 5 + 2] == WALL).all()


def test_hopeless_settings_are_refused(monkeypatch):
    # The package's `generate` is the function: the module goes by its name only.
    monkeypatch.setattr(import_module("gridworld.generate"), "MOST_ATTEMPTS", 3)
    config = WorldConfig(height=5, width=5, wall_probability=1.0)
    with pytest.raises(ValueError, match=r"World 4 of seed 2 had no reward .* fewer walls"):
        generate(config, 2, [4])


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_seeds_out_of_range_are_refused(small, seed):
    with pytest.raises(ValueError, match="seed must be 0 or more"):
        generate(small(), seed, [0])


@pytest.mark.parametrize("ids", [[], [-1], [0, 2**32]])
def test_world_ids_out_of_range_are_refused(small, ids):
    with pytest.raises(ValueError, match="world_ids must be one or more numbers from 0"):
        generate(small(), 0, ids)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gpu_makes_the_same_worlds(small, layout):
    config = small(layout=layout, height=7, width=9)
    here, there = (generate(config, 3, range(40), device) for device in ("cpu", "cuda"))
    for name in ("kind", "start", "move", "window", "observation"):
        assert torch.equal(getattr(here, name), getattr(there, name).cpu())
