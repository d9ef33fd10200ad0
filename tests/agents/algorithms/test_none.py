from math import log

import torch
from torch.testing import assert_close

from agents.algorithms.base import NoneConfig
from agents.trajectory import AgentOutput
from tests.experiments.sessions import session_of


def test_nothing_is_wanted_of_policy_and_value_and_the_entropy_is_still_known(build_trajectory):
    trajectory = build_trajectory()
    logits = torch.zeros(4, 2, 4, requires_grad=True)
    value = torch.randn(4, 2, requires_grad=True)
    features = torch.zeros(4, 2, 5)
    algorithm = NoneConfig().build(0.9)
    loss = algorithm.loss(AgentOutput(None, features, features, logits, value), trajectory)
    assert not loss.policy.any()
    assert not loss.value.any()
    assert_close(loss.entropy, torch.full((3, 2), log(4.0)))
    assert algorithm.value_coefficient == algorithm.entropy_coefficient == 0.0
    # A main loss has a graph; its gradient is zero.
    assert not torch.autograd.grad(loss.policy.sum(), logits)[0].any()
    assert not loss.value.requires_grad


def test_a_head_can_train_the_value_without_a_main_loss():
    line = "--env Catch --algo none --aux value_replay --gate sum --num-envs 16 --unroll-length 8"
    session = session_of("--device cpu", line)
    losses = [session.update()["value_replay/loss"] for _ in range(120)]
    assert session.learner.agent.value.weight.grad.any()
    # Its values were 0 for ever where the scale of values was on: nobody told it what they are.
    assert sum(losses[-20:]) < 0.8 * sum(losses[5:25])


def test_it_needs_neither_values_nor_epochs():
    algorithm = NoneConfig().build(0.9)
    assert not algorithm.needs_value
    assert (algorithm.epochs, algorithm.minibatches) == (1, 1)
