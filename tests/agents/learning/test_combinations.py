"""Random combinations of the main loss's steps, from which `attittud` learns a subspace."""

import pytest
import torch
from torch.testing import assert_close

from agents.gates import make
from agents.learning.gating import Gating, GatingConfig
from agents.learning.optimizer import OwnerOptimizer
from agents.learning.step_loss import StepLoss
from tests.agents.updating import Head, main_losses

NAN = float("nan")


@pytest.fixture
def agent(build_agent, catch):
    return build_agent(catch.spec)


@pytest.fixture
def gating(agent):
    optimizer = OwnerOptimizer(agent.parameters(), 0.01, 1e-5)
    return Gating(agent, {"aux": Head()}, make("attittud"), GatingConfig(), optimizer)


@pytest.fixture
def loss(agent, collected):
    """A main loss of real steps, some of them invalid."""
    trajectory = collected[0]
    assert not trajectory.valid.all()
    steps = main_losses(agent(trajectory.observation), trajectory)
    return StepLoss.of(steps, trajectory.valid)


def rows_of(agent, scalars):
    parameters = list(agent.torso.parameters())
    found = [torch.autograd.grad(scalar, parameters, retain_graph=True) for scalar in scalars]
    return torch.stack([torch.cat([each.flatten() for each in row]) for row in found])


def test_combinations_are_of_valid_steps_alone(agent, gating, loss):
    rows = rows_of(agent, gating._combinations(loss, 4))
    single = rows_of(agent, loss.steps[loss.valid].unbind())
    # Whatever the factors, the rows lie in the span of the gradients of single steps.
    coefficients = torch.linalg.lstsq(single.T.double(), rows.T.double()).solution
    assert_close(single.T.double() @ coefficients, rows.T.double(), rtol=1e-3, atol=1e-6)
    assert torch.linalg.matrix_rank(rows) == 4


def test_combinations_average_to_nothing_and_repeat_with_their_generator(agent, gating, loss):
    state = gating._samples.get_state()
    rows = rows_of(agent, gating._combinations(loss, 200))
    # Normal factors: the mean of 200 is about 200^-0.5 = 0.07 as long as one.
    assert rows.mean(0).norm() < 0.2 * rows.norm(dim=1).mean()
    gating._samples.set_state(state)
    assert torch.equal(rows_of(agent, gating._combinations(loss, 200)), rows)
    assert not torch.equal(rows_of(agent, gating._combinations(loss, 200)), rows)


def test_what_stands_at_an_invalid_step_is_not_looked_at(gating, loss):
    spoilt = StepLoss.of(torch.where(loss.valid, loss.steps, NAN), loss.valid)
    assert torch.stack(gating._combinations(spoilt, 2)).isfinite().all()
