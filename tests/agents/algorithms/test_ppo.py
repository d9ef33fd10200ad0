from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from agents.algorithms import Algorithms
from agents.algorithms.ppo import PPOConfig
from agents.trajectory import AgentOutput, Trajectory

PLAIN = PPOConfig(normalize_advantage=False)
"""With the clip of 0.1 of the paper."""
FALSE = torch.tensor([[False]])


def one_step(mu, reward=2.0, value=0.5, progress=0.0, config=PLAIN):
    """One step of one environment: policy (1/4, 3/4), action 0 drawn with probability mu.

    The policy that acted expected 1/2 and then 3, and gamma is 1/2: with a reward of 2
    the target is 2 + 3/2 = 3.5 and the advantage 3; with one of -4 they are -2.5 and -3.
    """
    logits = torch.tensor([0.0, log(3.0)]).expand(2, 1, 2).clone().requires_grad_()
    values = torch.tensor([[value], [9.0]]).requires_grad_()
    output = AgentOutput(None, torch.zeros(2, 1, 5), torch.zeros(2, 1, 5), logits, values)
    trajectory = Trajectory(
        action=torch.tensor([[0]]),
        reward=torch.tensor([[reward]]),
        terminated=FALSE,
        truncated=FALSE,
        valid=~FALSE,
        log_probability=torch.tensor([[log(mu)]]),
        observation=torch.zeros(2, 1, 6),
        value=torch.tensor([[0.5], [3.0]]),
    )
    algorithm = config.build(discount=0.5)
    targets = algorithm.prepare(trajectory)
    return algorithm.loss(output, trajectory, targets, progress), logits, values


@pytest.mark.parametrize(
    ("mu", "reward", "expected", "slope"),
    [
        # Ratio 1: -A, and its slope in z_0 is -A (1 - p_0) = -3 * 3/4.
        (0.25, 2.0, -3.0, -2.25),
        # Ratio 2 of a good action: cut to 1.1 * 3, and nothing more is to be gained.
        (0.125, 2.0, -3.3, 0.0),
        # Ratio 1/2 of a good action: it may come back, with the slope -r A (1 - p_0).
        (0.5, 2.0, -1.5, -1.125),
        # Ratio 2 of a bad action: it may come back.
        (0.125, -4.0, 6.0, 4.5),
        # Ratio 1/2 of a bad action: cut to 0.9 * 3.
        (0.5, -4.0, 2.7, 0.0),
    ],
)
def test_a_ratio_is_cut_where_more_of_it_would_gain(mu, reward, expected, slope):
    loss, logits, values = one_step(mu, reward)
    assert_close(loss.policy, torch.tensor([[expected]]))
    loss.policy.sum().backward()
    assert_close(logits.grad[0, 0], torch.tensor([slope, -slope]))
    assert not logits.grad[1].any()
    assert values.grad is None


@pytest.mark.parametrize(
    ("mu", "cut", "divergence"),
    [(0.25, 0.0, 0.0), (0.125, 1.0, 1.0 - log(2.0)), (0.5, 1.0, log(2.0) - 0.5)],
)
def test_cuts_and_the_divergence_from_the_policy_that_acted_are_logged(mu, cut, divergence):
    # r - 1 - log r at r = 1, 2 and 1/2.
    loss, *_ = one_step(mu)
    assert loss.metrics["clipped"].tolist() == [[cut]]
    assert_close(loss.metrics["approximate_kl"], torch.tensor([[divergence]]))
    assert not any(value.requires_grad for value in loss.metrics.values())


@pytest.mark.parametrize(
    ("value", "expected", "slope"),
    [
        # Not moved: (3.5 - 0.5)^2 / 2.
        (0.5, 4.5, -3.0),
        # Within the bound: as if there were none, 2.95^2 / 2.
        (0.55, 4.35125, -2.95),
        # Beyond it towards the target: that of 0.6, 2.9^2 / 2, a constant.
        (1.5, 4.205, 0.0),
        # Beyond the target as well: still that of 0.6, which is farther from it.
        (5.0, 4.205, 0.0),
        # Beyond it away from the target: 3.5^2 / 2, so that it comes back.
        (0.0, 6.125, -3.5),
    ],
)
def test_a_value_gains_nothing_by_a_step_beyond_the_bound(value, expected, slope):
    loss, logits, values = one_step(0.25, value=value)
    assert_close(loss.value, torch.tensor([[expected]]))
    loss.value.sum().backward()
    assert_close(values.grad, torch.tensor([[slope], [0.0]]))
    assert logits.grad is None


def test_without_clipping_the_value_loss_is_half_the_squared_error():
    # (3.5 - 1.5)^2 / 2 = 2, with the slope -2.
    loss, _, values = one_step(0.25, value=1.5, config=replace(PLAIN, clip_value=False))
    assert_close(loss.value, torch.tensor([[2.0]]))
    loss.value.sum().backward()
    assert_close(values.grad, torch.tensor([[-2.0], [0.0]]))
    assert loss.value_target.tolist() == [[3.5]]


def test_the_entropy_is_that_of_the_policy_as_it_is_now():
    loss, *_ = one_step(0.5)
    assert_close(loss.entropy, torch.tensor([[log(4.0) - 0.75 * log(3.0)]]))


@pytest.mark.parametrize(("progress", "bound"), [(0.0, 0.2), (0.25, 0.16), (1.0, 0.04)])
def test_the_bound_moves_linearly_to_its_end(progress, bound):
    # From 0.2 to 0.04; it is cut at 1 + bound, and the value at 0.5 + bound.
    config = replace(PLAIN, clip=0.2, clip_end=0.04)
    loss, *_ = one_step(0.125, value=1.5, progress=progress, config=config)
    assert_close(loss.policy, torch.tensor([[-3.0 * (1 + bound)]]))
    assert_close(loss.value, torch.tensor([[0.5 * (3.0 - bound) ** 2]]))


def test_without_an_end_the_bound_stays():
    early, late = (one_step(0.125, progress=progress)[0] for progress in (0.0, 1.0))
    assert torch.equal(early.policy, late.policy)


def test_advantages_are_normalized_when_asked_and_targets_are_not():
    # The only advantage there is lies at the mean.
    loss, *_ = one_step(0.25, config=PPOConfig())
    assert loss.policy.tolist() == [[0.0]]
    assert loss.value_target.tolist() == [[3.5]]


def three_steps(**ends):
    """Rewards of 1, values 4, 5, 6, 7, gamma 0.9, lambda 0.5; ends at step 1 as told."""
    no_end = torch.zeros(3, 1, dtype=torch.bool)
    at_1 = torch.tensor([[False], [True], [False]])
    trajectory = Trajectory(
        action=torch.zeros(3, 1, dtype=torch.int64),
        reward=torch.ones(3, 1),
        terminated=at_1 if ends.get("terminated") else no_end,
        truncated=at_1 if ends.get("truncated") else no_end,
        valid=torch.tensor([[True], [True], [not ends]]),
        log_probability=torch.zeros(3, 1),
        observation=torch.zeros(4, 1, 6),
        value=torch.tensor([[4.0], [5.0], [6.0], [7.0]]),
    )
    return replace(PLAIN, trace=0.5).build(discount=0.9).prepare(trajectory)


def test_a_truncated_step_bootstraps_or_its_advantage_would_be_minus_4():
    # At step 1: 1 + 0.9 * 6 - 5 = 1.4; without the bootstrap 1 - 5 = -4.
    # At step 0: 1 + 0.9 * 5 - 4 = 1.5, and 0.45 * 1.4 of what follows.
    targets = three_steps(truncated=True)
    assert_close(targets.advantage[:2, 0], torch.tensor([1.5 + 0.45 * 1.4, 1.4]))
    assert_close(targets.value_target[:2, 0], torch.tensor([6.13, 6.4]))


def test_a_terminated_step_does_not_bootstrap():
    targets = three_steps(terminated=True)
    assert_close(targets.advantage[:2, 0], torch.tensor([1.5 - 0.45 * 4.0, -4.0]))
    assert_close(targets.value_target[:2, 0], torch.tensor([3.7, 1.0]))


def test_without_an_end_the_last_step_bootstraps_from_the_last_observation():
    # 1 + 0.9 * 7 - 6 = 1.3, then 1.4 + 0.45 * 1.3, then 1.5 + 0.45 of that.
    targets = three_steps()
    expected = torch.tensor([1.5 + 0.45 * (1.4 + 0.45 * 1.3), 1.4 + 0.45 * 1.3, 1.3])
    assert_close(targets.advantage[:, 0], expected)


def slow_gae(trajectory, discount, trace):
    """A_t = sum_{l >= 0} (gamma lambda)^l delta_{t+l}, up to the end of the episode."""
    reward, value = trajectory.reward.numpy(), trajectory.value.numpy()
    result = np.zeros(reward.shape, dtype=np.float32)
    for t, b in np.ndindex(*reward.shape):
        for k in range(t, len(reward)):
            after = 0.0 if trajectory.terminated[k, b] else value[k + 1, b]
            delta = reward[k, b] + discount * after - value[k, b]
            result[t, b] += (discount * trace) ** (k - t) * delta
            if trajectory.terminated[k, b] or trajectory.truncated[k, b]:
                break
    return torch.from_numpy(result)


@settings(deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_targets_are_the_slow_sum_at_every_valid_step(build_trajectory_of, data, seed):
    steps = st.sampled_from([(t, b) for t in range(6) for b in range(2)])
    ends = data.draw(st.sets(steps, max_size=4))
    # An environment cannot end at the step that it discards.
    ends = {(t, b) for t, b in ends if (t - 1, b) not in ends}
    cut = {end for end in ends if sum(end) % 2}
    trajectory = build_trajectory_of(ends - cut, cut, seed)
    targets = PLAIN.build(discount=0.9).prepare(trajectory)
    expected = slow_gae(trajectory, discount=0.9, trace=0.95)
    valid = trajectory.valid
    assert_close(targets.advantage[valid], expected[valid])
    assert_close(targets.value_target[valid], (expected + trajectory.value[:-1])[valid])


@pytest.fixture(scope="module")
def build_trajectory_of():
    """Builds six steps of two environments with values, from the steps that end episodes."""

    def build_trajectory_of(terminated, truncated, seed):
        generator = torch.Generator().manual_seed(seed)
        masks = torch.zeros(2, 6, 2, dtype=torch.bool)
        for mask, ends in zip(masks, (terminated, truncated), strict=True):
            for end in ends:
                mask[end] = True
        first = torch.ones(1, 2, dtype=torch.bool)
        return Trajectory(
            action=torch.randint(4, (6, 2), generator=generator),
            reward=torch.randn(6, 2, generator=generator),
            terminated=masks[0],
            truncated=masks[1],
            valid=torch.cat([first, ~masks.any(0)[:-1]]),
            log_probability=torch.rand(6, 2, generator=generator).log(),
            observation=torch.zeros(7, 2, 6),
            value=torch.randn(7, 2, generator=generator),
        )

    return build_trajectory_of


@pytest.mark.parametrize("floor", [0.1, 3.0])
def test_advantages_with_hardly_any_spread_are_not_blown_up(build_trajectory_of, floor):
    trajectory = build_trajectory_of({(1, 0)}, {(2, 1)}, seed=0)
    features = torch.zeros(7, 2, 5)
    # Values whose spread is 2: the floor is a share of that.
    output = AgentOutput(
        *(None, features, features, torch.zeros(7, 2, 4), torch.zeros(7, 2)),
        value_unit=torch.tensor(2.0),
    )
    plain, floored = (
        PPOConfig(advantage_floor=least).build(discount=0.9) for least in (0.0, floor)
    )
    targets = plain.prepare(trajectory)
    kept = targets.advantage[trajectory.valid]
    deviation = float(kept.std(correction=0))
    losses = [each.loss(output, trajectory, targets).policy for each in (plain, floored)]
    shrunk = deviation / max(deviation, 2 * floor)
    assert (shrunk < 1) == (floor == 3.0), "one floor above the deviation, one below"
    assert_close(losses[1], shrunk * losses[0], rtol=1e-4, atol=1e-5)


def test_a_minibatch_is_normalized_by_itself_and_has_the_targets_of_the_whole(build_trajectory_of):
    trajectory = build_trajectory_of({(1, 0)}, {(2, 1)}, seed=0)
    algorithm = PPOConfig().build(discount=0.9)
    features = torch.zeros(7, 1, 5)
    output = AgentOutput(None, features, features, torch.zeros(7, 1, 4), torch.zeros(7, 1))
    whole = algorithm.prepare(trajectory)
    for b in range(2):
        one = torch.tensor([b])
        column = trajectory.select(one)
        loss = algorithm.loss(output, column, whole.select(one))
        valid, advantage = column.valid, whole.advantage[:, [b]]
        kept = advantage[valid]
        normal = (advantage - kept.mean()) / kept.std(correction=0)
        ratio = 0.25 / column.log_probability.exp()
        gain = torch.minimum(ratio * normal, ratio.clamp(0.9, 1.1) * normal)
        assert_close(loss.policy[valid], -gain[valid], rtol=1e-4, atol=1e-5)
        assert torch.equal(loss.value_target, whole.value_target[:, [b]])


def test_the_collector_must_record_values_and_the_learner_goes_over_them_several_times():
    algorithm = PPOConfig(epochs=3, minibatches=2, max_kl=0.02).build(discount=0.9)
    assert algorithm.needs_value
    assert (algorithm.epochs, algorithm.minibatches, algorithm.max_kl) == (3, 2, 0.02)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("epochs", 0),
        ("minibatches", 0),
        ("clip", 0.0),
        ("clip", -0.1),
        ("clip_end", -0.1),
        ("trace", 1.5),
        ("trace", -0.5),
        ("entropy_coefficient", -0.1),
        ("value_coefficient", -1.0),
        ("value_coefficient", float("inf")),
        ("max_kl", 0.0),
        ("max_kl", float("nan")),
    ],
)
def test_a_senseless_option_is_refused_by_its_name(option, value):
    with pytest.raises(ValueError, match=f"^{option} "):
        replace(Algorithms().ppo, **{option: value})
