"""Rows of losses, of random combinations of their steps, and of their slices."""

import pytest
import torch
from torch.testing import assert_close

from agents.learning.shared import Gradients
from agents.learning.slices import Slices
from agents.learning.step_loss import StepLoss
from agents.runtime.distributed import ALONE
from tests.agents.updating import Head, main_losses

NAN = float("nan")


@pytest.fixture
def agent(build_agent, catch):
    return build_agent(catch.spec)


@pytest.fixture
def gradients(agent):
    return Gradients(agent, {"aux": Head()})


@pytest.fixture
def loss(agent, collected):
    """A main loss of real steps, some of them invalid."""
    trajectory = collected[0]
    assert not trajectory.valid.all()
    steps = main_losses(agent(trajectory.observation), trajectory)
    return StepLoss(ALONE.share(steps, trajectory.valid), steps, trajectory.valid)


def flat(scalar, parameters):
    return torch.cat(
        [g.flatten() for g in torch.autograd.grad(scalar, parameters, retain_graph=True)]
    )


def test_a_row_is_the_gradient_over_what_is_shared(agent, gradients, loss):
    assert [id(p) for p in gradients.shared] == [id(p) for p in agent.torso.parameters()]
    assert all(name.startswith("torso.") for name in gradients.names)
    expected = flat(loss.share, gradients.shared)
    (row,) = gradients.rows([loss.share])
    assert_close(row, expected)


@pytest.mark.parametrize("private", [True, False])
def test_private_parameters_get_their_own_gradient_where_they_are_to(
    agent, gradients, loss, private
):
    weight = agent.value.weight
    (expected,) = torch.autograd.grad(loss.share, weight, retain_graph=True)
    gradients.rows([loss.share], private=private)
    if private:
        assert_close(weight.grad, expected)
    else:
        assert weight.grad is None


def test_combinations_are_of_valid_steps_alone_and_leave_private_parameters_alone(
    agent, gradients, loss
):
    rows = gradients.combinations(loss, 4)
    steps = loss.steps[loss.valid].unbind()
    single = torch.stack([flat(step, gradients.shared) for step in steps])
    # Whatever the factors, the rows lie in the span of the gradients of single steps.
    coefficients = torch.linalg.lstsq(single.T.double(), rows.T.double()).solution
    assert_close(single.T.double() @ coefficients, rows.T.double(), rtol=1e-3, atol=1e-6)
    assert torch.linalg.matrix_rank(rows) == 4
    assert agent.value.weight.grad is None
    # The graph is still there.
    gradients.rows([loss.share])


def test_combinations_average_to_nothing_and_repeat_with_their_generator(gradients, loss):
    state = gradients.generator.get_state()
    rows = gradients.combinations(loss, 200)
    # Normal factors: the mean of 200 is about 200^-0.5 = 0.07 as long as one.
    assert rows.mean(0).norm() < 0.2 * rows.norm(dim=1).mean()
    gradients.generator.set_state(state)
    assert torch.equal(gradients.combinations(loss, 200), rows)
    assert not torch.equal(gradients.combinations(loss, 200), rows)


def test_what_stands_at_an_invalid_step_is_not_looked_at(gradients, loss):
    spoilt = StepLoss(loss.share, torch.where(loss.valid, loss.steps, NAN), loss.valid)
    assert gradients.combinations(spoilt, 2).isfinite().all()


def test_slices_add_up_and_so_do_private_gradients(agent, gradients, loss, collected):
    trajectory = collected[0]
    expected = flat(loss.share, gradients.shared)
    (private,) = torch.autograd.grad(loss.share, agent.value.weight, retain_graph=True)
    slices = Slices(agent, trajectory, 2)
    steps = main_losses(slices.output, trajectory)
    cut = StepLoss(ALONE.share(steps, trajectory.valid), steps, trajectory.valid)
    other = StepLoss(2 * cut.share, 2 * cut.steps, cut.valid)
    rows = gradients.slices([cut, other], slices)
    assert rows.shape == (2, 2, len(expected))
    assert_close(rows.sum(0), torch.stack([expected, 2 * expected]))
    assert not torch.allclose(rows[0], rows[1])
    assert_close(agent.value.weight.grad, 3 * private)
