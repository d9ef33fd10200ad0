import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from agents.algorithms.returns import gae
from agents.heads.multi_horizon import (
    MultiHorizonConfig,
    hyperbolic_discounts,
    lambda_returns,
)
from agents.statistics import explained_variance

T, B = 3, 2
THREE = (0.0, 0.5, 0.9)


@pytest.fixture
def build(context):
    def build(discounts=THREE, **options):
        return MultiHorizonConfig(discounts=discounts, **options).build(context)

    return build


def evaluate(head, agent, trajectory):
    return head(agent, agent(trajectory.observation), trajectory, head.prepare(agent, trajectory))


def constant(head, values):
    """Makes the head say the same everywhere."""
    with torch.no_grad():
        head.values.weight.zero_()
        head.values.bias.copy_(torch.tensor(values))
    return head


def test_the_discounts_are_the_papers_grid():
    # b = exp(log(1 - gamma_max^(1 / k)) / n); gamma_i = (1 - b^i)^k.
    base = (1 - 0.99 ** (1 / 0.01)) ** (1 / 10)
    expected = [(1 - base**i) ** 0.01 for i in range(1, 11)]
    assert hyperbolic_discounts(0.99, 10, 0.01) == pytest.approx(expected, abs=1e-6)
    assert MultiHorizonConfig().discounts == hyperbolic_discounts(0.99, 10, 0.01)
    assert MultiHorizonConfig().discounts[-1] == 0.99


def test_targets_by_hand(build_trajectory):
    # Environment 0: rewards 1, 2 and its end, then a reset; environment 1: 1, cut at once, reset,
    # then 4 to the end of the trajectory.  Values 8 before, 6, 10, 20 after each step.
    trajectory = build_trajectory(terminated=[(1, 0)], truncated=[(0, 1)])
    trajectory.reward[:] = torch.tensor([[1.0, 1.0], [2.0, 0.0], [0.0, 4.0]])
    values = torch.tensor([8.0, 6.0, 10.0, 20.0]).view(4, 1, 1).expand(4, 2, 1)
    returns = lambda_returns(trajectory, values, torch.tensor([0.5]), 1.0)[..., 0]
    # 1 + 2 / 2, 2; 1 + 6 / 2, -, 4 + 20 / 2.
    assert returns[:2, 0].tolist() == [2.0, 2.0]
    assert [returns[0, 1], returns[2, 1]] == [4.0, 14.0]
    short = lambda_returns(trajectory, values, torch.tensor([0.5]), 0.0)[..., 0]
    # 1 + 6 / 2, 2: the next value stands for what follows.
    assert short[:2, 0].tolist() == [4.0, 2.0]


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**20), trace=st.sampled_from([0.0, 0.7, 1.0]))
def test_targets_are_advantages_plus_values_at_each_discount(seed, trace, build_trajectory):
    trajectory = build_trajectory(
        length=6, terminated=[(1, 0), (4, 1)], truncated=[(2, 1)], seed=seed
    )
    values = torch.randn(7, B, 3, generator=torch.Generator().manual_seed(seed))
    returns = lambda_returns(trajectory, values, torch.tensor(THREE), trace)
    for index, discount in enumerate(THREE):
        value = values[..., index]
        advantage = gae(
            trajectory.reward,
            value,
            trajectory.terminated,
            trajectory.truncated,
            discount=discount,
            trace=trace,
        )
        expected = (advantage + value[:-1])[trajectory.valid]
        assert_close(returns[..., index][trajectory.valid], expected, rtol=1e-4, atol=1e-5)


def test_the_loss_is_half_the_squared_error_averaged_over_the_discounts(
    build, agent, build_trajectory
):
    # One step that terminates with reward 2: the target is 2 at every discount.
    trajectory = build_trajectory(length=1, batch=1, terminated=[(0, 0)])
    trajectory.reward[:] = 2.0
    head = constant(build(), [0.0, 1.0, 4.0])
    # (4 + 1 + 4) / 2 / 3.
    assert_close(evaluate(head, agent, trajectory).loss, torch.tensor([[1.5]]))


def test_targets_carry_no_gradient(build, agent, build_trajectory):
    # Not terminated: the target is 2 + 0.5 V' with V' the head's own value at the next
    # observation, and d loss / d bias = V - target = 1 - 2.5.
    trajectory = build_trajectory(length=1, batch=1)
    trajectory.reward[:] = 2.0
    head = constant(build((0.5,)), [1.0])
    evaluate(head, agent, trajectory).loss.sum().backward()
    assert_close(head.values.bias.grad, torch.tensor([-1.5]))


def test_explained_variance_is_told_of_all_discounts_and_of_the_longest(
    build, agent, build_trajectory
):
    trajectory = build_trajectory(terminated=[(1, 0)])
    head = build((0.9, 0.0, 0.5))  # in no order
    metrics = evaluate(head, agent, trajectory).metrics
    values = head.values(agent(trajectory.observation).features).detach()
    returns = lambda_returns(trajectory, values, head.discounts, 1.0)
    each = [
        explained_variance(values[:-1, :, k], returns[..., k], trajectory.valid) for k in range(3)
    ]
    assert_close(metrics["explained_variance"], torch.stack(each).mean())
    assert_close(metrics["explained_variance_longest"], each[0])


def test_rewards_that_never_change_explain_nothing(build, agent, build_trajectory):
    trajectory = build_trajectory(length=1, batch=2, terminated=[(0, 0), (0, 1)])
    trajectory.reward[:] = 1.0
    metrics = evaluate(build(), agent, trajectory).metrics
    assert all(value.isnan() for value in metrics.values())


def test_the_values_of_a_trajectory_are_learnt_at_every_discount(build, build_learner, collected):
    # Most of its observations tell its steps apart, so its returns can be learnt by heart.
    learner = build_learner({"aux": build(coefficient=1.0)}, gate="sum", total_steps=10**9)
    first = learner.update(collected[0])
    for _ in range(60):
        last = learner.update(collected[0])
    assert first["aux/explained_variance"] < 0.2
    assert last["aux/loss"] < 0.2 * first["aux/loss"]
    assert last["aux/explained_variance"] > 0.6


@pytest.mark.parametrize(
    "options",
    [
        {"discounts": ()},
        {"discounts": (0.5, 1.0)},
        {"discounts": (-0.1,)},
        {"discounts": (0.9, 0.5, 0.9)},
        {"trace": 1.1},
        {"coefficient": -1.0},
    ],
)
def test_a_senseless_option_is_refused_by_its_name(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))}"):
        MultiHorizonConfig(**options)
