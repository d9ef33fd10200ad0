"""Modified worlds: other positive rewards, and nothing else."""

import jaxtyping
import pytest
import torch

from gridworld import (
    EMPTY,
    FIRST_TERMINAL,
    WorldConfig,
    generate,
    modified,
    modified_pairs,
    parse,
    solvable,
    text,
)

PLUS_10, PLUS_5 = FIRST_TERMINAL, FIRST_TERMINAL + 1
CHANGES = ("redraw", "swap", "remove")


def is_positive(worlds):
    return (worlds.kind == PLUS_10) | (worlds.kind == PLUS_5)


@pytest.mark.parametrize("change", CHANGES)
def test_only_positive_rewards_change(build_worlds, change):
    before = build_worlds(20)
    after = modified(before, change)
    touched = before.kind != after.kind
    was, became = before.kind[touched], after.kind[touched]
    assert touched.any()
    allowed = torch.tensor([EMPTY, PLUS_10, PLUS_5], dtype=torch.uint8)
    assert torch.isin(was, allowed).all()
    assert torch.isin(became, allowed).all()
    assert torch.equal(after.start, before.start)
    assert torch.equal(after.seed, before.seed)
    assert torch.equal(after.world_id, before.world_id)
    # The tables follow the kinds.
    assert torch.equal(after.terminal, after.kind >= FIRST_TERMINAL)


def test_redrawn_rewards_are_as_many_of_each_kind_elsewhere(build_worlds):
    before = build_worlds(20)
    after = modified(before, "redraw")
    for kind in (PLUS_10, PLUS_5):
        assert torch.equal((before.kind == kind).sum(1), (after.kind == kind).sum(1))
    assert (before.kind != after.kind).any(1).all()
    assert solvable(after).all()
    assert (after.kind.gather(1, after.start_cell[:, None]) == EMPTY).all()


def test_redrawn_rewards_come_to_lie_on_every_empty_cell():
    # One reward; five empty cells but for the start, and its own.  Worlds of 60 numbers.
    config = WorldConfig(height=3, width=9)
    redrawn = modified(parse(config, ["#########\n#...S..A#\n#########"] * 60)).kind == PLUS_10
    assert (redrawn.sum(1) == 1).all()
    # 60 draws miss one of six places with odds of 6 * (5 / 6) ** 60 = 1e-4; the seed is fixed.
    assert set(redrawn.nonzero()[:, 1].tolist()) == {10, 11, 12, 14, 15, 16}


def test_swapped_rewards_trade_places():
    config = WorldConfig(height=3, width=9, terminal_rewards=(-1.0, 2.0, 9.0, 5.0))
    worlds = parse(config, ["#########\n#ABCSDBA#\n#########"])
    # The largest, C (9), becomes the smallest, B (2), and back; D (5) is in the middle.
    assert "#ACBSDCA#" in text(modified(worlds, "swap"), 0)


def test_of_several_rewards_some_go_and_some_stay(build_worlds):
    before = build_worlds(40, terminal_probability=0.1)
    after = modified(before, "remove")
    had, kept = is_positive(before), is_positive(after)
    assert not (kept & ~had).any()
    several = had.sum(1) >= 2
    assert several.any()
    assert not several.all()
    assert (kept.sum(1)[several] < had.sum(1)[several]).all()
    assert torch.equal(kept[~several], had[~several])
    assert kept.any(1).all()
    # Three or more: every number from one to all but one stays.
    many = had.sum(1) >= 4
    assert len(kept.sum(1)[many].unique()) >= 3


@pytest.mark.parametrize("change", ["redraw", "remove"])
def test_changes_depend_on_the_draw_and_on_nothing_else(build_worlds, change):
    worlds = build_worlds(12, terminal_probability=0.1)
    first = modified(worlds, change)
    assert torch.equal(modified(worlds.select(slice(3, 7)), change).kind, first.kind[3:7])
    assert not torch.equal(modified(worlds, change, draw=1).kind, first.kind)


@pytest.mark.parametrize("change", CHANGES)
def test_pairs_are_solvable_both_and_differ(small, change):
    config = small(terminal_probability=0.04)
    before, after = modified_pairs(config, 1, 12, change, first=100)
    assert len(before) == len(after) == 12
    assert (before.kind != after.kind).any(1).all()
    assert solvable(before).all()
    assert solvable(after).all()
    # The earliest worlds that fit, each once, the first one given or later.
    assert (before.world_id.diff() > 0).all()
    assert torch.equal(before.world_id, after.world_id)
    pool = generate(config, 1, range(100, int(before.world_id[-1]) + 1))
    changed = modified(pool, change)
    fit = solvable(changed) & (pool.kind != changed.kind).any(1)
    assert pool.world_id[fit].tolist() == before.world_id.tolist()


def test_an_unknown_change_is_refused(build_worlds, monkeypatch):
    # In tests the annotations would refuse it first.
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    with pytest.raises(ValueError, match="change must be one of redraw, swap, remove, not double"):
        modified(build_worlds(1), "double")


@pytest.mark.parametrize("draw", [-1, 2**32])
def test_a_draw_out_of_range_is_refused(build_worlds, draw):
    with pytest.raises(ValueError, match="draw must be 0 or more"):
        modified(build_worlds(1), "redraw", draw)


def test_a_single_kind_of_reward_cannot_be_swapped(build_worlds):
    worlds = build_worlds(1, terminal_rewards=(10.0, -5.0))
    with pytest.raises(ValueError, match="swap needs two positive terminal_rewards"):
        modified(worlds, "swap")


def test_pairs_that_do_not_exist_are_refused():
    # Two cells: the start and the only reward, which can neither move nor go.
    config = WorldConfig(height=3, width=4, terminal_probability=0.2)
    with pytest.raises(ValueError, match="No world from 0 to 4 can be changed by redraw"):
        modified_pairs(config, 0, 5, "redraw")
