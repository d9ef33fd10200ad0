"""Pools of worlds: taking apart, joining, renewing, telling apart."""

from dataclasses import replace

import pytest
import torch

from gridworld import Worlds, generate, parse

TABLES = ("kind", "wall", "reward", "terminal", "move", "window", "observation", "world_id")


def same(one, other):
    return torch.equal(one.start, other.start) and all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in TABLES
    )


def test_tables_follow_from_the_kinds(build_worlds):
    worlds = build_worlds(3)
    rewards = worlds.config.kind_rewards
    for kind, wall, reward, terminal in zip(
        worlds.kind.flatten().tolist(),
        worlds.wall.flatten().tolist(),
        worlds.reward.flatten().tolist(),
        worlds.terminal.flatten().tolist(),
        strict=True,
    ):
        assert (wall, reward, terminal) == (kind == 1, rewards[kind], kind > 2)


def test_states_count_cells_through_all_worlds(build_worlds):
    worlds = build_worlds(3)
    assert len(worlds) == 3
    assert worlds.num_states == 3 * 42
    assert torch.equal(worlds.start, worlds.start_cell + torch.tensor([0, 42, 84]))
    assert worlds.world_id.tolist() == [0, 1, 2]


def test_selected_worlds_are_those_that_were_asked_for(small):
    config = small()
    worlds = generate(config, 0, range(6))
    chosen = worlds.select(torch.tensor([4, 1, 4]))
    assert same(chosen, generate(config, 0, [4, 1, 4]))
    assert same(worlds.select(slice(2, 5)), generate(config, 0, range(2, 5)))
    assert same(worlds.select(worlds.world_id % 2 == 1), generate(config, 0, [1, 3, 5]))


def test_joined_pools_are_one(small):
    config = small()
    pools = [generate(config, 0, ids) for ids in ([0], [3, 1], [2])]
    assert same(Worlds.concatenate(pools), generate(config, 0, [0, 3, 1, 2]))


def test_a_slice_is_renewed_in_place(small):
    config = small()
    worlds = generate(config, 0, range(5))
    stay = ("seed", "world_id", "kind", "start", "wall", "record", "window", "observation")
    addresses = [getattr(worlds, name).data_ptr() for name in stay]
    worlds.overwrite(1, generate(config, 0, [8, 9]))
    assert same(worlds, generate(config, 0, [0, 8, 9, 3, 4]))
    assert [getattr(worlds, name).data_ptr() for name in stay] == addresses


@pytest.mark.parametrize("first", [-1, 4])
def test_a_slice_outside_of_the_pool_is_refused(build_worlds, first):
    with pytest.raises(ValueError, match="do not lie in a pool of 5"):
        build_worlds(5).overwrite(first, build_worlds(2))


def test_pools_of_different_settings_do_not_mix(build_worlds):
    worlds, others = build_worlds(2), build_worlds(2, action_noise=0.2)
    with pytest.raises(ValueError, match="same settings can be concatenated"):
        Worlds.concatenate([worlds, others])
    with pytest.raises(ValueError, match="same settings can overwrite"):
        worlds.overwrite(0, others)
    with pytest.raises(ValueError, match="at least one pool"):
        Worlds.concatenate([])


def test_fingerprints_tell_worlds_apart_by_what_they_are(small):
    config = small(height=4, width=5, terminal_probability=0.15)
    worlds = generate(config, 0, range(400))
    fingerprints = worlds.fingerprint()
    content = torch.cat([worlds.kind.long(), worlds.start_cell[:, None]], dim=1)
    # So small that some worlds are equal: fingerprints are exactly where worlds are.
    _, group = content.unique(dim=0, return_inverse=True)
    assert len(group.unique()) < 400
    assert torch.equal(group[:, None] == group, fingerprints[:, None] == fingerprints)
    # Not by where they lie, nor by their names.
    shuffled = worlds.select(torch.arange(399, -1, -1))
    shuffled = replace(shuffled, world_id=shuffled.world_id + 7)
    assert torch.equal(shuffled.fingerprint().flip(0), fingerprints)


def test_fingerprints_see_a_start_that_moved(small):
    config = small(height=3, width=6)
    worlds = parse(config, ["######\n#S..A#\n######", "######\n#.S.A#\n######"])
    assert torch.equal(worlds.kind[0], worlds.kind[1])
    assert len(worlds.fingerprint().unique()) == 2


def test_a_copy_on_the_same_device_is_the_same(build_worlds):
    worlds = build_worlds(2)
    copy = worlds.to("cpu")
    assert same(copy, worlds)
    assert copy.device == torch.device("cpu")
