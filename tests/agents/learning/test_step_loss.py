import pytest
import torch
from torch.testing import assert_close

from agents.learning.step_loss import StepLoss

NAN = float("nan")


@pytest.fixture
def loss():
    """T = 2, B = 5; of the ten steps six are valid, and the mean is 21 / 6."""
    steps = torch.tensor([[1.0, 2.0, 3.0, 4.0, NAN], [5.0, NAN, 6.0, NAN, NAN]], requires_grad=True)
    valid = torch.tensor([[1, 1, 1, 1, 0], [1, 0, 1, 0, 0]]).bool()
    return StepLoss.of(steps, valid)


def test_slices_are_sums_over_neighbouring_environments(loss):
    # Columns 0 1 | 2 3 4 would be uneven the other way round: 5 columns are dealt 0 0 0 1 1.
    assert_close(torch.stack(loss.sliced(2)), torch.tensor([17.0, 4.0]) / 6)
    # One environment each; the last has no valid step.
    by_column = torch.tensor([6.0, 2.0, 9.0, 4.0, 0.0]) / 6
    assert_close(torch.stack(loss.sliced(5)), by_column)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7])
def test_slices_add_up_to_the_mean_and_so_do_their_gradients(loss, count):
    slices = loss.sliced(count)
    assert len(slices) == count
    assert_close(torch.stack(slices).sum(), loss.share)
    (expected,) = torch.autograd.grad(loss.share, loss.steps, retain_graph=True)
    gradients = [torch.autograd.grad(each, loss.steps, retain_graph=True)[0] for each in slices]
    assert_close(torch.stack(gradients).sum(0), expected)
    # An environment is in one slice alone.
    assert ((torch.stack(gradients) != 0).sum(0) <= 1).all()


def test_a_combination_is_the_mean_of_the_valid_steps_times_their_factors(loss):
    factor = torch.arange(10.0).view(2, 5)
    # 0 1 + 1 2 + 2 3 + 3 4 + 5 5 + 7 6 = 87
    assert_close(loss.combined(factor), torch.tensor(87.0 / 6))
    assert_close(loss.combined(torch.ones(2, 5)), loss.share)


def test_losses_of_another_shape_are_cut_by_their_last_axis():
    steps = torch.arange(24.0).view(2, 3, 4)
    loss = StepLoss.of(steps, torch.ones(2, 3, 4, dtype=torch.bool))
    assert_close(torch.stack(loss.sliced(4)), steps.sum((0, 1)) / 24)


def test_a_share_is_the_mean_over_valid_steps_whatever_stands_at_the_others():
    steps = torch.tensor([[1.0, torch.nan], [torch.inf, 4.0]], requires_grad=True)
    loss = StepLoss.of(steps, torch.tensor([[True, False], [False, True]]))
    assert loss.share == loss.mean == 2.5
    loss.share.backward()
    assert steps.grad.tolist() == [[0.5, 0.0], [0.0, 0.5]]
    assert not loss.mean.requires_grad


def test_a_coefficient_scales_all_there_is_of_a_loss(loss):
    half = loss.times(0.5)
    assert_close(half.share, 0.5 * loss.share)
    assert_close(half.mean, loss.share.detach() * 0.5)
    assert_close(half.combined(torch.ones(2, 5)), half.share)
    assert_close(sum(half.sliced(3)), half.share)
