"""The transition model: backups and matrices against the slow gridworld."""

import numpy as np
import pytest
import torch

from gridworld import WorldConfig, parse
from gridworld.model import Model, chunk_size, inside, outside


def test_the_inside_and_the_outside_belong_together(small):
    config = small()
    table = torch.arange(2 * 42).view(2, 42)
    within = inside(config, table)
    # Rows 1 to 4 of 6, columns 1 to 5 of 7; worlds last.
    assert within.shape == (20, 2)
    assert within[:6, 0].tolist() == [8, 9, 10, 11, 12, 15]
    assert within[0].tolist() == [8, 50]
    back = outside(config, within)
    assert back[0, [7, 8, 12, 13, 15]].tolist() == [0, 8, 12, 0, 15]
    assert torch.equal(inside(config, back), within)


@pytest.mark.parametrize(("noise", "termination"), [(0.0, 0.0), (0.2, 0.1), (1.0, 0.3)])
def test_a_backup_looks_one_step_ahead(build_worlds, slow, noise, termination):
    worlds = build_worlds(2, action_noise=noise, termination_probability=termination)
    config, discount = worlds.config, 0.9
    generator = torch.Generator().manual_seed(0)
    value = torch.randn(2, 42, generator=generator, dtype=torch.float64)
    ahead = Model.of(config, worlds.kind, discount).backup(inside(config, value))
    ahead = torch.stack([outside(config, way) for way in ahead], dim=-1)
    for k, kinds in enumerate(worlds.kind.tolist()):
        for cell, kind in enumerate(kinds):
            if kind == 1 or slow.is_over(kinds, cell):
                continue
            for action in range(4):
                expected = 0.0
                for chance, after in slow.outcomes(config, kinds, cell, action):
                    goes_on = 0.0 if slow.is_over(kinds, after) else 1 - termination
                    future = discount * goes_on * float(value[k, after])
                    expected += chance * (config.kind_rewards[kinds[after]] + future)
                assert float(ahead[k, cell, action]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("size", [(6, 7), (5, 3), (3, 5)])
def test_bands_hold_the_matrix_of_the_slow_gridworld(build_worlds, slow, size):
    height, width = size
    worlds = build_worlds(1, height=height, width=width, terminal_probability=0.1)
    config, kinds = worlds.config, worlds.kind[0].tolist()
    generator = torch.Generator().manual_seed(0)
    policy = torch.rand(config.cells, 4, generator=generator, dtype=torch.float64)
    policy /= policy.sum(1, keepdim=True)
    model = Model.of(config, worlds.kind, 0.9)
    move = model.slipped(torch.stack([inside(config, way[None]) for way in policy.T]))
    bands = model.bands(move)[:, :, 0].numpy()
    count, band = len(bands), width - 2
    dense = np.zeros((count, count))
    for row in range(count):
        for shift in range(-band, band + 1):
            if 0 <= row + shift < count:
                dense[row, row + shift] = bands[row, band + shift]
            else:
                assert bands[row, band + shift] == 0
    onwards, rewards = slow.transitions(config, kinds, policy.tolist(), 0.9)
    cells = inside(config, torch.arange(config.cells)[None])[:, 0].numpy()
    np.testing.assert_allclose(dense, (np.eye(config.cells) - onwards)[np.ix_(cells, cells)])
    np.testing.assert_allclose(model.expected_reward(move)[:, 0], rewards[cells], atol=1e-12)


def test_walls_at_the_ends_of_rows_keep_rows_apart():
    # Cell 3 of the first row and cell 1 of the second are neighbours in memory only.
    config = WorldConfig(height=4, width=5, action_noise=0.0)
    worlds = parse(config, ["#####\n#S..#\n#A..#\n#####"])
    model = Model.of(config, worlds.kind, 0.9)
    ahead = model.backup(torch.zeros_like(model.reward))
    # Down from above the reward, left from its right, and by staying on it: nothing from the
    # end of the row above, cell 2.
    assert (ahead[:, :, 0] > 0).nonzero().tolist() == [[2, 0], [2, 3], [3, 3], [3, 4]]


def test_chunks_are_smaller_for_larger_worlds():
    cpu = torch.device("cpu")
    sizes = [chunk_size(WorldConfig(height=s, width=s), cpu) for s in (5, 15, 60, 180)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] >= 1
