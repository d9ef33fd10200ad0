"""Optimal values against value iteration, one cell after the other."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridworld import LAYOUTS, WorldConfig, action_values, optimal_values, parse, solvable


@settings(deadline=None, max_examples=8)
@given(
    height=st.integers(3, 6),
    width=st.integers(4, 7),
    noise=st.sampled_from([0.0, 0.3]),
    termination=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 99),
)
def test_values_are_those_of_slow_value_iteration(
    build_worlds, slow, height, width, noise, termination, seed
):
    worlds = build_worlds(
        2,
        seed,
        height=height,
        width=width,
        action_noise=noise,
        termination_probability=termination,
        terminal_probability=0.12,
    )
    value = optimal_values(worlds, 0.9)
    for k, kinds in enumerate(worlds.kind.tolist()):
        expected = slow.best_values(worlds.config, kinds, 0.9)
        assert value[k].tolist() == pytest.approx(expected, abs=1e-9)


def test_a_corridor_by_hand():
    # Two steps right: 10 after one discount of 0.9 * (1 - 0.2), no noise.
    config = WorldConfig(height=3, width=5, action_noise=0.0, termination_probability=0.2)
    worlds = parse(config, ["#####\n#S.A#\n#####"])
    value = optimal_values(worlds, 0.9)
    assert value[0].tolist() == pytest.approx([0] * 6 + [7.2, 10.0] + [0] * 7)
    # Up and down stay; left of the second cell is the first.
    ahead = action_values(worlds, value, 0.9)
    assert ahead[0, 6].tolist() == pytest.approx([0.72 * 7.2, 7.2, 0.72 * 7.2, 0.72 * 7.2])
    assert ahead[0, 7].tolist() == pytest.approx([7.2, 10.0, 7.2, 0.72 * 7.2])
    assert not ahead[0, [0, 5, 8]].any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_satisfy_bellmans_equation_in_every_layout(build_worlds, layout):
    worlds = build_worlds(3, layout=layout, height=9, width=11, terminal_probability=0.02)
    value = optimal_values(worlds, 0.99)
    ahead = action_values(worlds, value, 0.99).amax(-1)
    torch.testing.assert_close(ahead, value, rtol=0, atol=1e-11)
    assert not value[worlds.wall | worlds.terminal].any()


def test_chunks_make_no_difference(build_worlds, monkeypatch):
    worlds = build_worlds(5)
    value = optimal_values(worlds, 0.9)
    ahead = action_values(worlds, value, 0.9)
    monkeypatch.setattr("gridworld.solve.chunk_size", lambda config, device: 2)
    torch.testing.assert_close(optimal_values(worlds, 0.9), value)
    torch.testing.assert_close(action_values(worlds, value, 0.9), ahead)


def test_worlds_are_solvable_where_a_reward_is_worth_its_way():
    config = WorldConfig(height=3, width=8, terminal_rewards=(10.0, -5.0, 1.0), penalty=-4.0)
    worlds = parse(
        config,
        [
            "########\n#S...A.#\n########",
            "########\n#S.#.A.#\n########",  # behind a wall
            "########\n#S..BA.#\n########",  # behind an end
            "########\n#S---C.#\n########",  # three steps of -4 for a reward of 1
            "########\n#S----A#\n########",  # four of them for a reward of 10
        ],
    )
    assert solvable(worlds).tolist() == [True, False, False, False, False]
    cheap = WorldConfig(height=3, width=8, terminal_rewards=(10.0,), penalty=-1.0)
    assert solvable(parse(cheap, ["########\n#S----A#\n########"])).tolist() == [True]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_gpu_solves_alike(build_worlds):
    worlds = build_worlds(3)
    there = optimal_values(worlds.to("cuda"), 0.9).cpu()
    torch.testing.assert_close(there, optimal_values(worlds, 0.9))
