from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from agents.algorithms.base import Algorithm, MainLoss, approximate_kl, entropy, log_probability


def test_the_entropy_is_that_of_the_policy_in_nats():
    # Of (1/2, 1/4, 1/4): 1/2 log 2 + 2 * 1/4 log 4 = 3/2 log 2, whatever is added to the logits.
    logits = torch.tensor([0.5, 0.25, 0.25]).log() + 7.0
    assert_close(entropy(logits), torch.tensor(1.5 * log(2.0)))


def test_entropy_and_log_probability_stand_extreme_logits():
    logits = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1e4, 0.0, 0.0, 0.0]])
    assert_close(entropy(logits), torch.tensor([log(4.0), 0.0]))
    action = torch.tensor([3, 3])
    assert_close(log_probability(logits, action), torch.tensor([-log(4.0), -1e4]))


def test_every_step_has_the_log_probability_of_its_own_action():
    logits = torch.randn(3, 2, 4)
    action = torch.tensor([[0, 1], [2, 3], [3, 0]])
    result = log_probability(logits, action)
    for t in range(3):
        for b in range(2):
            chosen = logits[t, b].softmax(-1)[action[t, b]].log()
            assert_close(result[t, b], chosen)


def test_the_approximate_divergence_of_one_action_is_ratio_less_one_less_its_log():
    # Half and twice as probable as before: 1/2 - 1 + log 2, and 2 - 1 - log 2.
    log_ratio = torch.tensor([[-log(2.0), log(2.0)], [0.0, 0.0]])
    expected = torch.tensor([[log(2.0) - 0.5, 1.0 - log(2.0)], [0.0, 0.0]])
    assert_close(approximate_kl(log_ratio), expected)


def test_its_mean_over_the_actions_of_the_policy_that_acted_is_the_divergence():
    # KL(mu, pi) = 1/2 log (1/2)/(1/4) + 1/2 log (1/2)/(3/4) = 1/2 log 4/3.
    mu, pi = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    estimates = approximate_kl((pi / mu).log()[None])[0]
    assert_close((mu * estimates).sum(), torch.tensor(0.5 * log(4 / 3)))


@settings(deadline=None)
@given(log_ratio=st.floats(-80, 80, width=32) | st.floats(-(2**-20), 2**-20, width=32))
def test_the_approximate_divergence_is_never_negative_however_near_the_policies(log_ratio):
    assert approximate_kl(torch.tensor([[log_ratio]])) >= 0


class Plain(Algorithm):
    """Says nothing but what it must."""

    def loss(self, output, trajectory, targets=None, progress=0.0):
        zeros = torch.zeros_like(trajectory.reward)
        return MainLoss(zeros, zeros, zeros, zeros)


def test_an_algorithm_learns_once_from_the_whole_trajectory_unless_it_says_otherwise(
    build_trajectory,
):
    algorithm = Plain()
    assert (algorithm.epochs, algorithm.minibatches, algorithm.max_kl) == (1, 1, None)
    assert not algorithm.needs_value
    assert vars(algorithm.prepare(build_trajectory())) == {}


def test_an_algorithm_without_a_loss_cannot_be_made():
    with pytest.raises(TypeError, match="loss"):
        Algorithm()
