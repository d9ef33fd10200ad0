"""Softmax at a temperature, and policies that see observations."""

import math

import pytest
import torch

from gridworld import cell_policy, softmax_policy


def test_softmax_by_hand():
    # exp(1 / 0.5), exp(2 / 0.5), ...: e^2, e^4, e^0, e^2.
    policy = softmax_policy(torch.tensor([1.0, 2.0, 0.0, 1.0]), 0.5)
    weights = [math.exp(2), math.exp(4), 1.0, math.exp(2)]
    assert policy.tolist() == pytest.approx([w / sum(weights) for w in weights])


def test_temperature_nought_is_greedy_and_shares_ties():
    value = torch.tensor([[1.0, 3.0, 2.0, 3.0], [0.0, 0.0, 0.0, 0.0], [-5.0, -1.0, -2.0, -9.0]])
    assert softmax_policy(value, 0.0).tolist() == [[0, 0.5, 0, 0.5], [0.25] * 4, [0, 1, 0, 0]]


def test_rounding_does_not_break_ties():
    value = torch.tensor([0.1 + 0.2, 0.3, 0.0, 0.3 - 1e-6], dtype=torch.float64)
    assert value[0] != value[1]
    assert softmax_policy(value, 0.0).tolist() == [0.5, 0.5, 0, 0]


def test_low_temperatures_come_near_to_greedy_and_high_ones_to_uniform():
    value = torch.tensor([1.0, 2.0, 0.0, -1.0], dtype=torch.float64)
    torch.testing.assert_close(softmax_policy(value, 1e-3), softmax_policy(value, 0.0))
    torch.testing.assert_close(
        softmax_policy(value, 1e9), torch.full_like(value, 0.25), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("temperature", [-0.1, float("nan"), float("inf")])
def test_temperatures_that_make_no_sense_are_refused(temperature):
    with pytest.raises(ValueError, match="temperature must be 0"):
        softmax_policy(torch.zeros(4), temperature)


def test_cells_that_look_alike_act_alike(build_worlds):
    worlds = build_worlds(3)
    world = torch.tensor([2, 0, 2, 1])
    table = torch.rand(4, int(worlds.num_observations.max()), 4)
    policy = cell_policy(worlds, table, world)
    assert policy.shape == (4, 42, 4)
    for k, place in enumerate(world.tolist()):
        for cell in range(42):
            assert torch.equal(policy[k, cell], table[k, int(worlds.observation[place, cell])])
    assert torch.equal(
        cell_policy(worlds, table[:3]), cell_policy(worlds, table[:3], torch.arange(3))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("temperature", [1e-300, 1e-320])
def test_a_policy_that_is_as_good_as_greedy_is_no_overflow(dtype, temperature):
    value = torch.tensor([0.0, 5.0, -3.0, 5.0], dtype=dtype)
    assert softmax_policy(value, temperature).tolist() == [0, 0.5, 0, 0.5]
    assert softmax_policy(value - 5, temperature).tolist() == [0, 0.5, 0, 0.5]
