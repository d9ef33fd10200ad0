"""Steps against a slow gridworld, and chance against its probabilities."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridworld import Chance, WorldConfig, draw_chance, draw_worlds, parse, restart, step


def still(*shape):
    """No slip, no end by chance."""
    zeros = torch.zeros(shape, dtype=torch.int64)
    return Chance(zeros, zeros.bool())


@settings(deadline=None, max_examples=10)
@given(
    height=st.integers(3, 7),
    width=st.integers(4, 7),
    limit=st.integers(0, 6),
    seed=st.integers(0, 99),
)
def test_every_step_is_the_one_of_a_slow_scalar_simulator(
    build_worlds, slow, height, width, limit, seed
):
    count, num_envs, length = 3, 5, 25
    worlds = build_worlds(
        count, seed, height=height, width=width, max_episode_steps=limit, terminal_probability=0.12
    )
    config, kinds = worlds.config, worlds.kind.tolist()
    generator = torch.Generator().manual_seed(seed)
    action = torch.randint(4, (length, num_envs), generator=generator)
    chance = draw_chance(config, (length, num_envs), generator)
    fresh = draw_worlds(worlds, (length, num_envs), generator)
    state = worlds.start[fresh[0]]
    time = torch.zeros_like(state)
    for t in range(length):
        after = step(worlds, state, time, action[t], chance[t])
        ended = after.terminated | after.truncated
        renewed = restart(worlds, after.state, after.time, ended, fresh[t])
        for b in range(num_envs):
            world, cell = divmod(int(state[b]), config.cells)
            way = (int(action[t, b]) + int(chance.slip[t, b])) % 4
            target = slow.move(config, kinds[world], cell, way)
            over = slow.is_over(kinds[world], target) or bool(chance.ends[t, b])
            late = bool(limit) and int(time[b]) + 1 >= limit and not over
            assert divmod(int(after.state[b]), config.cells) == (world, target)
            assert float(after.reward[b]) == config.kind_rewards[kinds[world][target]]
            assert (bool(after.terminated[b]), bool(after.truncated[b])) == (over, late)
            if over or late:
                start = int(worlds.start[fresh[t, b]])
                assert (int(renewed[0][b]), int(renewed[1][b])) == (start, 0)
            else:
                assert (int(renewed[0][b]), int(renewed[1][b])) == (
                    int(after.state[b]),
                    int(time[b]) + 1,
                )
        state, time = renewed


def test_a_walk_by_hand():
    config = WorldConfig(height=3, width=6)
    worlds = parse(config, ["######\n#S-.A#\n######"])
    # Cells of the row: 7 start, 8 penalty, 9 empty, 10 the reward of +10.
    state, time = worlds.start, torch.zeros(1, dtype=torch.int64)
    seen = []
    for action in (3, 0, 1, 2, 1, 1):  # left and up against walls; right; down; right; right
        after = step(worlds, state, time, torch.tensor([action]), still(1))
        state, time = after.state, after.time
        seen.append((int(state), float(after.reward), bool(after.terminated)))
    # Whoever stays on a penalty pays it again.
    assert seen == [
        (7, 0.0, False),
        (7, 0.0, False),
        (8, -1.0, False),
        (8, -1.0, False),
        (9, 0.0, False),
        (10, 10.0, True),
    ]
    assert int(time) == 6


def test_moves_slip_as_often_as_the_noise_says():
    noise, count = 0.3, 40_000
    config = WorldConfig(action_noise=noise, termination_probability=0.2)
    chance = draw_chance(config, (2, count // 2), torch.Generator().manual_seed(0))
    turns = Counter(chance.slip.flatten().tolist())
    # Any of the four moves by noise: 0.3 / 4 each, and 0.7 more for the intended one.
    for turn, share in {0: 0.775, 1: 0.075, 2: 0.075, 3: 0.075}.items():
        sigma = (count * share * (1 - share)) ** 0.5
        assert abs(turns[turn] - count * share) < 5 * sigma
    assert abs(int(chance.ends.sum()) - count * 0.2) < 5 * (count * 0.16) ** 0.5
    # Both are drawn from one number: they must not know of each other.
    both = int((chance.ends & (chance.slip > 0)).sum())
    share = 0.2 * 0.225
    assert abs(both - count * share) < 5 * (count * share * (1 - share)) ** 0.5


def test_the_cells_reached_are_as_frequent_as_the_slow_gridworld_says(slow):
    config = WorldConfig(height=5, width=5, action_noise=0.4)
    worlds = parse(config, ["#####\n#.#.#\n#.S.#\n#...#\n#####"])
    count, kinds = 20_000, worlds.kind[0].tolist()
    generator = torch.Generator().manual_seed(0)
    state = worlds.start.expand(count)
    for action in range(4):
        chance = draw_chance(config, (count,), generator)
        after = step(worlds, state, torch.zeros_like(state), torch.full((count,), action), chance)
        reached = Counter(after.state.tolist())
        expected = Counter()
        for share, cell in slow.outcomes(config, kinds, int(worlds.start), action):
            expected[cell] += share
        assert set(reached) == set(expected)
        for cell, share in expected.items():
            sigma = (count * share * (1 - share)) ** 0.5
            assert abs(reached[cell] - count * share) < 5 * sigma


@settings(deadline=None, max_examples=20)
@given(noise=st.floats(0, 1), termination=st.floats(0.001, 1), seed=st.integers(0, 99))
def test_chance_is_a_comparison_of_the_two_halves_of_a_number(noise, termination, seed):
    config = WorldConfig(action_noise=noise, termination_probability=termination)
    chance = draw_chance(config, (3, 20), torch.Generator().manual_seed(seed))
    number = torch.empty(3, 20, dtype=torch.int64)
    number.random_(generator=torch.Generator().manual_seed(seed))
    for bits, slip, ends in zip(
        number.flatten().tolist(),
        chance.slip.flatten().tolist(),
        chance.ends.flatten().tolist(),
        strict=True,
    ):
        high, low = divmod(bits, 2**32)
        # A move slips if the upper 31 bits, as a fraction, are below the noise; then their
        # two lowest say how far.  The lower 31 bits (bit 31 is not used) end the episode.
        assert slip == (high % 4 if high < 4 * round(noise * 2**29) else 0)
        assert ends == (low % 2**31 < round(termination * 2**31))


@pytest.mark.parametrize(("noise", "termination"), [(0.0, 0.0), (1.0, 1.0)])
def test_probabilities_of_nought_and_one_are_exact(noise, termination):
    config = WorldConfig(action_noise=noise, termination_probability=termination)
    chance = draw_chance(config, (5000,), torch.Generator().manual_seed(0))
    assert (chance.ends == bool(termination)).all()
    if noise:
        # 5,000 draws of 1/4: sigma = sqrt(5000 * 3/16) = 30.6.
        assert ((chance.slip.bincount(minlength=4) - 1250).abs() < 5 * 30.6).all()
    else:
        assert not chance.slip.any()


def test_arguments_stay_as_they_are(build_worlds):
    worlds = build_worlds(max_episode_steps=1)
    state, time = worlds.start.clone(), torch.zeros(3, dtype=torch.int64)
    action, chance = torch.tensor([0, 1, 2]), still(3)
    after = step(worlds, state, time, action, chance)
    restart(worlds, after.state, after.time, torch.tensor([True, False, True]), action)
    assert torch.equal(state, worlds.start)
    assert (time.tolist(), action.tolist()) == ([0, 0, 0], [0, 1, 2])
    assert not chance.slip.any()
    assert after.time.tolist() == [1, 1, 1]


def test_worlds_are_drawn_evenly(build_worlds):
    drawn = draw_worlds(build_worlds(3), (10, 300), torch.Generator().manual_seed(0))
    # 3,000 draws of 1/3: sigma = 25.8.
    assert ((drawn.flatten().bincount() - 1000).abs() < 5 * 25.8).all()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_steps_on_the_gpu_are_those_of_the_cpu_and_can_be_captured(build_worlds):
    worlds = build_worlds(3)
    there = worlds.to("cuda")
    state, time = worlds.start, torch.zeros(3, dtype=torch.int64)
    action, chance = torch.tensor([0, 1, 2]), still(3)
    expected = step(worlds, state, time, action, chance)
    inputs = [x.cuda() for x in (state, time, action)]
    moved = Chance(chance.slip.cuda(), chance.ends.cuda())
    step(there, *inputs, moved)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        after = step(there, *inputs, moved)
    graph.replay()
    assert torch.equal(after.state.cpu(), expected.state)
    assert torch.equal(after.reward.cpu(), expected.reward)
