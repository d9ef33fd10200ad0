import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from agents.algorithms.returns import gae, vtrace

T, B = 3, 2
DISCOUNT, TRACE = 0.9, 0.8


def draw(seed, length=T):
    """Draws reward, value, terminated, truncated and log_ratio; never both ends at a step."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    kind = torch.randint(5, (length, B), generator=generator)
    return normal(length, B), normal(length + 1, B), kind == 3, kind == 4, normal(length, B)


def no_ends():
    return torch.zeros(T, B, dtype=torch.bool)


def at(*pairs):
    mask = no_ends()
    for pair in pairs:
        mask[pair] = True
    return mask


def slow_gae(reward, value, terminated, truncated, discount, trace):
    """A_t = sum_{l >= 0} (gamma lambda)^l delta_{t+l}, up to the end of the episode (eq. 16)."""
    length, batch = reward.shape
    result = np.zeros((length, batch))
    for t, b in np.ndindex(length, batch):
        for k in range(t, length):
            after = 0.0 if terminated[k, b] else value[k + 1, b]
            delta = reward[k, b] + discount * after - value[k, b]
            result[t, b] += (discount * trace) ** (k - t) * delta
            if terminated[k, b] or truncated[k, b]:
                break
    return result


def slow_vtrace(
    log_ratio, reward, value, terminated, truncated, discount, trace, rho_clip=1.0, c_clip=1.0
):
    """Sums eq. 1 and remark 2 up to the end of the episode.

    v_s = V(x_s) + sum_{t >= s} gamma^{t-s} (prod_{i=s}^{t-1} c_i) delta_t V,
    delta_t V = rho_t (r_t + gamma V(x_{t+1}) - V(x_t)), c_i = lambda min(c_clip, pi / mu);
    the advantage is rho_s (r_s + gamma v_{s+1} - V(x_s)).
    """
    length, batch = reward.shape
    target, advantage = np.zeros((length, batch)), np.zeros((length, batch))
    rho = np.minimum(rho_clip, np.exp(log_ratio))
    c = trace * np.minimum(c_clip, np.exp(log_ratio))
    for s, b in np.ndindex(length, batch):
        target[s, b] = value[s, b]
        for t in range(s, length):
            after = 0.0 if terminated[t, b] else value[t + 1, b]
            delta = rho[t, b] * (reward[t, b] + discount * after - value[t, b])
            target[s, b] += discount ** (t - s) * np.prod(c[s:t, b]) * delta
            if terminated[t, b] or truncated[t, b]:
                break
    for s, b in np.ndindex(length, batch):
        if terminated[s, b]:
            after = 0.0
        elif truncated[s, b] or s == length - 1:
            after = value[s + 1, b]
        else:
            after = target[s + 1, b]
        advantage[s, b] = rho[s, b] * (reward[s, b] + discount * after - value[s, b])
    return target, advantage


rounds = given(
    seed=st.integers(0, 2**20),
    length=st.integers(1, 6),
    discount=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
    trace=st.sampled_from([0.0, 0.7, 1.0]),
)


@settings(deadline=None, max_examples=60)
@rounds
def test_gae_is_the_sum_of_the_paper_up_to_the_end_of_the_episode(seed, length, discount, trace):
    reward, value, terminated, truncated, _ = draw(seed, length)
    advantage = gae(reward, value, terminated, truncated, discount=discount, trace=trace)
    numbers = [x.numpy() for x in (reward, value, terminated, truncated)]
    assert_close(advantage.numpy(), slow_gae(*numbers, discount, trace))


@settings(deadline=None, max_examples=60)
@rounds
def test_vtrace_is_the_sum_of_the_paper_with_ratios_off_policy(seed, length, discount, trace):
    reward, value, terminated, truncated, log_ratio = draw(seed, length)
    options = {"discount": discount, "trace": trace, "rho_clip": 1.3, "c_clip": 0.9}
    result = vtrace(log_ratio, reward, value, terminated, truncated, **options)
    numbers = [x.numpy() for x in (log_ratio, reward, value, terminated, truncated)]
    target, advantage = slow_vtrace(*numbers, **options)
    assert_close(result.target.numpy(), target)
    assert_close(result.advantage.numpy(), advantage)


def test_gae_of_a_constant_reward_without_value_is_a_geometric_sum():
    # sum_{k=0}^{T-t-1} 0.9^k for T = 3: 1 + 0.9 + 0.81, 1 + 0.9, 1.
    advantage = gae(
        torch.ones(T, B), torch.zeros(T + 1, B), no_ends(), no_ends(), discount=0.9, trace=1.0
    )
    assert_close(advantage, torch.tensor([[2.71], [1.9], [1.0]]).expand(T, B))


def test_gae_with_lambda_0_is_the_one_step_difference():
    reward, value, *_ = draw(0)
    advantage = gae(reward, value, no_ends(), no_ends(), discount=0.9, trace=0.0)
    assert_close(advantage, reward + 0.9 * value[1:] - value[:-1])


def test_gae_with_lambda_1_is_the_discounted_return_less_the_value():
    reward, value, *_ = draw(0)
    advantage = gae(reward, value, no_ends(), no_ends(), discount=0.9, trace=1.0)
    returns = reward[0] + 0.9 * reward[1] + 0.9**2 * reward[2] + 0.9**3 * value[3]
    assert_close(advantage[0], returns - value[0])


def test_on_policy_the_targets_of_vtrace_are_n_step_returns_and_its_advantages_those_of_a2c():
    reward, value, *_ = draw(1)
    result = vtrace(torch.zeros_like(reward), reward, value, no_ends(), no_ends(), discount=0.5)
    # From the last step backwards: R_t = r_t + R_{t+1} / 2, beginning with V(x_T).
    second = reward[2] + 0.5 * value[3]
    first = reward[1] + 0.5 * second
    returns = torch.stack([reward[0] + 0.5 * first, first, second])
    assert_close(result.target, returns)
    assert_close(result.advantage, returns - value[:-1])


@pytest.mark.parametrize("trace", [0.0, 0.5, 1.0])
def test_on_policy_vtrace_gives_values_the_targets_of_gae(trace):
    # With all ratios 1, v_t - V_t = delta_t + gamma lambda (v_{t+1} - V_{t+1}): eq. 16 again.
    reward, value, terminated, truncated, _ = draw(2)
    options = {"discount": DISCOUNT, "trace": trace}
    result = vtrace(torch.zeros_like(reward), reward, value, terminated, truncated, **options)
    advantage = gae(reward, value, terminated, truncated, **options)
    assert_close(result.target - value[:-1], advantage)


def test_a_ratio_of_0_leaves_the_value_as_it_is():
    reward, value, terminated, truncated, _ = draw(3)
    never = torch.full_like(reward, -torch.inf)
    result = vtrace(never, reward, value, terminated, truncated, discount=DISCOUNT)
    assert torch.equal(result.target, value[:-1])
    assert not result.advantage.any()


def test_rho_bounds_the_difference_and_c_the_trace():
    # One environment of two: rewards 1, no values, ratio e^2 = 7.4 everywhere, gamma 1/2.
    reward, value = torch.ones(T, B), torch.zeros(T + 1, B)
    log_ratio = torch.full((T, B), 2.0)

    def targets(rho_clip, c_clip):
        result = vtrace(
            log_ratio,
            reward,
            value,
            no_ends(),
            no_ends(),
            discount=0.5,
            rho_clip=rho_clip,
            c_clip=c_clip,
        )
        return result.target[:, 0].tolist()

    # v_2 = rho, v_1 = rho + c / 2 v_2, v_0 = rho + c / 2 v_1.
    assert targets(1.0, 1.0) == [1.75, 1.5, 1.0]
    assert targets(2.0, 1.0) == [3.5, 3.0, 2.0]
    assert targets(1.0, 2.0) == [3.0, 2.0, 1.0]


@pytest.mark.parametrize("name", ["gae", "vtrace"])
def test_truncation_bootstraps_from_the_next_value_and_termination_does_not(name):
    # Rewards 0, values 0 but for V(x_2) = 8, the end at t = 1, gamma 1/2.
    reward, value = torch.zeros(T, B), torch.zeros(T + 1, B)
    value[2] = 8.0
    ends = at((1, 0)), at((1, 1))  # environment 0 terminates, environment 1 is truncated
    if name == "gae":
        advantage = gae(reward, value, *ends, discount=0.5, trace=1.0)
    else:
        advantage = vtrace(reward, reward, value, *ends, discount=0.5).advantage
    # t = 1: 0 where terminated, 8 / 2 where truncated; one more halving back to t = 0.
    assert advantage[:2].tolist() == [[0.0, 2.0], [0.0, 4.0]]


@pytest.mark.parametrize("name", ["gae", "vtrace"])
def test_nothing_of_the_next_episode_reaches_the_one_before(name):
    reward, value, _, _, log_ratio = draw(4)
    terminated, truncated = at((0, 0)), at((1, 1))

    def results(reward, value, log_ratio):
        options = {"discount": DISCOUNT, "trace": TRACE}
        if name == "gae":
            return [gae(reward, value, terminated, truncated, **options)]
        result = vtrace(log_ratio, reward, value, terminated, truncated, **options)
        return [result.target, result.advantage]

    changed = [tensor.clone() for tensor in (reward, value, log_ratio)]
    for tensor, first in zip(changed, (1, 1, 1), strict=True):
        # What terminated does not even look at the value of its own last observation.
        tensor[first:, 0] += 100.0
    for tensor, first in zip(changed, (2, 3, 2), strict=True):
        # What was truncated looks at it, hence V(x_2) stays.
        tensor[first:, 1] += 100.0
    for before, after in zip(results(reward, value, log_ratio), results(*changed), strict=True):
        assert torch.equal(before[:1, 0], after[:1, 0])
        assert torch.equal(before[:2, 1], after[:2, 1])
        assert not torch.isclose(before[1:, 0], after[1:, 0]).any()


def test_returns_carry_no_gradient():
    reward, value, terminated, truncated, log_ratio = draw(5)
    value.requires_grad_()
    log_ratio.requires_grad_()
    options = {"discount": DISCOUNT, "trace": TRACE}
    result = vtrace(log_ratio, reward, value, terminated, truncated, **options)
    assert not result.target.requires_grad
    assert not result.advantage.requires_grad
    assert not gae(reward, value, terminated, truncated, **options).requires_grad
