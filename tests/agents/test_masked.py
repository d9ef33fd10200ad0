import torch
from torch.testing import assert_close

from agents.masked import explained_variance, masked_mean

NAN, INF = float("nan"), float("inf")


def test_a_masked_mean_is_over_valid_entries_whatever_stands_at_the_others():
    value = torch.tensor([[1.0, NAN], [INF, 4.0], [-INF, 1.0]])
    valid = torch.tensor([[True, False], [False, True], [False, True]])
    assert masked_mean(value, valid) == 2.0
    assert masked_mean(value, torch.zeros_like(valid)) == 0.0


def test_explained_variance_is_1_for_a_perfect_value_and_0_for_a_constant_one():
    target = torch.tensor([[1.0, 3.0], [5.0, 100.0]])
    valid = torch.tensor([[True, True], [True, False]])
    assert explained_variance(target, target, valid) == 1.0
    assert explained_variance(target + 7.0, target, valid) == 1.0
    assert explained_variance(torch.full_like(target, 9.0), target, valid) == 0.0
    # Residuals 0, 1, 2 with variance 2/3; targets 1, 3, 5 with variance 8/3.
    value = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    assert_close(explained_variance(value, target, valid), torch.tensor(0.75))
    assert explained_variance(value, torch.ones_like(target), valid).isnan()
