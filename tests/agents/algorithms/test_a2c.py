from dataclasses import replace
from math import log

import pytest
import torch
from torch.testing import assert_close

from agents.algorithms import Algorithms
from agents.algorithms.a2c import A2CConfig
from agents.trajectory import AgentOutput, Trajectory

FALSE = torch.tensor([[False]])


def one_step(mu, advantage_normalized=False, **options):
    """One step of one environment: policy (1/4, 3/4), action 0 drawn with probability mu.

    Reward 2, values 1/2 and 3, gamma 1/2: the target on-policy is 2 + 3/2 = 3.5.
    """
    logits = torch.tensor([0.0, log(3.0)]).expand(2, 1, 2).clone().requires_grad_()
    value = torch.tensor([[0.5], [3.0]]).requires_grad_()
    output = AgentOutput(None, torch.zeros(2, 1, 5), torch.zeros(2, 1, 5), logits, value)
    trajectory = Trajectory(
        action=torch.tensor([[0]]),
        reward=torch.tensor([[2.0]]),
        terminated=FALSE,
        truncated=FALSE,
        valid=~FALSE,
        log_probability=torch.tensor([[log(mu)]]),
        observation=torch.zeros(2, 1, 6),
    )
    config = A2CConfig(normalize_advantage=advantage_normalized, **options)
    return config.build(discount=0.5).loss(output, trajectory), logits, value


def test_the_policy_loss_descends_along_the_policy_gradient():
    # Advantage 3.5 - 1/2 = 3.  d(-3 log p_0)/dz = -3 ((1, 0) - p) = (-9/4, 9/4).
    loss, logits, value = one_step(mu=0.25)
    assert_close(loss.policy, torch.tensor([[-3 * log(0.25)]]))
    loss.policy.sum().backward()
    assert_close(logits.grad[0, 0], torch.tensor([-2.25, 2.25]))
    assert not logits.grad[1].any()
    assert value.grad is None


def test_the_value_loss_pulls_the_value_to_its_target_and_not_the_other_way_round():
    # (3.5 - 0.5)^2 / 2 = 4.5, its slope in V(x_0) is -(3.5 - 0.5); the target is a constant.
    loss, logits, value = one_step(mu=0.25)
    assert loss.value.tolist() == [[4.5]]
    assert loss.value_target.tolist() == [[3.5]]
    loss.value.sum().backward()
    assert value.grad.tolist() == [[-3.0], [0.0]]
    assert logits.grad is None


def test_the_entropy_is_that_of_the_policy_and_grows_with_the_rarer_action():
    # H = log 4 - 3/4 log 3;  dH/dz_a = -p_a (log p_a + H) = (3/16, -3/16) log 3.
    loss, logits, _ = one_step(mu=0.25)
    assert_close(loss.entropy, torch.tensor([[log(4.0) - 0.75 * log(3.0)]]))
    loss.entropy.sum().backward()
    slope = 3 / 16 * log(3.0)
    assert_close(logits.grad[0, 0], torch.tensor([slope, -slope]))


@pytest.mark.parametrize(
    ("mu", "options", "target", "advantage"),
    [
        # pi / mu = 1/2: half of the difference of 3 counts.
        (0.5, {}, 2.0, 1.5),
        # pi / mu = 2 is cut to 1, or not.
        (0.125, {}, 3.5, 3.0),
        (0.125, {"rho_clip": 2.0}, 6.5, 6.0),
    ],
)
def test_actions_of_an_older_policy_are_weighed_by_the_bounded_ratio(
    mu, options, target, advantage
):
    loss, *_ = one_step(mu, **options)
    assert_close(loss.value_target, torch.tensor([[target]]))
    assert_close(loss.policy, torch.tensor([[-advantage * log(0.25)]]))


def test_advantages_are_normalized_when_asked():
    # The only advantage there is lies at the mean.
    loss, *_ = one_step(mu=0.25, advantage_normalized=True)
    assert loss.policy.tolist() == [[0.0]]


def test_how_far_the_policy_has_moved_since_it_acted_is_logged():
    # pi / mu = 1/2: 1/2 - 1 - log 1/2.
    loss, *_ = one_step(mu=0.5)
    assert_close(loss.metrics["approximate_kl"], torch.tensor([[log(2.0) - 0.5]]))
    assert not loss.metrics["approximate_kl"].requires_grad


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("entropy_coefficient", -0.1),
        ("value_coefficient", -1.0),
        ("trace", 1.5),
        ("trace", -0.5),
        ("rho_clip", 0.0),
        ("c_clip", -1.0),
    ],
)
def test_a_senseless_option_is_refused_by_its_name(option, value):
    with pytest.raises(ValueError, match=f"^{option} "):
        replace(Algorithms().a2c, **{option: value})
