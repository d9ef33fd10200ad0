"""Exact evaluation against dense solves, Monte-Carlo returns and derivatives."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gridworld import (
    WorldConfig,
    action_values,
    draw_chance,
    evaluate,
    modified,
    optimal_values,
    parse,
    softmax_policy,
    step,
)


def random_policy(worlds, seed=0, count=None):
    generator = torch.Generator().manual_seed(seed)
    shape = (count or len(worlds), worlds.config.cells, 4)
    return torch.randn(shape, generator=generator, dtype=torch.float64).mul(2).softmax(-1)


@settings(deadline=None, max_examples=12)
@given(
    height=st.integers(3, 7),
    width=st.integers(4, 8),
    noise=st.sampled_from([0.0, 0.3, 1.0]),
    termination=st.sampled_from([0.0, 0.1]),
    discount=st.sampled_from([0.0, 0.9, 0.999]),
    seed=st.integers(0, 99),
)
def test_it_agrees_with_a_dense_solve(
    build_worlds, slow, height, width, noise, termination, discount, seed
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
    policy = random_policy(worlds, seed)
    result = evaluate(worlds, policy, discount)
    for k, kinds in enumerate(worlds.kind.tolist()):
        onwards, rewards = slow.transitions(worlds.config, kinds, policy[k].tolist(), discount)
        system = np.eye(len(kinds)) - onwards
        start = np.zeros(len(kinds))
        start[int(worlds.start_cell[k])] = 1
        value = np.linalg.solve(system, rewards)
        visits = np.linalg.solve(system.T, start)
        np.testing.assert_allclose(result.value[k], value, atol=1e-8)
        np.testing.assert_allclose(result.visitation[k], visits, atol=1e-8)
        np.testing.assert_allclose(result.expected_return[k], start @ value, atol=1e-8)


def test_a_corridor_by_hand():
    # Right or left with probability 1/2: V = (1/2) 10 d + (1/2) d V, V = 5 / (1 - d/2) where
    # the reward is undiscounted and d = 0.9 * (1 - 0.2) = 0.72: V = 5 / (1 - 0.36) = 7.8125.
    config = WorldConfig(height=3, width=4, action_noise=0.0, termination_probability=0.2)
    worlds = parse(config, ["####\n#SA#\n####"])
    policy = torch.tensor([0.0, 0.5, 0.0, 0.5]).expand(1, 12, 4)
    result = evaluate(worlds, policy, 0.9)
    torch.testing.assert_close(result.expected_return, torch.tensor([7.8125]).double())
    # The start is acted on 1 / (1 - 0.36) times; the reward's cell never.
    assert result.visitation[0].nonzero().flatten().tolist() == [5]
    torch.testing.assert_close(result.visitation[0, 5], torch.tensor(1 / 0.64).double())


def test_it_agrees_with_returns_that_are_played(build_worlds):
    count, discount = 6000, 0.95
    worlds = build_worlds(1, seed=3, termination_probability=0.1)
    policy = random_policy(worlds)
    generator = torch.Generator().manual_seed(1)
    state = worlds.start.repeat(count)
    time, alive = torch.zeros_like(state), torch.ones(count, dtype=torch.bool)
    earned = torch.zeros(count, dtype=torch.float64)
    # At most 0.9 ** 150 = 1e-7 of the episodes are longer.
    for t in range(150):
        action = policy[0][state].multinomial(1, generator=generator).squeeze(1)
        chance = draw_chance(worlds.config, (count,), generator)
        after = step(worlds, state, time, action, chance)
        earned += discount**t * after.reward * alive
        alive &= ~after.terminated
        state = after.state
    expected = evaluate(worlds, policy, discount).expected_return
    assert abs(earned.mean() - expected[0]) < 5 * earned.std() / count**0.5


def test_it_gives_the_exact_policy_gradient(build_worlds):
    # d J / d pi(a|s) = visitation(s) Q(s, a), against finite differences.
    worlds, discount, width = build_worlds(1), 0.9, 1e-5
    policy = random_policy(worlds)
    result = evaluate(worlds, policy, discount)
    gradient = result.visitation[:, :, None] * action_values(worlds, result.value, discount)
    cells = result.visitation[0].topk(4).indices.tolist()
    for cell in cells:
        for action in range(4):
            returns = []
            for sign in (1, -1):
                moved = policy.clone()
                moved[0, cell, action] += sign * width
                returns.append(evaluate(worlds, moved, discount).expected_return)
            slope = (returns[0] - returns[1]) / (2 * width)
            torch.testing.assert_close(gradient[0, cell, action], slope[0], rtol=1e-6, atol=1e-6)


def test_policies_may_be_more_than_worlds(build_worlds):
    worlds, world = build_worlds(3), torch.tensor([2, 0, 2, 1])
    policy = random_policy(worlds, count=4)
    result = evaluate(worlds, policy, 0.9, world)
    for k, place in enumerate(world.tolist()):
        alone = evaluate(worlds.select(slice(place, place + 1)), policy[k : k + 1], 0.9)
        torch.testing.assert_close(result.expected_return[k : k + 1], alone.expected_return)
        torch.testing.assert_close(result.value[k : k + 1], alone.value)
        torch.testing.assert_close(result.visitation[k : k + 1], alone.visitation)


def test_chunks_make_no_difference(build_worlds, monkeypatch):
    worlds = build_worlds(5)
    policy = random_policy(worlds)
    whole = evaluate(worlds, policy, 0.9)
    monkeypatch.setattr("gridworld.evaluation.chunk_size", lambda config, device: 2)
    parts = evaluate(worlds, policy, 0.9)
    torch.testing.assert_close(parts.value, whole.value)
    torch.testing.assert_close(parts.visitation, whole.visitation)


def test_the_best_policy_is_worth_the_optimal_value(build_worlds):
    worlds = build_worlds(4)
    value = optimal_values(worlds, 0.97)
    teacher = softmax_policy(action_values(worlds, value, 0.97), temperature=0.0)
    result = evaluate(worlds, teacher, 0.97)
    torch.testing.assert_close(result.value, value, rtol=0, atol=1e-9)
    # And in worlds whose rewards lie elsewhere it is worth less than the best there.
    others = modified(worlds)
    transferred = evaluate(others, teacher, 0.97).expected_return
    best = optimal_values(others, 0.97).gather(1, others.start_cell[:, None]).squeeze(1)
    assert (transferred < best + 1e-9).all()
    assert transferred.mean() < best.mean() - 0.1


@pytest.mark.parametrize("shape", [(2, 42, 4), (3, 41, 4), (3, 42, 5)])
def test_policies_that_do_not_fit_are_refused(build_worlds, shape):
    with pytest.raises(ValueError, match=r"policy must have the shape \(3, 42, 4\)"):
        evaluate(build_worlds(3), torch.full(shape, 0.25), 0.9)


@pytest.mark.parametrize(("discount", "termination"), [(1.0, 0.0), (1.5, 0.1), (-0.1, 0.1)])
def test_discounts_without_finite_returns_are_refused(build_worlds, discount, termination):
    worlds = build_worlds(1, termination_probability=termination)
    with pytest.raises(ValueError, match="discount must be from 0 to 1, and below 1 where"):
        evaluate(worlds, random_policy(worlds), discount)
